"""Dicts as columns: tables that hold what the tf.Example of each dict would hold.

    {"x": 1, "name": "a"}          x     name
    {"x": 2.5}               ->    1.0   "a"
                                   2.5   null

Columns have one type, so dicts whose values do not fit together go to tables of their own.
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Mapping, Sequence
from decimal import Decimal
from types import NoneType
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from apache_beam.utils.timestamp import Timestamp

from bulk_inferencer._formats import dtypes
from bulk_inferencer._formats.input_format import Unreadable

# The three kinds of values that a feature of a tf.Example may have.
_WHOLE, _FLOAT, _BYTES = "whole numbers", "floats", "text or bytes"

_MICROSECOND = datetime.timedelta(microseconds=1)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
_LARGEST_INT64, _LARGEST_EXACT = 2**63 - 1, 2**53

# Columns of values that pyarrow converts as this module would, only faster.
_FAST = {
    frozenset({bool}): pa.bool_(),
    frozenset({int}): pa.int64(),
    frozenset({float}): pa.float64(),
    frozenset({int, float}): pa.float64(),
    frozenset({str}): pa.string(),
    frozenset({bytes}): pa.binary(),
}
_FAST_LISTS = {
    frozenset({int}): (_WHOLE, np.int64),
    frozenset({float}): (_FLOAT, np.float64),
}


class Table(NamedTuple):
    """Dicts as a table.

    Attributes:
      indexes: which of the dicts.
      columns: their values; null where a dict does not have them.
      is_widened: whether whole numbers in them became floats, because other dicts had floats.
    """

    indexes: Sequence[int]
    columns: pa.Table
    is_widened: bool


class _Cell(NamedTuple):
    """A value: a number, text or bytes; or if it is a list of them, an array or a list."""

    kind: str | None  # None for a value of no kind: None or an empty list
    is_list: bool
    value: Any


_NOTHING = _Cell(None, False, None)
_EMPTY = _Cell(None, True, None)


class _Unfit(ValueError):
    """A value that no feature of a tf.Example can hold."""


def tables_of(
    dicts: Sequence[Mapping[str, Any]], *, widen: bool = True
) -> tuple[list[Table], dict[int, Unreadable]]:
    """Returns the dicts as tables, and by index, those that cannot be rows of one.

    Args:
      dicts: values by column: numbers, text, bytes, booleans, dates and times, None; lists of them;
        NumPy scalars and arrays. The values of an array are taken in row order.
      widen: whether whole numbers become floats where other dicts have floats.
    """
    unfit: dict[int, str] = {}
    fast: dict[str, pa.Array] = {}
    slow: dict[str, list[_Cell]] = {}
    is_widened = False
    # In one order, so that a row's tf.Example is the same in whatever order its values were given.
    for name in sorted(set(itertools.chain.from_iterable(dicts)), key=str):
        if reason := _about_name(name):
            unfit |= {index: reason for index, own in enumerate(dicts) if name in own}
            continue
        values = [own.get(name) for own in dicts]
        kinds = frozenset(map(type, values)) - {NoneType}
        column = _fast(values, kinds) if widen or len(kinds) == 1 else None
        if column is not None:
            fast[name] = column
            is_widened |= len(kinds) > 1
        else:
            slow[name] = _cells(name, values, unfit)
            is_widened |= widen and _widen(slow[name])
    fitting = [index for index in range(len(dicts)) if index not in unfit]
    tables = [
        Table(indexes, _table(fast, slow, indexes, len(dicts)), is_widened)
        for indexes in _alike(slow.values(), fitting)
    ]
    return tables, {i: Unreadable("ValueError", reason) for i, reason in sorted(unfit.items())}


def _about_name(name: Any) -> str:
    if not isinstance(name, str):
        return f"the name of a column must be text, not {name!r}"
    try:
        name.encode()
    except UnicodeEncodeError:
        return f"the name of a column is {name!r}, which cannot be written as UTF-8"
    return ""


def _fast(values: list[Any], kinds: frozenset[type]) -> pa.Array | None:
    if not kinds:
        return pa.nulls(len(values))
    try:
        if kinds in _FAST:
            return pa.array(values, _FAST[kinds])
        (kind,) = kinds if len(kinds) == 1 else (object,)
        if issubclass(kind, (np.integer, np.floating)):
            absent = np.array([value is None for value in values])
            numbers = np.array([kind(0) if value is None else value for value in values])
            return pa.array(_cell_of_array(numbers).value, mask=absent)
    except (pa.ArrowInvalid, OverflowError, UnicodeEncodeError, _Unfit):
        pass  # One of them does not fit; the slow way finds it.
    return None


def _cells(name: str, values: Sequence[Any], unfit: dict[int, str]) -> list[_Cell]:
    cells = []
    for index, value in enumerate(values):
        try:
            cells.append(_cell(value))
        except _Unfit as error:
            unfit.setdefault(index, f"column '{name}' {error}")
            cells.append(_NOTHING)
    return cells


def _cell(value: Any) -> _Cell:
    if isinstance(value, np.ndarray):
        return _cell(value[()]) if value.ndim == 0 else _cell_of_array(value)
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return _cell_of_list(value)
    kind, scalar = _scalar(value)
    return _Cell(kind, False, scalar)


def _cell_of_array(array: np.ndarray) -> _Cell:
    if np.ma.is_masked(array):  # type: ignore[no-untyped-call]
        raise _Unfit("holds an array with masked values. Fill them, or leave the column out")
    array = np.asarray(array).ravel()
    if not array.size:
        return _EMPTY
    kind = array.dtype.kind
    if kind == "b":
        return _Cell(_WHOLE, True, array.view(np.uint8))
    if kind in "iu":
        if kind == "u" and array.max() > _LARGEST_INT64:
            raise _Unfit(_too_large(int(array.max())))
        return _Cell(_WHOLE, True, array.astype(array.dtype.newbyteorder("="), copy=False))
    if dtypes.is_float(array.dtype):
        wide = np.float32 if array.dtype.itemsize <= np.dtype(np.float32).itemsize else np.float64
        return _Cell(_FLOAT, True, array.astype(wide, copy=False))
    if kind == "M":
        return _cell_of_list(list(array))
    if kind in "SUO":
        return _cell_of_list(array.tolist())
    raise _Unfit(f"holds an array of {array.dtype}, which a tf.Example cannot hold. Leave it out")


def _cell_of_list(values: Sequence[Any]) -> _Cell:
    if not values:
        return _EMPTY
    try:
        if (own := frozenset(map(type, values))) in _FAST_LISTS:
            kind, dtype = _FAST_LISTS[own]
            return _Cell(kind, True, np.array(values, dtype))
    except OverflowError:
        pass  # One of them does not fit; the slow way says so.
    found = [_scalar(value, "holds a list with") for value in values]
    kinds = {kind for kind, _ in found}
    if None in kinds:
        raise _Unfit("holds a list with None among its values. Replace it")
    scalars = [scalar for _, scalar in found]
    if kinds == {_BYTES}:
        return _Cell(_BYTES, True, scalars)
    if kinds == {_WHOLE}:
        return _Cell(_WHOLE, True, np.array(scalars, np.int64))
    if kinds <= {_WHOLE, _FLOAT}:
        return _Cell(_FLOAT, True, np.array(scalars, np.float64))
    raise _Unfit("holds a list of both text and numbers. Use one of them")


def _scalar(value: Any, holds: str = "holds") -> tuple[str | None, Any]:
    """Returns the kind of a value, and the value as a Python number, text or bytes."""
    if value is None:
        return None, None
    if isinstance(value, (float, np.floating, Decimal)):
        return _FLOAT, float(value)
    if isinstance(value, (int, np.integer, np.bool_)):
        if not -_LARGEST_INT64 - 1 <= value <= _LARGEST_INT64:
            raise _Unfit(_too_large(value))
        return _WHOLE, int(value)
    if isinstance(value, bytes):
        return _BYTES, value
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise _Unfit(f"{holds} text that cannot be written as UTF-8: {error.reason}") from error
        return _BYTES, value
    if isinstance(value, Timestamp):
        return _WHOLE, value.micros
    if isinstance(value, np.datetime64):
        whole = value.astype("datetime64[us]")
        return (None, None) if np.isnat(whole) else (_WHOLE, int(whole.astype(np.int64)))
    if isinstance(value, datetime.date):
        return _time(value)
    if dtypes.is_float(getattr(value, "dtype", np.dtype(object))) and np.ndim(value) == 0:
        return _FLOAT, float(value)  # bfloat16
    advice = " Leave it out"
    if isinstance(value, (list, tuple, np.ndarray)):
        advice = " Flatten it, or make the whole value a NumPy array"
    raise _Unfit(f"{holds} a {type(value).__name__}, which a tf.Example cannot hold.{advice}")


def _time(value: datetime.date) -> tuple[str | None, Any]:
    """Returns the microseconds since 1970; a time that names no zone is in UTC."""
    if value != value:  # pandas' NaT
        return None, None
    if not isinstance(value, datetime.datetime):
        value = datetime.datetime(value.year, value.month, value.day)
    if value.tzinfo is None:
        value = value.replace(tzinfo=datetime.timezone.utc)
    return _WHOLE, (value - _EPOCH) // _MICROSECOND


def _too_large(value: Any) -> str:
    return f"holds {value}, which does not fit into 64 bits with a sign. Make it text or a float"


def _widen(cells: list[_Cell]) -> bool:
    """Makes whole numbers floats if there are floats too, and says whether it has."""
    whole = [index for index, cell in enumerate(cells) if cell.kind == _WHOLE]
    if not whole or all(cell.kind != _FLOAT for cell in cells):
        return False
    if any(np.max(np.abs(cells[i].value), initial=0) > _LARGEST_EXACT for i in whole):
        return False
    for index in whole:
        cells[index] = cells[index]._replace(kind=_FLOAT)
    return True


def _alike(columns: Any, indexes: Sequence[int]) -> list[Sequence[int]]:
    """Returns the indexes in groups in which every column has values of one kind."""
    mixed = [cells for cells in columns if len({cells[i].kind for i in indexes} - {None}) > 1]
    if not mixed:
        return [indexes] if indexes else []
    groups: dict[tuple[str | None, ...], list[int]] = {}
    for index in indexes:
        groups.setdefault(tuple(cells[index].kind for cells in mixed), []).append(index)
    return list(groups.values())


def _table(
    fast: Mapping[str, pa.Array],
    slow: Mapping[str, Sequence[_Cell]],
    indexes: Sequence[int],
    count: int,
) -> pa.Table:
    columns = dict(fast)
    if len(indexes) < count:
        taken = pa.array(indexes, pa.int64())
        columns = {name: column.take(taken) for name, column in fast.items()}
    for name, cells in slow.items():
        columns[name] = _column([cells[i] for i in indexes])
    return pa.table(columns)


def _column(cells: Sequence[_Cell]) -> pa.Array:
    """Returns values of one kind as a column: of lists, if one of them is a list."""
    kind = next((cell.kind for cell in cells if cell.kind), None)
    if kind is None:
        return pa.nulls(len(cells))
    if not any(cell.is_list for cell in cells):
        return _flat(kind, [cell.value for cell in cells])
    sizes = [_size(cell) for cell in cells]
    ends = list(itertools.accumulate(sizes))
    starts = [
        None if cell.value is None and not cell.is_list else end - size
        for cell, size, end in zip(cells, sizes, ends, strict=True)
    ]
    full = [cell.value for cell, size in zip(cells, sizes, strict=True) if size]
    if kind == _BYTES:
        lists = [own if isinstance(own, list) else [own] for own in full]
        flat = _flat(kind, [value for own in lists for value in own])
    else:
        flat = pa.array(_joined(kind, full))
    return pa.ListArray.from_arrays(pa.array([*starts, ends[-1]], pa.int32()), flat)


def _size(cell: _Cell) -> int:
    if cell.value is None:
        return 0
    return len(cell.value) if cell.is_list else 1


def _flat(kind: str, values: list[Any]) -> pa.Array:
    if kind == _WHOLE:
        return pa.array(values, pa.int64())
    if kind == _FLOAT:
        return pa.array([v if v is None else float(v) for v in values], pa.float64())
    if any(isinstance(value, bytes) for value in values):
        return pa.array([v.encode() if isinstance(v, str) else v for v in values], pa.binary())
    return pa.array(values, pa.string())


def _joined(kind: str, values: list[Any]) -> np.ndarray:
    """Returns numbers in one array: in their own dtype, if they have one."""
    wide = np.int64 if kind == _WHOLE else np.float64
    arrays = [np.atleast_1d(v if isinstance(v, np.ndarray) else wide(v)) for v in values]
    kinds = {array.dtype for array in arrays}
    is_own = len(kinds) == 1 and dtypes.is_float(next(iter(kinds))) == (kind == _FLOAT)
    return np.concatenate(arrays, dtype=kinds.pop() if is_own else wide)
