"""The values of a column, whatever its type: those of all rows in one array, and whose they are.

    column   [1, 2]  null  []  [3]
    flat     1 2 3
    offsets  0 2 2 2 3

This is the one place that knows what a column of each Arrow type means as a feature.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bulk_inferencer._formats.example import Kind
from bulk_inferencer.errors import InputError

# The dtypes of features. A column in which everything is null has none.
INT64, FLOAT32, STRING, NOTHING = "int64", "float32", "string", ""

# An array of NumPy for numbers, in the width of the column; `pa.LargeBinaryArray` for the rest.
Flat: TypeAlias = Any

_MICROSECONDS = {"da": 86_400_000_000, "s": 1_000_000, "ms": 1000, "us": 1}
_NANOSECONDS = 1000
_LARGEST_INT64 = 2**63 - 1


class Values:
    """What the n rows of a column hold.

    Attributes:
      dtype: of the feature that it is: `INT64`, `FLOAT32`, `STRING` or `NOTHING`.
      flat: the values of all rows, without nulls.
      size: how many values each row has, if all have the same number; else None.
      is_list: whether a row may have several.
      gap: the first row whose list has a null inside; None if there is none. NaN stands for a
        null among floats; other nulls are left out.
    """

    def __init__(
        self,
        dtype: str,
        flat: Flat,
        offsets: np.ndarray | int,
        count: int,
        is_list: bool = False,
        gap: int | None = None,
    ) -> None:
        """Keeps where the values of each row begin; or as an integer, how many each has."""
        self.dtype, self.flat, self.is_list, self.gap = dtype, flat, is_list, gap
        self._count = count
        self.size: int | None
        if isinstance(offsets, int):
            self.size = offsets
        else:
            self._offsets = offsets
            self.size = _common_size(offsets)

    def __len__(self) -> int:
        return self._count

    @property
    def offsets(self) -> np.ndarray:
        """Where the values of each row begin in `flat`, and where the last ones end, as int64."""
        if self.size is not None:
            return np.arange(self._count + 1, dtype=np.int64) * self.size
        return self._offsets

    @property
    def counts(self) -> np.ndarray:
        """How many values each row has, as int64 of shape [n]."""
        return np.diff(self.offsets)


def feature_dtype(kind: pa.DataType) -> str | None:
    """Returns the dtype of the feature that a column of a type becomes.

    One of `INT64`, `FLOAT32`, `STRING` and `NOTHING`; None if it cannot become any.
    """
    kind = _plain_type(kind)
    return _dtype_of_scalar(_plain_type(kind.value_type) if is_list(kind) else kind)


def kinds_of_columns(schema: pa.Schema) -> dict[str, Kind | None]:
    """Returns the features that columns become, by name; None where the kind is not known.

    Lists whose rows may differ in length have the size -1.
    """
    kinds: dict[str, Kind | None] = {}
    for field in schema:
        kind, dtype = _plain_type(field.type), feature_dtype(field.type)
        is_fixed = pa.types.is_fixed_size_list(kind)
        size = kind.list_size if is_fixed else -1 if is_list(kind) else 1
        kinds[field.name] = Kind(dtype, size) if dtype else None
    return kinds


def check_features(schema: pa.Schema) -> None:
    """Checks that each column can become a feature of a tf.Example.

    Raises:
      InputError: a column has a type that tf.Examples do not have, or two have one name.
    """
    check_unique(schema.names)
    for field in schema:
        if feature_dtype(field.type) is None:
            raise _unsupported(field.name, field.type)


def check_unique(names: Sequence[str]) -> None:
    """Checks that no two columns have one name.

    Raises:
      InputError: two have.
    """
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise InputError(
            f"Two columns of the inputs are named '{twice}', so nobody can tell them apart. Rename "
            f"one of them where the inputs are written."
        )


def values_of(name: str, column: pa.Array | pa.ChunkedArray) -> Values:
    """Returns the values of a column.

    Whole numbers and booleans are integers; timestamps, dates, times and durations are whole
    microseconds; decimals are floats. Numbers without nulls share the memory of the column.

    Raises:
      InputError: the type of the column, which is called `name`, is no feature's.
      NoFeatureError: a date is too
        far away for int64 microseconds.
    """
    if not isinstance(column, pa.ChunkedArray):
        return _of_array(name, column)
    if column.num_chunks == 0:
        return _of_array(name, pa.array([], column.type))
    chunks = [chunk for chunk in column.chunks if len(chunk)] or column.chunks[:1]
    parts = [_of_array(name, chunk) for chunk in chunks]
    return parts[0] if len(parts) == 1 else _joined(parts)


def list_with_gap(table: pa.Table) -> str | None:
    """Returns the name of a column with a list that has a null inside; None if there is none."""
    for field in table.schema:
        if is_list(field.type) and values_of(field.name, table[field.name]).gap is not None:
            return str(field.name)
    return None


def text_buffers(text: pa.LargeBinaryArray) -> tuple[np.ndarray, pa.Buffer]:
    """Returns where each value begins in a buffer, and where the last one ends; and the buffer."""
    return _text_buffers(text, np.int64)


def _text_buffers(text: pa.Array, dtype: type) -> tuple[np.ndarray, pa.Buffer]:
    _, offsets, data = text.buffers()
    data = data or pa.py_buffer(b"")
    if not len(text):  # which may have no offsets at all
        return np.zeros(1, dtype), data
    return np.frombuffer(offsets, dtype)[text.offset : text.offset + len(text) + 1], data


def text_of(offsets: np.ndarray, data: pa.Buffer | np.ndarray) -> pa.LargeBinaryArray:
    """Returns the n byte strings between n + 1 int64 offsets, without a copy."""
    offsets = np.ascontiguousarray(offsets, np.int64)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_binary(), len(offsets) - 1, buffers)


def _of_array(name: str, column: pa.Array) -> Values:
    array = _plain(column)
    if not is_list(array.type):
        is_valid = None if array.null_count == 0 else _booleans(array.is_valid())
        dtype, flat = _scalars(name, column.type, array)
        if is_valid is None:
            return Values(dtype, flat, 1, len(array))
        return Values(dtype, flat, _ends(is_valid), len(array))
    # Arrow 10 cannot flatten lists that are all null.
    inner = _plain((array if array.null_count < len(array) else array.slice(0, 0)).flatten())
    offsets: np.ndarray | int = _list_offsets(array)
    dtype, flat = _scalars(name, column.type, inner)
    if inner.null_count == 0:
        return Values(dtype, flat, offsets, len(array), True)
    is_valid = _booleans(inner.is_valid())
    if isinstance(offsets, int):
        offsets = np.arange(len(array) + 1) * offsets
    gap = int(np.searchsorted(offsets, np.argmin(is_valid), side="right")) - 1
    if dtype == FLOAT32:
        filled = np.full(len(inner), np.nan, flat.dtype)
        filled[is_valid] = flat
        return Values(dtype, filled, offsets, len(array), True, gap)
    return Values(dtype, flat, _ends(is_valid)[offsets], len(array), True, gap)


def _scalars(name: str, declared: pa.DataType, array: pa.Array) -> tuple[str, Flat]:
    """Returns the dtype of a feature, and values without nulls."""
    dtype = _dtype_of_scalar(array.type)
    if dtype is None:
        raise _unsupported(name, declared)
    kind, types = array.type, pa.types
    if dtype == NOTHING:
        return dtype, np.empty(0, np.float32)
    if dtype == STRING:
        return dtype, _text(array if array.null_count == 0 else array.drop_null())
    if types.is_decimal(kind):
        array = array.cast(pa.float64())
    elif types.is_float16(kind):  # which Arrow has few functions for
        return dtype, array.view(pa.uint16()).drop_null().to_numpy().view(np.float16)
    elif types.is_temporal(kind):
        return dtype, _microseconds(name, kind, array)
    return dtype, _numbers(array)


def _text(array: pa.Array) -> pa.LargeBinaryArray:
    """Returns text or bytes without nulls as what they are in memory."""
    # Not by Arrow's cast, whose release 10 may crash on a slice.
    if pa.types.is_fixed_size_binary(array.type):
        width, data = array.type.byte_width, array.buffers()[1]
        offsets = np.arange(array.offset, array.offset + len(array) + 1) * width
        return text_of(offsets, data or pa.py_buffer(b""))
    is_large = array.type in (pa.large_string(), pa.large_binary())
    return text_of(*_text_buffers(array, np.int64 if is_large else np.int32))


def _numbers(array: pa.Array) -> np.ndarray:
    array = array if array.null_count == 0 else array.drop_null()
    return array.to_numpy(zero_copy_only=False)


def _microseconds(name: str, kind: pa.DataType, array: pa.Array) -> np.ndarray:
    values = _numbers(array.view(pa.int32() if kind.bit_width == 32 else pa.int64()))
    values = values.astype(np.int64, copy=False)
    unit = str(kind).partition("[")[2][:2].rstrip(",]")  # Arrow 10 has no `unit` for all of them
    if unit == "ns":
        return values // _NANOSECONDS
    factor = _MICROSECONDS[unit]
    if factor == 1 or not len(values):
        return values
    largest = max(int(values.max()), -int(values.min()))
    if largest > _LARGEST_INT64 // factor:
        raise NoFeatureError(
            f"column '{name}' holds a {kind} that is too far away to be counted in microseconds; "
            f"correct it, or leave the column out with columns="
        )
    return values * factor


def _joined(parts: Sequence[Values]) -> Values:
    count = sum(map(len, parts))
    flats = [part.flat for part in parts]
    is_text = parts[0].dtype == STRING
    flat = pa.concat_arrays(flats) if is_text else np.concatenate(flats)
    sizes = {part.size for part in parts}
    offsets: np.ndarray | int | None = parts[0].size if len(sizes) == 1 else None
    starts = np.cumsum([0, *map(len, flats)])
    if offsets is None:
        ends = [part.offsets[1:] + start for part, start in zip(parts, starts, strict=False)]
        offsets = np.concatenate([np.zeros(1, np.int64), *ends])
    rows = np.cumsum([0, *map(len, parts)]).tolist()
    gaps = (r + p.gap for p, r in zip(parts, rows, strict=False) if p.gap is not None)
    return Values(parts[0].dtype, flat, offsets, count, parts[0].is_list, next(gaps, None))


def _list_offsets(array: pa.Array) -> np.ndarray | int:
    if pa.types.is_fixed_size_list(array.type):
        size = array.type.list_size
        return size if array.null_count == 0 else _ends(_booleans(array.is_valid())) * size
    if array.null_count == 0:
        offsets = array.offsets.to_numpy()
        return np.subtract(offsets, offsets[0], dtype=np.int64)
    return _ends(pc.list_value_length(array).fill_null(0).to_numpy())


def _ends(counts: np.ndarray) -> np.ndarray:
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def _common_size(offsets: np.ndarray) -> int | None:
    count, total = len(offsets) - 1, int(offsets[-1])
    if not count or total % count:
        return None if total else 0
    size = total // count
    return size if int(offsets[1]) == size and (np.diff(offsets) == size).all() else None


def _booleans(array: pa.BooleanArray) -> np.ndarray:
    return array.to_numpy(zero_copy_only=False)


def _plain(array: pa.Array) -> pa.Array:
    """Returns a column without dictionary and extension."""
    while True:
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        elif pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        else:
            return array


def _plain_type(kind: pa.DataType) -> pa.DataType:
    while True:
        if isinstance(kind, pa.BaseExtensionType):
            kind = kind.storage_type
        elif pa.types.is_dictionary(kind):
            kind = kind.value_type
        else:
            return kind


def item_type(kind: pa.DataType) -> pa.DataType:
    """Returns the type of single values, which of a list are those inside."""
    kind = _plain_type(kind)
    return _plain_type(kind.value_type) if is_list(kind) else kind


def is_text(kind: pa.DataType) -> bool:
    """Returns whether values are text, or lists of text, rather than bytes."""
    item = item_type(kind)
    return pa.types.is_string(item) or pa.types.is_large_string(item)


def _dtype_of_scalar(kind: pa.DataType) -> str | None:
    types = pa.types
    if types.is_null(kind):
        return NOTHING
    if types.is_integer(kind) or types.is_boolean(kind):
        return INT64
    if types.is_temporal(kind) and not types.is_interval(kind):
        return INT64
    if types.is_floating(kind) or types.is_decimal(kind):
        return FLOAT32
    is_text = types.is_string(kind) or types.is_large_string(kind)
    is_bytes = types.is_binary(kind) or types.is_large_binary(kind)
    return STRING if is_text or is_bytes or types.is_fixed_size_binary(kind) else None


def is_list(kind: pa.DataType) -> bool:
    """Returns whether values of a type are lists, of equal lengths or not."""
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


class NoFeatureError(ValueError):
    """A value that no feature of a tf.Example can hold, although its type could."""


def _unsupported(name: str, kind: pa.DataType) -> InputError:
    return InputError(
        f"Column '{name}' holds {kind}, which a tf.Example has no place for. Leave it out with "
        f"columns=, which names the columns that the model sees."
    )
