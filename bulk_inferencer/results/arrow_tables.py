"""Arrow tables in other shapes: of so many rows, as DataFrames, and as values of Python."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from bulk_inferencer.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


def in_tables_of(rows: int, size: int, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yields the same rows in tables of `rows`; of fewer once they take `size` bytes, or end."""
    waiting: list[pa.Table] = []
    count = bytes_waiting = 0
    for table in tables:
        waiting.append(table)
        count += table.num_rows
        bytes_waiting += table.nbytes
        while count >= rows or (count and bytes_waiting >= size):
            whole = pa.concat_tables(waiting)
            yield whole.slice(0, rows).combine_chunks()
            waiting = [whole.slice(rows)]
            count, bytes_waiting = max(0, count - rows), waiting[0].nbytes
    if count:
        yield pa.concat_tables(waiting).combine_chunks()


def first_rows(rows: int, schema: pa.Schema, tables: Iterable[pa.Table]) -> pa.Table:
    """Returns the first `rows`, without taking more tables than it needs."""
    parts, count = [schema.empty_table()], 0
    for table in tables if rows else ():
        parts.append(table.slice(0, rows - count))
        count += parts[-1].num_rows
        if count == rows:
            break
    return pa.concat_tables(parts)


def values_of(column: pa.ChunkedArray) -> list[Any]:
    """Returns values of Python; times and dates that Python cannot hold are texts."""
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError):
        return [value_of(own) for own in column]


def value_of(scalar: pa.Scalar) -> Any:
    """Returns a value of Python; see `values_of`."""
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):
        pass
    if isinstance(scalar, pa.DictionaryScalar):
        return value_of(scalar.value)
    if isinstance(scalar, pa.StructScalar):
        return {name: value_of(own) for name, own in scalar.items()}
    if isinstance(scalar, pa.ListScalar):  # of any kind
        return [value_of(own) for own in scalar.values]
    try:
        return scalar.cast(pa.string()).as_py()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # as Arrow 10 says of some types
        return str(scalar.cast(pa.int64()).as_py())


def frame_of(table: pa.Table) -> pd.DataFrame:
    """Returns a table as a DataFrame; see `Results.to_pandas`.

    Raises:
      InputError: a date is none that Python can hold.
    """
    try:
        return table.to_pandas()
    except ValueError:
        import pandas as pd

        return pd.DataFrame({own.name: _series(table[own.name], own) for own in table.schema})


def _series(column: pa.ChunkedArray, own: pa.Field) -> pd.Series:
    with contextlib.suppress(ValueError):
        return column.to_pandas()
    try:
        return column.to_pandas(timestamp_as_object=True)
    except ValueError as error:
        raise InputError(
            f"Column '{own.name}' holds a date that pandas cannot hold: {error}. Use to_arrow."
        ) from error
