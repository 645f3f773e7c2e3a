"""A model's files: what tells that they are the same, for certain or at little cost."""

from __future__ import annotations

import hashlib

from bulk_inferencer import _files

# The index of the variables, with a checksum of each, is smaller than this in all but huge models;
# so are TensorFlow's own fingerprint of a SavedModel and most vocabularies.
_SMALL_BYTES = 1 << 20


def fingerprint(folder: str) -> str:
    """Returns the SHA-256 of the names and contents of all files in a folder."""
    digest = hashlib.sha256()
    for path in _files.files_below(folder):
        digest.update(_name_in(folder, path))
        digest.update(_files.sha256(path))
    return digest.hexdigest()


def stamp(folder: str) -> str:
    """Returns a digest that changes if a file is replaced, but does not read large ones.

    It holds names, sizes, times and the contents of small files. A copy of the folder may have
    another one, so it proves only that files are the same.
    """
    digest = hashlib.sha256()
    for path, stored in _files.matching(_files.literal(folder) + "/**").items():
        digest.update(_name_in(folder, path))
        digest.update(f"{stored.bytes} {stored.modified}".encode())
        if stored.bytes <= _SMALL_BYTES:
            digest.update(_files.sha256(path))
    return digest.hexdigest()


def _name_in(folder: str, path: str) -> bytes:
    return _files.name_within(folder, path).encode() + b"\0"
