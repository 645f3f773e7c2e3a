"""Files that commands write to."""

from __future__ import annotations

import os

from bulk_inferencer import _files
from bulk_inferencer.errors import SettingsError

_HEAD_BYTES = 4096
_MARK = b'<meta name="generator" content="bulk-inferencer">'


def check_free(target: str, is_forced: bool) -> None:
    """Checks that there is no file at a path yet, or that it may be replaced.

    Raises:
      SettingsError: there is one.
    """
    if os.path.isdir(target):
        raise SettingsError(f"{target} is a folder. Name a file to write to.")
    if not is_forced and _files.exists(target):
        raise SettingsError(
            f"{target} exists already. Name another file, or replace it with --force."
        )


def is_report(target: str) -> bool:
    """Returns whether the file at a path is a report, which a newer one may replace."""
    if _files.stored(target) is None:
        return False
    with _files.open_to_read(target) as file:
        return _MARK in file.read(_HEAD_BYTES)


def size_of(target: str) -> int:
    """Returns the size of a file in bytes."""
    stored = _files.stored(target)
    return stored.bytes if stored else 0
