"""Records as the TFRecords of a buffer, and back: each with its length and two checksums.

`cut` and `frame` are compiled, from `_framing.c`, where the package was built with a C compiler.
Else they are those of this module, which give the same bytes, and take several times as long.
Source of the format: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
"""

from __future__ import annotations

import enum
import functools
import logging
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import overload

import google_crc32c
import numpy as np

from bulk_inferencer._formats import wire

_logger = logging.getLogger(__name__)

_CRC_MASK_DELTA = 0xA282EAD8
_LENGTH = struct.Struct("<Q")
_HEADER = struct.Struct("<QI")  # the length of a record and its checksum
HEADER_BYTES = _HEADER.size
CHECKSUM_BYTES = 4  # after the record
_MAX_CACHED_LENGTHS = 1 << 16


class Damage(enum.IntEnum):
    """What is wrong with a record."""

    NONE = 0
    LENGTH = 1  # does not match its checksum
    RECORD = 2  # does not match its checksum
    TOO_LONG = 3


def cut_in_python(buffer: bytes, most: int) -> tuple[list[bytes], int, int, int, int]:
    """Cuts a buffer that begins with a TFRecord into records.

    Args:
      buffer: whole records, and the beginning of one.
      most: most bytes of a record.

    Returns:
      the whole records up to the first damage; where they end, if there is none; how many bytes the
      next one lacks, at least; the `Damage` of the next one; and its length, if it is too long.
    """
    records: list[bytes] = []
    position = 0
    missing = 1
    damage, length = Damage.NONE, 0
    last_header, last_stop = len(buffer) - HEADER_BYTES, len(buffer) - CHECKSUM_BYTES
    try:
        records, position = _run_of_one_length(buffer)
        # All other records pass through this loop: it must do no more than it has to.
        while position <= last_header:
            start = position + HEADER_BYTES
            stop = start + _LENGTHS[buffer[position:start]]
            if stop > last_stop:
                missing = stop - last_stop
                if stop - start > most:
                    damage, length = Damage.TOO_LONG, stop - start
                break
            records.append(buffer[start:stop])
            position = stop + CHECKSUM_BYTES
    except _WrongLength:
        damage = Damage.LENGTH
    lengths = np.fromiter(map(len, records), np.int64, len(records))
    differ = _written_checksums(buffer, lengths) != _masked_checksums(records)
    if differ.any() or (records and lengths.max() > most):
        first = int((differ | (lengths > most)).argmax())
        damage, length = Damage.RECORD, 0
        if not differ[first]:
            damage, length = Damage.TOO_LONG, int(lengths[first])
        records = records[:first]
    return records, position, missing, damage, length


def frame_in_python(*columns: Sequence[bytes]) -> bytes:
    """Returns records as consecutive TFRecords: length, its checksum, record, its checksum.

    Args:
      *columns: the parts of records, one or several, which are joined: of each record, one stands
        in each column.

    Raises:
      ValueError: columns have different lengths.
    """
    records = columns[0] if len(columns) == 1 else [*JoinedRecords(*columns)]
    parts: list[bytes] = [b""] * (3 * len(records))
    parts[0::3] = map(header, map(len, records))
    parts[1::3] = records
    parts[2::3] = wire.rows_of(_masked_checksums(records)[:, np.newaxis].view(np.uint8))
    return b"".join(parts)


def _masked_checksums(records: Sequence[bytes]) -> np.ndarray:
    """Returns checksums as TFRecord stores them: rotated by 15 bits, plus a constant."""
    checksums = np.fromiter(map(google_crc32c.value, records), np.uint32, len(records))
    rotated = (checksums >> np.uint32(15)) | (checksums << np.uint32(17))
    return (rotated + np.uint32(_CRC_MASK_DELTA)).astype("<u4", copy=False)


@functools.lru_cache(maxsize=_MAX_CACHED_LENGTHS)
def header(length: int) -> bytes:
    """Returns what precedes a record of so many bytes."""
    return _HEADER.pack(length, _masked_checksums([_LENGTH.pack(length)])[0])


def begins_with_length(start: bytes) -> bool:
    """Returns whether a file that begins like this holds TFRecords."""
    return start[:HEADER_BYTES] == header(int.from_bytes(start[: _LENGTH.size], "little"))


def _run_of_one_length(buffer: bytes) -> tuple[list[bytes], int]:
    """Returns the records at the start of a buffer that have one length, and where they end.

    Records of numbers often do, and then they are rows of a matrix.
    """
    if len(buffer) < HEADER_BYTES:
        return [], 0
    stride = HEADER_BYTES + _LENGTHS[buffer[:HEADER_BYTES]] + CHECKSUM_BYTES
    if stride > len(buffer):
        return [], 0
    framed = np.frombuffer(buffer, np.uint8, len(buffer) // stride * stride).reshape(-1, stride)
    headers = framed[:, :HEADER_BYTES]
    differ = (headers != headers[:1]).any(axis=1)
    count = int(differ.argmax()) if differ.any() else len(framed)
    return wire.rows_of(framed[:count, HEADER_BYTES:-CHECKSUM_BYTES]), count * stride


def _written_checksums(buffer: bytes, lengths: np.ndarray) -> np.ndarray:
    """Returns the checksums in a buffer that starts with records of these lengths."""
    ends = np.cumsum(lengths + HEADER_BYTES + CHECKSUM_BYTES)
    offsets = ends[:, np.newaxis] + np.arange(-CHECKSUM_BYTES, 0)
    return np.frombuffer(buffer, np.uint8)[offsets].view("<u4")[:, 0]


class _Lengths(dict[bytes, int]):
    """Lengths of records by header. A header is checked when it is seen for the first time."""

    def __missing__(self, own: bytes) -> int:
        length = int.from_bytes(own[: _LENGTH.size], "little")
        if own != header(length):
            raise _WrongLength
        if len(self) >= _MAX_CACHED_LENGTHS:
            self.clear()
        self[own] = length
        return length


_LENGTHS = _Lengths()


class _WrongLength(Exception):
    """A length does not match its checksum."""


class JoinedRecords(Sequence[bytes]):
    """Records in parts, which are joined when somebody wants them.

    `tfrecord.frame` needs no joined ones.

    Attributes:
      columns: the parts: of each record, one stands in each column.
    """

    def __init__(self, *columns: Sequence[bytes]) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns[0])

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        parts = [column[index] for column in self.columns]
        if isinstance(index, slice):
            return list(map(b"".join, zip(*parts, strict=True)))
        return b"".join(parts)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[bytes]:
        return map(b"".join, zip(*self.columns, strict=True))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and [*self] == [*other]

    __hash__ = None  # type: ignore[assignment]


Cut = Callable[[bytes, int], tuple[list[bytes], int, int, int, int]]
cut: Cut = cut_in_python
frame: Callable[..., bytes] = frame_in_python
is_compiled = False
try:
    from bulk_inferencer._formats import _framing

    cut, frame, is_compiled = _framing.cut, _framing.frame, True
except ImportError as error:
    _logger.warning(
        "This package was built without a C compiler here (%s), so it takes up to a quarter more "
        "CPU time. Install a compiler, and then the package again.",
        error,
    )
