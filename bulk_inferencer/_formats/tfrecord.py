"""TFRecord files: read in chunks of records, written as framed and compressed shards.

Source of the format: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
"""

from __future__ import annotations

import functools
import logging
import struct
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple, cast

import google_crc32c
import numpy as np
from isal import igzip_lib, isal_zlib

from bulk_inferencer import _files
from bulk_inferencer._formats import foreign, wire
from bulk_inferencer.errors import InputError

_logger = logging.getLogger(__name__)

if google_crc32c.implementation == "python":
    _logger.warning(
        "google-crc32c runs without its C extension here, which makes reading and writing many "
        "times slower. Install a wheel of google-crc32c for this platform."
    )

_CRC_MASK_DELTA = 0xA282EAD8
_LENGTH = struct.Struct("<Q")
_HEADER = struct.Struct("<QI")  # the length of a record and its checksum
_CHECKSUM_BYTES = 4  # after the record
_GZIP_MAGIC = b"\x1f\x8b"
_DEFLATE_ERROR = cast(type[Exception], igzip_lib.error)
_COMPRESSED_NAMES = (".gz", ".gzip", ".zlib")
_GZIP_WINDOW_BITS = 31  # 15, plus 16 for a gzip header; it holds no time, so bytes repeat
# What fits into the processor's cache is parsed fastest.
_BLOCK_BYTES = 1 << 20
_STORED_BYTES = 1 << 19  # of a compressed file, read at a time
_START_BYTES = 1 << 12  # enough to tell what a file is
_MAX_CACHED_LENGTHS = 1 << 16
NO_LIMIT = 1 << 62
MAX_RECORD_BYTES = 512 << 20

_WRITE_AGAIN = "Write the file again, or leave it out of the examples."


def read_chunks(
    path: str,
    max_bytes: int = _BLOCK_BYTES,
    *,
    max_record_bytes: int = MAX_RECORD_BYTES,
    listed_bytes: int | None = None,
) -> Iterator[list[bytes]]:
    """Reads a TFRecord file: plain, gzip or zlib, as its content says.

    TensorFlow's own reader takes many truncated files for whole ones, allocates as much memory as
    a record's length field says, opens fewer filesystems, and is slower.

    Args:
      path: a file on any filesystem that Beam can open.
      max_bytes: most bytes of framed records in a chunk. A larger record is in a chunk with the
        records just before it.
      max_record_bytes: most bytes of one record.
      listed_bytes: the size that the file should have.

    Yields:
      Chunks of serialized records, in the order of the file. All whole records before any damage
      come before the error.

    Raises:
      InputError: the file does not exist, is damaged or has changed, holds a record that is too
        long, or something else than TFRecords. Errors that may be transient, such as a network's,
        are raised unchanged, so that the runner retries.
    """
    read = 0
    try:
        with _files.open_to_read(path) as file:
            for records in _chunks(file, min(max_bytes, _BLOCK_BYTES), max_record_bytes):
                read += len(records)
                yield records
            check_size(path, file.tell(), listed_bytes)
    except PermissionError as error:
        raise InputError(
            f"Cannot read {path}: {error.strerror}. Let this process read it, or leave it out."
        ) from error
    except (FileNotFoundError, IsADirectoryError, _DamagedError) as error:
        advice = getattr(error, "advice", _WRITE_AGAIN)
        raise InputError(
            f"Cannot read {path} as TFRecord: {error} (after record {read}). {advice}"
        ) from error


def check_size(path: str, found_bytes: int, listed_bytes: int | None = None) -> None:
    """Checks the size of a file that has been read, or listed.

    Raises:
      InputError: it is another than the one that it should have, or compressed and empty.
    """
    if listed_bytes is not None and found_bytes != listed_bytes:
        raise InputError(
            f"{path} had {listed_bytes} bytes when the run began, and {found_bytes} when it was "
            f"read. Run again when nothing writes to it any more."
        )
    if not found_bytes and path.lower().endswith(_COMPRESSED_NAMES):
        raise InputError(
            f"{path} is empty, although a compressed file never is, not even one without records. "
            f"{_WRITE_AGAIN}"
        )


