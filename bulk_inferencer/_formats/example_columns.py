"""Features of tf.Examples as typed columns, for whole batches at once.

    records --kinds_of_records--> schema          once, from some first records of a run
    records, schema --columns_of_records--> table, and why records do not fit

A feature with at most one value in each record is a scalar, any other a list. A feature that a
record lacks, or has no values of, is null.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from google.protobuf.message import DecodeError

from bulk_inferencer._formats.column_values import FLOAT32, INT64, STRING, feature_dtype
from bulk_inferencer._formats.example import features_of_record
from bulk_inferencer._formats.rows import Rows

_LISTS = {"int64_list": INT64, "float_list": FLOAT32, "bytes_list": STRING}
_TYPES = {INT64: pa.int64(), FLOAT32: pa.float32()}
_FEW_RECORDS = 32  # as fast to parse one by one as together

_NO_EXAMPLE = "The record is no tf.Example"


def kinds_of_records(records: Sequence[bytes]) -> pa.Schema:
    """Returns the features of some records as columns, in the order of their names.

    They are int64, float32, string (if all values are valid UTF-8) or binary, or lists of these.
    Where records disagree, most of them decide. Records that are no tf.Examples are passed over.
    """
    dtypes: dict[str, Counter[str]] = {}
    lists: set[str] = set()
    binary: set[str] = set()
    for record in records:
        with contextlib.suppress(DecodeError):
            for name, (dtype, values) in _features(record).items():
                dtypes.setdefault(name, Counter())[dtype] += 1
                if len(values) > 1:
                    lists.add(name)
                if dtype == STRING and not all(map(_is_utf8, values)):
                    binary.add(name)
    fields = []
    for name, found in sorted(dtypes.items()):
        ((dtype, _),) = found.most_common(1)
        kind = _TYPES.get(dtype) or (pa.binary() if name in binary else pa.string())
        fields.append(pa.field(name, pa.list_(kind) if name in lists else kind))
    return pa.schema(fields)


def columns_of_records(
    records: Sequence[bytes], schema: pa.Schema
) -> tuple[pa.Table, dict[int, str]]:
    """Returns features as columns of a schema.

    Args:
      records: n serialized tf.Examples, or tf.SequenceExamples, of which it is the context.
      schema: the features, as `kinds_of_records` describes them.

    Returns:
      A table of n rows; and by index, why a record does not fit. What does not fit is null.
    """
    if not isinstance(records, list):
        records = list(records)
    parts = _parsed(records, schema) if schema.names and records else []
    reasons: dict[int, str] = {}
    tables = []
    start = 0
    for count, columns, own_reasons in parts:
        table, more = _table(columns, schema, count)
        for index, reason in {**more, **own_reasons}.items():
            reasons[start + index] = reason
        tables.append(table)
        start += count
    table = pa.concat_tables(tables) if tables else schema.empty_table()
    return table, dict(sorted(reasons.items()))


def kept_columns(records: Sequence[bytes], schema: pa.Schema) -> tuple[pa.Table, dict[int, str]]:
    """Returns columns that results keep, of tf.Examples or of rows; see `columns_of_records`."""
    if not isinstance(records, Rows):
        return columns_of_records(records, schema)
    columns = [records.source[field.name].cast(field.type) for field in schema]
    return pa.table(columns, schema=schema), {}


# The values of a feature: of all records in one, and where each record's begin, of shape [n + 1].
_Column = tuple[Any, np.ndarray]
_Part = tuple[int, Mapping[str, _Column], Mapping[int, str]]


def _parsed(records: list[bytes], schema: pa.Schema) -> list[_Part]:
    """Returns the features of as many records at once as can be parsed together."""
    if len(records) <= _FEW_RECORDS:
        return [_parsed_one_by_one(records, schema)]
    try:
        return [(len(records), _parsed_together(records, schema), {})]
    except ValueError:
        middle = len(records) // 2
        return [*_parsed(records[:middle], schema), *_parsed(records[middle:], schema)]


def _parsed_together(records: list[bytes], schema: pa.Schema) -> dict[str, _Column]:
    """Returns features by name.

    Raises:
      ValueError: a record is no tf.Example, or has a feature of another type.
    """
    import tensorflow as tf

    features = {
        field.name: tf.io.RaggedFeature(
            tf.as_dtype(feature_dtype(field.type)), row_splits_dtype=tf.int64
        )
        for field in schema
    }
    try:
        parsed = tf.io.parse_example(tf.constant(records, tf.string), features)
    except tf.errors.InvalidArgumentError as error:
        raise ValueError("these records cannot be parsed together") from error
    # A UnicodeDecodeError is a ValueError, too: TensorFlow's message quotes a bad record.
    return {name: (own.flat_values.numpy(), own.row_splits.numpy()) for name, own in parsed.items()}


def _parsed_one_by_one(records: list[bytes], schema: pa.Schema) -> _Part:
    wanted = {field.name: feature_dtype(field.type) for field in schema}
    flat: dict[str, list[Any]] = {name: [] for name in wanted}
    ends: dict[str, list[int]] = {name: [0] for name in wanted}
    reasons: dict[int, str] = {}
    for index, record in enumerate(records):
        try:
            features = _features(record)
        except DecodeError:
            features, reasons[index] = {}, _NO_EXAMPLE
        for name, dtype in wanted.items():
            found, values = features.get(name, (dtype, ()))
            if found == dtype:
                flat[name] += values
            elif index not in reasons:
                reasons[index] = f"Feature '{name}' holds {found}, but the column {dtype}"
            ends[name].append(len(flat[name]))
    dtypes = {INT64: np.int64, FLOAT32: np.float32, STRING: object}
    columns = {
        name: (np.array(flat[name], dtypes[dtype or STRING]), np.array(ends[name]))
        for name, dtype in wanted.items()
    }
    return len(records), columns, reasons


def _features(record: bytes) -> dict[str, tuple[str, Sequence[Any]]]:
    """Returns dtype and values of each feature that has any, by name.

    Raises:
      DecodeError: the record is no tf.Example.
    """
    features = {}
    for name, feature in features_of_record(record).items():
        kind = feature.WhichOneof("kind")
        if kind and (values := getattr(feature, kind).value):
            features[name] = (_LISTS[kind], values)
    return features


def _table(
    columns: Mapping[str, _Column], schema: pa.Schema, count: int
) -> tuple[pa.Table, dict[int, str]]:
    reasons: dict[int, str] = {}
    arrays = []
    for field in schema:
        values, splits = columns[field.name]
        is_list = pa.types.is_list(field.type)
        has = splits[1:] > splits[:-1]
        if not is_list:
            counts = np.diff(splits)
            for index in np.flatnonzero(counts > 1).tolist():
                reasons.setdefault(
                    index,
                    f"Feature '{field.name}' has {counts[index]} values, but those of the first "
                    f"records had one",
                )
            has = counts == 1
        kind = field.type.value_type if is_list else field.type
        flat, bad = _array(values, kind)
        for position in bad:
            index = int(np.searchsorted(splits, position, side="right")) - 1
            reasons.setdefault(
                index, f"Feature '{field.name}' is not UTF-8, as those of the first records were"
            )
            has[index] = False
        if is_list:
            mask = None if has.all() else pa.array(has).buffers()[1]
            buffers = [mask, pa.py_buffer(splits.astype(np.int32))]
            arrays.append(pa.Array.from_buffers(field.type, count, buffers, children=[flat]))
        elif has.all():
            arrays.append(flat)
        else:
            arrays.append(flat.take(pa.array(splits[:-1], mask=~has)))
    return pa.table(arrays, schema=schema), reasons


def _array(values: Any, kind: pa.DataType) -> tuple[pa.Array, list[int]]:
    """Returns values as an array, and the positions of those that are not UTF-8, if they must."""
    if not pa.types.is_string(kind):
        return pa.array(values, kind), []
    array = pa.array(values, pa.binary())
    try:
        return array.cast(kind), []
    except pa.ArrowInvalid:
        is_text = [_is_utf8(value) for value in values]
        texts = [value if ok else None for value, ok in zip(values, is_text, strict=True)]
        bad = [i for i, ok in enumerate(is_text) if not ok]
        return pa.array(texts, pa.binary()).cast(kind), bad


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
