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
import json
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from bulk_inferencer import _files

_T = TypeVar("_T")

_UNCHANGED = {Any, bool, int, str}


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
    return _reader(kind)(value)


@functools.cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    """Returns what reads values of a type. To look at the type each time would take much longer."""
    if kind in _UNCHANGED:
        return _unchanged
    if kind is float:
        return _read_float
    if hasattr(kind, "of_json"):
        return kind.of_json
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _dataclass_reader(kind)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple and args[-1] is not ...:
        readers = tuple(map(_reader, args))
        return lambda value: tuple(read(own) for read, own in zip(readers, value, strict=True))
    if origin in (tuple, list, Sequence):
        read = _reader(args[0])
        return lambda value: (tuple if origin is tuple else list)(map(read, value))
    if origin in (dict, Mapping):
        if args[1] in _UNCHANGED:
            return dict
        read_item = _reader(args[1])
        return lambda value: {key: read_item(item) for key, item in value.items()}
    if origin in (typing.Union, types.UnionType):
        kinds = set(args) - {type(None)}
        if len(kinds) == 1:
            read_some = _reader(kinds.pop())
            return lambda value: None if value is None else read_some(value)
        if kinds <= {*_UNCHANGED, float}:
            return _unchanged
    raise TypeError(f"cannot read {kind} from JSON")


def _dataclass_reader(kind: type) -> Callable[[Any], Any]:
    hints = typing.get_type_hints(kind)
    readers = {own.name: _reader(hints[own.name]) for own in dataclasses.fields(kind)}

    def read(value: Mapping[str, Any]) -> Any:
        return kind(**{name: own(value[name]) for name, own in readers.items() if name in value})

    return read


def _read_float(value: Any) -> float:
    # `math.nan` and not any other NaN: within a tuple it equals itself.
    return math.nan if value == "nan" else float(value)


def _unchanged(value: Any) -> Any:
    return value