def _chunks(file: BinaryIO, block_bytes: int, max_record_bytes: int) -> Iterator[list[bytes]]:
    """Yields the records of an open file; see `read_chunks`."""
    pieces: list[bytes] = []
    missing = 1
    start: bytes | None = b""  # of a file in which there is no record so far
    for block in _content(file, block_bytes):
        if start is not None and len(start) < _START_BYTES:
            start += block[:_START_BYTES]
        pieces.append(block)
        missing -= len(block)
        if missing > 0:
            continue
        buffer = b"".join(pieces)
        pieces.clear()
        parsed = _parse(buffer, max_record_bytes)
        if parsed.records:
            start = None
            yield parsed.records
        if parsed.damage:
            raise _foreign(start) or parsed.damage
        pieces.append(buffer[parsed.end :])
        missing = parsed.missing
    if any(pieces):
        raise _foreign(start) or _DamagedError("the file ends within a record")


def _foreign(start: bytes | None) -> _DamagedError | None:
    known = foreign.recognized(start) if start else None
    return _DamagedError(f"it is {known[0]}", known[1]) if known else None


def frame(payloads: Sequence[bytes]) -> bytes:
    """Returns `payloads` as consecutive TFRecords: length, its checksum, payload, its checksum."""
    if not payloads:
        return b""
    parts: list[bytes] = [b""] * (3 * len(payloads))
    parts[0::3] = map(_header, map(len, payloads))
    parts[1::3] = payloads
    parts[2::3] = wire.rows_of(_masked_checksums(payloads)[:, np.newaxis].view(np.uint8))
    return b"".join(parts)


def gzip_member(data: bytes) -> bytes:
    """Returns `data` as one gzip member; a file may hold several in a row (RFC 1952)."""
    # Not isal_zlib.compress: of the same few bytes it makes different ones from thread to thread,
    # and a second attempt at a unit has to write what the first one wrote.
    compressor = isal_zlib.compressobj(1, wbits=_GZIP_WINDOW_BITS)
    compressed: bytes = compressor.compress(data) + compressor.flush()
    return compressed


def _masked_checksums(payloads: Sequence[bytes]) -> np.ndarray:
    """Returns checksums as TFRecord stores them: rotated by 15 bits, plus a constant."""
    checksums = np.fromiter(map(google_crc32c.value, payloads), np.uint32, len(payloads))
    rotated = (checksums >> np.uint32(15)) | (checksums << np.uint32(17))
    return (rotated + np.uint32(_CRC_MASK_DELTA)).astype("<u4", copy=False)


@functools.lru_cache(maxsize=_MAX_CACHED_LENGTHS)
def _header(length: int) -> bytes:
    return _HEADER.pack(length, _masked_checksums([_LENGTH.pack(length)])[0])


class _DamagedError(Exception):
    """What is wrong with the content of a file, and what to do about it."""

    def __init__(self, message: str, advice: str = _WRITE_AGAIN) -> None:
        super().__init__(message)
        self.advice = advice


def _content(file: BinaryIO, block_bytes: int) -> Iterator[bytes]:
    """Yields what is in a file, decompressed if need be, in blocks of at most so many bytes."""
    start = file.read(_START_BYTES)
    file.seek(0)
    # The length that begins a plain file may look like gzip, but then its checksum is right.
    if _begins_with_length(start):
        return iter(functools.partial(file.read, block_bytes), b"")
    if start.startswith(_GZIP_MAGIC):
        return _inflated(file, igzip_lib.DECOMP_GZIP, block_bytes)
    if _is_zlib(start):
        return _inflated(file, igzip_lib.DECOMP_ZLIB, block_bytes)
    return iter(functools.partial(file.read, block_bytes), b"")


def _begins_with_length(start: bytes) -> bool:
    return start[: _HEADER.size] == _header(int.from_bytes(start[: _LENGTH.size], "little"))


def _is_zlib(start: bytes) -> bool:
    """Returns whether a file is compressed with zlib: two bytes could be text, such as `x^`."""
    if len(start) < 2 or start[0] & 0x0F != 8 or int.from_bytes(start[:2], "big") % 31:
        return False
    inflater = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_ZLIB)
    try:
        content = inflater.decompress(start, _HEADER.size)
    except _DEFLATE_ERROR:
        return False
    return _begins_with_length(content) or (inflater.eof and not content)


