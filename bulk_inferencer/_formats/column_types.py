"""The types of columns, as settings name them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from bulk_inferencer.errors import SettingsError

_OWN_NAMES = {"text": pa.string(), "bytes": pa.binary()}
# What pyarrow cannot make of text.
_NOT_IN_TEXT = (
    pa.types.is_float16,
    pa.types.is_duration,
    pa.types.is_interval,
    pa.types.is_null,
)
_SOME_NAMES = "int64, int32, float32, float64, bool, text, bytes, date32, timestamp[us]"


def column_types(setting: str, types: Any, with_lists: bool = False) -> dict[str, pa.DataType]:
    """Returns the types that a setting names.

    Args:
      setting: its name, for messages.
      types: a name for each column.
      with_lists: whether a column may hold lists, such as `list<float32>`.

    Raises:
      SettingsError: they are something else.
    """
    if not isinstance(types, Mapping) or not all(isinstance(name, str) for name in types):
        raise SettingsError(
            f"{setting} must hold the type of each column by its name, not {types!r}. Write "
            f'{{"column": "float32"}}.'
        )
    return {name: _named(setting, name, kind, with_lists) for name, kind in types.items()}


def _named(setting: str, column: str, kind: Any, with_lists: bool) -> pa.DataType:
    if isinstance(kind, str):
        if with_lists and kind.startswith("list<") and kind.endswith(">"):
            return pa.list_(_named(setting, column, kind[len("list<") : -1], False))
        with contextlib.suppress(ValueError):
            found = _OWN_NAMES.get(kind) or pa.type_for_alias(kind)
            if not any(is_kind(found) for is_kind in _NOT_IN_TEXT):
                return found
    lists = ", list<float32>" if with_lists else ""
    raise SettingsError(
        f"{setting} gives column '{column}' the type {kind!r}, which is none. Use one of "
        f"{_SOME_NAMES}{lists}."
    )
