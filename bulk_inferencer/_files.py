"""Files on any filesystem that Beam knows.

Bytes are read and written as they are: Beam would guess a compression from a file's name.
"""

from __future__ import annotations

import glob
import os
import shutil
from typing import BinaryIO

from apache_beam.io.filesystem import CompressionTypes, FileSystem
from apache_beam.io.filesystems import FileSystems
from apache_beam.io.localfilesystem import LocalFileSystem


def open_to_read(path: str) -> BinaryIO:
    """Opens a file for reading."""
    return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)


def open_to_write(path: str) -> BinaryIO:
    """Opens a file for writing, and replaces it if it exists."""
    return FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED)


def exists(path: str) -> bool:
    """Returns whether there is such a file or, on filesystems that have folders, such a folder."""
    return bool(FileSystems.exists(path))


def rename(source: str, target: str) -> None:
    """Renames a file, and replaces `target` if it exists."""
    FileSystems.rename([source], [target])


def matching(pattern: str) -> dict[str, int]:
    """Returns the sizes in bytes of all files that match, by path and sorted by path.

    Args:
      pattern: `*` matches anything within one folder, `**` anything at all. Pass a path that is
        not meant as a pattern through `literal`.
    """
    found = FileSystems.match([pattern])[0].metadata_list
    # TensorFlow makes a "folder" in an object store by an empty object whose name ends in "/".
    files = [f for f in found if not f.path.endswith("/")]
    return {f.path: f.size_in_bytes for f in sorted(files, key=lambda f: str(f.path))}


def literal(path: str) -> str:
    """Returns a pattern that matches `path` alone, even if it looks like a pattern."""
    return glob.escape(path.rstrip("/"))


def files_below(folder: str) -> dict[str, int]:
    """Returns the sizes in bytes of all files in `folder` and its subfolders, by path."""
    return matching(literal(folder) + "/**")


def make_folder(folder: str) -> None:
    """Makes a folder and its parents, unless it exists."""
    if not FileSystems.exists(folder):
        FileSystems.mkdirs(folder)


def delete_folder(folder: str) -> None:
    """Deletes a folder and everything in it, if it exists."""
    filesystem = FileSystems.get_filesystem(folder)
    if not filesystem.has_dirs():
        if paths := list(files_below(folder)):
            filesystem.delete(list(map(literal, paths)))
    elif filesystem.exists(folder):
        # Beam takes what it deletes for a pattern, which fails for names with brackets.
        if _is_local(filesystem):
            shutil.rmtree(folder)
        else:
            filesystem.delete([folder])


def delete(path: str) -> None:
    """Deletes a file, if it exists."""
    filesystem = FileSystems.get_filesystem(path)
    if filesystem.exists(path):
        if _is_local(filesystem):
            os.remove(path)
        else:
            filesystem.delete([literal(path)])


def _is_local(filesystem: FileSystem) -> bool:
    return bool(filesystem.scheme() == LocalFileSystem.scheme())
