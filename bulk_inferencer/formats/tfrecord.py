"""TFRecord files: read in chunks of records, written as framed and compressed shards.

Source of the format: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import google_crc32c
import numpy as np
from isal import igzip, isal_zlib

from bulk_inferencer import files
from bulk_inferencer.errors import InputError

_CRC_MASK_DELTA = 0xA282EAD8
_LENGTH_BYTES = 8
_HEADER_BYTES = 12
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WINDOW_BITS = 31  # 15, plus 16 for a gzip header; it carries no time, so bytes repeat.
_READ_BUFFER_BYTES = 8 << 20
_PROBED_RECORDS = 16
# Records that follow small ones may be large; more of them at a time would hardly be faster.
_MAX_CHUNK_RECORDS = 512
_FRAME_BYTES = 16  # of a TFRecord, beside its payload
_LAST_BYTES = 4


def read_chunks(path: str, max_records: int, max_bytes: int) -> Iterator[list[bytes]]:
    """Reads a TFRecord file, plain or gzip, through TensorFlow's C++ reader.

    Args:
      path: a file on any filesystem that Beam or TensorFlow can open.
      max_records: most records in one chunk.
      max_bytes: how many bytes a chunk should hold at most, judged by the file's first records.

    Yields:
      Chunks of serialized records, in the order of the file.

    Raises:
      InputError: the file does not exist or is damaged. Errors that may pass, such as a network's,
        come as they are, for the runner to try again.
    """
    import tensorflow as tf

    read = read_bytes = 0
    try:
        with _path_for_tensorflow(path) as local_path:
            compression = _compression(local_path)
            dataset = tf.data.TFRecordDataset(
                local_path, compression, buffer_size=_READ_BUFFER_BYTES
            )
            probed = [len(record) for record in dataset.take(_PROBED_RECORDS).as_numpy_iterator()]
            mean_bytes = max(1, sum(probed) // max(1, len(probed)))
            size = max(1, min(max_records, max_bytes // mean_bytes, _MAX_CHUNK_RECORDS))
            for chunk in dataset.batch(size).prefetch(1).as_numpy_iterator():
                records = chunk.tolist()
                read += len(records)
                read_bytes += sum(map(len, records)) + _FRAME_BYTES * len(records)
                yield records
            if compression:
                _check_whole_gzip(local_path, read_bytes)
            elif rest := tf.io.gfile.stat(local_path).length - read_bytes:
                raise EOFError(f"{rest} bytes are left after the last whole record")
    except (
        tf.errors.DataLossError,
        tf.errors.NotFoundError,
        EOFError,
        gzip.BadGzipFile,
    ) as error:
        raise InputError(
            f"Expected a readable TFRecord file, got an error in {path} after record {read}: "
            f"{error}. Write the file again, or leave it out of the examples."
        ) from error


def frame(payloads: Sequence[bytes]) -> bytes:
    """Returns `payloads` as consecutive TFRecords: length, its checksum, payload, its checksum."""
    if not payloads:
        return b""
    checksums = np.fromiter(map(google_crc32c.value, payloads), np.uint32, len(payloads))
    masked = _mask(checksums).astype("<u4").tobytes()
    parts: list[bytes] = [b""] * (3 * len(payloads))
    parts[0::3] = map(_length_header, map(len, payloads))
    parts[1::3] = payloads
    parts[2::3] = [masked[i : i + 4] for i in range(0, len(masked), 4)]
    return b"".join(parts)


def gzip_member(data: bytes) -> bytes:
    """Returns `data` as one gzip member; members follow one another in a file (RFC 1952)."""
    compressed: bytes = isal_zlib.compress(data, 1, wbits=_GZIP_WINDOW_BITS)
    return compressed


def _mask(checksums: np.ndarray) -> np.ndarray:
    """Returns checksums (uint32) as TFRecord stores them: rotated by 15 bits, plus a constant."""
    rotated = (checksums >> np.uint32(15)) | (checksums << np.uint32(17))
    return rotated + np.uint32(_CRC_MASK_DELTA)


@functools.lru_cache(maxsize=1 << 16)
def _length_header(length: int) -> bytes:
    data = struct.pack("<Q", length)
    checksum = np.array([google_crc32c.value(data)], np.uint32)
    return data + _mask(checksum).astype("<u4").tobytes()


def _compression(path: str) -> str:
    """Returns the file's compression as TensorFlow names it, judged by its first bytes.

    The first bytes of a plain file are a length and may look like gzip; its checksum tells.
    """
    import tensorflow as tf

    with tf.io.gfile.GFile(path, "rb") as file:
        start = file.read(_HEADER_BYTES)
    if not start.startswith(_GZIP_MAGIC):
        return ""
    length = start[:_LENGTH_BYTES].ljust(_LENGTH_BYTES, b"\0")
    is_plain = start == _length_header(struct.unpack("<Q", length)[0])
    return "" if is_plain else "GZIP"


def _check_whole_gzip(path: str, content_bytes: int) -> None:
    """Checks that a file was not cut short, which TensorFlow often takes for its end.

    The last bytes of a whole file are the size of its last member (RFC 1952). Where that is not
    the size of all that was read, there are several members, or the file is cut: then all of it is
    decompressed once more. A cut between two members leaves a whole file and cannot be seen.

    Raises:
      EOFError: the file ends within a member.
    """
    with files.open_to_read(path) as file:
        if content_bytes:  # Without any, the last bytes may be those of the header.
            file.seek(-_LAST_BYTES, os.SEEK_END)
            if file.read() == struct.pack("<I", content_bytes % 2**32):
                return
            file.seek(0)
        members: BinaryIO = igzip.open(file)
        while members.read(_READ_BUFFER_BYTES):
            pass


@contextlib.contextmanager
def _path_for_tensorflow(path: str) -> Iterator[str]:
    """Yields a path that TensorFlow can open: `path` itself, or a copy that lives as long."""
    import tensorflow as tf

    try:
        tf.io.gfile.stat(path)
    except tf.errors.UnimplementedError:
        with tempfile.TemporaryDirectory(prefix="bulk_inferencer-") as folder:
            copy = os.path.join(folder, "input")
            with files.open_to_read(path) as source, open(copy, "wb") as target:
                shutil.copyfileobj(source, target, _READ_BUFFER_BYTES)
            yield copy
    else:
        yield path
