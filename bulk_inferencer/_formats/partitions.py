"""Folders named `column=value`, which stand for columns of the tables in them."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable

import pyarrow as pa

from bulk_inferencer.errors import InputError

_NULL = "__HIVE_DEFAULT_PARTITION__"
_MOST_DIGITS = 18  # which int64 holds


def partition_columns(paths: Iterable[str]) -> pa.Schema:
    """Returns the columns that the folders of files stand for.

    A column is int64 if all its values are whole numbers as one writes them, or else text: `00501`
    is text.

    Raises:
      InputError: a file lies in no folder for a column for which others do.
    """
    values: dict[str, set[str]] = {}
    first = ""
    folders: dict[str, str] | None = None
    for path in paths:
        own = _folders(path)
        if folders is None:
            first, folders = path, own
        for name in sorted(own.keys() ^ folders.keys()):
            without, having = (path, first) if name in folders else (first, path)
            raise InputError(
                f"{having} is in a folder '{name}=...', which stands for a column, but {without} "
                f"is not. Move one of them, or leave it out."
            )
        for name, value in own.items():
            values.setdefault(name, set()).add(value)
    return pa.schema([(name, _type(texts)) for name, texts in values.items()])


def partition_values(path: str, columns: pa.Schema) -> dict[str, pa.Scalar]:
    """Returns the values that a file's folders give to columns."""
    folders = _folders(path)
    return {
        field.name: pa.scalar(_value(folders[field.name], field.type), field.type)
        for field in columns
    }


def _folders(path: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for folder in path.split("/")[:-1]:
        name, separator, value = folder.partition("=")
        if not separator or not name:
            continue
        name = urllib.parse.unquote(name)
        if name in found:
            raise InputError(
                f"{path} is in two folders named '{name}=...', so the column has two values. "
                f"Rename one of them."
            )
        found[name] = urllib.parse.unquote(value)
    return found


def _type(texts: set[str]) -> pa.DataType:
    texts = texts - {_NULL}
    are_numbers = texts and all(map(_is_whole_number, texts))
    return pa.int64() if are_numbers else pa.string()


def _is_whole_number(text: str) -> bool:
    digits = text.removeprefix("-")
    is_short = len(digits) <= _MOST_DIGITS and digits.isascii() and digits.isdecimal()
    return is_short and str(int(text)) == text


def _value(text: str, kind: pa.DataType) -> str | int | None:
    if text == _NULL:
        return None
    return int(text) if pa.types.is_int64(kind) else text
