"""Settings in a YAML or JSON file, as they are written there: dicts, lists and text."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from bulk_inferencer import _files
from bulk_inferencer._access import check_access
from bulk_inferencer.errors import SettingsError


def read_settings(path: str) -> Any:
    """Returns the content of a YAML or JSON file on any filesystem.

    What YAML does not quote stays text too, so that a class `no` is not taken for False, nor `010`
    for 8. Whoever needs a number makes it of the text.

    Raises:
      SettingsError: there is no such file, it is neither YAML nor JSON, or a key occurs twice.
    """
    check_access([path])
    try:
        with _files.open_to_read(path) as file:
            content = file.read()
    except FileNotFoundError as error:
        raise SettingsError(f"There is no file {path}. Correct the path.") from error
    except IsADirectoryError as error:
        raise SettingsError(f"{path} is a folder. Name a YAML or JSON file in it.") from error
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not text in UTF-8: {error}. Convert it.") from error
    try:
        return _of_json(text) if text.lstrip().startswith("{") else _of_yaml(text)
    except _DoubledKeyError as error:
        raise SettingsError(f"{path} has the key '{error}' twice. Remove one of them.") from error
    except ValueError as error:
        where = " ".join(str(error).split())
        raise SettingsError(f"{path} is neither YAML nor JSON: {where}. Correct it.") from error


class _DoubledKeyError(Exception):
    """A key that occurs twice in one place, of which YAML and JSON keep only the last."""


def _of_json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError:
        return _of_yaml(text)  # which takes braces too


def _of_yaml(text: str) -> Any:
    import yaml

    class Loader(yaml.BaseLoader):  # knows no types but dict, list and text
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            _unique((str(key), None) for key in keys)
            return super().construct_mapping(node, deep=deep)

    try:
        return yaml.load(text, Loader=Loader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise _DoubledKeyError(key)
        made[key] = value
    return made
