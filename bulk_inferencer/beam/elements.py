"""The elements that transforms take: records, keyed records and keyed batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from bulk_inferencer.errors import SettingsError

_PROTOS = (tf.train.Example, tf.train.SequenceExample)
RECORD_TYPES = (bytes, *_PROTOS)


def records_of(element: Any) -> bytes | list[bytes]:
    """Returns the serialized record of an element, or the list of records beside a key.

    Raises:
      SettingsError: the element is of another type.
    """
    is_keyed = isinstance(element, tuple) and len(element) == 2
    value = element[1] if is_keyed else element
    if isinstance(value, bytes):
        return value
    if isinstance(value, _PROTOS):
        return record_of(value)
    if is_keyed and isinstance(value, Iterable):
        return [record_of(record) for record in value]
    if isinstance(element, tuple):
        raise element_error(f"({', '.join(type(part).__name__ for part in element)})")
    raise element_error(type(element).__name__)


def record_of(value: Any) -> bytes:
    """Returns a tf.Example, tf.SequenceExample or `bytes` as a serialized record.

    Raises:
      SettingsError: the value is of another type.
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, _PROTOS):
        serialized: bytes = value.SerializeToString()
        return serialized
    raise element_error(type(value).__name__)


def element_error(got: Any) -> SettingsError:
    """Returns the error for elements of another type."""
    return SettingsError(
        f"Elements must be bytes, tf.train.Example or tf.train.SequenceExample, alone, as "
        f"(key, record) or as (key, [record, ...]), not {got}. Convert them with beam.Map."
    )
