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
        "Expected the C implementation of google-crc32c, found the one in Python: reading and "
        "writing take many times longer. Install a wheel of google-crc32c for this platform."
    )

_CRC_MASK_DELTA = 0xA282EAD8
_LENGTH = struct.Struct("<Q")
_HEADER = struct.Struct("<QI")  # the length of a record and its checksum
_CHECKSUM_BYTES = 4  # after the record
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_ERRORS = (EOFError, gzip.BadGzipFile, cast(type[Exception], isal_zlib.error))
_GZIP_WINDOW_BITS = 31  # 15, plus 16 for a gzip header; it carries no time, so bytes repeat.
# What fits into the processor's cache is parsed fastest.
_BLOCK_BYTES = 1 << 20
_MAX_CACHED_LENGTHS = 1 << 16


def read_chunks(path: str, max_bytes: int = _BLOCK_BYTES) -> Iterator[list[bytes]]:
    """Reads a TFRecord file, plain or gzip.

    Not TensorFlow's reader: it takes many files that were cut short for whole ones, allocates
    whatever a record's length field says, and opens fewer filesystems; this one is also faster,
    by isal.

    Args:
      path: a file on any filesystem that Beam can open.
      max_bytes: how many bytes of framed records a chunk should hold at most; a larger record is a
        chunk with those that came before it.

    Yields:
      Chunks of serialized records, in the order of the file.

    Raises:
      InputError: the file does not exist or is damaged. Errors that may pass, such as a network's,
        come as they are, for the runner to try again.
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
            f"Expected a readable TFRecord file, got an error in {path} after record {read}: "
            f"{error}. Write the file again as TFRecord, or leave it out of the examples."
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
    """Returns `data` as one gzip member; members follow one another in a file (RFC 1952)."""
    compressed: bytes = isal_zlib.compress(data, 1, wbits=_GZIP_WINDOW_BITS)
    return compressed


def _mask(checksums: np.ndarray) -> np.ndarray:
    """Returns checksums (uint32) as TFRecord stores them: rotated by 15 bits, plus a constant."""
    rotated = (checksums >> np.uint32(15)) | (checksums << np.uint32(17))
    return rotated + np.uint32(_CRC_MASK_DELTA)


def _masked_checksums(payloads: Sequence[bytes]) -> np.ndarray:
    """Returns the checksums (little-endian uint32) of payloads as they follow these in a file."""
    checksums = np.fromiter(map(google_crc32c.value, payloads), np.uint32, len(payloads))
    return _mask(checksums).astype("<u4", copy=False)


@functools.lru_cache(maxsize=_MAX_CACHED_LENGTHS)
def _length_checksum(length: int) -> int:
    checksum = np.array([google_crc32c.value(_LENGTH.pack(length))], np.uint32)
    return int(_mask(checksum)[0])


@functools.lru_cache(maxsize=_MAX_CACHED_LENGTHS)
def _header(length: int) -> bytes:
    return _HEADER.pack(length, _length_checksum(length))


class _DamagedError(Exception):
    """What was written is not what is there; `whole_records` of a buffer precede the damage."""

    def __init__(self, message: str, whole_records: int) -> None:
        super().__init__(message)
        self.whole_records = whole_records


def _decompressed(file: BinaryIO) -> BinaryIO:
    """Returns the content of a file, which is gzip if its first bytes say so.

    The first bytes of a plain file are a length and may look like gzip; its checksum tells.
    """
    start = file.read(_HEADER.size)
    file.seek(0)
    if not start.startswith(_GZIP_MAGIC):
        return file
    if len(start) == _HEADER.size:
        length, checksum = _HEADER.unpack(start)
        if checksum == _length_checksum(length):
            return file
    decompressed: BinaryIO = igzip.open(file)
    return decompressed


def _parse(buffer: bytes) -> tuple[list[bytes], int, int]:
    """Returns the whole records of a buffer, where they end, and how many bytes the next one lacks.

    Raises:
      _DamagedError: a checksum does not match.
    """
    records: list[bytes] = []
    missing = 1
    last_header, last_stop = len(buffer) - _HEADER.size, len(buffer) - _CHECKSUM_BYTES
    try:
        records, position = _run_of_one_length(buffer)
        # Every other record passes through here: no more in this loop than there has to be.
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
    """Returns the records that a buffer starts with and that have one length, and where they end.

    Records of numbers often have, and then they are rows of a matrix. Where the first has a length
    of its own, there are none to speak of.

    Raises:
      _DamagedError: the first length does not match its checksum.
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
    """Returns the checksums that follow the records in a buffer that starts with them."""
    framing = _HEADER.size + _CHECKSUM_BYTES
    ends = np.cumsum(np.fromiter(map(len, records), np.int64, len(records)) + framing)
    offsets = ends[:, np.newaxis] + np.arange(-_CHECKSUM_BYTES, 0)
    return np.frombuffer(buffer, np.uint8)[offsets].view("<u4")[:, 0]


class _Lengths(dict[bytes, int]):
    """Lengths of records by header; a header is checked when it is met for the first time."""

    def __missing__(self, header: bytes) -> int:
        length: int
        length, checksum = _HEADER.unpack(header)
        if checksum != _length_checksum(length):
            raise _DamagedError("a length does not match its checksum", 0)
        if len(self) >= _MAX_CACHED_LENGTHS:
            self.clear()
        self[header] = length
        return length


_LENGTHS = _Lengths()
