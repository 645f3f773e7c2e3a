"""Tables of all types that a tf.Example has a place for, and what their values become."""

from __future__ import annotations

import decimal
import re

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

_ZONE = "America/New_York"

_INTEGERS = [getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)]
_TEXTS = [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()]
_TIMES = [
    *(pa.timestamp(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in (None, _ZONE)),
    *(pa.duration(unit) for unit in ("s", "ms", "us", "ns")),
    *(pa.date32(), pa.date64(), pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")),
]
_FLOATS = [pa.float16(), pa.float32(), pa.float64()]
_OTHERS = [pa.bool_(), pa.binary(3), pa.decimal128(9, 2), pa.decimal256(40, 2), pa.null()]
SCALARS = [*_INTEGERS, *_FLOATS, *_TEXTS, *_TIMES, *_OTHERS]


def _values(kind):
    """Returns a strategy for values of a scalar type, as Python has them."""
    types = pa.types
    if types.is_boolean(kind):
        return st.booleans()
    if types.is_integer(kind):
        own = np.iinfo(kind.to_pandas_dtype())
        return st.integers(int(own.min), min(int(own.max), 2**63 - 1))
    if types.is_floating(kind):
        width = 16 if types.is_float16(kind) else 32
        floats = st.floats(width=width, allow_nan=False)
        return floats.map(np.float16) if width == 16 else floats
    if types.is_decimal(kind):
        return st.integers(-(10**8), 10**8).map(lambda n: decimal.Decimal(n) / 100)
    if types.is_string(kind) or types.is_large_string(kind):
        return st.text(max_size=150)
    if types.is_fixed_size_binary(kind):
        return st.binary(min_size=3, max_size=3)
    if types.is_binary(kind) or types.is_large_binary(kind):
        return st.one_of(st.binary(max_size=5), st.integers(100, 20000).map(bytes))
    if types.is_null(kind):
        return st.none()
    if types.is_date64(kind):
        return st.integers(-(10**4), 10**4).map(lambda day: day * 86_400_000)
    if types.is_time(kind):
        return st.integers(0, 86_399)
    return st.integers(-(10**7), 10**7)  # numbers of the unit of a time


@st.composite
def _scalars(draw, kind, count, with_nulls):
    own = _values(kind)
    values = draw(st.lists(st.none() | own if with_nulls else own, min_size=count, max_size=count))
    is_temporal = pa.types.is_temporal(kind)
    is_narrow = is_temporal and kind.bit_width == 32
    stored = (pa.int32() if is_narrow else pa.int64()) if is_temporal else kind
    array = pa.array(values, stored)
    array = array.view(kind) if is_temporal else array
    can_be_dictionary = kind in (*_TEXTS, pa.int32(), pa.float64(), pa.timestamp("ms"))
    return array.dictionary_encode() if can_be_dictionary and draw(st.booleans()) else array


@st.composite
def columns(draw, kind, count, gaps=True):
    """Returns an array of a scalar type, or of one of its lists, with or without nulls inside."""
    form = draw(st.sampled_from(["scalar", "scalar", "list", "large_list", "fixed", "nulls"]))
    if form in ("scalar", "nulls") or (pa.types.is_null(kind) and not gaps):
        return draw(_scalars(kind, count, form == "nulls"))
    with_nulls = draw(st.booleans())
    is_valid = draw(st.lists(st.booleans() if with_nulls else st.just(True), min_size=count,
                             max_size=count))  # fmt: skip
    if form == "fixed":
        size = draw(st.integers(1, 3))
        inner = draw(_scalars(kind, count * size, gaps and draw(st.booleans())))
        mask = pa.array(is_valid, pa.bool_()).buffers()[1] if with_nulls and count else None
        own = pa.list_(inner.type, size)
        return pa.Array.from_buffers(own, count, [mask], children=[inner])
    sizes = draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    if draw(st.booleans()):
        sizes = [2] * count
    offsets = np.cumsum([0, *sizes])
    inner = draw(_scalars(kind, int(offsets[-1]), gaps and draw(st.booleans())))
    is_large = form == "large_list"
    own = (pa.large_list if is_large else pa.list_)(inner.type)
    starts = pa.py_buffer(offsets.astype(np.int64 if is_large else np.int32))
    mask = pa.array(is_valid, pa.bool_()).buffers()[1] if with_nulls and count else None
    return pa.Array.from_buffers(own, count, [mask, starts], children=[inner])


@st.composite
def tables(draw, kinds=tuple(SCALARS), max_columns=4):
    """Returns tables that may be sliced and chunked."""
    count = draw(st.integers(0, 8))
    chosen = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=max_columns))
    made = {f"c{i}" * draw(st.sampled_from([1, 70])): draw(columns(kind, count))
            for i, kind in enumerate(chosen)}  # fmt: skip
    table = pa.table(made)
    if draw(st.booleans()):
        start = draw(st.integers(0, count))
        table = table.slice(start, draw(st.integers(0, count)))
    if len(table) > 1 and draw(st.booleans()):
        middle = draw(st.integers(0, len(table)))
        table = pa.concat_tables([table.slice(0, middle), table.slice(middle)])
    return table


def columns_of(table):
    """Returns names and columns."""
    return zip(table.column_names, table.columns, strict=True)


def feature_of(value, kind):
    """Returns what a cell of a table is as a feature, from what Arrow says of it alone."""
    if pa.types.is_dictionary(kind):
        kind, value = kind.value_type, _of_dictionary(value)
    if value is None or not value.is_valid:
        return []
    if hasattr(kind, "value_type"):
        inner = [value.values[i] for i in range(len(value.values))]
        own = [feature_of(v, kind.value_type) for v in inner]
        is_float = _is_float(kind.value_type)
        return [n for v in own for n in (v or ([float("nan")] if is_float else []))]
    types = pa.types
    if types.is_temporal(kind):
        return [_microseconds(value, kind)]
    own = value.as_py()
    if _is_float(kind):
        with np.errstate(over="ignore"):
            return [float(np.float32(float(own)))]
    return [own.encode() if isinstance(own, str) else own]


def _is_float(kind):
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _of_dictionary(value):
    return value.value if value.is_valid else None


def _microseconds(value, kind):
    number = value.cast(pa.int32() if kind.bit_width == 32 else pa.int64()).as_py()
    (unit,) = re.findall(r"\[(day|\w?s)", str(kind))
    return (
        number // 1000
        if unit == "ns"
        else number * 86_400 * 10**6
        if unit == "day"
        else (number * {"s": 10**6, "ms": 10**3, "us": 1}[unit])
    )
