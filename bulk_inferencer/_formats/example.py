"""Predictions as further features of the records that they were made from.

Concatenated messages are one merged message (https://protobuf.dev/programming-guides/encoding/
#last-one-wins), and `Example.features` and `SequenceExample.context` are both field 1 of type
`Features`. So a record gains features by appending bytes, whatever it holds and unparsed:

    record | field 1: Features { feature { key: "y" value { float_list ... } } ... }
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bulk_inferencer._formats import wire
from bulk_inferencer._formats.partial import encode_groups
from bulk_inferencer.errors import ModelError, SettingsError

_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = 1, 2, 3
_LARGEST_INT64 = 2**63 - 1
_FEW_RECORDS = 32  # so few are parsed one by one as fast as at once
_DTYPE_OF_KIND = {bytes: "string", int: "int64", float: "float32"}


class Column(NamedTuple):
    """One output that becomes one feature.

    Attributes:
      output: key in the predictor's outputs.
      name: name of the feature.
    """

    output: str
    name: str


def append_columns(
    records: Sequence[bytes],
    outputs: Mapping[str, np.ndarray],
    columns: Sequence[Column],
    replace_features: bool,
) -> list[bytes]:
    """Returns each record with the columns as further features.

    Values are flattened in row order: integers and booleans to an int64_list, floats to a
    float_list (float32), strings to a bytes_list.

    Args:
      records: n serialized tf.Examples or tf.SequenceExamples, whose context gets the features.
      outputs: arrays of shape [n, ...] by name. Masked rows are of records that do not have the
        output, and that do not gain its features.
      columns: which outputs, under which names.
      replace_features: whether a column may take the place of a feature of the same name.

    Raises:
      ModelError: the signature did not give an output, or one of another dtype.
      SettingsError: a record has a feature of a column's name already.
    """
    if not replace_features:
        for column in columns:
            _check_no_feature(records, column)
    for column in columns:
        if column.output not in outputs:
            raise ModelError(
                f"Expected output '{column.output}' for column '{column.name}', got "
                f"{', '.join(sorted(outputs))}. Correct OutputExampleSpec."
            )
    if not columns:
        return list(records)
    used = {column.output: outputs[column.output] for column in columns}
    return encode_groups(functools.partial(_append, columns), records, used)


def _append(
    columns: Sequence[Column], records: Sequence[bytes], outputs: Mapping[str, np.ndarray]
) -> list[bytes]:
    """Returns each record with those columns whose outputs are there."""
    fixed_entries: list[bytes | np.ndarray] = []
    string_entries: list[list[bytes]] = []
    for column in columns:
        if column.output not in outputs:
            continue
        values = outputs[column.output].reshape(len(records), -1)
        key = wire.field(1, column.name.encode())
        if values.dtype == object:
            string_entries.append([_bytes_entry(key, row) for row in values.tolist()])
        else:
            fixed_entries += _number_entry(key, column, values)
    if not fixed_entries and not string_entries:
        return list(records)
    fixed = wire.rows(fixed_entries, len(records))
    entries = [b"".join(parts) for parts in zip(fixed, *string_entries, strict=True)]
    return [record + wire.field(1, entry) for record, entry in zip(records, entries, strict=True)]


def _number_entry(key: bytes, column: Column, values: np.ndarray) -> list[bytes | np.ndarray]:
    kind = values.dtype.kind
    if kind in "iub":
        if kind == "u" and values.size and values.max() > _LARGEST_INT64:
            raise ModelError(
                f"Expected output '{column.output}' to fit into int64 for feature "
                f"'{column.name}', got {values.max()}. Cast it in the serving signature."
            )
        list_field, packed = _INT64_LIST, wire.padded_varints(values)
    # bfloat16 is of numpy's kind "V": it comes from ml_dtypes.
    elif kind == "f" or values.dtype.name == "bfloat16":
        list_field, packed = _FLOAT_LIST, wire.raw_bytes(values.astype(np.float32))
    else:
        raise ModelError(
            f"Output '{column.output}' of dtype {values.dtype} cannot become the feature "
            f"'{column.name}': tf.Example holds integers, floats and bytes. Cast it in the "
            f"serving signature."
        )
    size = packed.shape[1]
    value_list = wire.header(1, size)
    feature = wire.header(list_field, len(value_list) + size) + value_list
    value = wire.header(2, len(feature) + size) + feature
    return [wire.header(1, len(key) + len(value) + size) + key + value, packed]


def _bytes_entry(key: bytes, values: Sequence[bytes]) -> bytes:
    value_list = b"".join(wire.field(1, value) for value in values)
    return wire.field(1, key + wire.field(2, wire.field(_BYTES_LIST, value_list)))


def _check_no_feature(records: Sequence[bytes], column: Column) -> None:
    """Raises if a record has the feature; records without its key's bytes are not parsed."""
    key = wire.field(1, column.name.encode())
    for record in records:
        if key in record and column.name in _feature_names(record):
            raise SettingsError(
                f"Output '{column.output}' cannot become column '{column.name}': the input has "
                f"a feature '{column.name}' already. Choose another name in OutputExampleSpec, "
                f"or set OutputExampleSpec.replace_features."
            )


