"""Decompresses files, whole or damaged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, cast

from isal import igzip_lib

from bulk_inferencer._formats.damage import DamagedError

DEFLATE_ERROR = cast(type[Exception], igzip_lib.error)
_BLOCK_BYTES = 1 << 20
_STORED_BYTES = 1 << 19  # read at a time


def inflated(file: BinaryIO, flag: int, block_bytes: int) -> Iterator[bytes]:
    """Yields what a compressed file holds, up to the very byte where it is damaged, if it is."""
    given = 0
    damage = None
    # Of a block within which there is damage nothing comes back, so it is read again, in parts.
    for size in (block_bytes, 1 << 10, 1):
        inflater = _Inflater(file, flag)
        try:
            again = 0
            while again < given:
                again += len(inflater.read(min(_BLOCK_BYTES, given - again)))
            while block := inflater.read(size):
                given += len(block)
                yield block
            return
        except DEFLATE_ERROR as error:
            damage = error
    raise DamagedError(f"its compressed data is damaged ({damage})")


class _Inflater:
    """Reads a compressed file from its start, whatever it holds: gzip may have several members."""

    def __init__(self, file: BinaryIO, flag: int) -> None:
        file.seek(0)
        self._file = file
        self._flag = flag
        self._inflater = igzip_lib.IgzipDecompressor(flag=flag)

    def read(self, most: int) -> bytes:
        """Returns at least one byte and at most so many; none at the end of the file."""
        content = b""
        while not content:
            stored = b""
            if self._inflater.eof:
                stored = self._after_member()
                if not stored:
                    break
                self._inflater = igzip_lib.IgzipDecompressor(flag=self._flag)
            elif self._inflater.needs_input:
                stored = self._file.read(_STORED_BYTES)
                if not stored:
                    raise DamagedError("its compressed data ends too early")
            content = self._inflater.decompress(stored, most)
        return content

    def _after_member(self) -> bytes:
        """Returns what follows the end of a member, but for zeros, with which some files end."""
        stored: bytes = self._inflater.unused_data.lstrip(b"\0")
        while not stored and (more := self._file.read(_STORED_BYTES)):
            stored = more.lstrip(b"\0")
        return stored
