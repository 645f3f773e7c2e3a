"""Prediction tables as rows, whatever their format.

Parquet knows the types of its columns. Those of CSV and JSON Lines are in the summary of the run.
Without one, they are what the values of all files together say, so that text may come back as
numbers, and lists in CSV as text.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from bulk_inferencer import _files, _layout
from bulk_inferencer._formats.table_schema import VARIANT
from bulk_inferencer._formats.text_columns import column_of_json, column_of_texts, from_json
from bulk_inferencer.errors import InputError
from bulk_inferencer.results.guessed_types import (
    common_schema,
    guessed_column,
    type_of_json,
    wider,
)
from bulk_inferencer.results.shards import Shard

_BLOCK_BYTES, _MAX_BLOCK_BYTES = 16 << 20, 1 << 30
_AGAIN = "Restore it, or run into another folder."
# In a table of one column, a line without anything is a row.
_CSV_TEXT = pyarrow.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)


class TableRows(Protocol):
    """The rows of the files of a table."""

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        ...

    def tables(self, rows: int) -> Iterator[pa.Table]:
        """Yields the rows in tables of at most so many."""
        ...

    def count(self) -> int:
        """Returns the number of rows."""
        ...


def table_rows(shards: Sequence[Shard], schema: pa.Schema | None = None) -> TableRows:
    """Returns the rows of the files of a table, all of one format.

    Args:
      shards: the files; none only if the columns are known.
      schema: the columns, as far as the summary says.

    Raises:
      InputError: they have several formats.
    """
    formats = sorted({_layout.table_format_of(shard.path) for shard in shards})
    if len(formats) > 1:
        raise InputError(
            f"The table has files of the formats {' and '.join(formats)}, such as "
            f"{shards[0].path}. Keep those of one."
        )
    return _ROWS[formats[0] if formats else _layout.PARQUET](
        [shard.path for shard in shards], schema
    )


class ParquetRows:
    """Rows in Parquet."""

    def __init__(self, paths: Sequence[str], schema: pa.Schema | None = None) -> None:
        self._paths = paths
        self._known = schema

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns."""
        if self._known and not self._paths:
            return self._known
        with _opened(self._paths[0]) as file:
            return file.schema_arrow.remove_metadata()

    def tables(self, rows: int) -> Iterator[pa.Table]:
        """Yields the rows in tables of at most so many."""
        for path in self._paths:
            with _opened(path) as file:
                for batch in file.iter_batches(rows) if _has_rows(file) else ():
                    yield pa.Table.from_batches([batch]).cast(self.schema)

    def whole(self) -> pa.Table:
        """Returns all rows."""
        parts = [self.schema.empty_table()]
        for path in self._paths:
            with _opened(path) as file:
                if _has_rows(file):
                    parts.append(file.read().cast(self.schema))
        return pa.concat_tables(parts)

    def count(self) -> int:
        """Returns the number of rows."""
        total = 0
        for path in self._paths:
            with _opened(path) as file:
                total += file.metadata.num_rows
        return total


def _has_rows(file: pq.ParquetFile) -> bool:
    return bool(file.num_row_groups)  # Without any, some versions of Arrow cannot read a file.


