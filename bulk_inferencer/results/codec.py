"""JSON of dataclasses, by the annotations of their fields.

    Counts(examples_read=5, ...)  <->  {"examples_read": 5, ...}

Fields hold numbers, text, booleans, None, other dataclasses, and tuples, lists and mappings of
these. The keys of mappings are text. JSON has no NaN and no infinities: in fields of type `float`,
they are the texts "nan", "inf" and "-inf". A dataclass may list in `JSON_NAMES` what is written, in
its order: its fields, and properties for people to read, which are ignored when read back. One with
`as_json` and `of_json` says itself what it is in JSON.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from bulk_inferencer import _files

_T = TypeVar("_T")

_PLAIN = {Any, bool, int, str, float}


def to_json(value: Any) -> Any:
    """Returns a value as what `json` can write."""
    if hasattr(value, "as_json"):
        return value.as_json()
    if dataclasses.is_dataclass(value):
        fields = [field.name for field in dataclasses.fields(value)]
        names = getattr(value, "JSON_NAMES", fields)
        return {name: to_json(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def write_file(path: str, value: Any, indent: int | None = None) -> None:
    """Writes a value as a file of JSON."""
    text = json.dumps(to_json(value), indent=indent, allow_nan=False) + "\n"
    with _files.open_to_write(path) as file:
        file.write(text.encode())


def read_file(path: str, kind: type[_T]) -> _T:
    """Returns the value of type `kind` that `write_file` was given."""
    with _files.open_to_read(path) as file:
        value: _T = from_json(kind, json.loads(file.read()))
    return value


def from_json(kind: Any, value: Any) -> Any:
    """Returns the value of type `kind`, any annotation, that `to_json` was given.

    Keys that name no field are ignored, and fields without a key get their default.

    Raises:
      TypeError: a field without a default has no key, or there is no way to read a type.
    """
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    kinds = {kind}
    if hasattr(kind, "of_json"):
        return kind.of_json(value)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = {name: hint for name, hint in _hints(kind).items() if name in value}
        return kind(**{name: from_json(hint, value[name]) for name, hint in hints.items()})
    if origin is tuple:
        item_kinds = itertools.repeat(args[0], len(value)) if args[-1] is ... else args
        return tuple(from_json(k, item) for k, item in zip(item_kinds, value, strict=True))
    if origin in (list, Sequence):
        return [from_json(args[0], item) for item in value]
    if origin in (dict, Mapping):
        if args[1] in (int, str):  # There may be very many.
            return dict(value)
        return {key: from_json(args[1], item) for key, item in value.items()}
    if origin in (typing.Union, types.UnionType):
        kinds = set(args) - {type(None)}
        if value is None:
            return None
        if len(kinds) == 1:
            return from_json(kinds.pop(), value)
    if kind is float:
        # `math.nan` and not any other NaN: within a tuple it equals itself.
        return math.nan if value == "nan" else float(value)
    if kinds <= _PLAIN:
        return value
    raise TypeError(f"cannot read {kind} from JSON")


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}
