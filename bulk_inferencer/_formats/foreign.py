"""Recognizes what files are by what they begin with."""

from __future__ import annotations

import json
from typing import NamedTuple

_CONVERT = "Write its records into Parquet, CSV, JSON Lines or TFRecord files."
_UNPACK = "Unpack it: only TFRecord, CSV and JSON Lines may be compressed, with gzip."


class Kind(NamedTuple):
    """What a file is.

    Attributes:
      what: as messages say it, such as `a CSV file`.
      format: the name of the input format that reads it; None if none does.
      advice: what to do if it is read as something else.
      delimiter: of CSV.
    """

    what: str
    format: str | None
    advice: str
    delimiter: str = ","


def _read_as(what: str, name: str) -> Kind:
    return Kind(what, name, f'Read it with input_format="{name}".')


# https://en.wikipedia.org/wiki/List_of_file_signatures
_SIGNATURES = {
    b"PAR1": _read_as("a Parquet file", "parquet"),
    b"PARE": _read_as("an encrypted Parquet file", "parquet"),
    b"Obj\x01": Kind("an Avro file", None, _CONVERT),
    b"ORC": Kind("an ORC file", None, _CONVERT),
    b"ARROW1": Kind("an Arrow file", None, _CONVERT),
    b"\x93NUMPY": Kind("a NumPy file", None, _CONVERT),
    b"SQLite format 3\x00": Kind("an SQLite database", None, _CONVERT),
    b"\x89HDF": Kind("an HDF5 file", None, _CONVERT),
    b"PK\x03\x04": Kind("a zip archive", None, _UNPACK),
    b"BZh": Kind("compressed with bzip2", None, _UNPACK),
    b"\xfd7zXZ\x00": Kind("compressed with xz", None, _UNPACK),
    b"\x28\xb5\x2f\xfd": Kind("compressed with Zstandard", None, _UNPACK),
    b"\xff\xd8\xff": _read_as("a JPEG image", "files"),
    b"\x89PNG\r\n\x1a\n": _read_as("a PNG image", "files"),
    b"GIF87a": _read_as("a GIF image", "files"),
    b"GIF89a": _read_as("a GIF image", "files"),
    b"II*\x00": _read_as("a TIFF image", "files"),
    b"MM\x00*": _read_as("a TIFF image", "files"),
    b"%PDF-": _read_as("a PDF document", "files"),
    b"fLaC": _read_as("a FLAC file", "files"),
    b"OggS": _read_as("an Ogg file", "files"),
    b"ID3": _read_as("an MP3 file", "files"),
}
_RIFF = {b"WEBP": _read_as("a WebP image", "files"), b"WAVE": _read_as("a WAV file", "files")}
_NOT_IN_TEXT = bytes(set(range(32)) - set(b"\t\n\f\r"))
_DELIMITERS = (",", ";", "\t", "|")
_TEXT = Kind(
    "a text file",
    None,
    'Read it with input_format="csv" if each line is a record, or with input_format="files" if all '
    "of it is one.",
)


JSON = Kind(
    "a JSON file",
    None,
    "Write each of its records as a JSON object into a line of its own: JSON Lines.",
)


def signed(start: bytes) -> Kind | None:
    """Returns what a file is whose kind has a signature; see `kind_of`."""
    if _is_text(start):  # which may begin with any letters
        return None
    for signature, kind in _SIGNATURES.items():
        if start.startswith(signature):
            return kind
    return _RIFF.get(start[8:12]) if start.startswith(b"RIFF") else None


def kind_of(start: bytes) -> Kind | None:
    """Returns what a file is, or None if its start looks like nothing.

    Args:
      start: some kilobytes from its start, as decompressed, or all of a shorter file.
    """
    kind = signed(start)
    if kind or not start.strip() or not _is_text(start):
        return kind
    return _kind_of_text(start.decode("utf-8-sig", "replace"))


def _is_text(start: bytes) -> bool:
    return start.translate(None, _NOT_IN_TEXT) == start


def _kind_of_text(start: str) -> Kind:
    lines = start.strip().splitlines()
    if lines[0].startswith(("{", "[")):
        if _is_object(lines[0]):
            return _read_as("a JSON Lines file", "json_lines")
        return JSON
    for delimiter in _DELIMITERS:
        columns = {line.count(delimiter) for line in lines[:2]}
        if len(columns) == 1 and columns != {0}:
            return _read_as("a CSV file", "csv")._replace(delimiter=delimiter)
    return _TEXT


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
