"""The file that is there for as long as a run wants its units, so that workers can tell.

Each run has one of its own, beside the manifests, which is written once. A claim would not do: it
is renewed, its name may come back with the next run, and it has to outlive what the run deletes.
"""

from __future__ import annotations

import posixpath
import uuid
from collections.abc import Iterable

from bulk_inferencer import _files
from bulk_inferencer._layout import WORK_FOLDER

_NAME = "run-"


class RunIsOver(Exception):
    """Nobody wants the unit any more."""


def begin_run(manifests_folder: str) -> str:
    """Makes the file of a run, and returns its path."""
    path = posixpath.join(manifests_folder, f"{_NAME}{uuid.uuid4().hex}")
    _files.replace(path, b"This file is there for as long as its run goes on.\n")
    return path


def end_runs(folder: str) -> None:
    """Deletes the files of all runs below a folder."""
    for path in _files.files_below(folder):
        if posixpath.basename(path).startswith(_NAME):
            _files.delete(path)


def is_run_over(run_file: str) -> bool:
    """Returns whether a run wants no more units; never without a file."""
    if not run_file:
        return False
    if not _files.is_local(run_file):
        return not _files.exists(run_file)
    try:
        # NFS asks its server when a file is opened. Anything else may be a minute old.
        _files.open_to_read(run_file).close()
    except FileNotFoundError:
        return True
    return False


def write_for_run(path: str, content: bytes, run_file: str) -> bool:
    """Writes a file that goes with its run, beside the manifests; returns whether the run goes on.

    If it does not, nobody may find the file any more, and nothing of it is left.
    """
    if is_run_over(run_file):
        return False
    _files.replace(path, content)
    if not is_run_over(run_file):
        return True
    _files.delete(path)
    delete_empty_folders(posixpath.dirname(path))
    return False


def delete_empty_folders(manifests_folder: str, outputs: Iterable[str] = ()) -> None:
    """Deletes those folders of a run that is over that somebody has made again since."""
    work = [posixpath.join(folder, WORK_FOLDER) for folder in outputs]
    for folder in [posixpath.dirname(manifests_folder), *work]:
        _files.delete_empty_folder(folder)
