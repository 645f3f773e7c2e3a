"""CSV files as the input of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pac
import pyarrow.csv as pc

from bulk_inferencer._checks import check_flag, check_tuple, did_you_mean, doubled
from bulk_inferencer._formats.column_types import column_types
from bulk_inferencer._formats.columns import ColumnView
from bulk_inferencer._formats.csv_rows import CSVRows, header_of, parse_options, well_formed
from bulk_inferencer._formats.damage import DamagedError, reading
from bulk_inferencer._formats.exact_numbers import exact_type, has_long_numbers
from bulk_inferencer._formats.input_format import InputFile, Kept
from bulk_inferencer._formats.table_columns import (
    TableColumns,
    table_columns,
)
from bulk_inferencer._formats.text_lines import (
    HEAD_BYTES,
    Beginning,
    LinesReader,
    heads,
    is_blank,
)
from bulk_inferencer.errors import InputError, SettingsError

_NAME = "CSV"
_MOST_INFERRED = 8  # files
_NO_SEPARATORS = ("\r", "\n", "\0")
_ALIKE = "Write it into all files, or leave it out with columns=, which names the others."


@dataclass(frozen=True)
class CSV:
    """CSV files, plain or compressed with gzip, in UTF-8.

    ```python
    InferenceJob(..., input_format=CSV(delimiter=";", types={"zip": "text"}))
    ```

    Types are told by the first megabyte of the first file, and of some others, which may make
    floats of whole numbers. A column without any value there is text. Whole numbers that float64
    would round, which are those above 2**53, are int64, or uint64, or else text. Where the first
    one in a column of floats comes later in the file, it is rounded, so give such a column a type.

    A value that does not fit the type of its column makes a failure of its row, and so do a wrong
    number of values, bytes that are not UTF-8, and NUL. Blank lines are no rows. All files have the
    same columns, in any order. A quoted value that does not end in its line is damage of the file
    unless `newlines_in_values` is set.

    Attributes:
      delimiter: what separates values, one character.
      quote: what values stand in that hold the delimiter; twice where it belongs to the value.
        Empty if nothing does.
      header: whether the first line of each file names the columns.
      names: names of the columns, instead of those in the header. Without either, they are `f0`,
        `f1`, and so on.
      types: for a column, `int64`, `float32`, `bool`, `text`, `bytes`, `date32`, `timestamp[us]` or
        another name of pyarrow's.
      null_values: what stands for null, in columns that are not text.
      newlines_in_values: whether quoted values hold line breaks. If so, a file cannot be spread
        over workers.
      partitions: whether folders named `column=value` stand for columns.

    Raises:
      SettingsError: a setting is of the wrong kind, or contradicts another.
    """

    delimiter: str = ","
    quote: str = '"'
    header: bool = True
    names: tuple[str, ...] = ()
    types: Mapping[str, str] = field(default_factory=dict)
    null_values: tuple[str, ...] = ("", "NA", "N/A", "#N/A", "NULL", "null")
    newlines_in_values: bool = False
    partitions: bool = True

    def __post_init__(self) -> None:
        for name, least in (("delimiter", 1), ("quote", 0)):
            value = getattr(self, name)
            is_text = isinstance(value, str) and least <= len(value) <= 1 and value.isascii()
            if not is_text or value in _NO_SEPARATORS:
                wanted = "an ASCII character" if least else "an ASCII character or ''"
                raise SettingsError(
                    f"CSV.{name} must be {wanted}, and no line break, not {value!r}."
                )
        if self.delimiter == self.quote:
            raise SettingsError(
                f"CSV.delimiter and CSV.quote are both {self.quote!r}. Change one of them."
            )
        check_flag("CSV.header", self.header)
        check_flag("CSV.newlines_in_values", self.newlines_in_values)
        check_flag("CSV.partitions", self.partitions)
        check_tuple("CSV.names", self.names, str)
        check_tuple("CSV.null_values", self.null_values, str)
        if twice := doubled(self.names):
            raise SettingsError(f"CSV.names holds {twice} twice. Each column needs its own name.")
        column_types("CSV.types", self.types)
        object.__setattr__(self, "types", dict(sorted(self.types.items())))
        unknown = sorted(self.types.keys() - set(self.names))
        if self.names and unknown:
            raise SettingsError(f"CSV.types names '{unknown[0]}', which CSV.names does not.")

    def reader(self, files: Sequence[InputFile], view: ColumnView, kept: Kept) -> LinesReader:
        """See `InputFormat`."""
        found = heads(files, _NAME, _MOST_INFERRED)
        types: dict[str, pa.DataType] = {}
        for path, head in found:
            with _beginning(path):
                inferred = _inferred(self, path, head)
            for name, kind in inferred.items():
                types[name] = _merged(types.get(name, pa.null()), kind)
        own = column_types("CSV.types", self.types)
        types |= _exact(self, found, [n for n in types if n not in own and _is_float(types[n])])
        if not found:
            types = dict.fromkeys(self.names, pa.null())
            if files and not types:
                raise InputError(
                    f"{files[0].path} is empty, and so is every other file, so nothing says which "
                    f"columns there are. Name them in CSV.names, or leave out the files."
                )
        for name in own if found else ():
            if name not in types:
                raise InputError(
                    f"CSV.types names the column '{name}', but {found[0][0]} has "
                    f"{', '.join(types)}.{did_you_mean(name, types)} Correct it."
                )
        schema = pa.schema([(name, own.get(name, _declared(kind))) for name, kind in types.items()])
        paths = [file.path for file in files]
        columns = table_columns(schema, paths, view, kept, partitions=self.partitions)
        lines = _CSVLines(self, columns)
        for path, head in found:
            with _beginning(path):
                lines.begin(path, head)
        return LinesReader(lines)


def _beginning(path: str) -> contextlib.AbstractContextManager[None]:
    return reading(path, _NAME, lambda: "at its start")


@dataclass(frozen=True)
class _CSVLines:
    """CSV as a `LineFormat`.

    Attributes:
      settings: how to read it.
      columns: which columns to read.
    """

    settings: CSV
    columns: TableColumns

    name = _NAME

    @property
    def has_parts(self) -> bool:
        return not self.settings.newlines_in_values

    def begin(self, path: str, head: bytes) -> Beginning:
        own = self.columns.own
        wanted = dict.fromkeys(own.names)
        if is_blank(head):
            return Beginning(len(head), CSVRows(self.settings, tuple(wanted), own))
        offset, names = header_of(self.settings, path, head)
        found = frozenset(names)
        for name in (name for name in wanted if name not in found):
            raise DamagedError(f"it has no column '{name}', which other files have", _ALIKE)
        extra = [name for name in names if name not in wanted]
        if self.columns.view.is_whole and extra:
            raise DamagedError(
                f"it has a column '{extra[0]}', which other files do not have", _ALIKE
            )
        return Beginning(offset, CSVRows(self.settings, names, own))


def _inferred(settings: CSV, path: str, head: bytes) -> dict[str, pa.DataType]:
    """Returns the types of the columns of a file, by its first rows."""
    names, rows = _first_rows(settings, path, head)
    types: dict[str, pa.DataType] = dict.fromkeys(names, pa.null())
    unknown = [name for name in names if name not in settings.types]
    if not rows.strip(b"\r\n") or not unknown:
        return types
    schema = _read(settings, names, rows, include_columns=unknown).schema
    return {**types, **dict(zip(schema.names, schema.types, strict=True))}


def _exact(
    settings: CSV, found: Sequence[tuple[str, bytes]], floats: Sequence[str]
) -> dict[str, pa.DataType]:
    """Returns the types of columns of floats, or others where floats would round whole numbers."""
    if not floats or not any(has_long_numbers(head) for _, head in found):
        return {}
    texts: dict[str, list[pa.Array]] = {name: [] for name in floats}
    for path, head in found:
        names, rows = _first_rows(settings, path, head)
        own = [name for name in floats if name in names]
        if not rows.strip(b"\r\n") or not own:
            continue
        as_text = dict.fromkeys(own, pa.string())
        table = _read(
            settings,
            names,
            rows,
            include_columns=own,
            column_types=as_text,
            strings_can_be_null=True,
            check_utf8=False,  # as in the column of another file that is text
        )
        for name in own:
            texts[name] += table[name].chunks
    return {name: _exact_type(parts) for name, parts in texts.items()}


def _exact_type(texts: list[pa.Array]) -> pa.DataType:
    values = pa.chunked_array(texts, pa.string()).drop_null()
    is_whole = pac.match_substring_regex(values, r"^\s*-?\d+\s*$")
    whole = values.filter(is_whole).to_pylist()
    return exact_type(list(map(int, whole)), len(whole) == len(values)) or pa.string()


def _first_rows(settings: CSV, path: str, head: bytes) -> tuple[tuple[str, ...], bytes]:
    """Returns the names of the columns of a file, and the bytes of its first rows."""
    offset, names = header_of(settings, path, head)
    rows = head[offset:]
    if len(head) >= HEAD_BYTES:
        parser = CSVRows(settings, names, pa.schema([]))
        rows = rows[: parser.last_end(rows)]
    return names, well_formed(settings, rows)


def _read(settings: CSV, names: tuple[str, ...], rows: bytes, **options: Any) -> pa.Table:
    return pc.read_csv(
        pa.py_buffer(rows),
        read_options=pc.ReadOptions(
            use_threads=False, column_names=names, block_size=len(rows) + 1
        ),
        parse_options=parse_options(settings, lambda row: "skip"),
        convert_options=pc.ConvertOptions(null_values=list(settings.null_values), **options),
    )


def _is_float(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind))


def _merged(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """Returns the type for what two files hold. If it is too different, the first one decides."""
    if pa.types.is_null(one) or (pa.types.is_integer(one) and pa.types.is_floating(other)):
        return other
    if pa.types.is_date(one) and pa.types.is_timestamp(other):
        return other
    return one


def _declared(kind: pa.DataType) -> pa.DataType:
    """Returns the type for all rows of a column that had an inferred type in the first ones."""
    if pa.types.is_null(kind) or pa.types.is_binary(kind) or pa.types.is_time(kind):
        return pa.string()
    if pa.types.is_timestamp(kind) and kind.unit == "s":
        return pa.timestamp("us", kind.tz)
    return kind
