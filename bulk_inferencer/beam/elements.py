"""The elements that transforms take: records, keyed records and keyed batches, and their types."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tensorflow as tf
from apache_beam.typehints import typehints
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from bulk_inferencer._models.predictor import FORMAT_TF_EXAMPLE, FORMAT_TF_SEQUENCE_EXAMPLE
from bulk_inferencer.errors import SettingsError

_RECORD_TYPES = (bytes, tf.train.Example, tf.train.SequenceExample)
_LISTS = (
    typehints.ListConstraint,
    typehints.SequenceTypeConstraint,
    typehints.IterableTypeConstraint,
)


def records_of(element: Any) -> bytes | list[bytes]:
    """Returns the serialized record of an element, or the list of them that stands beside a key.

    Raises:
      SettingsError: it is of no type that transforms take.
    """
    if type(element) is bytes:
        return element
    is_keyed = isinstance(element, tuple) and len(element) == 2
    value = element[1] if is_keyed else element
    if isinstance(value, _RECORD_TYPES):
        return record_of(value)
    if is_keyed and isinstance(value, Iterable):
        return [record_of(record) for record in value]
    if isinstance(element, tuple):
        raise _element_error(f"({', '.join(type(part).__name__ for part in element)})")
    raise _element_error(type(element).__name__)


def record_of(value: Any) -> bytes:
    """Returns the serialized record that a tf.Example, tf.SequenceExample or `bytes` is.

    Raises:
      SettingsError: it is of another type.
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, (tf.train.Example, tf.train.SequenceExample)):
        serialized: bytes = value.SerializeToString()
        return serialized
    raise _element_error(type(value).__name__)


def _element_error(got: Any) -> SettingsError:
    return SettingsError(
        f"Expected elements to be bytes, tf.train.Example or tf.train.SequenceExample, each alone, "
        f"as (key, record) or as (key, [record, ...]), got {got}. Convert them with beam.Map."
    )


def types_of(element_type: Any, is_per_model: bool, keyed_batches_only: bool) -> tuple[Any, str]:
    """Returns the type of the results and the format of the records, from the elements' type.

    Args:
      element_type: what Beam knows of the elements.
      is_per_model: whether results are tuples, of a result for each model.
      keyed_batches_only: whether anything but `(key, list)` is refused.

    Raises:
      SettingsError: elements are of no type that transforms take.
    """
    if isinstance(element_type, typehints.UnionConstraint):  # keys of several types, empty lists
        found = [types_of(t, is_per_model, keyed_batches_only) for t in element_type.union_types]
        results, formats = zip(*found, strict=True)
        return typehints.Union[results], _strictest(formats)
    log: Any = typehints.Tuple[PredictionLog, ...] if is_per_model else PredictionLog
    if element_type is typehints.Any:
        return typehints.Any, FORMAT_TF_EXAMPLE
    if not isinstance(element_type, typehints.TupleConstraint):
        if keyed_batches_only:
            raise _element_error(element_type)
        return log, _record_format(element_type, element_type)
    if len(element_type.tuple_types) != 2:
        raise _element_error(element_type)
    key_type, value_type = element_type.tuple_types
    if isinstance(value_type, _LISTS):
        logs: Any = typehints.List[PredictionLog]
        result = typehints.Tuple[logs, ...] if is_per_model else logs
        value_type = value_type.inner_type
    else:
        result = log
        if keyed_batches_only and value_type is not typehints.Any:
            raise _element_error(element_type)
    if value_type is typehints.Any:
        return typehints.Tuple[key_type, typehints.Any], FORMAT_TF_EXAMPLE
    return typehints.Tuple[key_type, result], _record_format(value_type, element_type)


def _record_format(record_type: Any, element_type: Any) -> str:
    """Returns the format of records of a type, or of one of several types."""
    if isinstance(record_type, typehints.UnionConstraint):
        return _strictest([_record_format(t, element_type) for t in record_type.union_types])
    if record_type not in _RECORD_TYPES:
        raise _element_error(element_type)
    is_sequence = record_type is tf.train.SequenceExample
    return FORMAT_TF_SEQUENCE_EXAMPLE if is_sequence else FORMAT_TF_EXAMPLE


def _strictest(formats: Iterable[str]) -> str:
    """Returns the format that fewer models take."""
    is_sequence = FORMAT_TF_SEQUENCE_EXAMPLE in formats
    return FORMAT_TF_SEQUENCE_EXAMPLE if is_sequence else FORMAT_TF_EXAMPLE
