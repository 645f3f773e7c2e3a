"""tf.Examples: predictions as further features, and the values of a feature.

Concatenated messages are one merged message (https://protobuf.dev/programming-guides/encoding/
#last-one-wins), and `Example.features` and `SequenceExample.context` are both field 1 of type
`Features`. So appending bytes adds features to any record, and the record is not parsed:

    record | field 1: Features { feature { key: "y" value { float_list ... } } ... }
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from bulk_inferencer._checks import check_tuple, doubled
from bulk_inferencer._formats import dtypes, wire
from bulk_inferencer._formats.partial import encode_groups
from bulk_inferencer.errors import ModelError, SettingsError

_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = 1, 2, 3
_LARGEST_INT64 = 2**63 - 1
_FEW_RECORDS = 32  # as fast to parse one by one as together
_DTYPE_OF_KIND = {bytes: "string", int: "int64", float: "float32"}
_DTYPE_OF_LIST = {"bytes_list": "string", "int64_list": "int64", "float_list": "float32"}


class Kind(NamedTuple):
    """What a feature of a record holds: how many values, and of which dtype."""

    dtype: str
    size: int


class Column(NamedTuple):
    """An output that becomes a feature.

    ```python
    Column("probabilities", "score")
    ```

    Attributes:
      output: name of the output, as the predictor returns it.
      name: name of the feature.
    """

    output: str
    name: str


def check_columns(field: str, columns: Sequence[Column]) -> None:
    """Checks that each column has an output and a name of its own.

    Raises:
      SettingsError: one does not, or the value is not a sequence of columns. Messages name `field`.
    """
    check_tuple(field, columns, Column)
    for column in columns:
        if not column.output or not column.name:
            raise SettingsError(f"{column} in {field} needs both an output and a name.")
    if names := doubled(column.name for column in columns):
        raise SettingsError(f"Several columns in {field} are named {names}. Rename all but one.")


def append_columns(
    records: Sequence[bytes],
    outputs: Mapping[str, np.ndarray],
    columns: Sequence[Column],
    replace_features: bool,
) -> Sequence[bytes]:
    """Returns each record with the columns as further features.

    Values are flattened in row order. Integers and booleans become an int64_list, floats a
    float_list (float32), strings a bytes_list.

    Args:
      records: n serialized tf.Examples or tf.SequenceExamples, whose context gets the features.
      outputs: arrays of shape [n, ...] by name. Records whose rows are masked do not have the
        output, and do not get its features.
      columns: which outputs, under which names.
      replace_features: whether a column may replace a feature of the same name.

    Raises:
      ModelError: an output is missing, or its dtype cannot become a feature.
      SettingsError: a record already has a feature of a column's name.
    """
    if not replace_features:
        for column in columns:
            _check_no_feature(records, column)
    for column in columns:
        if column.output not in outputs:
            raise ModelError(
                f"Column '{column.name}' needs the output '{column.output}', but the model "
                f"returned {', '.join(sorted(outputs))}. Name one of these outputs."
            )
    if not columns:
        return list(records)
    used = {column.output: outputs[column.output] for column in columns}
    return encode_groups(functools.partial(_append, columns), records, used)


def _append(
    columns: Sequence[Column], records: Sequence[bytes], outputs: Mapping[str, np.ndarray]
) -> list[bytes]:
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
                f"Output '{column.output}' holds {values.max()}, which is too large for the int64 "
                f"feature '{column.name}'. Cast it in the serving signature."
            )
        list_field, packed = _INT64_LIST, wire.padded_varints(values)
    elif dtypes.is_float(values.dtype):
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
    key = wire.field(1, column.name.encode())
    for record in records:
        if key not in record:  # so that few records are parsed, which is slow
            continue
        # A record that is no tf.Example is not refused here, since the model accepted it.
        with contextlib.suppress(DecodeError):
            if column.name in _features(record):
                raise SettingsError(
                    f"Output '{column.output}' cannot become column '{column.name}': the record "
                    f"already has a feature '{column.name}'. Choose another name, or set "
                    f"replace_features."
                )


def feature_values(record: bytes, name: str) -> list[bytes] | list[float] | list[int]:
    """Returns the values of a feature of a tf.Example, or of a tf.SequenceExample's context.

    The list is empty if the record does not have the feature.

    Raises:
      DecodeError: the record is neither.
    """
    features = _features(record)
    if name not in features:  # a lookup would add it to the proto's map
        return []
    kind = features[name].WhichOneof("kind")
    return list(getattr(features[name], kind).value) if kind else []


def kinds_of_features(record: bytes) -> dict[str, Kind]:
    """Returns the features of a tf.Example, or of a tf.SequenceExample's context, by name.

    Features without a list of values, which TensorFlow takes for absent, are left out.

    Raises:
      DecodeError: the record is neither.
    """
    kinds = {}
    for name, feature in features_of_record(record).items():
        if kind := feature.WhichOneof("kind"):
            kinds[name] = Kind(_DTYPE_OF_LIST[kind], len(getattr(feature, kind).value))
    return kinds


def whole_features(record: bytes, names: Collection[str]) -> frozenset[str]:
    """Returns those of the features that hold integers; none if the record is no tf.Example."""
    with contextlib.suppress(DecodeError):
        features = features_of_record(record)
        own = [name for name in names if name in features]
        return frozenset(name for name in own if features[name].HasField("int64_list"))
    return frozenset()


def feature_values_of_batch(records: Sequence[bytes], name: str) -> list[list[Any]]:
    """Returns what `feature_values` returns for each record, but many times faster.

    TensorFlow parses nothing but the feature. Records that are no tf.Examples have no values.
    """
    if len(records) <= _FEW_RECORDS:
        return [_values_if_example(record, name) for record in records]
    try:
        return _parsed_values(records, name)
    except ValueError:
        middle = len(records) // 2
        halves = records[:middle], records[middle:]
        return [values for half in halves for values in feature_values_of_batch(half, name)]


def _values_if_example(record: bytes, name: str) -> list[Any]:
    try:
        return list(feature_values(record, name))
    except DecodeError:
        return []


def _parsed_values(records: Sequence[bytes], name: str) -> list[list[Any]]:
    """Returns the values of a feature for each record.

    Raises:
      ValueError: a record is no tf.Example, or its values have another type than those of others.
    """
    import tensorflow as tf

    try:
        found = (value for record in records for value in feature_values(record, name))
        dtype = _DTYPE_OF_KIND[type(next(found, b""))]
        feature = {name: tf.io.VarLenFeature(dtype)}
        parsed = tf.io.parse_example(tf.constant(records, tf.string), feature)[name]
    # UnicodeDecodeError: TensorFlow's message quotes a record that is not UTF-8.
    except (DecodeError, tf.errors.InvalidArgumentError, UnicodeDecodeError) as error:
        raise ValueError("these records cannot be parsed together") from error
    values: list[list[Any]] = [[] for _ in records]
    rows = parsed.indices.numpy()[:, 0].tolist()
    for row, value in zip(rows, parsed.values.numpy().tolist(), strict=True):
        values[row].append(value)
    return values


def features_of_record(record: bytes) -> Any:
    """Returns the map of features of a tf.Example, or of a tf.SequenceExample's context.

    Raises:
      DecodeError: the record is neither.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # protobuf's, about an end of a group
        return _features(record)


def _features(record: bytes) -> Any:
    from tensorflow.core.example import example_pb2

    # SequenceExample.context reads as Example.features; its other fields are skipped as unknown.
    return example_pb2.Example.FromString(record).features.feature
