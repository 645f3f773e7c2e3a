"""Rows as one file: whole, or not at all."""

from __future__ import annotations

import os
import posixpath
import uuid
from collections.abc import Callable, Iterable, Sequence

import pyarrow as pa

from bulk_inferencer import _files
from bulk_inferencer._access import check_access
from bulk_inferencer._checks import check_tuple, did_you_mean, doubled
from bulk_inferencer._formats.table_writer import table_writer, unwritable
from bulk_inferencer._layout import CSV, JSON_LINES, PARQUET
from bulk_inferencer.errors import SettingsError

_FORMATS = {".parquet": PARQUET, ".csv": CSV, ".jsonl": JSON_LINES}

# The rows of a file; called again where its columns must be wider than they seemed to be.
Rows = Callable[[], "tuple[pa.Schema, Iterable[pa.Table]]"]


def write_file(
    target: str, table_format: str, rows: Rows, columns: Sequence[str] | None = None
) -> int:
    """Writes rows into one file, table by table, and replaces it if it exists.

    Args:
      target: the file, on any filesystem that Beam can open.
      table_format: one of `TABLE_FORMATS`.
      rows: returns the columns and the rows.
      columns: the columns to write; default: all.

    Returns:
      The number of rows.

    Raises:
      SettingsError: there is no such column, files of this format cannot hold one, or the target is
        a folder.
      OutputError: the disk is full, or may not be written to.
    """
    check_access([target])
    if os.path.isdir(target):
        raise SettingsError(f"{target} is a folder, not a file. Name a file to write to.")
    attempt = f"{target}-{uuid.uuid4().hex}"
    try:
        schema, tables = rows()
        names = checked_columns(schema.names, columns)
        chosen = pa.schema([schema.field(name) for name in names])
        count = _write(attempt, table_format, chosen, (own.select(names) for own in tables))
        _files.rename(attempt, target)
    except BaseException:
        _files.delete(attempt)
        raise
    return count


def _write(path: str, table_format: str, schema: pa.Schema, tables: Iterable[pa.Table]) -> int:
    if (column := unwritable(table_format, schema)) is not None:
        instead = "" if table_format == PARQUET else f", or write {PARQUET}"
        raise SettingsError(
            f"Column '{column}' holds {schema.field(column).type}, which cannot be written as "
            f"{table_format}. Name the columns to write, without '{column}'{instead}."
        )
    count = 0
    writer = table_writer(table_format, schema)
    with _files.open_to_write(path) as file:
        for table in tables:
            count += table.num_rows
            file.write(writer.add(table))
        file.write(writer.end())
    return count


def format_of(path: str) -> str:
    """Returns the format of a file by the ending of its name.

    Raises:
      SettingsError: it ends in something else.
    """
    table_format = _FORMATS.get(posixpath.splitext(path)[1].lower())
    if table_format is None:
        raise SettingsError(
            f"The ending of a file's name tells its format: {', '.join(_FORMATS)}. {path} has none "
            f"of these. Choose one."
        )
    return table_format


def checked_columns(known: Sequence[str], columns: Sequence[str] | None) -> list[str]:
    """Returns the names of columns, which are all that are known for None.

    Raises:
      SettingsError: there is no such column, or they name none or one twice.
    """
    if columns is None:
        return list(known)
    check_tuple("columns", columns, str)
    for name in columns:
        if name not in known:
            raise SettingsError(
                f"There is no column '{name}' in the results, but {some_of(known)}."
                f"{did_you_mean(name, known)} Correct columns."
            )
    if not columns or (twice := doubled(columns)):
        what = f"twice: {twice}" if columns else "none"
        raise SettingsError(f"columns should name each column once, but names {what}. Correct it.")
    return list(columns)


def some_of(names: Sequence[str], most: int = 20) -> str:
    """Returns names as a list with commas, which ends early if there are many."""
    rest = f" and {len(names) - most:,} others" if len(names) > most else ""
    return (", ".join(names[:most]) or "none") + rest
