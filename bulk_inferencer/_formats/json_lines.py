"""JSON Lines files as the input of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.json as pj

from bulk_inferencer._formats.column_types import column_types
from bulk_inferencer._formats.columns import ColumnView
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


@dataclass(frozen=True)
class JSONLines:
    """JSON Lines files, plain or compressed with gzip: each line is an object, and a record.

    ```python
    InferenceJob(..., input_format=JSONLines(types={"score": "float32", "tags": "list<text>"}))
    ```

    Columns and types are told by the first megabyte of the first file, and of some others. Text
    stays text, even if it looks like a time. A column that is always null there is text. A key
    that is missing in a line is null there. A line that is no object, a value that does not fit the
    type of its column, and a key that is no column make a failure of their record. So a key that
    may be missing in all of the first lines must be named in `types`, or left out by naming the
    columns that models see.

    Attributes:
      types: for a column, `int64`, `float32`, `bool`, `text`, `bytes`, `timestamp[us]`,
        `list<float32>` or another name of pyarrow's.

    Raises:
      SettingsError: there is no such type.
    """

    types: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        column_types("JSONLines.types", self.types, with_lists=True)

    def reader(self, files: Sequence[InputFile], view: ColumnView, kept: Kept) -> LinesReader:
        """See `InputFormat`."""
        own = column_types("JSONLines.types", self.types, with_lists=True)
        declared = pa.schema(list(own.items()))
        found = heads(files, _NAME, _MOST_INFERRED)
        types: dict[str, pa.DataType] = {}
        for _, head in found:
            rows = lines_of(_first_lines(head))
            types = _merged(types, _inferred(rows, declared))
        if files and not types and not own:
            raise InputError(_nothing(files[0].path, found))
        schema = pa.schema(
            [(name, own.get(name, _declared(kind))) for name, kind in {**own, **types}.items()]
        )
        columns = table_columns(schema, [file.path for file in files], view, kept)
        return LinesReader(_JSONFormat(columns), columns)


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
        self.schema = own
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
        try:
            if not content.isascii():
                content.decode()  # pyarrow would make text of anything
            table = _read(content, self.schema, self._unexpected)
        except (pa.ArrowInvalid, UnicodeDecodeError):
            return None
        # pyarrow takes an object for a row wherever it begins and ends.
        return table if table.num_rows == _objects(content) else None

    def reason(self, row: bytes) -> str:
        text = shown(row.decode(errors="replace"))
        try:
            value = json.loads(row)
        except UnicodeDecodeError:
            return f"The line is not UTF-8: {text}"
        except ValueError as error:
            return f"The line is no JSON ({error}): {text}"
        if not isinstance(value, dict):
            return f"The line is no JSON object: {text}"
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


def _first_lines(head: bytes) -> bytes:
    head = head.removeprefix(BOM)
    return head if len(head) < HEAD_BYTES - len(BOM) else head[: head.rfind(b"\n") + 1]


def _inferred(rows: Sequence[bytes], declared: pa.Schema) -> dict[str, pa.DataType]:
    """Returns columns and their types, by those rows that can be read."""
    if not rows:
        return {}
    try:
        schema = _read(b"\n".join(rows), declared, "infer").schema
        return dict(zip(schema.names, schema.types, strict=True))
    except pa.ArrowInvalid:
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
