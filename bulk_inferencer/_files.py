"""Files on any filesystem that Beam knows, as they are: without Beam's guess at compression."""

from __future__ import annotations

import glob
import os
import shutil
from typing import BinaryIO

from apache_beam.io.filesystem import CompressionTypes, FileSystem
from apache_beam.io.filesystems import FileSystems
from apache_beam.io.localfilesystem import LocalFileSystem


def open_to_read(path: str) -> BinaryIO:
    """Opens a file to read its bytes."""
    return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)


def open_to_write(path: str) -> BinaryIO:
    """Opens a new file, or an old one to replace, to write its bytes."""
    return FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED)


def exists(path: str) -> bool:
    """Returns whether there is a file, or on filesystems with folders a folder."""
    return bool(FileSystems.exists(path))


def rename(source: str, target: str) -> None:
    """Renames a file, replacing `target`."""
    FileSystems.rename([source], [target])


def matching(pattern: str) -> dict[str, int]:
    """Returns the sizes in bytes of the files that match, by path in order.

    Args:
      pattern: `*` stands for anything within one folder, `**` for anything. Paths that are not
        patterns go through `literal`.
    """
    found = FileSystems.match([pattern])[0].metadata_list
    # TensorFlow makes a "folder" in an object store by an empty object whose name ends in "/".
    files = [f for f in found if not f.path.endswith("/")]
    return {f.path: f.size_in_bytes for f in sorted(files, key=lambda f: str(f.path))}


def literal(path: str) -> str:
    """Returns the pattern that matches `path` alone, whatever characters it has."""
    return glob.escape(path.rstrip("/"))


def files_below(folder: str) -> dict[str, int]:
    """Returns the sizes in bytes of all files in `folder` and its folders, by path."""
    return matching(literal(folder) + "/**")


def make_folder(folder: str) -> None:
    """Makes a folder and those that it stands in, unless it exists."""
    if not FileSystems.exists(folder):
        FileSystems.mkdirs(folder)


def delete_folder(folder: str) -> None:
    """Deletes everything in `folder`, and the folder itself."""
    filesystem = FileSystems.get_filesystem(folder)
    if not filesystem.has_dirs():
        if paths := list(files_below(folder)):
            filesystem.delete(list(map(literal, paths)))
    elif filesystem.exists(folder):
        # Beam takes what it deletes for a pattern, where names with brackets do not match.
        if _is_local(filesystem):
            shutil.rmtree(folder)
        else:
            filesystem.delete([folder])


def delete(path: str) -> None:
    """Deletes a file, if there is one."""
    filesystem = FileSystems.get_filesystem(path)
    if not filesystem.exists(path):
        return
    if _is_local(filesystem):
        os.remove(path)
    else:
        filesystem.delete([literal(path)])


def _is_local(filesystem: FileSystem) -> bool:
    return bool(filesystem.scheme() == LocalFileSystem.scheme())