def _inflated(file: BinaryIO, flag: int, block_bytes: int) -> Iterator[bytes]:
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
        except _DEFLATE_ERROR as error:
            damage = error
    raise _DamagedError(f"its compressed data is damaged ({damage})")


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
                    raise _DamagedError("its compressed data ends too early")
            content = self._inflater.decompress(stored, most)
        return content

    def _after_member(self) -> bytes:
        """Returns what follows the end of a member, but for zeros, with which some files end."""
        stored: bytes = self._inflater.unused_data.lstrip(b"\0")
        while not stored and (more := self._file.read(_STORED_BYTES)):
            stored = more.lstrip(b"\0")
        return stored


class _Parsed(NamedTuple):
    """What is in a buffer.

    Attributes:
      records: its whole records, up to the first damage.
      end: where they end.
      missing: how many bytes the next one lacks.
      damage: what is wrong with the next one.
    """

    records: list[bytes]
    end: int
    missing: int
    damage: _DamagedError | None


def _parse(buffer: bytes, max_record_bytes: int) -> _Parsed:
    records: list[bytes] = []
    position = 0
    missing = 1
    damage = None
    last_header, last_stop = len(buffer) - _HEADER.size, len(buffer) - _CHECKSUM_BYTES
    try:
        records, position = _run_of_one_length(buffer)
        # All other records pass through this loop: it must do no more than it has to.
        while position <= last_header:
            start = position + _HEADER.size
            stop = start + _LENGTHS[buffer[position:start]]
            if stop > last_stop:
                missing = stop - last_stop
                if stop - start > max_record_bytes:
                    damage = _too_long(stop - start, max_record_bytes)
                break
            records.append(buffer[start:stop])
            position = stop + _CHECKSUM_BYTES
    except _DamagedError as error:
        damage = error
    lengths = np.fromiter(map(len, records), np.int64, len(records))
    differ = _written_checksums(buffer, lengths) != _masked_checksums(records)
    if differ.any() or (records and lengths.max() > max_record_bytes):
        first = int((differ | (lengths > max_record_bytes)).argmax())
        damage = (
            _DamagedError("a record does not match its checksum")
            if differ[first]
            else _too_long(int(lengths[first]), max_record_bytes)
        )
        records = records[:first]
    return _Parsed(records, position, missing, damage)


def _too_long(length: int, most: int) -> _DamagedError:
    return _DamagedError(
        f"the next record has {length} bytes, but BatchBounds.max_record_bytes is {most}",
        f"If records are this long, raise the setting. If not, the file is damaged. {_WRITE_AGAIN}",
    )


def _run_of_one_length(buffer: bytes) -> tuple[list[bytes], int]:
    """Returns the records at the start of a buffer that have one length, and where they end.

    Records of numbers often do, and then they are rows of a matrix.
    """
    if len(buffer) < _HEADER.size:
        return [], 0
    stride = _HEADER.size + _LENGTHS[buffer[: _HEADER.size]] + _CHECKSUM_BYTES
    if stride > len(buffer):
        return [], 0
    framed = np.frombuffer(buffer, np.uint8, len(buffer) // stride * stride).reshape(-1, stride)
    headers = framed[:, : _HEADER.size]
    differ = (headers != headers[:1]).any(axis=1)
    count = int(differ.argmax()) if differ.any() else len(framed)
    return wire.rows_of(framed[:count, _HEADER.size : -_CHECKSUM_BYTES]), count * stride


def _written_checksums(buffer: bytes, lengths: np.ndarray) -> np.ndarray:
    """Returns the checksums in a buffer that starts with records of these lengths."""
    ends = np.cumsum(lengths + _HEADER.size + _CHECKSUM_BYTES)
    offsets = ends[:, np.newaxis] + np.arange(-_CHECKSUM_BYTES, 0)
    return np.frombuffer(buffer, np.uint8)[offsets].view("<u4")[:, 0]


class _Lengths(dict[bytes, int]):
    """Lengths of records by header. A header is checked when it is seen for the first time."""

    def __missing__(self, header: bytes) -> int:
        length = int.from_bytes(header[: _LENGTH.size], "little")
        if header != _header(length):
            raise _DamagedError("a length does not match its checksum")
        if len(self) >= _MAX_CACHED_LENGTHS:
            self.clear()
        self[header] = length
        return length


_LENGTHS = _Lengths()
