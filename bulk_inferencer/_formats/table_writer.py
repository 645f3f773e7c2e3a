"""Tables as the bytes of files: Parquet, CSV or JSON Lines.

    table, table, ... --add--> bytes, bytes, ... --end--> the last bytes of the file

Nothing here knows where files are. CSV and JSON Lines keep nothing between calls, and Parquet the
rows of one row group.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bulk_inferencer._formats import table_texts
from bulk_inferencer._layout import CSV, JSON_LINES, PARQUET
from bulk_inferencer.errors import SettingsError

# Of a row group in Parquet, whichever comes first: enough to read columns of it with profit.
_GROUP_ROWS = 1 << 17
_GROUP_BYTES = 64 << 20


class TableWriter(Protocol):
    """Turns the rows of a table into the bytes of one file. The same rows give the same bytes."""

    def add(self, table: pa.Table) -> bytes:
        """Takes further rows, and returns what can be written so far."""
        ...

    def end(self) -> bytes:
        """Returns the rest."""
        ...


def table_writer(table_format: str, schema: pa.Schema) -> TableWriter:
    """Returns a writer of tables with a schema."""
    return _WRITERS[table_format](schema)


def check_writable(table_format: str, schema: pa.Schema) -> None:
    """Checks that files of a format can hold all columns.

    Raises:
      SettingsError: they cannot.
    """
    if (name := unwritable(table_format, schema)) is not None:
        instead = "" if table_format == PARQUET else f", or write the table as {PARQUET}"
        raise SettingsError(
            f"Column '{name}' holds {schema.field(name).type}, which cannot be written as "
            f"{table_format}. Name the features that the table keeps in TableSettings.keep, "
            f"without '{name}'{instead}."
        )


def unwritable(table_format: str, schema: pa.Schema) -> str | None:
    """Returns the first column that files of a format cannot hold; None if they hold all."""
    for own in schema:
        try:
            writer = table_writer(table_format, pa.schema([own]))
            writer.add(pa.table({own.name: pa.nulls(1, own.type)}))
            writer.end()
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
            return str(own.name)
    return None


class _ParquetWriter:
    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._file = _Passed()
        # Numbers are seldom the same, and looking for those that are takes longer than all else.
        repeated = [own.name for own in schema if not _is_number(own.type)]
        self._writer = pq.ParquetWriter(
            self._file, schema, compression="zstd", version="2.6", use_dictionary=repeated
        )
        self._waiting: list[pa.Table] = []
        self._rows = self._bytes = 0

    def add(self, table: pa.Table) -> bytes:
        while table.num_rows:
            room = max(1, _GROUP_ROWS - self._rows)
            part, table = table.slice(0, room), table.slice(room)
            self._waiting.append(part)
            self._rows += part.num_rows
            self._bytes += part.nbytes
            if self._rows >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
                self._write_group()
        return self._file.take()

    def end(self) -> bytes:
        if self._waiting:
            self._write_group()
        self._writer.close()
        return self._file.take()

    def _write_group(self) -> None:
        # In one piece: where batches end must not decide where pages do.
        group = pa.concat_tables(self._waiting).combine_chunks()
        self._waiting, self._rows, self._bytes = [], 0, 0
        self._writer.write_table(group, row_group_size=group.num_rows)


class _Passed(io.RawIOBase):
    """A file that passes on what is written to it."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._parts.append(bytes(data))
        self._position += len(data)
        return len(data)

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


class _CSVWriter:
    """Writes lines, the first of which names the columns."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        names = table_texts.csv_texts(pa.array(schema.names, pa.string())).to_pylist()
        self._header = (",".join(names) + "\n").encode()

    def add(self, table: pa.Table) -> bytes:
        header, self._header = self._header, b""
        parts: list[str | pa.Array] = []
        for own in self._schema:
            parts += [table_texts.csv_texts(_whole(table[own.name])), ","]
        return header + _lines([*parts[:-1], "\n"], table.num_rows)

    def end(self) -> bytes:
        return self._header


class _JSONLinesWriter:
    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema

    def add(self, table: pa.Table) -> bytes:
        parts: list[str | pa.Array] = []
        for own in self._schema:
            name = json.dumps(own.name, ensure_ascii=False)
            texts = table_texts.json_texts(_whole(table[own.name]))
            parts += [f"{',' if parts else '{'}{name}:", texts]
        return _lines([*parts, "}\n"], table.num_rows)

    def end(self) -> bytes:
        return b""


def _lines(parts: Sequence[str | pa.Array], count: int) -> bytes:
    """Returns lines, which consist of these parts."""
    if not count:
        return b""
    lines = pc.binary_join_element_wise(*parts, "")
    return b"".join(lines.cast(pa.binary()).to_pylist())


_WRITERS: dict[str, Callable[[pa.Schema], TableWriter]] = {
    PARQUET: _ParquetWriter,
    CSV: _CSVWriter,
    JSON_LINES: _JSONLinesWriter,
}


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """Returns a column in one piece."""
    chunks = column.chunks or [pa.nulls(0, column.type)]
    return chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