def feature_values(record: bytes, name: str) -> list[bytes] | list[float] | list[int]:
    """Returns the values of one feature, none where the record does not have it.

    Args:
      record: a serialized tf.Example, or a tf.SequenceExample, in whose context the feature is.
      name: the feature.

    Raises:
      DecodeError: the record is neither.
    """
    features = _features(record)
    if name not in features:  # the proto's map would make one of that name
        return []
    kind = features[name].WhichOneof("kind")
    return list(getattr(features[name], kind).value) if kind else []


def feature_values_of_batch(records: Sequence[bytes], name: str) -> list[list[Any]]:
    """Returns the values of one feature for each record, in a fraction of the time.

    Args:
      records: serialized tf.Examples; TensorFlow's parser reads their one feature only.
      name: the feature.

    Returns:
      For each record what `feature_values` returns, and nothing for one that is no tf.Example.
    """
    if len(records) <= _FEW_RECORDS:
        return [_feature_values_or_none(record, name) for record in records]
    try:
        return _parsed_values(records, name)
    except ValueError:  # one of them is bad, or has values of another type
        middle = len(records) // 2
        halves = records[:middle], records[middle:]
        return [values for half in halves for values in feature_values_of_batch(half, name)]


def _feature_values_or_none(record: bytes, name: str) -> list[Any]:
    from google.protobuf.message import DecodeError

    try:
        return list(feature_values(record, name))
    except DecodeError:
        return []


def _parsed_values(records: Sequence[bytes], name: str) -> list[list[Any]]:
    """Returns the values of one feature for each record, all parsed at once.

    Raises:
      ValueError: a record is no tf.Example, or has values of another type than the first.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        found = (value for record in records for value in feature_values(record, name))
        dtype = _DTYPE_OF_KIND[type(next(found, b""))]
        feature = {name: tf.io.VarLenFeature(dtype)}
        parsed = tf.io.parse_example(tf.constant(records, tf.string), feature)[name]
    # Not UTF-8: TensorFlow's message quotes the record.
    except (DecodeError, tf.errors.InvalidArgumentError, UnicodeDecodeError) as error:
        raise ValueError("these records cannot be parsed at once") from error
    values: list[list[Any]] = [[] for _ in records]
    for row, value in zip(
        parsed.indices.numpy()[:, 0].tolist(), parsed.values.numpy().tolist(), strict=True
    ):
        values[row].append(value)
    return values


def _feature_names(record: bytes) -> set[str]:
    from google.protobuf.message import DecodeError

    try:
        return set(_features(record))
    except DecodeError:
        return set()  # The model took it all the same, so it is not for us to refuse.


def _features(record: bytes) -> Any:
    from tensorflow.core.example import example_pb2

    # SequenceExample.context reads as Example.features; what follows is skipped as unknown.
    return example_pb2.Example.FromString(record).features.feature
