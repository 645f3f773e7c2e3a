"""Decompresses files, whole or damaged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, cast

from isal import igzip_lib

from bulk_inferencer._formats.damage import DamagedError

DEFLATE_ERROR = cast(type[Exception], igzip_lib.error)
_BLOCK_BYTES = 1 << 20
_STORED_BYTES = 1 << 19  # read at a time
# Decompressed at a time, or a sixteenth of what is: so precisely one can tell how much is.
_LEAST_FED_BYTES = 1 << 14


@dataclass
class Position:
    """How far a file is read.

    Attributes:
      stored: how many of its bytes, as they are stored, were needed so far.
    """

    stored: int = 0


def inflated(
    file: BinaryIO, flag: int, block_bytes: int, position: Position | None = None
) -> Iterator[bytes]:
    """Yields what a compressed file holds, up to the very byte where it is damaged, if it is.

    Each block has at least half as many bytes as it may, but for the last one. `position` is that
    of its end.
    """
    given = 0
    damage = None
    position = position or Position()
    # Of a block within which there is damage nothing comes back, so it is read again, in parts.
    for size in (block_bytes, 1 << 10, 1):
        inflater = _Inflater(file, flag)
        try:
            again = 0
            while again < given:
                again += len(inflater.read(min(_BLOCK_BYTES, given - again)))
            while block := inflater.read(size):
                given += len(block)
                position.stored = inflater.stored
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
        self._unfed = memoryview(b"")
        self._read = 0

    @property
    def stored(self) -> int:
        """How many bytes of the file were decompressed."""
        return self._read - len(self._unfed)

    def read(self, most: int) -> bytes:
        """Returns so many bytes, at least half of them, or all before the end of the file."""
        pieces: list[bytes] = []
        missing = most
        while missing > most // 2:
            stored: bytes | memoryview = b""
            if self._inflater.eof:
                stored = self._after_member()
                if not stored:
                    break
                self._inflater = igzip_lib.IgzipDecompressor(flag=self._flag)
            elif self._inflater.needs_input:
                stored = self._fed()
                if not stored:
                    if missing < most:
                        break
                    raise DamagedError("its compressed data ends too early")
            piece = self._inflater.decompress(stored, missing)
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def _fed(self) -> memoryview:
        """Returns some of the file; nothing at its end."""
        if not self._unfed:
            self._unfed = memoryview(self._file.read(_STORED_BYTES))
            self._read += len(self._unfed)
        count = max(_LEAST_FED_BYTES, self.stored // 16)
        fed, self._unfed = self._unfed[:count], self._unfed[count:]
        return fed

    def _after_member(self) -> bytes:
        """Returns what follows the end of a member, but for zeros, with which some files end."""
        stored: bytes = self._inflater.unused_data.lstrip(b"\0")
        while not stored and (more := self._fed()):
            stored = bytes(more).lstrip(b"\0")
        return stored
