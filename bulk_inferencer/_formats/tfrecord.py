"""TFRecord files: read in chunks of records, written as framed and compressed shards.

Source of the format: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
"""

from __future__ import annotations

import contextlib
import functools
import logging
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, NamedTuple

import google_crc32c
import numpy as np
from isal import igzip_lib, isal_zlib

from bulk_inferencer import _files
from bulk_inferencer._formats import foreign, wire
from bulk_inferencer._formats.damage import DamagedError, check_size, reading, too_long
from bulk_inferencer._formats.inflating import DEFLATE_ERROR, Position, inflated

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
_GZIP_WINDOW_BITS = 31  # 15, plus 16 for a gzip header; it holds no time, so bytes repeat
# What fits into the processor's cache is parsed fastest.
_BLOCK_BYTES = 1 << 20
_START_BYTES = 1 << 12  # enough to tell what a file is
_MAX_CACHED_LENGTHS = 1 << 16
NO_LIMIT = 1 << 62
MAX_RECORD_BYTES = 512 << 20


def read_chunks(
    path: str,
    max_bytes: int = _BLOCK_BYTES,
    *,
    max_record_bytes: int = MAX_RECORD_BYTES,
    listed_bytes: int | None = None,
    position: Position | None = None,
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
      position: is set to how far the file is read before each chunk comes.

    Yields:
      Chunks of serialized records, in the order of the file. All whole records before any damage
      come before the error.

    Raises:
      InputError: the file does not exist, is damaged or has changed, holds a record that is too
        long, or something else than TFRecords. Errors that may be transient, such as a network's,
        are raised unchanged, so that the runner retries.
    """
    read = 0
    with (
        reading(path, "TFRecord", lambda: f"after record {read}"),
        _files.open_to_read(path) as file,
    ):
        blocks = _content(file, min(max_bytes, _BLOCK_BYTES), position or Position())
        for records in _chunks(blocks, max_record_bytes):
            read += len(records)
            yield records
        check_size(path, file.tell(), listed_bytes)


def _chunks(blocks: Iterable[bytes], max_record_bytes: int) -> Iterator[list[bytes]]:
    """Yields the records in the content of a file; see `read_chunks`."""
    pieces: list[bytes] = []
    missing = 1
    start: bytes | None = b""  # of a file in which there is no record so far
    for block in blocks:
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
        raise _foreign(start) or DamagedError("the file ends within a record")


def _foreign(start: bytes | None) -> DamagedError | None:
    kind = foreign.kind_of(start) if start else None
    return DamagedError(f"it is {kind.what}", kind.advice) if kind else None


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


def _content(file: BinaryIO, block_bytes: int, position: Position) -> Iterator[bytes]:
    """Yields what is in a file, decompressed if need be, in blocks of at most so many bytes.

    `position` is that of the end of the last block.
    """
    start = file.read(_START_BYTES)
    file.seek(0)
    # The length that begins a plain file may look like gzip, but then its checksum is right.
    if not begins_with_length(start):
        if start.startswith(_GZIP_MAGIC):
            return inflated(file, igzip_lib.DECOMP_GZIP, block_bytes, position)
        if _is_zlib(start):
            return inflated(file, igzip_lib.DECOMP_ZLIB, block_bytes, position)
    return _plain(file, block_bytes, position)


def _plain(file: BinaryIO, block_bytes: int, position: Position) -> Iterator[bytes]:
    while block := file.read(block_bytes):
        position.stored += len(block)
        yield block


def start_of(file: BinaryIO) -> tuple[bytes, bool]:
    """Returns how an open file begins, decompressed if need be, and whether it was compressed.

    Of compressed data that is damaged, nothing comes back.
    """
    with contextlib.suppress(DamagedError):
        start = next(_content(file, _START_BYTES, Position()), b"")
        file.seek(0)
        return start, not file.read(_START_BYTES).startswith(start[: _HEADER.size])
    return b"", True


def begins_with_length(start: bytes) -> bool:
    """Returns whether a file that begins like this holds TFRecords."""
    return start[: _HEADER.size] == _header(int.from_bytes(start[: _LENGTH.size], "little"))


def _is_zlib(start: bytes) -> bool:
    """Returns whether a file is compressed with zlib: two bytes could be text, such as `x^`."""
    if len(start) < 2 or start[0] & 0x0F != 8 or int.from_bytes(start[:2], "big") % 31:
        return False
    inflater = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_ZLIB)
    try:
        content = inflater.decompress(start, _HEADER.size)
    except DEFLATE_ERROR:
        return False
    return begins_with_length(content) or (inflater.eof and not content)


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
    damage: DamagedError | None


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
                    damage = too_long(stop - start, max_record_bytes)
                break
            records.append(buffer[start:stop])
            position = stop + _CHECKSUM_BYTES
    except DamagedError as error:
        damage = error
    lengths = np.fromiter(map(len, records), np.int64, len(records))
    differ = _written_checksums(buffer, lengths) != _masked_checksums(records)
    if differ.any() or (records and lengths.max() > max_record_bytes):
        first = int((differ | (lengths > max_record_bytes)).argmax())
        damage = (
            DamagedError("a record does not match its checksum")
            if differ[first]
            else too_long(int(lengths[first]), max_record_bytes)
        )
        records = records[:first]
    return _Parsed(records, position, missing, damage)


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
            raise DamagedError("a length does not match its checksum")
        if len(self) >= _MAX_CACHED_LENGTHS:
            self.clear()
        self[header] = length
        return length


_LENGTHS = _Lengths()
