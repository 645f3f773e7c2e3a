"""Files on a disk, or on any filesystem that Beam knows.

Bytes are read and written as they are: Beam would guess a compression from a file's name. Beam is
imported only where a path is not on a disk, since that takes longer than reading most results.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import glob
import hashlib
import itertools
import os
import posixpath
import re
import shutil
import stat
import urllib.parse
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, TypeVar

from bulk_inferencer._patterns import files_on_disk, scheme_of
from bulk_inferencer.errors import OutputError, SettingsError

_T = TypeVar("_T")
_R = TypeVar("_R")

_COPY_BUFFER_BYTES = 8 << 20
_THREADS = 16
_TURNS = 64  # of each thread
_HDFS = "hdfs"
_EXCLUSIVE = ("", _HDFS)  # schemes where only one process can make a file of a given name
_UNCOMPRESSED = "uncompressed"  # as Beam's CompressionTypes call it
_NOT_FOUND = 404
_DELETE_BY_PATH = ("azfs", _HDFS, "s3")
_FILE_URL = re.compile(r"^file://(localhost)?/")
_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_IS_FORBIDDEN = (errno.EACCES, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EPERM, errno.EROFS)


def as_path(setting: str, path: str | os.PathLike[str]) -> str:
    """Returns a path or pattern as text, with the home folder in place of a leading `~`.

    A `file://` URL becomes the path that it stands for.

    Raises:
      SettingsError: it is something else, or holds a character that no path should.
    """
    if not isinstance(path, (str, os.PathLike)) or isinstance(os.fspath(path), bytes):
        raise SettingsError(
            f"{setting} must be a path, as text or pathlib.Path, not {path!r} of type "
            f"{type(path).__name__}."
        )
    text = os.path.expanduser(os.fspath(path))
    if url := _FILE_URL.match(text):
        text = urllib.parse.unquote(text[url.end() - 1 :])
    if any(ord(character) < ord(" ") for character in text):
        raise SettingsError(
            f"{setting} holds a control character, such as a line break: {text!r}. Remove it."
        )
    if not is_utf8(text):
        raise SettingsError(f"{setting} is no name in UTF-8: {text!r}. Rename it.")
    return text


def is_utf8(path: str) -> bool:
    """Returns whether a path can be written as UTF-8; other bytes of a name are surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in path)


def open_to_read(path: str) -> BinaryIO:
    """Opens a file for reading.

    Raises:
      FileNotFoundError: there is no such file.
    """
    if is_local(path):
        return open(path, "rb")
    try:
        return _beam().open(path, compression_type=_UNCOMPRESSED)
    except Exception as error:
        if getattr(error, "code", None) == _NOT_FOUND:  # as the clients of clouds say it
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
        raise


def open_to_write(path: str) -> Writer:
    """Opens a file for writing, and replaces it if it exists."""
    return Writer(path)


class Writer:
    """A file that is being written. Errors of a full or write-protected disk name it."""

    def __init__(self, path: str) -> None:
        self._path = path
        with named(path):
            self._file = self._opened(path)

    def _opened(self, path: str) -> BinaryIO:
        if not is_local(path):
            return _beam().create(path, compression_type=_UNCOMPRESSED)
        while True:
            if folder := posixpath.dirname(path):
                os.makedirs(folder, exist_ok=True)
            try:
                return open(path, "wb")
            except FileNotFoundError:  # Another process has just deleted the folder.
                if not folder or os.path.isdir(folder):
                    raise

    def write(self, data: bytes) -> None:
        """Appends bytes."""
        with named(self._path):
            self._file.write(data)

    def close(self) -> None:
        """Closes the file, whose content is complete only now."""
        with named(self._path):
            self._file.close()

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


@contextlib.contextmanager
def named(path: str) -> Iterator[None]:
    """Raises an OutputError, with the path, where nothing can be written."""
    try:
        yield
    except OSError as error:
        cause = _innermost(error)
        if cause.errno in _IS_FULL:
            advice = "Make room there, or choose another folder, and run again."
        elif cause.errno in _IS_FORBIDDEN:
            advice = "Choose a folder that this process can write to."
        else:
            raise
        raise OutputError(f"Cannot write {path}: {cause.strerror}. {advice}") from error


def _innermost(error: OSError) -> OSError:
    """Returns the error of the system. Beam wraps it in others."""
    wrapped = [*error.args, *(getattr(error, "exception_details", None) or {}).values()]
    return next((_innermost(inner) for inner in wrapped if isinstance(inner, OSError)), error)


