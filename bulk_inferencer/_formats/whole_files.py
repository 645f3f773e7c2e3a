"""Whole files as the input of a run, such as images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bulk_inferencer import _files
from bulk_inferencer._formats.columns import ColumnView
from bulk_inferencer._formats.damage import check_size, reading, too_long
from bulk_inferencer._formats.input_format import Chunk, InputFile, Kept
from bulk_inferencer._formats.record_format import FORMAT_PROTO
from bulk_inferencer.errors import SettingsError


@dataclass(frozen=True)
class WholeFiles:
    """Files each of which is one record: images, audio, documents. The key of a record is its path.

    ```python
    InferenceJob(..., input_format=WholeFiles())
    ```

    The model takes the bytes as they are stored. Where it does not, make its inputs of them in
    `preprocess` of `HookedModel`. `BatchBounds.max_record_bytes` holds for files.
    """

    schema = None
    features = None
    record_format = FORMAT_PROTO

    def reader(self, files: Sequence[InputFile], view: ColumnView, kept: Kept) -> WholeFiles:
        """See `InputFormat`."""
        if view != ColumnView():
            raise SettingsError(
                "columns and rename choose columns of tables, but here each file is one record. "
                "Leave them out: the model takes the bytes of the files."
            )
        return self

    def parts(self, file: InputFile) -> list[InputFile]:
        """Returns the file: it is one record."""
        return [file]

    def read(self, file: InputFile, max_bytes: int, max_record_bytes: int) -> Iterator[Chunk]:
        """Yields the one record."""
        with reading(file.path, "a whole file", lambda: "its only record"):
            if file.bytes > max_record_bytes:
                raise too_long(file.bytes, max_record_bytes)
            with _files.open_to_read(file.path) as opened:
                content = opened.read(file.bytes + 1)  # one more shows that it has grown
            check_size(file.path, len(content), file.bytes)
        yield Chunk(file.path, 0, [content], stored_bytes=file.bytes)
