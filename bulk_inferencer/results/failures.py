"""The failures of a run as a table."""

from __future__ import annotations

import gzip
import json
import posixpath
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from bulk_inferencer import _files, _layout
from bulk_inferencer._formats.table_schema import SPLIT, failure_columns
from bulk_inferencer.errors import InputError


def read_failures(
    folder: str, splits: Sequence[str], models: Sequence[str], has_split: bool, names_models: bool
) -> pa.Table:
    """Returns the failures in the folder of a summary, with the columns that `Results` says.

    A record that reached no model has none, and is among the failures of each.

    Raises:
      InputError: the list of a split is missing.
    """
    schema = failure_columns(has_split, names_models)
    lines = [
        {**line, SPLIT: split}
        for split in splits
        for line in _lines(posixpath.join(folder, _layout.failures(split)))
        if line.get("model") in (None, *models)
    ]
    columns = {name: [_text(line.get(name)) for line in lines] for name in schema.names}
    return pa.table(columns, schema=schema)


def fail_alike(folder: str, split: str, models: Sequence[str]) -> bool:
    """Returns whether some models failed on the same records of a split, as far as is known."""
    failed: dict[str, set[tuple[str, int]]] = {model: set() for model in models}
    try:
        for line in _lines(posixpath.join(folder, _layout.failures(split))):
            if line.get("model") in failed:
                failed[line["model"]].add((line["file"], line["record"]))
    except InputError:
        return False
    return len({frozenset(own) for own in failed.values()}) <= 1


def _lines(path: str) -> Iterator[dict[str, Any]]:
    try:
        with _files.open_to_read(path) as file, gzip.open(file) as content:
            yield from map(json.loads, content)
    except FileNotFoundError as error:
        raise InputError(
            f"The list of failures {path} is missing. Restore it, or run into another folder."
        ) from error


def _text(value: Any) -> Any:
    """Returns a value as it is, but for names of files that are no text, which Arrow refuses."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
