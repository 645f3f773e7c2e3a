"""Recognizes files that are not TFRecord by what they begin with, so that messages can say so."""

from __future__ import annotations

import json

_CONVERT = (
    "Write each of its records as a serialized tf.Example into a TFRecord file, for example with "
    "tf.io.TFRecordWriter."
)
_UNPACK = "Unpack it: a TFRecord file is plain, gzip or zlib."

# https://en.wikipedia.org/wiki/List_of_file_signatures
_SIGNATURES = {
    b"PAR1": ("a Parquet file", _CONVERT),
    b"Obj\x01": ("an Avro file", _CONVERT),
    b"ORC": ("an ORC file", _CONVERT),
    b"ARROW1": ("an Arrow file", _CONVERT),
    b"\x93NUMPY": ("a NumPy file", _CONVERT),
    b"SQLite format 3\x00": ("an SQLite database", _CONVERT),
    b"\x89HDF": ("an HDF5 file", _CONVERT),
    b"PK\x03\x04": ("a zip archive", _UNPACK),
    b"BZh": ("compressed with bzip2", _UNPACK),
    b"\xfd7zXZ\x00": ("compressed with xz", _UNPACK),
    b"\x28\xb5\x2f\xfd": ("compressed with Zstandard", _UNPACK),
}
_NOT_IN_TEXT = bytes(set(range(32)) - set(b"\t\n\f\r"))
_DELIMITERS = (",", ";", "\t", "|")


def recognized(start: bytes) -> tuple[str, str] | None:
    """Returns what a file is and what to do about it, or None if its start looks like nothing.

    Args:
      start: some kilobytes from its start, as decompressed, or all of a shorter file.
    """
    for signature, known in _SIGNATURES.items():
        if start.startswith(signature):
            return known
    if not start.strip() or start.translate(None, _NOT_IN_TEXT) != start:
        return None
    return f"a {_kind_of_text(start.decode('utf-8-sig', 'replace'))} file", _CONVERT


def _kind_of_text(start: str) -> str:
    lines = start.strip().splitlines()
    if lines[0].startswith(("{", "[")):
        return "JSON Lines" if _is_object(lines[0]) else "JSON"
    for delimiter in _DELIMITERS:
        columns = {line.count(delimiter) for line in lines[:2]}
        if len(columns) == 1 and columns != {0}:
            return "CSV"
    return "text"


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
