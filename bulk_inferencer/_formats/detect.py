"""Which format input files have, as their content and their names say."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Sequence

from bulk_inferencer import _files
from bulk_inferencer._formats import foreign, tfrecord
from bulk_inferencer._formats.csv import CSV
from bulk_inferencer._formats.damage import reading
from bulk_inferencer._formats.framing import begins_with_length
from bulk_inferencer._formats.input_format import InputFile, InputFormat
from bulk_inferencer._formats.json_lines import JSONLines
from bulk_inferencer._formats.parquet import Parquet
from bulk_inferencer._formats.tfrecord_reader import TFRecord
from bulk_inferencer._formats.whole_files import WholeFiles
from bulk_inferencer.errors import InputError, SettingsError

_FORMATS: dict[str, Callable[[], InputFormat]] = {
    "tfrecord": TFRecord,
    "parquet": Parquet,
    "csv": CSV,
    "json_lines": JSONLines,
    "files": WholeFiles,
}
_EXTENSIONS = {
    **dict.fromkeys((".tfrecord", ".tfrecords", ".tfrec"), "tfrecord"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    **dict.fromkeys((".csv", ".tsv"), "csv"),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "json_lines"),
    **dict.fromkeys((".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff"), "files"),
    **dict.fromkeys((".wav", ".mp3", ".flac", ".ogg", ".txt", ".md", ".html", ".pdf"), "files"),
}
_COMPRESSED = (".gz", ".gzip", ".zlib")
_SHARD = re.compile(r"-\d+-of-\d+$")
_MOST_OPENED = 32


def named_format(value: InputFormat | str) -> InputFormat:
    """Returns a format by its name; a format itself as it is.

    Raises:
      SettingsError: there is no such format.
    """
    if isinstance(value, str) and value in _FORMATS:
        return _FORMATS[value]()
    if not isinstance(value, (str, type)) and callable(getattr(value, "reader", None)):
        return value
    names = ", ".join(f'"{name}"' for name in _FORMATS)
    raise SettingsError(
        f"input_format must be one of {names}, or a format such as CSV(), not {value!r}."
    )


def format_name(own: InputFormat) -> str:
    """Returns the name of a format; that of its class if it is none of ours."""
    kind = type(own)
    return next((name for name, known in _FORMATS.items() if known is kind), kind.__name__)


def format_of(files: Sequence[InputFile]) -> InputFormat:
    """Returns the format of files, as their content and names say.

    One file of each extension is opened. Where nothing says what a file is, it is TFRecord.

    Raises:
      InputError: files have different formats, or one that cannot be read.
    """
    found: dict[str, str] = {}  # a file of each format
    delimiters: dict[str, str] = {}
    for file in _to_open(files):
        name, delimiter = _told(file)
        if name:
            found.setdefault(name, file.path)
        delimiters.setdefault(delimiter, file.path)
    delimiters.pop("", None)
    if len(found) > 1:
        (one, path), (other, other_path) = list(found.items())[:2]
        raise InputError(
            f'All files must have one format, but {path} is "{one}", and {other_path} is '
            f'"{other}". Leave out the files that are no inputs, or set input_format.'
        )
    if len(delimiters) > 1:
        (one, path), (other, other_path) = list(delimiters.items())[:2]
        raise InputError(
            f"All files must have one delimiter, but {path} has {one!r}, and {other_path} "
            f"{other!r}. Run once for each, or set input_format to CSV(delimiter=...)."
        )
    named = (_EXTENSIONS.get(_extension(file.path), "") for file in files)
    name = next(iter(found), "") or next(filter(None, named), "tfrecord")
    if name == "csv":
        return CSV(delimiter=next(iter(delimiters), ","))
    return _FORMATS[name]()


def _to_open(files: Sequence[InputFile]) -> Iterator[InputFile]:
    """Yields the first file of each extension, as far as it holds something."""
    seen: set[str] = set()
    for file in files:
        extension = _extension(file.path)
        if file.bytes and extension not in seen and len(seen) < _MOST_OPENED:
            seen.add(extension)
            yield file


def _extension(path: str) -> str:
    name = _SHARD.sub("", posixpath.basename(path).lower())
    stem, extension = posixpath.splitext(name)
    if extension in _COMPRESSED:
        extension = posixpath.splitext(_SHARD.sub("", stem))[1]
    return extension


def _told(file: InputFile) -> tuple[str, str]:
    """Returns the name of a file's format, and the delimiter of CSV; empty if nothing says so.

    Raises:
      InputError: it cannot be opened, or is of a format that cannot be read.
    """
    with (
        reading(file.path, "records", lambda: "at its start"),
        _files.open_to_read(file.path) as opened,
    ):
        start, is_compressed = tfrecord.start_of(opened)
    extension = _extension(file.path)
    by_name = _EXTENSIONS.get(extension, "")
    if begins_with_length(start):
        return "tfrecord", ""
    if kind := foreign.signed(start):
        if is_compressed:
            raise InputError(f"Cannot read {file.path}: within gzip, it is {kind.what}. Unpack it.")
        if kind.format is None:
            raise InputError(f"Cannot read {file.path}: it is {kind.what}. {kind.advice}")
        return kind.format, ""
    kind = foreign.kind_of(start)
    if by_name == "files" or kind is None:
        return by_name, ""
    # A line of JSON Lines may be broken, and a column of CSV named [id].
    if kind is foreign.JSON and (by_name not in ("csv", "json_lines") or extension == ".json"):
        raise InputError(f"Cannot read {file.path}: it is {kind.what}. {kind.advice}")
    name = kind.format or by_name
    if name == "csv" and by_name == "json_lines":
        name = by_name
    delimiter = "\t" if extension == ".tsv" else kind.delimiter
    return name, delimiter if name == "csv" else ""
