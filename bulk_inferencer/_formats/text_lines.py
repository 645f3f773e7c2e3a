r"""Text files whose lines are the rows of a table: CSV and JSON Lines.

    file --blocks--> bytes of whole rows --rows_of--> table, and what is wrong with some rows
     \--parts--> ranges of bytes           halved where a row is bad, until it stands alone

A range owns the rows that begin in it, so that ranges need not know of each other.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple, Protocol

import pyarrow as pa
from isal import igzip_lib

from bulk_inferencer import _files
from bulk_inferencer._formats import foreign
from bulk_inferencer._formats.damage import DamagedError, check_size, reading, too_long
from bulk_inferencer._formats.inflating import Position, inflated
from bulk_inferencer._formats.input_format import Chunk, InputFile, Part, Unreadable
from bulk_inferencer._formats.table_columns import TableColumns, TableReader
from bulk_inferencer.errors import InputError

BOM = b"\xef\xbb\xbf"
HEAD_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 20
_PART_BYTES = 16 << 20
_SMALLEST_READ = 1 << 16
_GZIP_MAGIC = b"\x1f\x8b"
_LINE_ENDS = re.compile(rb"[\r\n]+")
_MOST_SHOWN = 100
_ROWS_TOGETHER = 32  # are parsed where some are bad, before they are halved


class RowParser(Protocol):
    """Makes rows of the bytes of a file.

    Attributes:
      schema: their columns.
    """

    schema: pa.Schema

    def last_end(self, content: bytes) -> int:
        """Returns where the last row ends that is whole; 0 if none is."""
        ...

    def split(self, content: bytes) -> list[bytes]:
        """Returns each row without its end. Blank lines are no rows."""
        ...

    def count(self, content: bytes) -> int:
        """Returns how many rows there are, faster than `split`."""
        ...

    def parse(self, content: bytes) -> pa.Table | None:
        """Returns the rows as a table; None if any of them is bad."""
        ...

    def reason(self, row: bytes) -> str:
        """Returns what is wrong with a bad row."""
        ...

    def damage(self, row: bytes) -> DamagedError | None:
        """Returns the error if no row can be told after a bad one; None if they can."""
        ...


class Beginning(NamedTuple):
    """How to read a file: from which byte on, and what makes rows of its bytes."""

    offset: int
    parser: RowParser


class LineFormat(Protocol):
    """A format of text files. Engines pickle it."""

    @property
    def name(self) -> str:
        """What it is called in messages."""
        ...

    @property
    def columns(self) -> TableColumns:
        """What to read of the files."""
        ...

    @property
    def has_parts(self) -> bool:
        """Whether each line is a row, so that one can begin to read anywhere."""
        ...

    def begin(self, path: str, head: bytes) -> Beginning:
        """Looks at the first `HEAD_BYTES` of a file, or all of a shorter one.

        Raises:
          DamagedError: it is something else, or has other columns than the first file.
        """
        ...


@dataclass(frozen=True)
class LinesReader(TableReader):
    """Reads text files whose lines are rows.

    Attributes:
      format: their format.
      block_bytes: about how much to read at a time.
      part_bytes: about the size of a part.
    """

    format: LineFormat
    block_bytes: int = field(default=_BLOCK_BYTES, kw_only=True)
    part_bytes: int = field(default=_PART_BYTES, kw_only=True)

    @property
    def columns(self) -> TableColumns:  # type: ignore[override]
        """What to read of the files."""
        return self.format.columns

    def parts(self, file: InputFile) -> list[InputFile]:
        """Returns ranges of bytes. A compressed file is one part."""
        count = -(-file.bytes // self.part_bytes)
        if count < 2 or not self.format.has_parts:
            return [file]
        with _opened(file, self.format.name, lambda: "at its start") as content:
            if content.is_compressed:
                return [file]
        edges = [file.bytes * i // count for i in range(count + 1)]
        ranges = itertools.pairwise(edges)
        return [
            InputFile(file.path, file.bytes, file.modified, Part(start, stop, stop - start))
            for start, stop in ranges
        ]

    def read(self, file: InputFile, max_bytes: int, max_record_bytes: int) -> Iterator[Chunk]:
        """See `Reader`. A record is a row as text."""
        row = 0
        start = file.part.start if file.part else 0
        before = _RowsBefore(self, file, max_record_bytes)

        def position() -> str:
            return f"after row {before() + row}" if start else f"after row {row}"

        with _opened(file, self.format.name, position) as content:
            begun = self.format.begin(file.path, content.head)
            end, stored = start, content.stored(start)
            for block in _blocks(
                content, begun, file.part, min(max_bytes, self.block_bytes), max_record_bytes
            ):
                table, unreadable, damage = rows_of(block, begun.parser)
                end += len(block)
                if table.num_rows:
                    rows = self.columns.rows(file.path, table)
                    took, stored = max(0, content.stored(end) - stored), content.stored(end)
                    yield Chunk(file.path, row, rows, unreadable, before if start else int, took)
                    row += len(rows)
                if damage:
                    raise damage

    def count_before(self, file: InputFile, max_record_bytes: int) -> int:
        """Returns how many rows begin before a part of a file."""
        earlier = Part(0, file.part.start, 0) if file.part else None
        with _opened(file, self.format.name, lambda: "where rows were counted") as content:
            begun = self.format.begin(file.path, content.head)
            blocks = _blocks(content, begun, earlier, self.block_bytes, max_record_bytes)
            return sum(map(begun.parser.count, blocks))


@dataclass(frozen=True)
class _RowsBefore:
    """Counts the rows before a part of a file when somebody asks. It can be pickled."""

    reader: LinesReader
    file: InputFile
    max_record_bytes: int

    def __call__(self) -> int:
        return self._count

    @functools.cached_property
    def _count(self) -> int:
        return _counted(self)

    def __hash__(self) -> int:  # Readers cannot be hashed.
        return hash(self.file)


@functools.lru_cache(maxsize=64)
def _counted(rows: _RowsBefore) -> int:
    """Counts once, although batches that come from another process have a copy each."""
    return rows.reader.count_before(rows.file, rows.max_record_bytes)


def heads(files: Sequence[InputFile], name: str, most: int) -> list[tuple[str, bytes]]:
    """Returns path and first `HEAD_BYTES` of some files, in order, without those that are blank.

    Raises:
      InputError: none of them can be read. If some can, the units of the others say so.
    """
    filled = [file for file in files if file.bytes]
    step = max(1, len(filled) // most)

    def head(file: InputFile) -> tuple[str, bytes] | InputError:
        try:
            with _opened(file, name, lambda: "at its start") as content:
                return file.path, content.head
        except InputError as error:
            return error

    found = _files.in_parallel(head, filled[::step][:most])
    whole = [own for own in found if not isinstance(own, InputError)]
    if found and not whole:
        raise next(own for own in found if isinstance(own, InputError))
    return [(path, head) for path, head in whole if not is_blank(head)]


def is_blank(head: bytes) -> bool:
    """Returns whether a file that begins like this holds no rows at all."""
    return not head.removeprefix(BOM).strip()


class _Rows(NamedTuple):
    """What is in a block.

    Attributes:
      table: its rows, up to any damage.
      unreadable: why some could not be read, by index; those are all null.
      damage: what follows them.
    """

    table: pa.Table
    unreadable: dict[int, Unreadable]
    damage: DamagedError | None = None


def rows_of(content: bytes, parser: RowParser) -> _Rows:
    """Returns the rows of a block."""
    table = parser.parse(content)
    if table is not None:
        return _Rows(table, {})
    rows = parser.split(content)
    tables: list[pa.Table | None] = []  # None for a row that is bad
    bad: dict[int, Unreadable] = {}
    damage: DamagedError | None = None

    def read(start: int, stop: int) -> None:
        nonlocal damage
        if damage:
            return
        found = parser.parse(b"\n".join(rows[start:stop]))
        if found is not None:
            tables.append(found)
        elif stop - start == 1:
            damage = parser.damage(rows[start])
            if damage:
                return
            tables.append(None)
            bad[start] = Unreadable(InputError.__name__, parser.reason(rows[start]))
        else:
            middle = (start + stop) // 2
            read(start, middle)
            read(middle, stop)

    for start in range(0, len(rows), _ROWS_TOGETHER):
        read(start, min(start + _ROWS_TOGETHER, len(rows)))
    missing = pa.table([pa.nulls(1, kind) for kind in parser.schema.types], schema=parser.schema)
    read_tables = [missing if table is None else table for table in tables]
    joined = pa.concat_tables([parser.schema.empty_table(), *read_tables])
    return _Rows(joined.combine_chunks(), bad, damage)


def lines_of(content: bytes) -> list[bytes]:
    """Returns lines without their ends, and without those that are empty."""
    return [line for line in _LINE_ENDS.split(content) if line]


def count_lines(content: bytes) -> int:
    """Returns how many lines there are that are not empty."""
    returns = content.count(b"\r")
    if (
        (returns and returns != content.count(b"\r\n"))
        or content.startswith((b"\n", b"\r"))
        or b"\n\n" in content
        or (returns and b"\n\r" in content)
    ):
        return len(lines_of(content))
    return content.count(b"\n") + (bool(content) and not content.endswith(b"\n"))


def shown(value: object) -> str:
    """Returns a value as a message shows it."""
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "..."


class _Content:
    """What is in a file, decompressed if need be."""

    def __init__(self, path: str, stored_bytes: int, file: BinaryIO) -> None:
        self._path, self._bytes, self._file = path, stored_bytes, file
        file.seek(0, 2)
        check_size(path, file.tell(), stored_bytes)
        file.seek(0)
        self.is_compressed = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        file.seek(0)
        self._position = Position()
        self._inflated = inflated(file, igzip_lib.DECOMP_GZIP, _BLOCK_BYTES, self._position)
        self._given = 0
        self.head = b""
        self._damage: DamagedError | None = None  # after the head
        try:
            while len(self.head) < HEAD_BYTES and (block := self._next(HEAD_BYTES)):
                self.head += block
        except DamagedError as error:
            self._damage = error
        self._unread = self.head

    def read(self, most: int) -> bytes:
        """Returns at least one byte and at most so many; none at the end."""
        if not self._unread:
            if self._damage:
                raise self._damage
            self._unread = self._next(most)
        if not self._unread:
            check_size(self._path, self._file.tell(), self._bytes)
        content, self._unread = self._unread[:most], self._unread[most:]
        return content

    def _next(self, most: int) -> bytes:
        content = next(self._inflated, b"") if self.is_compressed else self._file.read(most)
        self._given += len(content)
        return content

    def stored(self, offset: int) -> int:
        """Returns about where in the file the content up to an offset ends."""
        if not (self.is_compressed and self._given):
            return offset
        return self._position.stored * offset // self._given

    def move(self, offset: int) -> None:
        """Moves to an offset, which in a compressed file must be within its head."""
        if not self.is_compressed:
            self._file.seek(max(offset, len(self.head)))
        self._unread = self.head[offset:]

    def after_line(self, offset: int) -> int:
        """Returns where the first line begins at or after an offset."""
        self.move(offset - 1)
        offset -= 1
        while piece := self.read(_SMALLEST_READ):
            end = piece.find(b"\n") + 1
            if end:
                return offset + end
            offset += len(piece)
        return offset


@contextlib.contextmanager
def _opened(file: InputFile, name: str, position: Callable[[], str]) -> Iterator[_Content]:
    """Opens a file, and says what is wrong with it if it cannot be read."""
    with reading(file.path, name, position), _files.open_to_read(file.path) as opened:
        content = _Content(file.path, file.bytes, opened)
        if kind := foreign.signed(content.head):
            raise DamagedError(f"it is {kind.what}", kind.advice)
        yield content


def _blocks(
    content: _Content, begun: Beginning, part: Part | None, block_bytes: int, most_row_bytes: int
) -> Iterator[bytes]:
    """Yields bytes of whole rows that begin in a part."""
    offset, last_end = begun.offset, begun.parser.last_end
    stop = part.stop if part else None
    if part and part.start > offset:
        offset = content.after_line(part.start)
    if stop is not None and offset >= stop:
        return
    content.move(offset)
    rest = b""  # of a row that begins at the offset
    while True:
        wanted = block_bytes
        if stop is not None:
            wanted = min(wanted, max(_SMALLEST_READ, stop - offset - len(rest)))
        piece = content.read(max(wanted, len(rest)))  # doubles where a row does not end
        block = rest + piece
        if stop is not None and offset + len(block) >= stop:
            end = block.find(b"\n", stop - offset - 1) + 1
            if end:
                yield from _checked(block[:end], begun.parser, most_row_bytes)
                return
        if not piece:
            break
        end = last_end(block)
        if end:
            yield from _checked(block[:end], begun.parser, most_row_bytes)
        elif len(block) > most_row_bytes:
            raise too_long(len(block), most_row_bytes)
        offset += end
        rest = block[end:]
    if rest:
        yield from _checked(rest, begun.parser, most_row_bytes)


def _checked(block: bytes, parser: RowParser, most_row_bytes: int) -> Iterator[bytes]:
    """Yields a block, up to the first row that is too long."""
    if len(block) > most_row_bytes:
        rows = parser.split(block)
        for i, row in enumerate(rows):
            if len(row) > most_row_bytes:
                if i:
                    yield b"\n".join(rows[:i])
                raise too_long(len(row), most_row_bytes)
    yield block
