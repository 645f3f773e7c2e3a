"""TFRecord files: read in chunks of records, written as framed and compressed shards.

Source of the format: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator, Sequence

import google_crc32c
import numpy as np
from isal import isal_zlib

from bulk_inferencer import files
from bulk_inferencer.errors import InputError

_CRC_MASK_DELTA = 0xA282EAD8
_LENGTH_BYTES = 8
_HEADER_BYTES = 12
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WINDOW_BITS = 31  # 15, plus 16 for a gzip header; it carries no time, so bytes repeat.
_READ_BUFFER_BYTES = 8 << 20
_PROBED_RECORDS = 16


def read_chunks(path: str, max_records: int, max_bytes: int) -> Iterator[list[bytes]]:
    """Reads a TFRecord file, plain or gzip, through TensorFlow's C++ reader.

    Args:
      path: a file on any filesystem that Beam or TensorFlow can open.
      max_records: most records in one chunk.
      max_bytes: how many bytes a chunk should hold at most, judged by the file's first records,
        so that large records do not fill the memory.

    Yields:
      Chunks of serialized records, in the order of the file.

    Raises:
      InputError: the file does not exist or is damaged. Errors that may pass, such as a network's,
        come as they are, for the runner to try again.
    """
    import tensorflow as tf

    read = 0
    try:
        with _path_for_tensorflow(path) as local_path:
            dataset = tf.data.TFRecordDataset(
                local_path, _compression(local_path), buffer_size=_READ_BUFFER_BYTES
            )
            probed = [len(record) for record in dataset.take(_PROBED_RECORDS).as_numpy_iterator()]
            if not probed:
                return
            mean_bytes = max(1, sum(probed) // len(probed))
            size = max(1, min(max_records, max_bytes // mean_bytes))
            for chunk in dataset.batch(size).prefetch(1).as_numpy_iterator():
                records = chunk.tolist()
                read += len(records)
                yield records
    except (tf.errors.DataLossError, tf.errors.NotFoundError) as error:
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
