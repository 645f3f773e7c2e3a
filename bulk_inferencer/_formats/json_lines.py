"""JSON Lines files as the input of a run."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json as pj

from bulk_inferencer._checks import check_flag
from bulk_inferencer._formats.column_types import column_types
from bulk_inferencer._formats.columns import ColumnView
from bulk_inferencer._formats.damage import DamagedError
from bulk_inferencer._formats.exact_numbers import LARGEST_EXACT, exact_type, has_long_numbers
from bulk_inferencer._formats.input_format import InputFile, Kept
from bulk_inferencer._formats.table_columns import TableColumns, table_columns, wider
from bulk_inferencer._formats.text_lines import (
    BOM,
    HEAD_BYTES,
    Beginning,
    LinesReader,
    count_lines,
    heads,
    lines_of,
    shown,
)
from bulk_inferencer.errors import InputError

_NAME = "JSON Lines"
_MOST_INFERRED = 8  # files
_BETWEEN = b"}\n{"
_MOST_DEEP = 100
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\Z)', re.S)  # of which the last may be open
_OPENING, _BRACKETS = b"{[", b"{}[]"
_NO_OPENING, _NO_BRACKETS = (bytes(set(range(256)) - {*own}) for own in (b"{[\n", _BRACKETS))
_ALL_ALIKE = bytes.maketrans(b"{", b"[")
_TOO_DEEP = f"The line has lists or objects in each other, more than {_MOST_DEEP} levels deep"
_SEVERAL = re.compile(rb"\}[ \t\r]*(?:null|\{)")  # in a line
_NO_COLUMNS = pa.schema([("\0", pa.null())])  # of which no key has the name
_GUARD = b"\n{}"  # which pyarrow does not reach if it takes something in a line for the end


@dataclass(frozen=True)
class JSONLines:
    """JSON Lines files, plain or compressed with gzip: each line is an object, and a record.

    ```python
    InferenceJob(..., input_format=JSONLines(types={"score": "float32", "tags": "list<text>"}))
    ```

    Columns and types are told by the first megabyte of the first file, and of some others. Text
    stays text, even if it looks like a time. A column that is always null there is text. Whole
    numbers that float64 would round, which are those above 2**53, are int64 or uint64. Where the
    first one in a column of floats comes later in the file, it is rounded, so give such a column a
    type.

    A key that is missing in a line is null there. A line that is no object, or has more than 100
    levels, a value that does not fit the type of its column, and a key that is no column make a
    failure of their record. So a key that may be missing in all of the first lines must be named in
    `types`, or left out by naming the columns that models see.

    Attributes:
      types: for a column, `int64`, `float32`, `bool`, `text`, `bytes`, `timestamp[us]`,
        `list<float32>` or another name of pyarrow's.
      partitions: whether folders named `column=value` stand for columns.

    Raises:
      SettingsError: there is no such type.
    """

    types: Mapping[str, str] = field(default_factory=dict)
    partitions: bool = True

    def __post_init__(self) -> None:
        check_flag("JSONLines.partitions", self.partitions)
        column_types("JSONLines.types", self.types, with_lists=True)
        object.__setattr__(self, "types", dict(sorted(self.types.items())))

    def reader(self, files: Sequence[InputFile], view: ColumnView, kept: Kept) -> LinesReader:
        """See `InputFormat`."""
        own = column_types("JSONLines.types", self.types, with_lists=True)
        declared = pa.schema(list(own.items()))
        found = heads(files, _NAME, _MOST_INFERRED)
        types: dict[str, pa.DataType] = {}
        first: list[bytes] = []
        for _, head in found:
            rows = [row for row in map(bytes.strip, lines_of(_first_lines(head))) if _is_safe(row)]
            types = _merged(types, _inferred(rows, declared))
            first += rows
        types, rounded = _exact(first, {**types, **own}, own)
        if files and not types and not own:
            raise InputError(_nothing(files[0].path, found))
        schema = pa.schema(
            [(name, own.get(name, _declared(kind))) for name, kind in {**own, **types}.items()]
        )
        paths = [file.path for file in files]
        columns = table_columns(schema, paths, view, kept, partitions=self.partitions)
        for name in columns.own.names:
            if name in rounded:
                raise InputError(
                    f"Column '{name}' holds {rounded[name]}, which float64 rounds, and no other "
                    f"type of numbers holds all values of the column as they are. Name a type in "
                    f"JSONLines.types, such as float64, or leave the column out with columns=."
                )
        return LinesReader(_JSONFormat(columns))


@dataclass(frozen=True)
class _JSONFormat:
    """JSON Lines as a `LineFormat`."""

    columns: TableColumns

    name = _NAME
    has_parts = True

    def begin(self, path: str, head: bytes) -> Beginning:
        offset = len(BOM) if head.startswith(BOM) else 0
        return Beginning(offset, _JSONRows(self.columns.own, self.columns.view.is_whole))


class _JSONRows:
    """Makes rows of JSON Lines; a `RowParser`."""

    def __init__(self, own: pa.Schema, is_whole: bool) -> None:
        # A table without columns would have no rows either.
        self.schema = own if own.names else _NO_COLUMNS
        self._unexpected = "error" if is_whole else "ignore"

    def last_end(self, content: bytes) -> int:
        return content.rfind(b"\n") + 1

    def split(self, content: bytes) -> list[bytes]:
        return [line for line in lines_of(content) if line.strip()]

    def count(self, content: bytes) -> int:
        count = count_lines(content)
        # If other lines end or begin with blanks, they may be blank.
        return count if content.count(_BETWEEN) == count - 1 else len(self.split(content))

    def parse(self, content: bytes) -> pa.Table | None:
        content = content.strip()
        if not content:
            return self.schema.empty_table()
        count = _objects(content)
        if count is None or not _are_safe(content):
            return None
        try:
            if not content.isascii():
                content.decode()  # pyarrow would make text of anything
        except UnicodeDecodeError:
            return None
        return _table(content, count, self.schema, self._unexpected)

    def damage(self, row: bytes) -> DamagedError | None:
        return None  # Each line is a record, whatever is in it.

    def reason(self, row: bytes) -> str:
        text = shown(row.decode(errors="replace"))
        try:
            value = json.loads(row.decode())
        except UnicodeDecodeError:
            return f"The line is not UTF-8: {text}"
        except RecursionError:
            return f"{_TOO_DEEP}: {text}"
        except ValueError as error:
            return f"The line is no JSON ({error}): {text}"
        if not isinstance(value, dict):
            return f"The line is no JSON object: {text}"
        if _depth(row) > _MOST_DEEP:
            return f"{_TOO_DEEP}: {text}"
        for name, own in value.items():
            index = self.schema.get_field_index(name)
            if index < 0:
                if self._unexpected == "error":
                    return (
                        f"The key '{name}' is in none of the first lines, so it is no column. Name "
                        f"it in JSONLines.types, or leave it out with columns=, which names the "
                        f"others: {text}"
                    )
                continue
            try:
                line = json.dumps({name: own}).encode()
                _read(line, pa.schema([self.schema.field(index)]), "error")
            except pa.ArrowInvalid:
                kind = self.schema.field(index).type
                return f"Column '{name}' holds {shown(own)}, which is no {kind}."
        try:
            _read(row, self.schema, self._unexpected)
        except pa.ArrowInvalid as error:
            return f"{str(error).removesuffix(' in row 0')}: {text}"
        return f"The line is no JSON object: {text}"


def _read(content: bytes, schema: pa.Schema | None, unexpected: str) -> pa.Table:
    return pj.read_json(
        pa.py_buffer(content),
        read_options=pj.ReadOptions(use_threads=False, block_size=len(content) + 1),
        parse_options=pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior=unexpected),
    )


def _table(content: bytes, count: int, schema: pa.Schema, unexpected: str) -> pa.Table | None:
    """Returns lines as so many rows; None if any of them is bad."""
    try:
        table = _read(content + _GUARD, schema, unexpected)
    except pa.ArrowInvalid:
        return None
    return table.slice(0, count) if table.num_rows == count + 1 else None


def _objects(content: bytes) -> int | None:
    """Returns the number of lines; None if not each of them begins and ends like an object."""
    if not (content.startswith(b"{") and content.endswith(b"}")):
        return None
    between = content.count(_BETWEEN)
    if between == content.count(b"\n"):
        return between + 1
    rows = [line.strip() for line in lines_of(content)]
    rows = [row for row in rows if row]
    return len(rows) if all(row[:1] == b"{" and row[-1:] == b"}" for row in rows) else None


def _are_safe(content: bytes) -> bool:
    """Returns whether pyarrow can be given lines.

    With others it may crash instead of raising, or find several rows in one.
    """
    # No line of this block opens so many, be they in strings or not, so no line can be too deep.
    opening = content.translate(_ALL_ALIKE, _NO_OPENING)
    if b"[" * (_MOST_DEEP + 1) not in opening and not _SEVERAL.search(content):
        return True
    return all(map(_is_safe, map(bytes.strip, lines_of(content))))


def _is_safe(line: bytes) -> bool:
    if not (line[:1] == b"{" and line[-1:] == b"}"):  # such as `null`
        return False
    if sum(map(line.count, (b"{", b"["))) <= _MOST_DEEP and not _SEVERAL.search(line):
        return True
    return _depth(line) <= _MOST_DEEP and not _SEVERAL.search(_STRING.sub(b"", line))


def _depth(line: bytes) -> int:
    """Returns how many objects and lists are in each other at most."""
    brackets = np.frombuffer(_STRING.sub(b"", line).translate(None, _NO_BRACKETS), np.uint8)
    steps = np.where(np.isin(brackets, list(_OPENING)), 1, -1)
    return int(np.cumsum(steps).max(initial=0))


def _first_lines(head: bytes) -> bytes:
    head = head.removeprefix(BOM)
    return head if len(head) < HEAD_BYTES - len(BOM) else head[: head.rfind(b"\n") + 1]


def _inferred(rows: Sequence[bytes], declared: pa.Schema) -> dict[str, pa.DataType]:
    """Returns columns and their types, by those rows that can be read."""
    if not rows:
        return {}
    table = _table(b"\n".join(rows), len(rows), declared, "infer")
    if table is not None:
        return dict(zip(table.schema.names, table.schema.types, strict=True))
    if len(rows) == 1:
        return {}
    middle = len(rows) // 2
    return _merged(_inferred(rows[:middle], declared), _inferred(rows[middle:], declared))


def _merged(
    one: Mapping[str, pa.DataType], other: Mapping[str, pa.DataType]
) -> dict[str, pa.DataType]:
    """Returns the types for what two files hold. Where they differ too much, the first decides."""
    types = dict(one)
    for name, kind in other.items():
        types[name] = _common(types[name], kind) if name in types else kind
    return types


def _common(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    if pa.types.is_list(one) and pa.types.is_list(other):
        return pa.list_(_common(one.value_type, other.value_type))
    if pa.types.is_integer(one) and pa.types.is_floating(other):
        return other
    return wider(one, other) or one


def _exact(
    rows: Sequence[bytes], types: Mapping[str, pa.DataType], settled: Collection[str]
) -> tuple[dict[str, pa.DataType], dict[str, int]]:
    """Returns types that round no whole number, and a number of each column that has none."""
    exact, rounded = dict(types), dict[str, int]()
    floats = [
        name
        for name, kind in types.items()
        if name not in settled and pa.types.is_floating(_innermost(kind))
    ]
    if not floats or not any(map(has_long_numbers, rows)):
        return exact, rounded
    values: dict[str, list[Any]] = {name: [] for name in floats}
    for row in rows:
        try:
            record = json.loads(row)
        except ValueError:  # a bad row, which decides about nothing
            continue
        for name in floats:
            values[name] += _numbers(record.get(name))
    for name in floats:
        whole = [value for value in values[name] if type(value) is int]
        kind = exact_type(whole, len(whole) == len(values[name]))
        if kind is None:
            rounded[name] = next(value for value in whole if abs(value) > LARGEST_EXACT)
        else:
            exact[name] = _with_innermost(types[name], kind)
    return exact, rounded


def _numbers(value: Any) -> list[Any]:
    """Returns the numbers in a value, which may be a list."""
    if isinstance(value, list):
        return [number for item in value for number in _numbers(item)]
    return [value] if type(value) in (int, float) else []


def _innermost(kind: pa.DataType) -> pa.DataType:
    return _innermost(kind.value_type) if pa.types.is_list(kind) else kind


def _with_innermost(kind: pa.DataType, inner: pa.DataType) -> pa.DataType:
    is_list = pa.types.is_list(kind)
    return pa.list_(_with_innermost(kind.value_type, inner)) if is_list else inner


def _declared(kind: pa.DataType) -> pa.DataType:
    """Returns the type for all rows of a column that had an inferred type in the first ones."""
    if pa.types.is_list(kind):
        return pa.list_(_declared(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(own.name, _declared(own.type)) for own in kind])
    if pa.types.is_null(kind) or pa.types.is_timestamp(kind):
        return pa.string()
    return kind


def _nothing(path: str, found: Sequence[tuple[str, bytes]]) -> str:
    if not found:
        return (
            f"{path} is empty, and so is every other file, so nothing says which columns there "
            f"are. Name them in JSONLines.types, or leave out the files."
        )
    path, head = found[0]
    line = shown(lines_of(head)[0].decode(errors="replace"))
    return (
        f"Cannot read {path} as JSON Lines: none of its first lines is a JSON object with a key. "
        f"It begins with {line}. Write each record as an object into a line of its own."
    )
