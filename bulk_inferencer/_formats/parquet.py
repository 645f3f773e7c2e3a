"""Parquet files as the input of a run: a row group, or some, at a time, in bounded memory."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from bulk_inferencer import _files
from bulk_inferencer._checks import check_flag
from bulk_inferencer._formats.columns import ColumnView
from bulk_inferencer._formats.damage import WRITE_AGAIN, DamagedError, check_size, reading
from bulk_inferencer._formats.input_format import Chunk, InputFile, Kept, Part
from bulk_inferencer._formats.table_columns import (
    TableColumns,
    TableReader,
    check_names,
    plain,
    table_columns,
    wider,
)
from bulk_inferencer.errors import InputError

_PART_BYTES = 16 << 20
# Fast, and small enough to stay in the processor's cache.
_CHUNK_BYTES = 2 << 20
_MOST_ROWS = 1 << 16
_PROBED_ROWS = 64
# Of larger row groups, the columns are read in pieces instead of whole.
_WHOLE_GROUP_BYTES = 32 << 20
_BUFFERS_BYTES = 16 << 20
_SMALLEST_BUFFER, _LARGEST_BUFFER = 1 << 16, 1 << 20
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 8, "FLOAT": 4, "DOUBLE": 8}
_DICTIONARIES = {"PLAIN_DICTIONARY", "RLE_DICTIONARY"}


@dataclass(frozen=True)
class Parquet:
    """Parquet files. Their row groups are read side by side.

    ```python
    InferenceJob(..., input_format=Parquet())
    ```

    All files of a run have the same columns, of the same types. Where files differ in the width of
    whole numbers or of floats, the widest one holds. A column that only some files have is an
    error, unless neither models nor results take it. Only the columns that they take are read.

    Attributes:
      partitions: whether folders named `column=value` stand for columns.

    Raises:
      SettingsError: `partitions` is not a truth value.
    """

    partitions: bool = True

    def __post_init__(self) -> None:
        check_flag("Parquet.partitions", self.partitions)

    def reader(self, files: Sequence[InputFile], view: ColumnView, kept: Kept) -> ParquetReader:
        schemas: dict[pa.Schema, pa.Schema] = {}
        found = _files.in_parallel(functools.partial(_head_or_error, schemas), files)
        heads = [head for head in found if not isinstance(head, InputError)]
        if found and not heads:
            raise next(own for own in found if isinstance(own, InputError))
        if not files:
            return ParquetReader(table_columns(pa.schema([]), [], view, kept), {})
        paths = [file.path for file in files]
        columns = table_columns(
            _all_columns(heads), paths, view, kept, any_type=True, partitions=self.partitions
        )
        columns = columns.with_own(_common_types(columns.own, heads, view))
        return ParquetReader(columns, {head.file: head.parts for head in heads if head.parts})


@dataclass(frozen=True)
class ParquetReader(TableReader):
    """Reads Parquet files.

    Attributes:
      columns: what to read of them.
      known_parts: the parts of each file that has several; empty on workers, which are sent parts.
    """

    columns: TableColumns
    known_parts: dict[InputFile, tuple[Part, ...]]

    def __getstate__(self) -> dict[str, Any]:
        return {"columns": self.columns, "known_parts": {}}

    def parts(self, file: InputFile) -> list[InputFile]:
        """Returns groups of row groups."""
        if file not in self.known_parts:
            return [file]
        parts = self.known_parts[file]
        return [InputFile(file.path, file.bytes, file.modified, part) for part in parts]

    def read(self, file: InputFile, max_bytes: int, max_record_bytes: int) -> Iterator[Chunk]:
        """See `Reader`. The size of a single row has no limit."""
        own = self.columns.own
        row = 0
        with _opened(file, lambda: f"after row {row}", own.names) as opened:
            _check_types(opened, own)
            metadata = opened.metadata
            groups = (
                range(file.part.start, file.part.stop)
                if file.part
                else range(metadata.num_row_groups)
            )
            row = sum(metadata.row_group(i).num_rows for i in range(groups.start))
            # A file has rows even if nobody wants its columns, only the names of its folders.
            names = own.names or opened.schema_arrow.names[:1]
            stored_bytes = _shares(metadata, groups, file.own_bytes)
            for group in groups:
                if not metadata.row_group(group).num_rows:
                    continue
                count = _rows_at_once(opened, group, names, min(max_bytes, _CHUNK_BYTES))
                for batch in opened.iter_batches(count, [group], names, use_threads=False):
                    rows = self.columns.rows(file.path, _cast(batch, own))
                    stored = stored_bytes[group] * len(rows) // metadata.row_group(group).num_rows
                    yield Chunk(file.path, row, rows, stored_bytes=stored)
                    row += len(rows)


class _Head(NamedTuple):
    """What a file says of itself; no parts if it is in one."""

    file: InputFile
    schema: pa.Schema
    parts: tuple[Part, ...]


def _head_or_error(schemas: dict[pa.Schema, pa.Schema], file: InputFile) -> _Head | InputError:
    """Returns what a file says of itself; an error if it is damaged, which its unit will say.

    Files with equal schemas share one: there may be very many files. `schemas` holds it.
    """
    try:
        with _opened(file, lambda: "at its end") as opened:
            schema = _plain_schema(opened)
            parts = tuple(_parts(file, opened.metadata))
    except InputError as error:
        return error
    return _Head(file, schemas.setdefault(schema, schema), parts if len(parts) > 1 else ())


def _shares(metadata: pq.FileMetaData, groups: range, stored_bytes: int) -> dict[int, int]:
    """Returns about how many of so many bytes each row group takes."""
    sizes = {group: metadata.row_group(group).total_byte_size for group in groups}
    total = max(1, sum(sizes.values()))
    return {group: size * stored_bytes // total for group, size in sizes.items()}


def _parts(file: InputFile, metadata: pq.FileMetaData) -> Iterator[Part]:
    sizes = [metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)]
    total = max(1, sum(sizes))  # before compression
    start = stop = filled = 0
    for stop, size in enumerate(sizes, 1):
        filled += size
        stored = filled * file.bytes // total
        if stored >= _PART_BYTES or stop == len(sizes):
            yield Part(start, stop, stored)
            start, filled = stop, 0


@contextlib.contextmanager
def _opened(file: InputFile, position: Any, names: Sequence[str] = ()) -> Iterator[pq.ParquetFile]:
    """Opens a file, and says what is wrong with it if it cannot be read."""
    with reading(file.path, "Parquet", position), contextlib.ExitStack() as stack:
        source = stack.enter_context(contextlib.closing(_source(file.path)))
        check_size(file.path, _size(source), file.bytes)
        try:
            opened = pq.ParquetFile(source)
            check_names(file.path, opened.schema_arrow.names)
            buffer = _buffer_bytes(opened.metadata, names)
            if buffer:
                opened = pq.ParquetFile(source, metadata=opened.metadata, buffer_size=buffer)
            yield opened
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise _damaged(error) from error
        except OSError as error:
            # What pyarrow says of damage. Errors of filesystems have a number or a class.
            if type(error) is not OSError or error.errno is not None:
                raise
            raise _damaged(error) from error


def _damaged(error: Exception) -> DamagedError:
    text = str(error).strip().splitlines()[0].rstrip(". ")
    if "encrypt" in text.lower() or "decrypt" in text.lower():
        return DamagedError("it is encrypted", "Write it without encryption.")
    if text.startswith("Expected all lists to be of size"):
        return DamagedError(
            f"pyarrow {pa.__version__} cannot read a column of lists of a fixed size of which some "
            f"are null",
            "Write the column with lists of any size, or leave it out with columns=.",
        )
    return DamagedError(text, WRITE_AGAIN)


def _source(path: str) -> pa.NativeFile | BinaryIO:
    # What pyarrow opens itself it reads faster.
    return pa.OSFile(path) if _files.is_local(path) else _files.open_to_read(path)


def _size(source: pa.NativeFile | BinaryIO) -> int:
    source.seek(0, 2)
    size = source.tell()
    source.seek(0)
    return size


def _buffer_bytes(metadata: pq.FileMetaData, names: Sequence[str]) -> int:
    """Returns how much to read of a column at a time; 0 for all of it in a row group."""
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    if not names or not any(group.total_byte_size > _WHOLE_GROUP_BYTES for group in groups):
        return 0
    return max(_SMALLEST_BUFFER, min(_BUFFERS_BYTES // len(names), _LARGEST_BUFFER))


def _rows_at_once(opened: pq.ParquetFile, index: int, names: Sequence[str], most_bytes: int) -> int:
    """Returns how many rows of a row group are about so large in memory."""
    group = opened.metadata.row_group(index)
    wanted = set(names)
    known, repeated = 0, set[str]()
    for i in range(group.num_columns):
        column = group.column(i)
        name = column.path_in_schema.split(".", 1)[0]
        if name not in wanted and column.path_in_schema not in wanted:
            continue
        width = _WIDTHS.get(column.physical_type, 0)
        known += width * column.num_values if width else column.total_uncompressed_size
        if not width and not _DICTIONARIES.isdisjoint(column.encodings):
            repeated.add(name if name in wanted else column.path_in_schema)
    per_row = known / group.num_rows
    if repeated:
        # Each value may be stored once and yet be in many rows.
        probe = opened.iter_batches(_PROBED_ROWS, [index], sorted(repeated), use_threads=False)
        first = next(probe)
        per_row += first.nbytes / first.num_rows
    return max(1, min(_MOST_ROWS, int(most_bytes / max(1, per_row))))


def _plain_schema(opened: pq.ParquetFile) -> pa.Schema:
    return pa.schema([(field.name, plain(field.type)) for field in opened.schema_arrow])


def _types_of(schema: pa.Schema) -> dict[str, pa.DataType]:
    return dict(zip(schema.names, schema.types, strict=True))


def _all_columns(heads: Sequence[_Head]) -> pa.Schema:
    """Returns the columns that any file has, with the types in the first one that has them."""
    first = heads[0].schema
    fields = {field.name: field for field in first}
    for head in heads:
        if head.schema != first:
            fields = {**{field.name: field for field in head.schema}, **fields}
    return pa.schema([fields[name] for name in dict.fromkeys([*first.names, *fields])])


def _common_types(own: pa.Schema, heads: Sequence[_Head], view: ColumnView) -> pa.Schema:
    """Returns the columns with types that fit all files."""
    different = [heads[0], *(head for head in heads if head.schema != heads[0].schema)]
    types = {field.name: field.type for field in own}
    last = {name: head for head in reversed(different) for name in head.schema.names}
    for head in different:
        found = _types_of(head.schema)
        for name, kind in types.items():
            if name not in found:
                raise _missing(name, head.file.path, last[name].file.path, view)
            common = wider(kind, found[name])
            if common is None:
                raise InputError(
                    f"Column '{name}' holds {kind} in {last[name].file.path}, but {found[name]} in "
                    f"{head.file.path}. Write both with one type, or leave the column out with "
                    f"{_setting(view)}=."
                )
            if common != kind:
                types[name], last[name] = common, head
    return pa.schema(list(types.items()))


def _setting(view: ColumnView) -> str:
    return "columns" if view.is_whole else "keep"


def _missing(name: str, path: str, other: str, view: ColumnView) -> InputError:
    return InputError(
        f"{path} has no column '{name}', which {other} has. Write it there too, or leave the "
        f"column out with {_setting(view)}=, which names the others."
    )


def _check_types(opened: pq.ParquetFile, own: pa.Schema) -> None:
    """Checks that a file still has the columns that it had when the run began."""
    found = _types_of(_plain_schema(opened))
    for field in own:
        if field.name not in found:
            raise DamagedError(f"it has no column '{field.name}', which other files have")
        kind = found[field.name]
        if wider(field.type, kind) != field.type:
            raise DamagedError(
                f"its column '{field.name}' holds {kind}, but {field.type} in other files"
            )


def _cast(batch: pa.RecordBatch, own: pa.Schema) -> pa.Table:
    columns = {}
    for name in batch.schema.names:
        column = batch.column(batch.schema.get_field_index(name))
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        index = own.get_field_index(name)
        if index >= 0 and column.type != own.field(index).type:
            column = column.cast(own.field(index).type)
        columns[name] = column
    return pa.table(columns)
