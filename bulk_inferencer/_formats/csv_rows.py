"""The rows of CSV files: where each ends, what is in it, and what is wrong with it."""

from __future__ import annotations

import csv
import functools
import re
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.csv as pc

from bulk_inferencer._formats.damage import DamagedError
from bulk_inferencer._formats.table_columns import check_names
from bulk_inferencer._formats.text_lines import BOM, HEAD_BYTES, count_lines, lines_of, shown

_BLANK = re.compile(rb"[\r\n]*")
_LINE_END = re.compile(rb"\r\n|\r|\n")
_NO_VALUE = re.compile(
    r"In CSV column #(\d+): .*?CSV conversion error to (.+?): invalid value '(.*)'", re.S
)
_NO_TEXT = re.compile(r"In CSV column #(\d+): .*invalid UTF8 data", re.S)
_WRONG_COUNT = re.compile(r"Expected (\d+) columns, got (\d+)")


class CSVSettings(Protocol):
    """Those attributes of `CSV` that parsing takes."""

    @property
    def delimiter(self) -> str: ...
    @property
    def quote(self) -> str: ...
    @property
    def header(self) -> bool: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def null_values(self) -> tuple[str, ...]: ...
    @property
    def newlines_in_values(self) -> bool: ...


class CSVRows:
    """Makes rows of CSV; a `RowParser`."""

    def __init__(self, settings: CSVSettings, names: tuple[str, ...], own: pa.Schema) -> None:
        self._settings = settings
        self._names = names
        # A table without columns would have no rows either, and nobody misses what is too much.
        self.schema = own if own.names or not names else pa.schema([(names[0], pa.binary())])
        # A line that is no row. If a quote before it is not closed, it is swallowed.
        self._guard = settings.delimiter * len(names)
        self._read = pc.ReadOptions(use_threads=False, column_names=names)
        self._convert = pc.ConvertOptions(
            column_types=dict(zip(self.schema.names, self.schema.types, strict=True)),
            include_columns=self.schema.names,
            null_values=list(settings.null_values),
        )

    def last_end(self, content: bytes) -> int:
        return self._unquoted(content).rfind(b"\n") + 1

    def split(self, content: bytes) -> list[bytes]:
        if not self._settings.newlines_in_values:
            return lines_of(content)
        rows, start = [], 0
        for end in _LINE_END.finditer(self._unquoted(content)):
            rows.append(content[start : end.start()])
            start = end.end()
        return [row for row in (*rows, content[start:]) if row]

    def count(self, content: bytes) -> int:
        if not self._settings.newlines_in_values:
            return count_lines(content)
        return len(self.split(content))

    def parse(self, content: bytes) -> pa.Table | None:
        if not content.strip(b"\r\n"):
            return self.schema.empty_table()
        if b"\0" in content:
            return None
        try:
            table = self._parsed(content)
        except pa.ArrowInvalid:
            return None
        # A line with a quote that is not closed goes on in the next one.
        return table if table is not None and table.num_rows == self.count(content) else None

    def _parsed(self, content: bytes) -> pa.Table | None:
        """Returns the rows; None if the last of them is not closed."""
        seen = False

        def invalid(row: Any) -> str:
            nonlocal seen
            if row.text != self._guard or seen:
                return "error"
            seen = True
            return "skip"

        end = b"" if content.endswith(b"\n") else b"\n"
        guarded = content + end + self._guard.encode()
        self._read.block_size = len(guarded) + 1
        # For a few rows, `read_csv` takes many times as long.
        with pc.open_csv(
            pa.py_buffer(guarded),
            read_options=self._read,
            parse_options=parse_options(self._settings, invalid),
            convert_options=self._convert,
        ) as reader:
            table = reader.read_all()
        return table if seen else None

    def reason(self, row: bytes) -> str:
        if b"\0" in row:
            return f"The row has a NUL character, which no text has: {shown(row)}"
        try:
            self._parsed(row)
        except pa.ArrowInvalid as error:
            return self._told(str(error), row)
        return f"A quote opens a value, and none closes it: {shown(row.decode(errors='replace'))}"

    def damage(self, row: bytes) -> DamagedError | None:
        # The value may go on in the next line, of which a row would be made up.
        return None if self._settings.newlines_in_values else open_quote(self._settings, row)

    def _told(self, error: str, row: bytes) -> str:
        text = shown(row.decode(errors="replace"))
        if found := _WRONG_COUNT.search(error):
            wanted, count = map(int, found.groups())
            values = "1 value" if count == 1 else f"{count} values"
            return f"The row has {values}, but there are {wanted} columns: {text}"
        if found := _NO_VALUE.search(error):
            name = self._names[int(found[1])]
            return f"Column '{name}' holds {shown(found[3])}, which is no {found[2]}."
        if found := _NO_TEXT.search(error):
            name = self._names[int(found[1])]
            return (
                f"Column '{name}' holds bytes that are not UTF-8. Convert the file, or give the "
                f'column the type "bytes" in CSV.types: {text}'
            )
        return f"{error}: {text}"

    def _unquoted(self, content: bytes) -> bytes:
        """Returns content of the same length, without line breaks within quotes."""
        if not self._settings.newlines_in_values or not self._settings.quote:
            return content
        pattern = _quoted(self._settings.delimiter, self._settings.quote)
        return pattern.sub(lambda found: b"." * len(found[0]), content)


