"""The arrays that a Python model gets: from columns of a table, or from features of tf.Examples.

The first records of a run say what each feature is, so that all batches look alike:

    one value in each record           -> array of shape [n]
    k values in each record            -> array of shape [n, k]
    any number of values               -> array of n arrays
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from bulk_inferencer._checks import did_you_mean
from bulk_inferencer._formats.column_values import (
    FLOAT32,
    INT64,
    STRING,
    Values,
    feature_dtype,
    is_list,
    is_text,
    item_type,
    values_of,
)
from bulk_inferencer._formats.example_columns import columns_of_records, kinds_of_records
from bulk_inferencer._formats.rows import Rows
from bulk_inferencer._models.predictor import RecordError
from bulk_inferencer.errors import ModelError

_TYPES = {INT64: pa.int64(), FLOAT32: pa.float32(), STRING: pa.binary()}


def schema_of(records: Sequence[bytes], features: Sequence[str] = ()) -> pa.Schema:
    """Returns what features are like, as they are in some records.

    A list in which each record has k values is a `fixed_size_list` of k.

    Args:
      records: the records, at least one.
      features: the names of the features; default: all.

    Raises:
      ModelError: none of the records has one of the features.
    """
    if isinstance(records, Rows):
        table = records.columns
    else:
        table, _ = columns_of_records(records, kinds_of_records(records))
    available = dict.fromkeys(table.column_names)
    if missing := [name for name in features if name not in available]:
        hint = did_you_mean(missing[0], available)
        raise ModelError(
            f"PythonModel.features names {', '.join(missing)}, but the records have "
            f"{', '.join(available) or 'no features'}.{hint} Correct the name."
        )
    names = features or available
    return pa.schema([_field(name, table[name]) for name in names])


def _field(name: str, column: pa.ChunkedArray) -> pa.Field:
    values = values_of(name, column)
    item = item_type(column.type)
    if not values.is_list:
        return pa.field(name, item)
    sizes = set(values.counts[values.counts > 0].tolist())
    is_fixed = len(sizes) == 1 and values.gap is None
    return pa.field(name, pa.list_(item, sizes.pop()) if is_fixed else pa.list_(item))


def arrays_of(
    records: Sequence[bytes], schema: pa.Schema, allow_missing: bool
) -> dict[str, np.ndarray]:
    """Returns the features of n records as arrays of shape [n, ...], in the order of the schema.

    Numbers keep the width that they have in a table; of tf.Examples they are int64 and float32.
    Text is `str`, anything else that is no number `bytes`, in arrays of objects. Strings of
    tf.Examples are text if those of the first records are all valid UTF-8.

    Args:
      records: the records.
      schema: what `schema_of` returned.
      allow_missing: whether a feature without a value is NaN among numbers, which are then floats,
        and None among text. Lists must be there.

    Raises:
      RecordError: a record lacks a feature, or has more or fewer values than the schema says.
    """
    if isinstance(records, Rows):
        found = dict(zip(records.columns.column_names, records.columns.columns, strict=True))
        columns = {own.name: _column(own, found.get(own.name), len(records)) for own in schema}
    else:
        table, reasons = columns_of_records(records, pa.schema(map(_of_example, schema)))
        if reasons:
            raise RecordError("ValueError", next(iter(reasons.values())))
        columns = {own.name: table[own.name] for own in schema}
    return {own.name: _array(own, columns[own.name], allow_missing) for own in schema}


def _column(own: pa.Field, column: pa.ChunkedArray | None, count: int) -> pa.ChunkedArray:
    """Returns a column of rows that need not be of the table that the schema is of.

    It is one of nulls if the rows have none of its name.
    """
    if column is None or pa.types.is_null(column.type):
        return pa.chunked_array([pa.nulls(count, own.type)])
    if column.type.equals(own.type):
        return column
    found, wanted = feature_dtype(column.type), feature_dtype(own.type)
    if found != wanted and (found, wanted) != (INT64, FLOAT32):
        raise RecordError(
            "TypeError",
            f"the record holds {column.type} for '{own.name}', but the first records {own.type}",
        )
    return column


def _of_example(own: pa.Field) -> pa.Field:
    """Returns what a feature is in a tf.Example."""
    item = pa.string() if is_text(own.type) else _TYPES[feature_dtype(own.type) or STRING]
    return pa.field(own.name, pa.list_(item) if is_list(own.type) else item)


def _array(own: pa.Field, column: pa.ChunkedArray, allow_missing: bool) -> np.ndarray:
    values = values_of(own.name, column)
    flat = _flat(own, values)
    if not is_list(own.type):
        return _scalars(own.name, values, flat, allow_missing)
    if values.gap is not None:
        raise RecordError("ValueError", f"the list '{own.name}' has a value that is missing")
    if pa.types.is_fixed_size_list(own.type):
        size = own.type.list_size
        if values.size != size:
            raise _wrong_count(own.name, values.counts, size)
        return flat.reshape(len(values), size)
    rows = np.empty(len(values), object)
    offsets = values.offsets
    for i in range(len(values)):
        rows[i] = flat[offsets[i] : offsets[i + 1]]
    return rows


def _scalars(name: str, values: Values, flat: np.ndarray, allow_missing: bool) -> np.ndarray:
    is_whole = values.size == 1
    has = np.ones(len(values), bool) if is_whole else values.counts == 1
    if not is_whole and (values.counts > 1).any():
        raise _wrong_count(name, values.counts, 1)
    if not allow_missing:
        if not has.all():
            raise RecordError(
                "ValueError",
                f"the record has no value for '{name}'. PythonModel.allow_missing makes that NaN "
                f"or None; PythonModel.features, or columns= of a table, can leave it out",
            )
        return flat
    if flat.dtype == object:
        filled = np.full(len(values), None, object)
    else:
        # Whether or not a batch lacks any, so that all have one dtype.
        filled = np.full(len(values), np.nan, flat.dtype if flat.dtype.kind == "f" else np.float64)
    filled[has] = flat
    return filled


def _flat(own: pa.Field, values: Values) -> np.ndarray:
    """Returns the values of all rows, floats in the width of the schema."""
    flat: Any = values.flat
    if values.dtype == STRING:
        text = flat.cast(pa.large_string()) if is_text(own.type) else flat
        return text.to_numpy(zero_copy_only=False)
    if feature_dtype(own.type) != FLOAT32:
        return flat
    item = item_type(own.type)
    dtype = item.to_pandas_dtype() if pa.types.is_floating(item) else np.float64  # of decimals
    return flat.astype(dtype, copy=False)


def _wrong_count(name: str, counts: np.ndarray, size: int) -> RecordError:
    found = int(counts[counts != size][0])
    return RecordError(
        "ValueError",
        f"the record has {found} values for '{name}', but the first records have {size}",
    )
