"""What inputs of a signature take of the columns of a table, which never become tf.Examples.

The rules are those of features of tf.Examples: floats take integers but not the other way round,
nothing is cut off, and an input that has no default needs a value in each row.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bulk_inferencer._formats.column_values import (
    FLOAT32,
    INT64,
    NOTHING,
    STRING,
    Values,
    check_features,
    kinds_of_columns,
    values_of,
)
from bulk_inferencer._formats.rows import Rows
from bulk_inferencer._models.inputs import DENSE, Input
from bulk_inferencer._models.predictor import RecordError
from bulk_inferencer.errors import ModelError

# Features of a tf.Example are float32, int64 or bytes; other inputs are cast from the nearest.
FEATURE_DTYPES = {
    **dict.fromkeys(("float16", "bfloat16", "float32", "float64"), FLOAT32),
    **dict.fromkeys(("bool", "int8", "int16", "int32", "int64"), INT64),
    **dict.fromkeys(("uint8", "uint16", "uint32", "uint64"), INT64),
    "string": STRING,
}
_TEXT_TYPES = {FLOAT32: "float32", INT64: "int64", STRING: "text"}  # in settings of text files
_OF_TENSORFLOW = {"float": FLOAT32, "int64": INT64, "string": STRING}
_OTHER_TYPE = re.compile(
    r"Key: (?P<key>.*?)(, Index: \d+)?\.\s+Data types don't match\. .*"
    rf"[Ee]xpected type: (?P<wanted>{'|'.join(_OF_TENSORFLOW)})\b"
)


def check_columns(where: str, inputs: Mapping[str, Input], columns: pa.Schema) -> None:
    """Checks that the columns that inputs are named after have a type that these take.

    Raises:
      ModelError: one has not, so that no row would fit the model, `where`.
      InputError: no input takes its type.
    """
    check_features(pa.schema([own for own in columns if own.name in inputs]))
    kinds = kinds_of_columns(columns)
    for name, own in inputs.items():
        kind = kinds.get(name)
        if kind is None:
            continue
        other = "Name another column for it with rename= or columns=, "
        advice = f"{other}or cast the column in the files."
        size = None if own.row_shape is None else math.prod(own.row_shape)
        if _takes(own, kind.dtype):
            if size is None or kind.size in (-1, size):
                continue
            if kind.size == 1:
                advice = (
                    f"Several columns become one input with columns={{'{name}': ['a', 'b', ...]}}."
                )
        else:
            text_type = _TEXT_TYPES[FEATURE_DTYPES[own.dtype]]
            advice = (
                f"{other}cast the column in the files, or give its type in input_format where "
                f"they are text, as in CSV(types={{'{name}': '{text_type}'}})."
            )
        raise ModelError(
            f"{where} takes {own} for its input '{name}', but the column '{name}' holds "
            f"{columns.field(name).type}. {advice}"
        )


def about_other_type(reason: str) -> str:
    """Returns what to do about rows that a model parses as tf.Examples in another type.

    Args:
      reason: what TensorFlow says of a row; the result is empty if it says something else.
    """
    if not (found := _OTHER_TYPE.search(reason)):
        return ""
    name, dtype = found["key"], _TEXT_TYPES[_OF_TENSORFLOW[found["wanted"]]]
    return (
        f". Cast the column '{name}' to {dtype} in the inputs, or give its type in input_format "
        f"where they are text, as in CSV(types={{'{name}': '{dtype}'}})"
    )


def wants_floats(reason: str, columns: pa.Table) -> str | None:
    """Returns the column of whole numbers that TensorFlow says is parsed as floats, if any."""
    found = _OTHER_TYPE.search(reason)
    if not found or _OF_TENSORFLOW[found["wanted"]] != FLOAT32:
        return None
    name = found["key"]
    kind = kinds_of_columns(columns.schema).get(name)
    return name if kind and kind.dtype == INT64 else None


def with_floats(rows: Rows, names: Collection[str]) -> Rows:
    """Returns the rows with some columns of whole numbers, or of lists of them, as floats."""
    if not names:
        return rows
    columns = rows.columns
    for index, field in enumerate(columns.schema):
        if field.name in names:
            is_list = pa.types.is_nested(field.type)
            kind = pa.list_(pa.float32()) if is_list else pa.float32()
            floats = pc.cast(columns.column(index), kind, safe=False)
            columns = columns.set_column(index, field.name, floats)
    return Rows(columns)


def features_of_columns(columns: pa.Table, inputs: Mapping[str, Input]) -> dict[str, Any]:
    """Returns what inputs take of the columns that they are named after: a tensor, or a ragged one.

    Raises:
      RecordError: a row has no value for an input, or none that fits.
    """
    return {name: _feature(name, own, columns) for name, own in inputs.items()}


def in_dtype(name: str, values: np.ndarray, dtype: str) -> np.ndarray:
    """Returns the values of a feature in the dtype of its input.

    Raises:
      RecordError: an integer does not fit; it would wrap around.
    """
    import tensorflow as tf

    wanted = tf.as_dtype(dtype)
    if values.dtype == wanted.as_numpy_dtype:
        return values
    if wanted.is_integer and values.size:
        for value in (int(values.min()), int(values.max())):
            if not wanted.min <= value <= wanted.max:
                reason = f"input '{name}' takes {wanted.name}, got {value}"
                raise RecordError("OverflowError", reason)
    with np.errstate(over="ignore"):  # a narrower float says infinity, too
        return values.astype(wanted.as_numpy_dtype)


def _feature(name: str, own: Input, columns: pa.Table) -> Any:
    import tensorflow as tf

    values = _values(name, own, columns)
    if own.kind == DENSE or own.row_shape is not None:
        return tf.constant(_dense(name, own, values), own.dtype)
    flat = tf.constant(_flat(name, own, values), own.dtype)
    return tf.RaggedTensor.from_row_splits(flat, values.offsets, validate=False)


def _values(name: str, own: Input, columns: pa.Table) -> Values:
    if name not in columns.column_names:
        return Values(NOTHING, np.empty(0, np.float32), 0, len(columns))
    values = values_of(name, columns[name])
    if values.dtype != NOTHING and not _takes(own, values.dtype):
        raise RecordError(
            "TypeError",
            f"input '{name}' takes {own.dtype}, but its column holds {columns[name].type}",
        )
    if values.gap is not None:
        raise RecordError("ValueError", f"input '{name}' has a list with a null inside")
    return values


def _takes(own: Input, dtype: str) -> bool:
    wanted = FEATURE_DTYPES[own.dtype]
    return dtype == wanted or (dtype, wanted) == (INT64, FLOAT32)


def _flat(name: str, own: Input, values: Values) -> np.ndarray:
    if values.dtype == STRING:
        return values.flat.to_numpy(zero_copy_only=False)
    if values.dtype == NOTHING and own.dtype == "string":
        return np.empty(0, object)
    return in_dtype(name, values.flat, own.dtype)


def _dense(name: str, own: Input, values: Values) -> np.ndarray:
    shape = own.row_shape or ()
    size = math.prod(shape)
    if values.size == size:
        return _flat(name, own, values).reshape(len(values), *shape)
    counts = values.counts
    wrong = counts[(counts != size) & (counts > 0)]
    if len(wrong):
        nouns = "value" if size == 1 else "values"
        raise RecordError("ValueError", f"input '{name}' takes {size} {nouns}, got {wrong[0]}")
    if own.default is None:
        raise RecordError("ValueError", f"input '{name}' has no value, and the model no default")
    flat = _flat(name, own, values)
    filled = np.empty((len(values), size), flat.dtype)
    filled[:] = np.reshape(own.default, size)
    filled[counts > 0] = flat.reshape(-1, size)
    return filled.reshape(len(values), *shape)
