"""Columns of known types from the texts of CSV and JSON: the way back from `table_texts`."""

from __future__ import annotations

import base64
import decimal
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bulk_inferencer._formats.column_values import is_list

NOT_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def column_of_texts(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """Returns the values of fields of CSV; those without a text are null.

    Raises:
      ValueError, TypeError, ArithmeticError: a text is no value of this type.
    """
    types = pa.types
    if is_list(kind):
        found = [None if own is None else from_json(own, [kind]) for own in texts.to_pylist()]
        return column_of_json(found, kind)
    if types.is_null(kind):
        return pa.nulls(len(texts), kind)
    if types.is_decimal(kind):
        return _each(texts, decimal.Decimal, kind)
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return _each(texts, _bytes, kind)
    # Casts that Arrow learned late.
    if types.is_time(kind):
        moments = pc.binary_join_element_wise("1970-01-01", texts, " ")
        return pc.cast(pc.cast(moments, pa.timestamp("ns")), kind)
    if types.is_date(kind):
        return pc.cast(_days(texts), kind)
    return pc.cast(texts, kind)


def column_of_json(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Returns the values that `from_json` gave.

    Raises:
      ValueError, TypeError, ArithmeticError: one is no value of this type.
    """
    types = pa.types
    if is_list(kind):
        return _lists(values, kind)
    if types.is_floating(kind):
        return pa.array([None if own is None else _float(own) for own in values], kind)
    if types.is_integer(kind) or types.is_boolean(kind):
        return pa.array(values, kind)
    if types.is_decimal(kind):
        return pa.array([None if own is None else decimal.Decimal(own) for own in values], kind)
    return column_of_texts(pa.array(values, pa.string()), kind)


def from_json(text: str | bytes, kinds: Sequence[pa.DataType]) -> Any:
    """Returns what a JSON text says, without rounding if there are decimals among the types."""
    if any(pa.types.is_decimal(_leaf(kind)) for kind in kinds):
        return json.loads(text, parse_float=decimal.Decimal)
    return json.loads(text)


def _leaf(kind: pa.DataType) -> pa.DataType:
    return _leaf(kind.value_type) if is_list(kind) else kind


def _float(value: Any) -> float:
    return NOT_FINITE[value] if isinstance(value, str) else float(value)


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _each(texts: pa.Array, make: Any, kind: pa.DataType) -> pa.Array:
    return pa.array([None if own is None else make(own) for own in texts.to_pylist()], kind)


def _days(texts: pa.Array) -> pa.Array:
    try:
        return pc.cast(pc.cast(texts, pa.timestamp("s")), pa.date32())
    except pa.ArrowInvalid:  # perhaps of a year that has not four digits
        days = np.array(["NaT" if own is None else own for own in texts.to_pylist()])
        return pa.array(days.astype("datetime64[D]"))


def _lists(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    is_valid = pa.array([own is not None for own in values], pa.bool_())
    buffers = [is_valid.buffers()[1]]
    if pa.types.is_fixed_size_list(kind):
        values = [[None] * kind.list_size if own is None else own for own in values]
        if any(len(own) != kind.list_size for own in values):
            raise ValueError(f"a list has not {kind.list_size} values")
    else:
        ends = np.cumsum([0, *(0 if own is None else len(own) for own in values)])
        is_large = pa.types.is_large_list(kind)
        buffers.append(pa.py_buffer(ends.astype(np.int64 if is_large else np.int32)))
    items = column_of_json([item for own in values for item in own or ()], kind.value_type)
    return pa.Array.from_buffers(kind, len(values), buffers, children=[items])
