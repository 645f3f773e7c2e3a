"""The types that Beam knows of elements: which results they give, which records they hold."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from apache_beam.transforms.window import TimestampedValue
from apache_beam.typehints import typehints
from apache_beam.typehints.row_type import RowTypeConstraint
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from bulk_inferencer.beam.elements import RECORD_TYPES, element_error, is_class_of_rows

_LISTS = (
    typehints.ListConstraint,
    typehints.SequenceTypeConstraint,
    typehints.IterableTypeConstraint,
)
_DICTS = (typehints.DictConstraint, typehints.MappingTypeConstraint)


def types_of(element_type: Any, models: int | None, keyed_batches_only: bool) -> tuple[Any, bool]:
    """Returns the type of the results, and whether records may be tf.SequenceExamples.

    Args:
      element_type: what Beam knows of the elements.
      models: how many entries the tuples of the results have, one for each model; None if results
        are no tuples.
      keyed_batches_only: whether every element has to be `(key, list)`.

    Raises:
      SettingsError: elements are of a type that transforms do not take.
    """
    if isinstance(element_type, typehints.UnionConstraint):  # keys of several types, empty lists
        found = [types_of(t, models, keyed_batches_only) for t in element_type.union_types]
        results, have_sequences = zip(*found, strict=True)
        return typehints.Union[results], any(have_sequences)
    if element_type in (typehints.Any, TimestampedValue):  # `Create` says so of what it unpacks
        return typehints.Any, False
    is_keyed = isinstance(element_type, typehints.TupleConstraint)
    if is_keyed and len(element_type.tuple_types) != 2:
        raise element_error(element_type)
    key_type, value_type = element_type.tuple_types if is_keyed else (None, element_type)
    is_list = is_keyed and isinstance(value_type, _LISTS)
    record_type = value_type.inner_type if is_list else value_type
    if keyed_batches_only and not is_list and record_type is not typehints.Any:
        raise element_error(element_type)
    if value_type is typehints.Any:  # a record or a list
        return typehints.Tuple[key_type, typehints.Any], False
    is_union = isinstance(record_type, typehints.UnionConstraint)
    record_types = set(record_type.union_types if is_union else [record_type])
    if not all(map(_is_of_records, record_types)):
        raise element_error(element_type)
    result: Any = typehints.List[PredictionLog] if is_list else PredictionLog
    if models is not None:
        result = typehints.Tuple[(result,) * models]
    if is_keyed:
        result = typehints.Tuple[key_type, result]
    return result, tf.train.SequenceExample in record_types


def _is_of_records(kind: Any) -> bool:
    if kind in (*RECORD_TYPES, typehints.Any) or isinstance(kind, RowTypeConstraint):
        return True
    if isinstance(kind, _DICTS):
        names = kind.key_type
        is_union = isinstance(names, typehints.UnionConstraint)
        return not {str, typehints.Any}.isdisjoint(names.union_types if is_union else [names])
    return isinstance(kind, type) and is_class_of_rows(kind)
