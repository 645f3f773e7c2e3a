"""The failures of a run as rows of a table."""

from __future__ import annotations

import gzip
import itertools
import json
import posixpath
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from bulk_inferencer import _files, _layout
from bulk_inferencer._formats.table_schema import SPLIT
from bulk_inferencer.errors import InputError

_ROWS = 1 << 14


def failure_tables(
    folder: str,
    splits: Sequence[str],
    models: Sequence[str],
    schema: pa.Schema,
    rows: int = _ROWS,
) -> Iterator[pa.Table]:
    """Yields the failures in the folder of a summary, in tables of so many.

    A record that reached no model has none, and is among the failures of each.

    Args:
      folder: of the summary.
      splits: those to read.
      models: those to read.
      schema: the columns; see `failure_columns`.
      rows: the most rows of a table.

    Raises:
      InputError: the list of a split is missing or damaged.
    """
    lines = (
        {**line, SPLIT: split}
        for split in splits
        for line in _lines(posixpath.join(folder, _layout.failures(split)))
        if line.get("model") in (None, *models)
    )
    while some := list(itertools.islice(lines, rows)):
        columns = {name: [_text(line.get(name)) for line in some] for name in schema.names}
        yield pa.table(columns, schema=schema)


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
    except (EOFError, ValueError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"The list of failures {path} is damaged: {error}. Restore it, or run into another "
            f"folder."
        ) from error
    except FileNotFoundError as error:
        raise InputError(
            f"The list of failures {path} is missing. Restore it, or run into another folder."
        ) from error


def _text(value: Any) -> Any:
    """Returns a value as it is, but for names of files that are no text, which Arrow refuses."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
