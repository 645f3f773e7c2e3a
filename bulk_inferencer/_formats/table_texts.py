"""Columns as the texts of CSV and JSON, for whole batches at once.

Floats keep a point or an exponent, so that readers do not take them for whole numbers. Lists are
JSON in CSV as well, and bytes are base64. In JSON, NaN and infinities are the texts "NaN",
"Infinity" and "-Infinity", as in that of Protocol Buffers, and dates and times are texts.
"""

from __future__ import annotations

import base64
import json

import pyarrow as pa
import pyarrow.compute as pc

from bulk_inferencer._formats.column_values import is_list

_NEEDS_ESCAPE = r'["\\\x00-\x1f]'
_WHOLE = r"^-?[0-9]+$"


def json_texts(values: pa.Array) -> pa.Array:
    """Returns each value as JSON; a null as `null`.

    Raises:
      pa.ArrowNotImplementedError: values of this type cannot be written as text.
    """
    kind = values.type
    if is_list(kind):
        texts = _list_texts(values)
    elif pa.types.is_floating(kind):
        texts = _named(values, _float_texts(values))
    elif _is_string(kind):
        texts = _quoted(_escaped(pc.cast(values, pa.string())))
    elif _is_bare(kind):
        texts = _plain_texts(values)
    else:
        texts = _quoted(_plain_texts(values))
    return pc.fill_null(texts, "null")


def csv_texts(values: pa.Array) -> pa.Array:
    """Returns each value as a field of CSV: text and bytes in quotes, and nothing for a null.

    Raises:
      pa.ArrowNotImplementedError: values of this type cannot be written as text.
    """
    kind = values.type
    if is_list(kind) or _is_string(kind) or _is_binary(kind):
        texts = json_texts(values) if is_list(kind) else _plain_texts(values)
        texts = _quoted(pc.replace_substring(texts, '"', '""'))
    else:
        texts = _float_texts(values) if pa.types.is_floating(kind) else _plain_texts(values)
    return pc.if_else(values.is_valid(), texts, "")


def _plain_texts(values: pa.Array) -> pa.Array:
    """Returns values as texts without quotes, and nulls as they are."""
    if _is_binary(values.type):
        texts = [None if v is None else base64.b64encode(v).decode() for v in values.to_pylist()]
        return pa.array(texts, pa.string())
    if pa.types.is_decimal(values.type):  # a cast that Arrow learned late
        return pa.array([None if v is None else str(v) for v in values.to_pylist()], pa.string())
    return pc.cast(values, pa.string())


def _list_texts(values: pa.Array) -> pa.Array:
    # Of equal lengths or not, and perhaps a slice: as lists that begin at 0.
    if pa.types.is_fixed_size_list(values.type):
        lengths = pc.if_else(values.is_valid(), values.type.list_size, 0)
    else:
        lengths = pc.fill_null(pc.list_value_length(values), 0)
    ends = pc.cast(pc.cumulative_sum(lengths), pa.int32())
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends])
    inner = pa.ListArray.from_arrays(offsets, json_texts(values.drop_null().flatten()))
    texts = pc.binary_join_element_wise("[", pc.binary_join(inner, ","), "]", "")
    return pc.if_else(values.is_valid(), texts, None)


def _float_texts(values: pa.Array) -> pa.Array:
    texts = pc.cast(values, pa.string())
    whole = pc.fill_null(pc.match_substring_regex(texts, _WHOLE), False)
    if not pc.any(whole).as_py():
        return texts
    return pc.if_else(whole, pc.binary_join_element_wise(texts, ".0", ""), texts)


def _named(values: pa.Array, texts: pa.Array) -> pa.Array:
    """Returns texts of floats with names for those that JSON has no number for."""
    finite = pc.is_finite(values)
    if pc.all(finite).as_py() is not False:
        return texts
    infinities = pc.if_else(pc.greater(values, 0), '"Infinity"', '"-Infinity"')
    return pc.if_else(finite, texts, pc.if_else(pc.is_nan(values), '"NaN"', infinities))


def _escaped(values: pa.Array) -> pa.Array:
    needs = pc.fill_null(pc.match_substring_regex(values, _NEEDS_ESCAPE), False)
    if not pc.any(needs).as_py():
        return values
    found = values.filter(needs).to_pylist()
    escaped = [json.dumps(own, ensure_ascii=False)[1:-1] for own in found]
    return pc.replace_with_mask(values, needs, pa.array(escaped, pa.string()))


def _quoted(texts: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise('"', texts, '"', "")


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_binary(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    )


def _is_bare(kind: pa.DataType) -> bool:
    """Returns whether JSON has values of a type without quotes."""
    types = pa.types
    return bool(types.is_integer(kind) or types.is_boolean(kind) or types.is_decimal(kind))
