"""A model's files: what tells that they are the same, for certain or at little cost."""

from __future__ import annotations

import hashlib
import posixpath

from bulk_inferencer import _files

# The index of the variables, with a checksum of each, is smaller than this in all but huge models;
# so are TensorFlow's own fingerprint of a SavedModel and most vocabularies.
_SMALL_BYTES = 1 << 20


def exist(where: str) -> bool:
    """Returns whether there is a file, or a folder with files."""
    return bool(_files.files_below(where)) or _files.stored(where) is not None


def fingerprint(where: str) -> str:
    """Returns the SHA-256 of the names and contents of all files in a folder, or of one file."""
    digest = hashlib.sha256()
    for path in _files.files_below(where) or [where]:
        digest.update(_name_in(where, path))
        digest.update(_files.sha256(path))
    return digest.hexdigest()


def stamp(where: str) -> str:
    """Returns a digest that changes if a file is replaced, but does not read large ones.

    It holds names, sizes, times and the contents of small files. A copy of the folder may have
    another one, so it proves only that files are the same.
    """
    digest = hashlib.sha256()
    found = _files.matching(_files.literal(where) + "/**")
    if not found and (file := _files.stored(where)):
        found = {where: file}
    for path, stored in found.items():
        digest.update(_name_in(where, path))
        digest.update(f"{stored.bytes} {stored.modified}".encode())
        if stored.bytes <= _SMALL_BYTES:
            digest.update(_files.sha256(path))
    return digest.hexdigest()


def _name_in(where: str, path: str) -> bytes:
    name = posixpath.basename(path) if path == where else _files.name_within(where, path)
    return name.encode() + b"\0"
