"""TFRecord files: read in chunks of records, written as framed and compressed shards.

Source of the format: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
"""

from __future__ import annotations

import functools
import gzip
import logging
import struct
from collections.abc import Iterator, Sequence
from typing import BinaryIO, cast

import google_crc32c
import numpy as np
from isal import igzip, isal_zlib

from bulk_inferencer import _files
from bulk_inferencer._formats import wire
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
_GZIP_ERRORS = (EOFError, gzip.BadGzipFile, cast(type[Exception], isal_zlib.error))
_GZIP_WINDOW_BITS = 31  # 15, plus 16 for a gzip header; it holds no time, so bytes repeat
# What fits into the processor's cache is parsed fastest.
_BLOCK_BYTES = 1 << 20
_MAX_CACHED_LENGTHS = 1 << 16


def read_chunks(path: str, max_bytes: int = _BLOCK_BYTES) -> Iterator[list[bytes]]:
    """Reads a TFRecord file, plain or gzip.

    TensorFlow's own reader takes many truncated files for whole ones, allocates as much memory as
    a record's length field says, opens fewer filesystems, and is slower.

    Args:
      path: a file on any filesystem that Beam can open.
      max_bytes: most bytes of framed records in a chunk. A larger record is in a chunk with the
        records just before it.

    Yields:
      Chunks of serialized records, in the order of the file.

    Raises:
      InputError: the file does not exist or is damaged. Errors that may be transient, such as a
        network's, are raised unchanged, so that the runner retries.
    """
    read = 0
    try:
        with _files.open_to_read(path) as file:
            content = _decompressed(file)
            blocks = [b""]
            missing = 1
            while block := content.read(min(max_bytes, _BLOCK_BYTES)):
                blocks.append(block)
                missing -= len(block)
                if missing > 0:
                    continue
                buffer = b"".join(blocks)
                records, end, missing = _parse(buffer)
                blocks = [buffer[end:]]
                read += len(records)
                if records:
                    yield records
            if any(blocks):
                raise EOFError("the file ends within a record")
    except (FileNotFoundError, IsADirectoryError, _DamagedError, *_GZIP_ERRORS) as error:
        if isinstance(error, _DamagedError):
            read += error.whole_records
        raise InputError(
            f"Cannot read {path} as TFRecord: {error} (after record {read}). Write the file again, "
            f"or leave it out of the examples."
        ) from error


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
    """Bytes do not match their checksum; `whole_records` of a buffer precede the damage."""

    def __init__(self, message: str, whole_records: int = 0) -> None:
        super().__init__(message)
        self.whole_records = whole_records


def _decompressed(file: BinaryIO) -> BinaryIO:
    start = file.read(_HEADER.size)
    file.seek(0)
    # The length that begins a plain file may look like gzip, but then its checksum is right.
    is_plain = start == _header(int.from_bytes(start[: _LENGTH.size], "little"))
    if is_plain or not start.startswith(_GZIP_MAGIC):
        return file
    decompressed: BinaryIO = igzip.open(file)
    return decompressed


def _parse(buffer: bytes) -> tuple[list[bytes], int, int]:
    """Returns a buffer's whole records, where they end, and how many bytes the next one lacks."""
    records: list[bytes] = []
    missing = 1
    last_header, last_stop = len(buffer) - _HEADER.size, len(buffer) - _CHECKSUM_BYTES
    try:
        records, position = _run_of_one_length(buffer)
        # All other records pass through this loop: it must do no more than it has to.
        while position <= last_header:
            start = position + _HEADER.size
            stop = start + _LENGTHS[buffer[position:start]]
            if stop > last_stop:
                missing = stop - last_stop
                break
            records.append(buffer[start:stop])
            position = stop + _CHECKSUM_BYTES
    except _DamagedError as error:
        error.whole_records = len(records)
        raise
    written, computed = _written_checksums(buffer, records), _masked_checksums(records)
    if (differ := written != computed).any():
        raise _DamagedError("a record does not match its checksum", int(differ.argmax()))
    return records, position, missing


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


def _written_checksums(buffer: bytes, records: Sequence[bytes]) -> np.ndarray:
    """Returns the checksums in a buffer that starts with the records."""
    framing = _HEADER.size + _CHECKSUM_BYTES
    ends = np.cumsum(np.fromiter(map(len, records), np.int64, len(records)) + framing)
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
