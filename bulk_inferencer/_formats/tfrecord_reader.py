"""TFRecord files as the input of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bulk_inferencer._formats import tfrecord
from bulk_inferencer._formats.columns import ColumnView
from bulk_inferencer._formats.inflating import Position
from bulk_inferencer._formats.input_format import Chunk, InputFile, Kept
from bulk_inferencer.errors import SettingsError


@dataclass(frozen=True)
class TFRecord:
    """TFRecord files: plain, or compressed with gzip or zlib, as the content of each says.

    ```python
    InferenceJob(..., input_format=TFRecord())
    ```
    """

    schema = None
    features = None
    record_format = None

    def reader(self, files: Sequence[InputFile], view: ColumnView, kept: Kept) -> TFRecord:
        if view != ColumnView():
            raise SettingsError(
                "columns and rename choose columns of tables, but the inputs are TFRecord files. "
                "Leave them out: the model takes the features of its inputs' names."
            )
        return self

    def parts(self, file: InputFile) -> list[InputFile]:
        """Returns the whole file: gzip cannot be read from the middle."""
        return [file]

    def read(self, file: InputFile, max_bytes: int, max_record_bytes: int) -> Iterator[Chunk]:
        first = stored = 0
        position = Position()
        chunks = tfrecord.read_chunks(
            file.path,
            max_bytes,
            max_record_bytes=max_record_bytes,
            listed_bytes=file.bytes,
            position=position,
        )
        for records in chunks:
            yield Chunk(file.path, first, records, stored_bytes=position.stored - stored)
            first += len(records)
            stored = position.stored
