"""Values of a table as short texts for a terminal, column by column."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bulk_inferencer._formats.table_writer import table_writer, unwritable
from bulk_inferencer._layout import JSON_LINES
from bulk_inferencer.cli.terminal import printable
from bulk_inferencer.results.amounts import in_bytes
from bulk_inferencer.results.arrow_tables import values_of

_MOST_VALUES = 4
_FIRST_VALUES = 3
_LONGEST = 200  # characters; terminals are narrower
_MOST_BYTES = 8
_DIGITS, _LEAST_DIGITS = 5, 3  # of the largest number in a column, and of the smallest
_WIDEST = 14
# What would end a line, or turn the direction of what is written behind it.
_TURNING = re.compile("[\t\n\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_ESCAPES = {"\t": "\\t", "\n": "\\n"}


@dataclass(frozen=True)
class Column:
    """What is shown of a column.

    Attributes:
      name: its name.
      texts: its values; None for a null.
      is_number: whether they are numbers, which stand at the right and are never cut.
      keeps_end: whether texts that are too long are cut at their start, as paths are.
      is_whole: whether texts are never cut.
      goes_first: those with more of it are left out before others where there is no room.
    """

    name: str
    texts: Sequence[str | None]
    is_number: bool = False
    keeps_end: bool = False
    is_whole: bool = False
    goes_first: int = 0


def columns_of(table: pa.Table) -> list[Column]:
    """Returns the columns of a table as texts."""
    columns = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = column.type
        is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        is_number = is_number or pa.types.is_decimal(kind)
        values = _values(column)
        if pa.types.is_floating(kind):
            texts: list[str | None] = float_texts(values)
        else:
            texts = [None if value is None else text_of(value) for value in values]
        columns.append(Column(one_line(name), texts, bool(is_number)))
    return columns


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    """Returns rows for JSON: bytes are base64, and NaN and infinities are texts."""
    columns = {
        name: column
        if unwritable(JSON_LINES, pa.schema([(name, column.type)])) is None
        else pa.array([None if own is None else str(own) for own in _values(column)], pa.string())
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    table = pa.table(columns)
    lines = table_writer(JSON_LINES, table.schema).add(table)
    return [json.loads(line) for line in lines.split(b"\n")[:-1]]


def one_line(text: str) -> str:
    """Returns a text from data on one line, without what would control a terminal."""
    text = _TURNING.sub(lambda found: _ESCAPES.get(found[0], f"\\u{ord(found[0]):04x}"), text)
    return printable(text)


def text_of(value: Any) -> str:
    """Returns a value as a short text; see `vector_text` for lists."""
    if isinstance(value, bytes):
        return _bytes_text(value)
    if isinstance(value, (list, tuple)):
        return vector_text(value)
    if isinstance(value, float):
        return _number(value, 6)
    return one_line(str(value)[:_LONGEST])


def vector_text(values: Sequence[Any]) -> str:
    """Returns a list with its first values and the number of the others.

    [0.1, 0.2, 0.3, … 61 more]
    """
    shown = values if len(values) <= _MOST_VALUES else values[:_FIRST_VALUES]
    texts = [_within(value) for value in shown]
    if len(shown) < len(values):
        texts.append(f"… {len(values) - len(shown):,} more")
    return f"[{', '.join(texts)}]"


def _within(value: Any) -> str:
    if isinstance(value, str):
        return f'"{text_of(value)}"'
    if value is None:
        return "null"
    return _number(value, 4) if isinstance(value, float) else text_of(value)


def float_texts(values: Sequence[float | None]) -> list[str | None]:
    """Returns floats as texts with the digits that matter, and their points below each other."""
    texts = [None if value is None else _number(value, 6) for value in values]
    finite = [value for value in values if value is not None and math.isfinite(value)]
    places = [math.floor(math.log10(abs(value))) + 1 for value in finite if value]
    wanted = max(_DIGITS - max(places, default=0), _LEAST_DIGITS - min(places, default=0))
    needed = max((len(_number(value, 6).partition(".")[2]) for value in finite), default=0)
    decimals = max(1, min(wanted, needed))
    if any("e" in _number(own, 6) for own in finite) or decimals + max([0, *places]) > _WIDEST:
        return texts
    return [
        f"{value:.{decimals}f}" if value is not None and math.isfinite(value) else text
        for value, text in zip(values, texts, strict=True)
    ]


def _number(value: float, digits: int) -> str:
    return "NaN" if math.isnan(value) else f"{value:.{digits}g}"


def _bytes_text(value: bytes) -> str:
    """Returns text as it is, and how long and what at its beginning for what is none."""
    with contextlib.suppress(UnicodeDecodeError):
        text = value.decode()
        if printable(text) == text:
            return one_line(text[:_LONGEST])
    start = "".join(f"\\x{own:02x}" for own in value[:_MOST_BYTES])
    return f"{start}{'…' * (len(value) > _MOST_BYTES)} ({in_bytes(len(value))})"


def _values(column: pa.ChunkedArray) -> list[Any]:
    if pa.types.is_temporal(column.type):  # Python's times are of few years and no nanoseconds.
        with contextlib.suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return list(pc.cast(column, pa.string()).to_pylist())
    return values_of(column)