@functools.lru_cache
def _quoted(delimiter: str, quote: str) -> re.Pattern[bytes]:
    """Returns a pattern of quoted values; group 1 of one that is not closed."""
    q, d = re.escape(quote), re.escape(delimiter)
    text = rf"(?:(?<=[{d}\r\n])|\A){q}[^{q}]*(?:{q}{q}[^{q}]*)*(?:{q}|(\Z))"
    return re.compile(text.encode())


def well_formed(settings: CSVSettings, content: bytes) -> bytes:
    """Returns rows without those that have NUL, or a quote that is not closed."""
    quote = settings.quote.encode()
    if b"\0" not in content and (not quote or quote not in content):
        return content
    rows = CSVRows(settings, (), pa.schema([])).split(content)
    return b"\n".join(
        [row for row in rows if b"\0" not in row and open_quote(settings, row) is None]
    )


def open_quote(settings: CSVSettings, row: bytes) -> DamagedError | None:
    """Returns what is wrong with a row if no quote closes its last value."""
    if not settings.quote or settings.quote.encode() not in row:
        return None
    pattern = _quoted(settings.delimiter, settings.quote)
    if all(found[1] is None for found in pattern.finditer(row)):
        return None
    return DamagedError(
        f"a line has a quote that opens a value, and none that closes it: "
        f"{shown(row.decode(errors='replace'))}",
        "If values hold line breaks, set CSV(newlines_in_values=True). If not, correct the line.",
    )


def parse_options(settings: CSVSettings, invalid: Any) -> pc.ParseOptions:
    return pc.ParseOptions(
        delimiter=settings.delimiter,
        quote_char=settings.quote or False,
        newlines_in_values=settings.newlines_in_values,
        invalid_row_handler=invalid,
    )


def header_of(settings: CSVSettings, path: str, head: bytes) -> tuple[int, tuple[str, ...]]:
    """Returns where the rows of a file begin, and the names of its columns."""
    start = len(BOM) if head.startswith(BOM) else 0
    start = _BLANK.match(head, start).end()  # type: ignore[union-attr]
    unquoted = CSVRows(settings, (), pa.schema([]))._unquoted(head[start:])
    end = _LINE_END.search(unquoted)
    if end is None and len(head) >= HEAD_BYTES:
        raise DamagedError(f"its first line is longer than {HEAD_BYTES} bytes")
    line = head[start:] if end is None else head[start : start + end.start()]
    if b"\0" in line:
        raise DamagedError(
            "its first line has NUL characters", "Write the file in UTF-8, which UTF-16 is not."
        )
    if not settings.newlines_in_values and (damage := open_quote(settings, line)):
        raise damage
    try:
        first = next(
            csv.reader(
                [line.decode()],
                delimiter=settings.delimiter,
                quotechar=settings.quote or None,
                quoting=csv.QUOTE_MINIMAL if settings.quote else csv.QUOTE_NONE,
            )
        )
    except UnicodeDecodeError:
        if settings.header and not settings.names:
            raise DamagedError(
                f"its header is not UTF-8: {shown(line)}", "Convert the file to UTF-8."
            ) from None
        first = line.decode("latin-1").split(settings.delimiter)
    except csv.Error as error:
        raise DamagedError(f"its first line is no CSV ({error})") from error
    if settings.names:
        if len(first) != len(settings.names):
            raise DamagedError(
                f"its first line has {len(first)} values, but CSV.names has {len(settings.names)}",
                "Name each column.",
            )
        names = tuple(settings.names)
    elif settings.header:
        names = tuple(first)
        check_names(path, names)
    else:
        names = tuple(f"f{i}" for i in range(len(first)))
    if not settings.header:
        return start, names
    return start + (len(head) - start if end is None else end.end()), names
