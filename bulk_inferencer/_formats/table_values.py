"""The outputs of a batch as columns of a table.

    [k]        numbers, text     one value per row
    [k, 1]     the same
    [k, 3]     lists             other lengths fit as well
    [k, 2, 3]  lists of lists

Numbers take no Python per value.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from bulk_inferencer._formats import dtypes
from bulk_inferencer._formats.partial import plain, rows_with


class Column(NamedTuple):
    """Values of k rows.

    Attributes:
      values: an array of k values, null where a row has none.
      unfit: why rows do not fit into the column, by their index; they are null, too.
    """

    values: pa.Array
    unfit: dict[int, str]


def column_of(values: np.ndarray, kind: pa.DataType) -> Column:
    """Returns the values of an output, or of what else has a value per row.

    A number fits if the column can hold exactly that number, whatever the dtype of its batch.

    Args:
      values: shape [k, ...]; strings as an object array of `bytes`. Masked rows have no value.
      kind: the type of the column.
    """
    count = len(values)
    present = np.flatnonzero(rows_with(values)) if isinstance(values, np.ma.MaskedArray) else None
    values = plain(values) if present is None else plain(values)[present]
    leaf, depth = kind, 0
    while pa.types.is_list(leaf):
        leaf, depth = leaf.value_type, depth + 1
    if values.ndim - 1 != depth and (depth or math.prod(values.shape[1:]) != 1):
        reason = f"it has shape {list(values.shape[1:])}, but its column holds {kind}"
        flat, wrong = pa.nulls(0, kind), dict.fromkeys(range(len(values)), reason)
    else:
        flat, wrong = _texts(values, leaf) if _is_text(leaf) else _numbers(values, leaf)
        flat = _nested(flat, (len(values) - len(wrong), *values.shape[1 : depth + 1]))
    if present is None:
        if not wrong:
            return Column(flat, {})
        present = np.arange(count)
    fit = np.delete(present, list(wrong))
    return Column(
        spread(flat, fit, count), {int(present[i]): reason for i, reason in wrong.items()}
    )


def spread(values: pa.Array, rows: np.ndarray, count: int) -> pa.Array:
    """Puts values into the rows that they belong to; the others of `count` rows are null."""
    indexes = np.zeros(count, np.int64)
    indexes[rows] = np.arange(len(rows))
    is_null = np.ones(count, bool)
    is_null[rows] = False
    return values.take(pa.array(indexes, mask=is_null))


def _nested(flat: pa.Array, shape: tuple[int, ...]) -> pa.Array:
    """Returns values as an array of this shape: lists, lists of lists, ..."""
    for axis in range(len(shape) - 1, 0, -1):
        offsets = np.arange(math.prod(shape[:axis]) + 1, dtype=np.int32) * np.int32(shape[axis])
        flat = pa.ListArray.from_arrays(pa.array(offsets), flat)
    return flat


def _numbers(values: np.ndarray, leaf: pa.DataType) -> tuple[pa.Array, dict[int, str]]:
    """Returns all values, one after the other, without those of rows that do not fit."""
    target = np.dtype(leaf.to_pandas_dtype())
    if not dtypes.is_number(values.dtype):
        what = "text" if values.dtype.kind in "OSU" else str(values.dtype)
        reason = f"it is {what}, but its column holds {leaf}"
        return pa.nulls(0, leaf), dict.fromkeys(range(len(values)), reason)
    wrong: dict[int, str] = {}
    if values.dtype != target:
        with np.errstate(all="ignore"):
            cast = values.astype(target)
            if not _holds_all(target, values.dtype):
                same = (cast.astype(values.dtype) == values) & _is_in_range(values, cast)
                same |= (values != values) & (cast != cast)
                is_unfit = ~same.all(axis=tuple(range(1, values.ndim)))
                for row in np.flatnonzero(is_unfit).tolist():
                    value = values[row][~same[row]].flat[0] if values.ndim > 1 else values[row]
                    wrong[row] = f"{value} does not fit, since its column holds {leaf}"
                cast = cast[~is_unfit]
        values = cast
    return pa.array(values.ravel()), wrong


def _holds_all(target: np.dtype, source: np.dtype) -> bool:
    """Returns whether each value of a dtype is one of another, too."""
    if dtypes.is_float(source):
        return target.kind == "f" and target.itemsize >= source.itemsize
    if target.kind == "f":  # which holds whole numbers of fewer bits
        return source.itemsize < target.itemsize
    return bool(np.can_cast(source, target, "safe"))


def _is_in_range(values: np.ndarray, cast: np.ndarray) -> np.ndarray:
    """Returns which values a cast does not carry out of the range of whole numbers.

    There, a cast may wrap around, and back again; or end at a limit that is no float.
    """
    for floats, whole in ((values, cast), (cast, values)):
        if dtypes.is_float(floats.dtype) and whole.dtype.kind in "iu":
            limits = np.iinfo(whole.dtype)
            wide = floats.astype(np.float64)
            return (wide >= float(limits.min)) & (wide < float(limits.max) + 1)
    return (values < 0) == (cast < 0)


def _texts(values: np.ndarray, leaf: pa.DataType) -> tuple[pa.Array, dict[int, str]]:
    """Returns all values, one after the other, without those of rows that do not fit."""
    if values.dtype.kind not in "OSU":
        reason = f"it is {values.dtype}, but its column holds {leaf}"
        return pa.nulls(0, leaf), dict.fromkeys(range(len(values)), reason)
    try:
        array = pa.array(values.ravel().tolist(), pa.binary())
        if not array.null_count:
            return array.cast(leaf), {}
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        pass  # of some rows, which are told apart below
    rows = values.reshape(len(values), math.prod(values.shape[1:])).tolist()
    reasons = {i: _why_unfit(row, leaf) for i, row in enumerate(rows)}
    wrong = {i: reason for i, reason in reasons.items() if reason}
    fitting = [value for i, row in enumerate(rows) if i not in wrong for value in row]
    return pa.array(fitting, pa.binary()).cast(leaf), wrong


def _why_unfit(row: list[Any], leaf: pa.DataType) -> str:
    for value in row:
        if not isinstance(value, (bytes, str)):
            return f"it is of type {type(value).__name__}, but its column holds {leaf}"
        if pa.types.is_string(leaf) and isinstance(value, bytes):
            try:
                value.decode()
            except UnicodeDecodeError:
                start = value[:20]
                return f"{start!r} is not UTF-8; name the column in TableSettings.binary"
    return ""


def _is_text(leaf: pa.DataType) -> bool:
    return bool(pa.types.is_string(leaf) or pa.types.is_binary(leaf))