def create(path: str, content: bytes) -> None:
    """Makes a file whole, and its folder.

    Raises:
      FileExistsError: there is such a file. If not `is_exclusive`, it is replaced instead.
    """
    if not is_exclusive(path):
        make_folder(posixpath.dirname(path))
        replace(path, content)
        return
    attempt = f"{path}-{uuid.uuid4().hex}"
    try:
        while True:
            make_folder(posixpath.dirname(path))
            with open_to_write(attempt) as file:
                file.write(content)
            try:
                _rename_once(attempt, path, content)
                return
            except FileNotFoundError:  # Another process has just emptied the folder.
                continue
    finally:
        delete(attempt)


def _rename_once(source: str, target: str, content: bytes) -> None:
    """Renames a file; raises FileExistsError if there is `target`."""
    if not is_local(target):
        try:
            rename(source, target)  # HDFS renames no file over another one.
        except OSError as error:
            if exists(target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from error
            raise
        return
    try:
        os.link(source, target)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:  # This filesystem has no hard links.
        try:
            with named(target), open(target, "xb") as file:
                file.write(content)
        except OutputError:
            delete(target)
            raise


def is_exclusive(path: str) -> bool:
    """Returns whether only one process can make a file of this name; see `create`."""
    return scheme_of(path) in _EXCLUSIVE


def replace(path: str, content: bytes) -> None:
    """Writes a file whole, so that nobody reads half of it; its folder must exist."""
    attempt = f"{path}-{uuid.uuid4().hex}"
    try:
        with open_to_write(attempt) as file:
            file.write(content)
        try:
            rename(attempt, path)
        except OSError:
            if not exists(path):
                raise
            delete(path)  # HDFS renames no file over another one
            rename(attempt, path)
    except (OSError, OutputError):
        delete(attempt)
        raise


def write_over(path: str, content: bytes) -> None:
    """Writes over the start of a file on a local disk, which takes no more room there."""
    with named(path), open(path, "r+b") as file:
        file.write(content)


def copy(source: str, target: str) -> None:
    """Copies a file, and replaces `target` if it exists; by the filesystem itself if it can."""
    if scheme_of(source) == scheme_of(target):
        with named(target):
            if not is_local(source):
                _beam().copy([source], [target])
                return
            with contextlib.suppress(FileNotFoundError):
                os.remove(target)  # It may be a link.
            shutil.copy2(source, target)
        return
    with open_to_read(source) as read, open_to_write(target) as written:
        shutil.copyfileobj(read, written, _COPY_BUFFER_BYTES)


def move(source: str, target: str) -> None:
    """Moves a file, also to another filesystem, and replaces `target` if it exists."""
    if scheme_of(source) == scheme_of(target):
        rename(source, target)
        return
    copy(source, target)
    delete(source)


def exists(path: str) -> bool:
    """Returns whether there is such a file or, on filesystems that have folders, such a folder."""
    return os.path.exists(path) if is_local(path) else bool(_beam().exists(path))


def rename(source: str, target: str) -> None:
    """Renames a file, and replaces `target` if it exists."""
    with named(target):
        if is_local(target):
            os.rename(source, target)
        else:
            _beam().rename([source], [target])


class Stored(NamedTuple):
    """What a filesystem knows of a file.

    Attributes:
      bytes: its size; `NO_FILE` for a link that leads nowhere, a pipe or a device.
      modified: when it was last written, in seconds since 1970.
    """

    bytes: int
    modified: float


NO_FILE = -1


def matching(pattern: str, follow_links: bool = True) -> dict[str, Stored]:
    """Returns all files that match, by path and sorted by path.

    Args:
      pattern: `*` matches anything within one folder, `**` anything at all. Pass a path that is
        not meant as a pattern through `literal`.
      follow_links: whether `**` also looks into folders that are links, on a disk.
    """
    if is_local(pattern):
        paths = sorted(files_on_disk(pattern, follow_links))
        return {path: file for path in paths if (file := _on_disk(path)) is not None}
    found = _beam().match([pattern])[0].metadata_list
    # TensorFlow makes a "folder" in an object store by an empty object whose name ends in "/".
    files = [f for f in found if not f.path.endswith("/")]
    return {
        f.path: Stored(f.size_in_bytes, f.last_updated_in_seconds)
        for f in sorted(files, key=lambda f: str(f.path))
    }


def stored(path: str) -> Stored | None:
    """Returns what is known of the file at a path that is no pattern; None if there is no file."""
    if is_local(path):
        return None if os.path.isdir(path) else _on_disk(path)
    filesystem = _beam().get_filesystem(path)
    if not filesystem.exists(path):
        return None
    found = filesystem.metadata(path)
    return Stored(found.size_in_bytes, found.last_updated_in_seconds)


def _on_disk(path: str) -> Stored | None:
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return Stored(NO_FILE, 0.0) if os.path.islink(path) else None
    return Stored(found.st_size if stat.S_ISREG(found.st_mode) else NO_FILE, found.st_mtime)


def cause(error: BaseException) -> BaseException:
    """Returns the error that is within the errors that Beam wraps around it."""
    within = getattr(error, "exception_details", None) or {}
    errors = [inner for inner in within.values() if isinstance(inner, BaseException)]
    return cause(errors[0]) if errors else error


def identities(paths: Iterable[str]) -> dict[str, str]:
    """Returns, by path, what all spellings of a file's path have in common.

    In an object store there is only one: `a//b`, `a/./b` and `a/b` are three files.
    """
    real_folder = functools.lru_cache(os.path.realpath)
    found = {}
    for path in paths:
        scheme, separator, rest = path.partition("://")
        if not separator:
            # The folder of many files is looked up once.
            folder, name = posixpath.split(path.rstrip("/"))
            is_plain = name not in ("", ".", "..") and not os.path.islink(path.rstrip("/"))
            found[path] = (
                posixpath.join(real_folder(folder), name) if is_plain else os.path.realpath(path)
            )
        elif scheme == _HDFS:
            found[path] = f"{scheme}://{posixpath.normpath(rest)}"
        else:
            found[path] = path
    return found


def literal(path: str) -> str:
    """Returns a pattern that matches `path` alone, even if it looks like a pattern."""
    return glob.escape(path.rstrip("/"))


def name_within(folder: str, path: str) -> str:
    """Returns a path that lies below a folder, relative to it."""
    return path.removeprefix(folder.rstrip("/") + "/")


def sha256(path: str) -> bytes:
    """Returns the SHA-256 of the content of a file."""
    digest = hashlib.sha256()
    with open_to_read(path) as file:
        while data := file.read(_COPY_BUFFER_BYTES):
            digest.update(data)
    return digest.digest()


def files_below(folder: str) -> dict[str, int]:
    """Returns the sizes in bytes of all files in `folder` and its subfolders, by path."""
    found = matching(literal(folder) + "/**", follow_links=False)
    return {path: file.bytes for path, file in found.items()}


def make_folder(folder: str) -> None:
    """Makes a folder and its parents, unless it exists."""
    if not exists(folder):
        try:
            with named(folder):
                (os.makedirs if is_local(folder) else _beam().mkdirs)(folder)
        except OSError:
            if not exists(folder):  # or else another process has just made it
                raise


def delete_folder(folder: str) -> None:
    """Deletes a folder and everything in it, if it exists."""
    if is_local(folder):
        if os.path.exists(folder):
            shutil.rmtree(folder)
        return
    filesystem = _beam().get_filesystem(folder)
    if not filesystem.has_dirs():
        if paths := list(files_below(folder)):
            filesystem.delete(list(map(_to_delete, paths)))
    elif filesystem.exists(folder):
        filesystem.delete([folder])


def delete_empty_folder(folder: str) -> None:
    """Deletes a folder and those below it, so far as they hold no file."""
    if is_local(folder):
        for path, _, _ in os.walk(folder, topdown=False):
            with contextlib.suppress(OSError):  # It holds something, or is gone.
                os.rmdir(path)


def delete(path: str) -> None:
    """Deletes a file, if it exists. Another process may delete it at the same time."""
    if is_local(path):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.remove(path)
    elif exists(path):
        try:
            _beam().delete([_to_delete(path)])
        except Exception:  # whatever a filesystem raises
            if exists(path):
                raise


def _to_delete(path: str) -> str:
    """Returns what Beam takes for this file alone: some of its filesystems delete by pattern."""
    return path if scheme_of(path) in _DELETE_BY_PATH else literal(path)


def in_parallel(function: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
    """Calls a function that waits for a filesystem, for many items at once."""
    items = list(items)
    # Of very many items, a thread takes some at a time, since handing them over costs time.
    count = max(1, len(items) // (_THREADS * _TURNS))
    some = [items[start : start + count] for start in range(0, len(items), count)]
    with ThreadPoolExecutor(_THREADS) as pool:
        done = pool.map(functools.partial(_each, function), some)
        return list(itertools.chain.from_iterable(done))


def _each(function: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
    return [function(item) for item in items]


def is_local(path: str) -> bool:
    """Returns whether a path is on a disk of this machine, or mounted like one."""
    return not scheme_of(path)


def _beam() -> Any:
    from apache_beam.io.filesystems import FileSystems

    return FileSystems
