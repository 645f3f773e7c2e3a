"""The elements that transforms take: records, keyed records and keyed batches."""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import apache_beam as beam
import numpy as np
import tensorflow as tf

from bulk_inferencer._models.predictor import shown
from bulk_inferencer.errors import SettingsError

_PROTOS = (tf.train.Example, tf.train.SequenceExample)
RECORD_TYPES = (bytes, *_PROTOS)

# A record as it is scored: serialized, or the values of a row by the names of its columns.
Record: TypeAlias = bytes | Mapping[str, Any]

_FLOATS = {float, np.float16, np.float32, np.float64}
_NUMBERS = frozenset({int, float, bool})
_BYTES_OF_A_NUMBER = 8


def records_of(element: Any) -> Any:
    """Returns the record of an element, or the list of records beside a key; see `record_of`.

    Raises:
      SettingsError: the element is of another type.
    """
    has_key = is_keyed(element) and len(element) == 2
    value = element[1] if has_key else element
    if isinstance(value, RECORD_TYPES) or is_row(value):
        return record_of(value)
    if has_key and isinstance(value, Iterable):
        return [record_of(record) for record in value]
    if isinstance(element, tuple):
        raise element_error(f"({', '.join(type(part).__name__ for part in element)})")
    raise element_error(type(element).__name__)


def is_keyed(element: Any) -> bool:
    """Returns whether an element has a key beside its record; a NamedTuple is a record."""
    return isinstance(element, tuple) and not hasattr(element, "_fields")


def record_of(value: Any) -> Any:
    """Returns a record in the form in which failures show it: protos serialized, others as is.

    Raises:
      SettingsError: the value is no record.
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, _PROTOS):
        return value.SerializeToString()
    if is_row(value):
        return value
    raise element_error(type(value).__name__)


def is_row(value: Any) -> bool:
    """Returns whether a value is a dict, a `beam.Row`, or an instance of a class with fields."""
    return isinstance(value, (dict, Mapping, beam.Row)) or (
        is_class_of_rows(type(value)) and not isinstance(value, type)
    )


def is_class_of_rows(kind: type) -> bool:
    """Returns whether a class is one of dicts or rows, a NamedTuple or a dataclass."""
    is_named_tuple = issubclass(kind, tuple) and hasattr(kind, "_fields")
    return is_named_tuple or issubclass(kind, (Mapping, beam.Row)) or dataclasses.is_dataclass(kind)


def scored_form(record: Any) -> Record:
    """Returns a record of `records_of` as it is scored: rows of all kinds as their values by name.

    Whole numbers in a field that is declared as a float become floats.
    """
    if isinstance(record, (dict, bytes, Mapping)):  # dict first: Mapping takes long to ask
        return record
    if isinstance(record, beam.Row):
        return dict(vars(record))
    if isinstance(record, tuple):
        values = record._asdict()  # type: ignore[attr-defined]  # a NamedTuple
    else:
        values = {own.name: getattr(record, own.name) for own in dataclasses.fields(record)}
    kind: Any = type(record)
    for name in _float_fields(kind):
        if type(values[name]) is int:
            values[name] = float(values[name])
    return values


@functools.cache
def _float_fields(kind: Any) -> tuple[str, ...]:
    try:
        hints = typing.get_type_hints(kind)
    except NameError:  # a type that is not imported where the class is; the values tell as well
        return ()
    return tuple(
        name for name, own in hints.items() if not _FLOATS.isdisjoint((own, *typing.get_args(own)))
    )


def bytes_of_record(record: Any) -> int:
    """Returns how many bytes a record takes: serialized, or about, as the values of a row."""
    if isinstance(record, bytes):
        return len(record)
    if isinstance(record, _PROTOS):
        return int(record.ByteSize())
    row: Any = scored_form(record)
    values = row.values()
    others = [value for value in values if type(value) not in _NUMBERS]
    numbers = len(values) - len(others)
    return _BYTES_OF_A_NUMBER * numbers + sum(_bytes_of_value(value) for value in others)


def _bytes_of_value(value: Any) -> int:
    if isinstance(value, (str, bytes)):
        return len(value)
    if isinstance(value, (list, tuple)):
        return sum(_bytes_of_value(own) for own in value)
    return value.nbytes if isinstance(value, np.ndarray) else _BYTES_OF_A_NUMBER


def shown_record(record: Any) -> str:
    """Returns the beginning of a record of `records_of`, for messages."""
    return repr(record[:80]) if isinstance(record, bytes) else shown(record)


def element_error(got: Any) -> SettingsError:
    """Returns the error for elements of another type."""
    return SettingsError(
        f"Elements must be records, alone, as (key, record) or as (key, [record, ...]), not {got}. "
        f"A record is bytes, a tf.train.Example, a tf.train.SequenceExample, a dict with text as "
        f"keys, a beam.Row, a NamedTuple or a dataclass. Convert other elements with beam.Map."
    )
