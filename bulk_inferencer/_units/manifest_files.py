"""The files in which units leave their manifests. As soon as it has one, a unit is finished.

on a disk           units-*/<key>.json            only one attempt can make it: the first one
in an object store  units-*/<key>.<attempt>.json  two attempts may leave one each; the first by name
                                                  counts

The key is that of the unit, which it has in every run.
"""

from __future__ import annotations

import itertools
import json
import posixpath
import uuid
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from bulk_inferencer import _files
from bulk_inferencer._units.manifest import FORMAT_VERSION, Manifest
from bulk_inferencer.results import codec

_ENDING = ".json"
_AT_ONCE = 128


def add_manifest(folder: str, manifest: Manifest) -> Manifest:
    """Makes a unit finished whose files are complete, and returns the manifest that counts.

    That is the one of another attempt, if it was first.
    """
    path = posixpath.join(folder, manifest.key)
    content = manifest.to_json().encode()
    if not _files.is_exclusive(folder):
        if other := find_manifest(folder, manifest.key):
            return other
        _files.replace(f"{path}.{uuid.uuid4().hex}{_ENDING}", content)
        return manifest
    try:
        _files.create(path + _ENDING, content)
    except FileExistsError:
        if other := find_manifest(folder, manifest.key):
            return other
        _files.replace(path + _ENDING, content)
    return manifest


def find_manifest(folder: str, key: str) -> Manifest | None:
    """Returns the manifest of a unit; None if it is not finished, or its files are not there."""
    manifests = map(_read_manifest, _manifests_of(folder, key))
    return next((own for own in manifests if own and has_files(own)), None)


def has_files(manifest: Manifest) -> bool:
    """Returns whether the files of a unit are there, with their sizes."""
    found = {shard: _files.stored(shard.path) for shard in manifest.shards}
    return all(file and file.bytes == shard.bytes for shard, file in found.items())


def has_rivals(folder: str, manifest: Manifest) -> bool:
    """Returns whether another attempt has left a manifest of the same unit."""
    found = map(_read_manifest, _manifests_of(folder, manifest.key))
    return any(other and other.shards != manifest.shards for other in found)


def remove_manifest(folder: str, manifest: Manifest) -> None:
    """Deletes the manifest of an attempt, but not one of another attempt."""
    for path in _manifests_of(folder, manifest.key):
        other = _read_manifest(path)
        if other and other.shards == manifest.shards:
            _files.delete(path)


def delete_manifests(folder: str, keys: Collection[str]) -> None:
    """Deletes all manifests of some units, also what nobody can read: they are not finished."""
    _files.in_parallel(_files.delete, [p for p in _manifests_in(folder) if _key(p) in keys])


def read_manifests(folder: str, keys: Iterable[str] | None = None) -> Iterator[Manifest]:
    """Yields the manifests of finished units, one for each unit.

    Those of another format are left out, and so are those that cannot be read: files are not forced
    to disk, so that power that fails may leave empty ones. They are read some at a time, since
    those of all units together may not fit into memory.

    Args:
      folder: where units leave them.
      keys: of units, in the order in which their manifests come. Default: all units, by key.
    """
    return (manifest for _, manifest in manifests_by_path(folder, keys))


def manifests_by_path(
    folder: str, keys: Iterable[str] | None = None
) -> Iterator[tuple[str, Manifest]]:
    """Yields the path of each manifest and the manifest; see `read_manifests`."""
    paths: dict[str, list[str]] = {}
    for path in _manifests_in(folder):
        paths.setdefault(_key(path), []).append(path)
    finished = iter(paths) if keys is None else (key for key in keys if key in paths)
    while some := list(itertools.islice(finished, _AT_ONCE)):
        for found in _files.in_parallel(_first, [paths[key] for key in some]):
            if found:
                yield found


def _manifests_in(folder: str) -> list[str]:
    return [path for path in _files.files_below(folder) if path.endswith(_ENDING)]


def _manifests_of(folder: str, key: str) -> list[str]:
    """Returns the paths that manifests of a unit have, or may have."""
    path = posixpath.join(folder, key)
    if _files.is_exclusive(folder):
        return [path + _ENDING]
    return list(_files.matching(f"{_files.literal(path)}.*{_ENDING}"))


def _key(path: str) -> str:
    return posixpath.basename(path).partition(".")[0]


def _first(paths: Iterable[str]) -> tuple[str, Manifest] | None:
    """Returns the first file of a unit that can be read, and what is in it."""
    found = ((path, _read_manifest(path)) for path in paths)
    return next(((path, manifest) for path, manifest in found if manifest), None)


def _read_manifest(path: str) -> Manifest | None:
    values = read_json(path)
    if isinstance(values, dict) and values.get("format_version") == FORMAT_VERSION:
        return codec.from_json(Manifest, values)
    return None


def read_json(path: str) -> Any:
    """Returns what is in a file; None if there is none, or if it is not whole."""
    try:
        with _files.open_to_read(path) as file:
            return json.loads(file.read())
    except (FileNotFoundError, ValueError):
        return None
