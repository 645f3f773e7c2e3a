"""Prediction tables as rows, whatever their format.

Parquet knows the types of its columns. CSV and JSON Lines do not: theirs are what the values of all
files together say, so that text may come back as numbers, and lists in CSV as text.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from bulk_inferencer import _files, _layout
from bulk_inferencer._formats.table_schema import VARIANT
from bulk_inferencer.errors import InputError
from bulk_inferencer.results.shards import Shard

_NOT_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_BLOCK_BYTES = 16 << 20
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


def table_rows(shards: Sequence[Shard]) -> TableRows:
    """Returns the rows of the files of a table, at least one, all of one format.

    Raises:
      InputError: they have several formats.
    """
    formats = sorted({_layout.table_format_of(shard.path) for shard in shards})
    if len(formats) > 1:
        raise InputError(
            f"The table has files of the formats {' and '.join(formats)}, such as "
            f"{shards[0].path}. Keep those of one."
        )
    return _ROWS[formats[0]]([shard.path for shard in shards])


class ParquetRows:
    """Rows in Parquet."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns."""
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
    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths

    @cached_property
    def schema(self) -> pa.Schema:
        return _common([self._read(path).schema for path in self._paths])

    def _read(self, path: str) -> pa.Table:
        with _named(path), _files.open_to_read(path) as file:
            return pyarrow.csv.read_csv(
                file, parse_options=_CSV_TEXT, convert_options=self._options(None)
            )

    def _options(self, schema: pa.Schema | None) -> pyarrow.csv.ConvertOptions:
        # As the table was written: what is null has no quotes, and what is empty text has.
        return pyarrow.csv.ConvertOptions(
            column_types=schema,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )

    def tables(self, rows: int) -> Iterator[pa.Table]:
        for path in self._paths:
            with _named(path), _files.open_to_read(path) as file:
                reader = pyarrow.csv.open_csv(
                    file,
                    parse_options=_CSV_TEXT,
                    convert_options=self._options(self.schema),
                    read_options=pyarrow.csv.ReadOptions(block_size=_BLOCK_BYTES),
                )
                for batch in reader:
                    yield from _cut(pa.Table.from_batches([batch], self.schema), rows)

    def count(self) -> int:
        return sum(table.num_rows for table in self.tables(1 << 20))


class _JSONLines:
    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths

    @cached_property
    def schema(self) -> pa.Schema:
        kinds: dict[str, pa.DataType] = {}
        for values in self._blocks(1 << 16):
            for name, column in values.items():
                kinds[name] = _wider(kinds.get(name, pa.null()), _inferred(column))
        return pa.schema(list(kinds.items()))

    def _blocks(self, rows: int) -> Iterator[dict[str, list[Any]]]:
        """Yields the values of at most so many lines, by column."""
        for path in self._paths:
            with _named(path), _files.open_to_read(path) as file:
                lines: list[dict[str, Any]] = []
                for line in file:
                    lines.append(json.loads(line))
                    if len(lines) == rows:
                        yield _by_column(lines)
                        lines = []
                if lines:
                    yield _by_column(lines)

    def tables(self, rows: int) -> Iterator[pa.Table]:
        for values in self._blocks(rows):
            count = len(next(iter(values.values()), ()))
            arrays = [_array(values.get(own.name, [None] * count), own.type) for own in self.schema]
            yield pa.table(arrays, schema=self.schema)

    def count(self) -> int:
        return sum(len(next(iter(values.values()), ())) for values in self._blocks(1 << 16))


_ROWS: dict[str, Callable[[Sequence[str]], TableRows]] = {
    _layout.PARQUET: ParquetRows,
    _layout.CSV: _CSV,
    _layout.JSON_LINES: _JSONLines,
}


def _by_column(lines: list[dict[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for line in lines for name in line)
    return {name: [line.get(name) for line in lines] for name in names}


def _inferred(values: list[Any]) -> pa.DataType:
    """Returns the type of JSON values, in which NaN and infinities are texts."""
    for own in ([_without_texts(value) for value in values], values):
        with contextlib.suppress(pa.ArrowInvalid, pa.ArrowTypeError):
            return pa.array(own).type
    return pa.string()


def _without_texts(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_texts(own) for own in value]
    return _NOT_FINITE.get(value, value) if isinstance(value, str) else value


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    leaf = kind
    while pa.types.is_list(leaf):
        leaf = leaf.value_type
    if pa.types.is_floating(leaf):
        values = [_without_texts(value) for value in values]
    elif pa.types.is_string(kind):
        values = [v if v is None or isinstance(v, str) else json.dumps(v) for v in values]
    return pa.array(values, kind)


def _common(schemas: Sequence[pa.Schema]) -> pa.Schema:
    kinds: dict[str, pa.DataType] = {}
    for schema in schemas:
        for own in schema:
            kinds[own.name] = _wider(kinds.get(own.name, pa.null()), own.type)
    return pa.schema(list(kinds.items()))


def _wider(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """Returns the type that holds the values of both: text, if no other does."""
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    numbers = [pa.types.is_integer(own) or pa.types.is_floating(own) for own in (one, other)]
    if all(numbers):
        return pa.float64()
    if pa.types.is_list(one) and pa.types.is_list(other):
        return pa.list_(_wider(one.value_type, other.value_type))
    return pa.string()


def _cut(table: pa.Table, rows: int) -> Iterator[pa.Table]:
    for start in range(0, table.num_rows, rows):
        yield table.slice(start, rows)


@contextlib.contextmanager
def _named(path: str) -> Iterator[None]:
    """Raises an InputError with the path where a file of a table cannot be read."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}. Run again.") from error
    except (pa.ArrowInvalid, pa.ArrowTypeError, json.JSONDecodeError, OSError) as error:
        if getattr(error, "errno", None) is not None:  # of the system, and not of Arrow
            raise
        raise InputError(
            f"{path} cannot be read as a table, since it is damaged or was written by something "
            f"else: {error}. Run again."
        ) from error
