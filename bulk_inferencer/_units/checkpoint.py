"""Checkpoints: what finished units leave, so that the next run need not score them again.

<checkpoint>/job.json           what the results depend on
<checkpoint>/units-*/<key>.json the manifest of each finished unit; its key is made of its files
<checkpoint>/files/...          its shards, if they do not wait in the `.work` of their outputs

A unit is finished as soon as its manifest is there. The manifest names its shards, which have names
of their own in each attempt, so that two attempts never touch each other's files.
"""

from __future__ import annotations

import json
import logging
import posixpath
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import google_crc32c

from bulk_inferencer import _files
from bulk_inferencer._checks import check_number
from bulk_inferencer._units.basis import Basis
from bulk_inferencer._units.manifest import FORMAT_VERSION, Manifest, Shard
from bulk_inferencer.errors import SettingsError
from bulk_inferencer.results import codec

_logger = logging.getLogger(__name__)

_JOB_FILE = "job.json"
_BUFFER_BYTES = 8 << 20
_DAY_SECONDS = 24 * 60 * 60
_T = TypeVar("_T")
_R = TypeVar("_R")


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


def in_parallel(function: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
    """Calls a function that waits for a filesystem, for many items at once."""
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(function, items))


def write_manifest(folder: str, manifest: Manifest) -> None:
    """Writes the manifest of a unit whose files are complete: from now on, it is finished."""
    _files.replace(_manifest_file(folder, manifest), manifest.to_json().encode())


def delete_manifest(folder: str, manifest: Manifest) -> None:
    """Deletes the manifest of a unit: from now on, it is not finished."""
    _files.delete(_manifest_file(folder, manifest))


def read_manifests(folder: str) -> list[Manifest]:
    """Returns the manifests of finished units, by key; those of another format are left out."""
    paths = [path for path in _files.files_below(folder) if path.endswith(".json")]
    lines = in_parallel(_read, paths)
    return [
        Manifest.from_json(line.decode())
        for line in lines
        if json.loads(line).get("format_version") == FORMAT_VERSION
    ]


def reusable(manifests: Sequence[Manifest]) -> list[Manifest]:
    """Returns those manifests whose shards are all there and unharmed.

    A unit that has read only a part of a file is done again: the file may have been mended, or the
    run may not skip damaged files any more.
    """
    are_whole = in_parallel(
        lambda m: not m.damaged_files and all(map(_is_whole, m.shards)), manifests
    )
    return [manifest for manifest, is_whole in zip(manifests, are_whole, strict=True) if is_whole]


def write_job(checkpoint: str, basis: Basis) -> None:
    """Writes what the results depend on."""
    text = json.dumps(codec.to_json(basis), indent=2)
    _files.replace(posixpath.join(checkpoint, _JOB_FILE), text.encode())


def read_job(checkpoint: str) -> Basis | None:
    """Returns what the results depend on; None if there is no checkpoint."""
    path = posixpath.join(checkpoint, _JOB_FILE)
    if not _files.exists(path):
        return None
    return codec.from_json(Basis, json.loads(_read(path)))


def check_same(checkpoint: str, basis: Basis) -> None:
    """Checks that an unfinished run in the folders of this one was the same.

    Raises:
      SettingsError: it was another.
    """
    earlier = read_job(checkpoint)
    if earlier is not None and (differ := basis.differences(earlier)):
        raise SettingsError(
            f"An unfinished run left results in {checkpoint}, but not of this job. Different: "
            f"{', '.join(differ)}. Nothing was scored. Call run(job, restart=True) to delete them "
            f"and start anew, choose other folders, or go on with the job as it was."
        )


def delete_old(folder: str, max_age_days: float | None) -> None:
    """Deletes the checkpoints in a folder that no run has written to for some days."""
    if max_age_days is None:
        return
    oldest = time.time() - max_age_days * _DAY_SECONDS
    for path in _files.matching(posixpath.join(_files.literal(folder), "*", _JOB_FILE)):
        if _files.last_updated(path) < oldest:
            _logger.info("Deleting %s, which is older than %s days.", path, max_age_days)
            _files.delete_folder(posixpath.dirname(path))


def _manifest_file(folder: str, manifest: Manifest) -> str:
    return posixpath.join(folder, f"{manifest.key}.json")


def _read(path: str) -> bytes:
    with _files.open_to_read(path) as file:
        return file.read()


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
