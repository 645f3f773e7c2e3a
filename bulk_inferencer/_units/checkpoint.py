"""Checkpoints: what finished units leave, so that the next run need not score them again.

<checkpoint>/job.json           what the results depend on; goes first if all of this is deleted
<checkpoint>/units-*/<key>.json the manifest of each finished unit; its key is made of its files
<checkpoint>/units-*/run-*      is there for as long as a run wants its units; see `run_file`
<checkpoint>/files/...          its shards, if they do not wait in the `.work` of their outputs

A unit is finished as soon as its manifest is there. The manifest names its shards, which have names
of their own in each attempt, so that two attempts never touch each other's files.
"""

from __future__ import annotations

import contextlib
import json
import logging
import posixpath
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import google_crc32c

from bulk_inferencer import _files
from bulk_inferencer._checks import check_number
from bulk_inferencer._units.basis import Basis
from bulk_inferencer._units.claim import claimed, is_claim
from bulk_inferencer._units.manifest import Manifest, Shard
from bulk_inferencer._units.manifest_files import manifests_by_path, read_json
from bulk_inferencer._units.run_file import end_runs
from bulk_inferencer.errors import FolderInUseError
from bulk_inferencer.results import codec

_logger = logging.getLogger(__name__)

_JOB_FILE = "job.json"
_BUFFER_BYTES = 8 << 20
_DAY_SECONDS = 24 * 60 * 60
_DIGEST = re.compile("[0-9a-f]{32}")  # the names of checkpoints


@dataclass(frozen=True)
class Checkpoint:
    """Where finished units wait until their run commits, and whether they stay for later runs.

    ```python
    Checkpoint("checkpoints", keep=True, max_age_days=30)
    ```

    Attributes:
      folder: the folder, which several jobs may share. It is not an output, so it may hold
        something.
      keep: whether to keep what it holds after a run has committed. A later run with the same
        model and settings then scores only files that are new or have changed.
      max_age_days: how many days to keep what no run has used since; default: for ever.

    Raises:
      SettingsError: the folder is empty text, or the age is not positive.
    """

    folder: str
    keep: bool = False
    max_age_days: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", _files.as_path("Checkpoint.folder", self.folder))
        if self.max_age_days is not None:
            advice = "Leave it out to keep everything."
            check_number("Checkpoint.max_age_days", self.max_age_days, advice, 0)


def reusable(manifests: Sequence[Manifest]) -> list[Manifest]:
    """Returns those manifests whose shards are all there and unharmed.

    A unit that has read only a part of a file is done again: the file may have been mended, or the
    run may not skip damaged files any more.
    """
    are_whole = _files.in_parallel(
        lambda m: not m.damaged_files and all(map(_is_whole, m.shards)), manifests
    )
    return [manifest for manifest, is_whole in zip(manifests, are_whole, strict=True) if is_whole]


@dataclass(frozen=True)
class Unfinished:
    """What a run says of itself before it starts.

    Attributes:
      basis: what its results depend on.
      folders: the folders that it writes to.
      checkpoint: the folder where its units wait; empty if they wait in the outputs.
    """

    basis: Basis
    folders: tuple[str, ...]
    checkpoint: str = ""


def write_job(checkpoint: str, job: Unfinished) -> None:
    """Writes what a run is."""
    text = json.dumps(codec.to_json(job), indent=2)
    _files.make_folder(checkpoint)
    _files.replace(posixpath.join(checkpoint, _JOB_FILE), text.encode())


def read_job(checkpoint: str) -> Unfinished | None:
    """Returns what a run is that has not ended; None if there is none, or nobody can tell."""
    values = read_json(posixpath.join(checkpoint, _JOB_FILE))
    return codec.from_json(Unfinished, values) if values else None


def delete_old(folder: str, max_age_days: float | None) -> None:
    """Deletes the checkpoints in a folder that no run has begun with, or ended, for some days."""
    if max_age_days is None:
        return
    oldest = time.time() - max_age_days * _DAY_SECONDS
    jobs = _files.matching(posixpath.join(_files.literal(folder), "*", _JOB_FILE))
    for path, stored in jobs.items():
        old = posixpath.dirname(path)
        is_ours = _DIGEST.fullmatch(posixpath.basename(old)) and read_job(old)
        if not is_ours or stored.modified >= oldest:
            continue
        with contextlib.suppress(FolderInUseError), claimed([old]):
            _logger.info("Deleting %s: no run has used it for %s days.", old, max_age_days)
            clear(old)
        _files.delete_empty_folder(old)


def clear(*folders: str) -> None:
    """Deletes everything in folders of which one is a checkpoint, but for claims on them.

    Attempts that are still alive then delete what they leave after that.
    """
    for folder in folders:
        _files.delete(posixpath.join(folder, _JOB_FILE))
    for folder in folders:
        end_runs(folder)
    for folder in folders:
        _delete([path for path in _files.files_below(folder) if not is_claim(path)])
        _files.delete_empty_folder(folder)


def sweep(checkpoint: str, manifests_folder: str) -> None:
    """Deletes what no finished unit needs: files of attempts that failed, lost or were killed."""
    needed = {_JOB_FILE}
    for path, manifest in manifests_by_path(manifests_folder):
        # By name, which is unique: the folder may have been spelled in another way before.
        needed.update(map(posixpath.basename, [path, *(own.path for own in manifest.shards)]))
    paths = [path for path in _files.files_below(checkpoint) if not is_claim(path)]
    _delete([path for path in paths if posixpath.basename(path) not in needed])


def is_open(manifests_folder: str) -> bool:
    """Returns whether a later run may use what finished units leave."""
    return _files.exists(posixpath.join(posixpath.dirname(manifests_folder), _JOB_FILE))


def _delete(paths: Iterable[str]) -> None:
    _files.in_parallel(_files.delete, paths)


def _is_whole(shard: Shard) -> bool:
    try:
        with _files.open_to_read(shard.path) as file:
            checksum = count = 0
            while data := file.read(_BUFFER_BYTES):
                checksum = google_crc32c.extend(checksum, data)
                count += len(data)
    except OSError:
        return False
    return (count, checksum) == (shard.bytes, shard.crc32c)
