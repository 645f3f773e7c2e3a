"""TFRecord files: read in chunks of records, written as framed and compressed shards.

Source of the format: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

import google_crc32c
from isal import igzip_lib, isal_zlib

from bulk_inferencer import _files
from bulk_inferencer._formats import foreign, framing
from bulk_inferencer._formats.damage import DamagedError, check_size, reading, too_long
from bulk_inferencer._formats.framing import HEADER_BYTES, Damage, JoinedRecords, begins_with_length
from bulk_inferencer._formats.inflating import DEFLATE_ERROR, Position, inflated

_logger = logging.getLogger(__name__)

if google_crc32c.implementation == "python":
    _logger.warning(
        "google-crc32c runs without its C extension here, which makes reading and writing many "
        "times slower. Install a wheel of google-crc32c for this platform."
    )

_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WINDOW_BITS = 31  # 15, plus 16 for a gzip header; it holds no time, so bytes repeat
# What fits into the processor's cache is parsed fastest.
_BLOCK_BYTES = 1 << 20
_START_BYTES = 1 << 12  # enough to tell what a file is
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
    max_record_bytes = min(max_record_bytes, NO_LIMIT)
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
        records, end, missing, damage, length = framing.cut(buffer, max_record_bytes)
        if records:
            start = None
            yield records
        if damage:
            raise _foreign(start) or _damage(damage, length, max_record_bytes)
        pieces.append(buffer[end:])
    if any(pieces):
        raise _foreign(start) or DamagedError("the file ends within a record")


def _foreign(start: bytes | None) -> DamagedError | None:
    kind = foreign.kind_of(start) if start else None
    return DamagedError(f"it is {kind.what}", kind.advice) if kind else None


def frame(records: Sequence[bytes]) -> bytes:
    """Returns records as consecutive TFRecords: length, its checksum, record, its checksum."""
    columns = records.columns if isinstance(records, JoinedRecords) else (records,)
    return framing.frame(*columns)


def gzip_member(data: bytes) -> bytes:
    """Returns `data` as one gzip member; a file may hold several in a row (RFC 1952)."""
    # Not isal_zlib.compress: of the same few bytes it makes different ones from thread to thread,
    # and a second attempt at a unit has to write what the first one wrote.
    compressor = isal_zlib.compressobj(1, wbits=_GZIP_WINDOW_BITS)
    compressed: bytes = compressor.compress(data) + compressor.flush()
    return compressed


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
        return start, not file.read(_START_BYTES).startswith(start[:HEADER_BYTES])
    return b"", True


def _is_zlib(start: bytes) -> bool:
    """Returns whether a file is compressed with zlib: two bytes could be text, such as `x^`."""
    if len(start) < 2 or start[0] & 0x0F != 8 or int.from_bytes(start[:2], "big") % 31:
        return False
    inflater = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_ZLIB)
    try:
        content = inflater.decompress(start, HEADER_BYTES)
    except DEFLATE_ERROR:
        return False
    return begins_with_length(content) or (inflater.eof and not content)


def _damage(damage: int, length: int, most: int) -> DamagedError:
    if damage == Damage.TOO_LONG:
        return too_long(length, most)
    what = "length" if damage == Damage.LENGTH else "record"
    return DamagedError(f"a {what} does not match its checksum")