class ModelRows:
    """Those rows of a table that one of several models has scored, with its outputs alone.

    In an A/B test, the column `variant` holds the model's name. Otherwise, the names of its outputs
    begin with it.
    """

    def __init__(
        self, rows: TableRows, model: str, others: Sequence[str], is_ab_test: bool
    ) -> None:
        self._rows, self._model, self._is_ab_test = rows, model, is_ab_test
        foreign = () if is_ab_test else tuple(f"{name}/" for name in others)
        self._names = [n for n in rows.schema.names if not foreign or not n.startswith(foreign)]
        self._outputs = [n for n in self._names if not is_ab_test and n.startswith(f"{model}/")]

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns."""
        return self._of_model(self._rows.schema.empty_table()).schema

    def tables(self, rows: int) -> Iterator[pa.Table]:
        """Yields the rows in tables of at most so many."""
        return map(self._of_model, self._rows.tables(rows))

    def count(self) -> int:
        """Returns the number of rows, by reading them."""
        return sum(table.num_rows for table in self.tables(1 << 16))

    def _of_model(self, table: pa.Table) -> pa.Table:
        if self._is_ab_test:
            return table.filter(pc.equal(table[VARIANT], self._model))
        table = table.select(self._names)
        scored = [table[name].is_valid() for name in self._outputs]
        if scored:
            table = table.filter(functools.reduce(pc.or_, scored))
        return table.rename_columns(
            [
                name.removeprefix(f"{self._model}/") if name in self._outputs else name
                for name in self._names
            ]
        )


@contextlib.contextmanager
def _opened(path: str) -> Iterator[pq.ParquetFile]:
    with _named(path), _files.open_to_read(path) as file:
        is_local = _files.is_local(path)
        yield pq.ParquetFile(path, memory_map=True) if is_local else pq.ParquetFile(file)


class _CSV:
    def __init__(self, paths: Sequence[str], schema: pa.Schema | None = None) -> None:
        self._paths = paths
        self._known = schema

    @cached_property
    def schema(self) -> pa.Schema:
        return self._known or common_schema([self._guessed(path) for path in self._paths])

    def _guessed(self, path: str) -> pa.Schema:
        with _named(path), _files.open_to_read(path) as file:
            options = pyarrow.csv.ReadOptions(block_size=_BLOCK_BYTES)
            return pyarrow.csv.read_csv(file, options, _CSV_TEXT, _csv_options(None)).schema

    def tables(self, rows: int) -> Iterator[pa.Table]:
        for path in self._paths:
            with _named(path):
                for batch in self._batches(path):
                    yield from _cut(self._typed(batch), rows)

    def _batches(self, path: str) -> Iterator[pa.RecordBatch]:
        """Yields what is parsed at a time: a block, and a larger one from where a row is larger."""
        schema = pa.schema([(own.name, _as_parsed(own.type)) for own in self.schema])
        done, block_bytes = 0, _BLOCK_BYTES
        while True:
            seen = 0
            try:
                with _files.open_to_read(path) as file:
                    options = pyarrow.csv.ReadOptions(block_size=block_bytes)
                    for batch in pyarrow.csv.open_csv(
                        file, options, _CSV_TEXT, _csv_options(schema)
                    ):
                        seen += batch.num_rows
                        if seen > done:
                            yield batch.slice(max(0, batch.num_rows - (seen - done)))
                            done = seen
                return
            except pa.ArrowInvalid as error:
                if "straddl" not in str(error) or block_bytes >= _MAX_BLOCK_BYTES:
                    raise
            block_bytes *= 4

    def _typed(self, batch: pa.RecordBatch) -> pa.Table:
        columns = [
            own if own.type == field.type else column_of_texts(own, field.type)
            for own, field in zip(batch.columns, self.schema, strict=True)
        ]
        return pa.table(columns, schema=self.schema)

    def count(self) -> int:
        return sum(table.num_rows for table in self.tables(1 << 20))


def _csv_options(schema: pa.Schema | None) -> pyarrow.csv.ConvertOptions:
    # As the table was written: what is null has no quotes, and what is empty text has.
    return pyarrow.csv.ConvertOptions(
        column_types=schema,
        include_columns=schema.names if schema else None,
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )


def _as_parsed(kind: pa.DataType) -> pa.DataType:
    """Returns a type itself if Arrow reads it from CSV as it was written, and text otherwise."""
    types = pa.types
    is_plain = types.is_integer(kind) or types.is_boolean(kind) or types.is_string(kind)
    return kind if is_plain or types.is_floating(kind) else pa.string()


class _JSONLines:
    def __init__(self, paths: Sequence[str], schema: pa.Schema | None = None) -> None:
        self._paths = paths
        self._known = schema

    @cached_property
    def schema(self) -> pa.Schema:
        if self._known:
            return self._known
        kinds: dict[str, pa.DataType] = {}
        for _, values, _ in self._blocks(1 << 16):
            for name, column in values.items():
                kinds[name] = wider(kinds.get(name, pa.null()), type_of_json(column))
        return pa.schema(list(kinds.items()))

    def _blocks(self, rows: int) -> Iterator[tuple[str, dict[str, list[Any]], int]]:
        """Yields the path and the values, by column, of at most so many lines."""
        types = self._known.types if self._known else ()
        for path in self._paths:
            with _named(path), _files.open_to_read(path) as file:
                while lines := [from_json(own, types) for own in itertools.islice(file, rows)]:
                    yield path, _by_column(lines), len(lines)

    def tables(self, rows: int) -> Iterator[pa.Table]:
        make = column_of_json if self._known else guessed_column
        for path, values, count in self._blocks(rows):
            columns = [values.get(own.name, [None] * count) for own in self.schema]
            with _named(path):
                arrays = [make(*own) for own in zip(columns, self.schema.types, strict=True)]
            yield pa.table(arrays, schema=self.schema)

    def count(self) -> int:
        return sum(count for _, _, count in self._blocks(1 << 16))


_ROWS: dict[str, Callable[[Sequence[str], pa.Schema | None], TableRows]] = {
    _layout.PARQUET: ParquetRows,
    _layout.CSV: _CSV,
    _layout.JSON_LINES: _JSONLines,
}


def _by_column(lines: list[dict[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for line in lines for name in line)
    return {name: [line.get(name) for line in lines] for name in names}


def _cut(table: pa.Table, rows: int) -> Iterator[pa.Table]:
    for start in range(0, table.num_rows, rows):
        yield table.slice(start, rows)


@contextlib.contextmanager
def _named(path: str) -> Iterator[None]:
    """Raises an InputError with the path where a file of a table cannot be read."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}. {_AGAIN}") from error
    except (ValueError, TypeError, KeyError, ArithmeticError, OSError) as error:
        if getattr(error, "errno", None) is not None:  # of the system, and not of Arrow
            raise
        raise InputError(
            f"{path} cannot be read as a table, since it is damaged or was written by something "
            f"else: {error}. {_AGAIN}"
        ) from error
