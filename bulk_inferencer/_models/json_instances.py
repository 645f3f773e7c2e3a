"""Records as JSON instances, and JSON predictions as arrays: what Vertex AI takes and returns.

a tf.Example with x = 1.0, words = [b"a", b"b"]
-> {"x": 1.0, "words": [{"b64": "YQ=="}, {"b64": "Yg=="}]}

[{"y": 5.0}, {"y": 10.0}]
-> {"y": array([5., 10.])}
"""

from __future__ import annotations

import base64
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from bulk_inferencer._formats.column_values import STRING, is_text, values_of
from bulk_inferencer._formats.rows import Rows
from bulk_inferencer._models.predictor import RecordError
from bulk_inferencer.errors import EndpointError

_UNNAMED_OUTPUT = "outputs"
# Vertex AI reads JSON's numbers as float64, which cannot tell larger integers apart.
_LARGEST_JSON_INTEGER = 2**53
_NUMBERS = (int, float, type(None))  # null is how JSON writes NaN
_KINDS = {bool: "booleans", bytes: "strings", **dict.fromkeys(_NUMBERS, "numbers")}
_DTYPES: dict[str, Any] = {"booleans": bool, "numbers": np.float64, "strings": object}


def instances(batch: Sequence[bytes], input_name: str = "") -> list[dict[str, Any]]:
    """Returns the instance for each record or row; see `instance`.

    Numbers of rows are as precise as their columns, lists are lists whatever their length, text is
    text, and a value that is missing is null.
    """
    if input_name or not isinstance(batch, Rows):
        return [instance(record, input_name) for record in batch]
    table = batch.columns
    columns = [_of_column(name, table[name]) for name in table.column_names]
    return [dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)]


def _of_column(name: str, column: pa.ChunkedArray) -> list[Any]:
    """Returns what the instance of each row holds."""
    values = values_of(name, column)
    flat: Any = values.flat
    if values.dtype != STRING:
        listed = flat.tolist()
    elif is_text(column.type):
        listed = flat.cast(pa.large_string()).to_pylist()
    else:
        listed = [_base64(value) for value in flat.to_pylist()]
    ends = values.offsets.tolist()
    rows = [listed[start:stop] for start, stop in itertools.pairwise(ends)]
    return rows if values.is_list else [row[0] if row else None for row in rows]


def instance(record: bytes, input_name: str = "") -> dict[str, Any]:
    """Returns the instance for a record.

    Args:
      record: a serialized tf.Example; with `input_name`, any bytes.
      input_name: the input that takes the record itself, in base64; default: the instance holds the
        record's features, and one with a single value as that value alone.

    Raises:
      RecordError: the record is not a tf.Example.
    """
    if input_name:
        return {input_name: _base64(record)}
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        example = tf.train.Example.FromString(record)
    except DecodeError as error:
        raise RecordError("DecodeError", f"not a tf.Example: {error}") from error
    instance = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        values = list(getattr(feature, kind).value) if kind else []
        if kind == "bytes_list":
            values = [_base64(value) for value in values]
        instance[name] = values[0] if len(values) == 1 else values
    return instance


def check_numbers(instance: Mapping[str, Any]) -> None:
    """Raises RecordError if a number would arrive as another one, or as a string such as "NaN"."""
    for name, values in instance.items():
        for value in values if isinstance(values, list) else [values]:
            is_rounded = isinstance(value, int) and abs(value) > _LARGEST_JSON_INTEGER
            is_text = isinstance(value, float) and not math.isfinite(value)
            if is_rounded or is_text:
                raise RecordError(
                    "ValueError", f"feature '{name}' is {value}, which JSON's numbers cannot hold"
                )


def outputs(predictions: Sequence[Any], where: str) -> dict[str, np.ndarray]:
    """Returns the predictions of n instances as arrays of shape [n, ...] by output name.

    Numbers become float64, and null becomes NaN. Text and base64 become object arrays of `bytes`.
    Predictions that are not objects become an output named `outputs`.

    Args:
      predictions: one JSON value for each instance.
      where: the endpoint, for messages.

    Raises:
      EndpointError: the predictions do not all have the same outputs, or one is not an array.
    """
    rows = [p if _is_object(p) else {_UNNAMED_OUTPUT: p} for p in predictions]
    names = sorted(rows[0])
    for row in rows:
        if sorted(row) != names:
            raise EndpointError(
                f"Predictions of one batch from {where} have different outputs: one has "
                f"{', '.join(names)}, another {', '.join(sorted(row))}. Return the same outputs "
                f"for each instance."
            )
    return {name: _array(name, [row[name] for row in rows], where) for name in names}


def _array(name: str, values: list[Any], where: str) -> np.ndarray:
    values = _decoded(values)
    leaves = list(_flattened(values))
    kinds = {_KINDS.get(type(leaf), "objects") for leaf in leaves} or {"numbers"}
    if len(kinds) > 1 or "objects" in kinds:
        raise EndpointError(
            f"Output '{name}' from {where} holds {' and '.join(sorted(kinds))}, but can only hold "
            f"one of numbers, strings and booleans. Return each kind under a name of its own."
        )
    try:
        shape = np.array(values).shape
    except ValueError as error:  # rows of different lengths
        raise EndpointError(
            f"Output '{name}' from {where} has rows of different shapes in one batch. Pad them "
            f"to one length."
        ) from error
    # From the leaves: NumPy's own strings drop zero bytes at their ends.
    array = np.empty(len(leaves), _DTYPES[kinds.pop()])
    array[:] = leaves
    return array.reshape(shape)


def _base64(value: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(value).decode()}


def _is_bytes(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"b64"}


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not _is_bytes(value)


def _decoded(value: Any) -> Any:
    """Returns a JSON value in which strings and base64 are bytes."""
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if _is_bytes(value):
        return base64.b64decode(value["b64"])
    return value.encode() if isinstance(value, str) else value


def _flattened(value: Any) -> Any:
    if isinstance(value, list):
        for item in value:
            yield from _flattened(item)
    else:
        yield value
