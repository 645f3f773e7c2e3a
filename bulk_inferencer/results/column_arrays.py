"""Columns of a table as the arrays that models return, to be compared as those.

column  [1, 2]  null  [3, 4, 5]   -->   rows (0,) [[1, 2]], rows (2,) [[3, 4, 5]]
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bulk_inferencer._formats.column_values import is_list

_Key = TypeVar("_Key", bound=Hashable)


class Flat:
    """The values of a column: those of all rows one after the other, and where each row begins."""

    def __init__(self, column: pa.Array) -> None:
        self.is_valid = column.is_valid().to_numpy(zero_copy_only=False)
        self.is_list = is_list(column.type)
        offsets = np.arange(len(column) + 1)
        while is_list(column.type):
            counts = pc.fill_null(_lengths(column), 0).to_numpy(zero_copy_only=False)
            ends = np.concatenate([[0], np.cumsum(counts)])
            # Arrow 10 cannot flatten lists that are all null.
            inner = column if column.null_count < len(column) else column.slice(0, 0)
            column, offsets = inner.flatten(), ends[offsets]
        self._values = _numpy(column)
        self._offsets = offsets
        self.counts = np.diff(offsets)

    def rows(self, rows: np.ndarray) -> np.ndarray:
        """Returns rows, which all have the same number of values, as [n] or [n, k]."""
        count = int(self.counts[rows[0]])
        if not self.is_list:
            values = self._values[rows]
        else:
            values = self._values[self._offsets[rows, None] + np.arange(count)]
        if self.is_valid[rows].all():
            return values
        mask = np.broadcast_to(
            ~self.is_valid[rows].reshape(-1, *[1] * (values.ndim - 1)), values.shape
        )
        return np.ma.MaskedArray(values, mask)  # type: ignore[no-untyped-call]


def pieces(
    columns: Mapping[_Key, Flat], count: int
) -> Iterator[tuple[np.ndarray, dict[_Key, np.ndarray]]]:
    """Yields row numbers, and arrays of these rows by column, in which all have equal lengths.

    Args:
      columns: each of `count` rows.
      count: the number of rows.
    """
    uneven = [own.counts for own in columns.values() if own.is_list and _is_uneven(own)]
    if not count:
        return
    groups = [np.arange(count)]
    if uneven:
        _, group_of = np.unique(np.stack(uneven, axis=1), axis=0, return_inverse=True)
        group_of = group_of.reshape(-1)
        groups = [np.flatnonzero(group_of == own) for own in range(group_of.max() + 1)]
    for rows in groups:
        yield rows, {name: own.rows(rows) for name, own in columns.items()}


def _is_uneven(column: Flat) -> bool:
    return bool((column.counts != column.counts[:1]).any())


def _lengths(column: pa.Array) -> pa.Array:
    if pa.types.is_fixed_size_list(column.type):
        return pc.if_else(column.is_valid(), column.type.list_size, 0)
    return pc.list_value_length(column)


def _numpy(values: pa.Array) -> np.ndarray:
    """Returns numbers and booleans as they are, and all else as objects that are bytes."""
    types, kind = pa.types, values.type
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        if values.null_count:
            return np.asarray(values.fill_null(False if types.is_boolean(kind) else 0))
        return values.to_numpy(zero_copy_only=False)
    array = np.empty(len(values), object)
    if types.is_null(kind):
        array[:] = b""
        return array
    if types.is_string(kind) or types.is_large_string(kind):
        values = values.view(pa.binary() if types.is_string(kind) else pa.large_binary())
    elif not (types.is_binary(kind) or types.is_large_binary(kind)):
        values = pa.array([None if own is None else str(own) for own in values.to_pylist()])
        values = values.cast(pa.string()).view(pa.binary())
    array[:] = [b"" if own is None else own for own in values.to_pylist()]
    return array
