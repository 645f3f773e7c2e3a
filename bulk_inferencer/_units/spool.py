"""Puts what comes in any order into its order, in little memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO

_MEMORY_BYTES = 64 << 20


class Spool:
    """Numbered bytes in a file, by their numbers."""

    def __init__(self, file: IO[bytes], numbered: Iterable[tuple[int, bytes]]) -> None:
        """Writes all of them to the file."""
        self._file = file
        self._places: list[tuple[int, int, int]] = []  # number, start, size
        for number, content in numbered:
            self._places.append((number, file.tell(), len(content)))
            file.write(content)
        self._places.sort()

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        return map(self._read, self._places)

    def last(self) -> tuple[int, bytes]:
        """Returns the last one, of at least one."""
        return self._read(self._places[-1])

    def _read(self, place: tuple[int, int, int]) -> tuple[int, bytes]:
        number, start, size = place
        self._file.seek(start)
        return number, self._file.read(size)


@contextmanager
def spooled(numbered: Iterable[tuple[int, bytes]]) -> Iterator[Spool]:
    """Gives numbered bytes in order, as often as asked within `with`.

    Those that would take more than 64 MiB of memory wait on the disk of this machine.

    ```python
    with spooled([(64, b"second"), (0, b"first")]) as spool:
        for number, content in spool:
            ...
    ```
    """
    with tempfile.SpooledTemporaryFile(_MEMORY_BYTES) as file:
        yield Spool(file, numbered)
