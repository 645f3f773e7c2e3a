"""Types of the columns of CSV and JSON Lines of which no summary tells, by their values."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from bulk_inferencer._formats.text_columns import NOT_FINITE


def type_of_json(values: list[Any]) -> pa.DataType:
    """Returns the type of JSON values, in which NaN and infinities are texts."""
    for own in ([_without_texts(value) for value in values], values):
        with contextlib.suppress(pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            return pa.array(own).type
    with contextlib.suppress(pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array(values, pa.uint64()).type
    return pa.string()


def _without_texts(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_texts(own) for own in value]
    return NOT_FINITE.get(value, value) if isinstance(value, str) else value


def guessed_column(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Returns JSON values as a column of the type that all of them together have."""
    leaf = kind
    while pa.types.is_list(leaf):
        leaf = leaf.value_type
    if pa.types.is_floating(leaf):
        values = [_without_texts(value) for value in values]
    elif pa.types.is_string(kind):
        values = [v if v is None or isinstance(v, str) else json.dumps(v) for v in values]
    return pa.array(values, kind)


def common_schema(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """Returns the columns that hold the values of all."""
    kinds: dict[str, pa.DataType] = {}
    for schema in schemas:
        for own in schema:
            kinds[own.name] = wider(kinds.get(own.name, pa.null()), own.type)
    return pa.schema(list(kinds.items()))


def wider(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """Returns the type that holds the values of both: text, if no other does."""
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if pa.types.is_integer(one) and pa.types.is_integer(other):
        return pa.string()  # One is beyond int64, and a float would round it.
    numbers = [pa.types.is_integer(own) or pa.types.is_floating(own) for own in (one, other)]
    if all(numbers):
        return pa.float64()
    if pa.types.is_list(one) and pa.types.is_list(other):
        return pa.list_(wider(one.value_type, other.value_type))
    return pa.string()
