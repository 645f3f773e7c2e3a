"""Tables, and the paragraphs between them, that fit into the terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text

from bulk_inferencer.cli.cells import Column, one_line
from bulk_inferencer.results.blocks import Block, Grid, is_text, text_of

if TYPE_CHECKING:
    from rich.console import Console

_GAP = 2
_NARROWEST = 8
_NULL = "null"


def print_table(console: Console, columns: Sequence[Column]) -> list[str]:
    """Prints columns side by side, as wide as the terminal.

    Texts that are too long end in "…". If there are too many columns, those in the middle are left
    out, since what identifies a record is at the left, and outputs are at the right.

    Returns:
      The names of the columns that are left out.
    """
    more = _ellipsis(console)
    if more != "…":
        columns = [_with_dots(column, more) for column in columns]
    shown, widths = fitted(columns, console.width)
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for column, width in zip(shown, widths, strict=True):
        heading = Text(_cut(column.name, width, more))
        table.add_column(
            heading, justify="right" if column.is_number else "left", width=width, no_wrap=True
        )
    for row in zip(*(column.texts for column in shown), strict=True):
        cells = zip(shown, row, widths, strict=True)
        table.add_row(*[_cell(text, width, more, own.keeps_end) for own, text, width in cells])
    lines = [_without_end(line) for line in console.render_lines(table, pad=False)]
    console.print(Segments([own for line in lines for own in (*line, Segment.line())]), end="")
    kept = set(map(id, shown))
    return [column.name for column in columns if id(column) not in kept]


def _without_end(line: list[Segment]) -> list[Segment]:
    """Returns a line without the blanks at its end, which no text that is copied should have."""
    while line and not line[-1].text.strip():
        line = line[:-1]
    return [*line[:-1], line[-1]._replace(text=line[-1].text.rstrip())] if line else []


def print_blocks(console: Console, blocks: Iterable[Block]) -> None:
    """Prints paragraphs and tables, with a table right below the paragraph before it."""
    is_headed = False  # by the paragraph before
    for block in blocks:
        if not is_headed or isinstance(block, str):
            console.print()
        is_headed = isinstance(block, str)
        if isinstance(block, str):
            console.print(one_line(block), overflow="fold")
            continue
        columns = [_grid_column(block, index) for index in range(len(block.columns))]
        print_table(console, columns)
        if block.left_out:
            console.print(f"and {block.left_out:,} more", style="dim")


def _grid_column(grid: Grid, index: int) -> Column:
    cells = [row[index] for row in grid.rows]
    texts = ["" if cell is None else one_line(text_of(cell)) for cell in cells]
    return Column(one_line(grid.columns[index]), texts, not any(map(is_text, cells)))


def fitted(columns: Sequence[Column], width: int) -> tuple[list[Column], list[int]]:
    """Returns the columns that fit into a width, and the width of each."""
    wanted = [_width(column) for column in columns]
    least = [
        max(min(own, _NARROWEST), _text_width(column) if column.is_number or column.is_whole else 0)
        for column, own in zip(columns, wanted, strict=True)
    ]
    kept = list(range(len(columns)))
    while len(kept) > 1 and sum(least[i] + _GAP for i in kept) - _GAP > width:
        first = max(kept, key=lambda i: columns[i].goes_first)
        kept.remove(first if columns[first].goes_first else kept[(len(kept) - 1) // 2])
    room = width - _GAP * (len(kept) - 1)
    return [columns[i] for i in kept], _shared(
        [wanted[i] for i in kept], [least[i] for i in kept], room
    )


def _shared(wanted: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Returns widths that fill the room as well as they can, taken from the widest at first."""
    if sum(wanted) <= room:
        return list(wanted)
    low, high = 0, max(wanted)
    while low < high:  # the widest that none needs to exceed
        middle = (low + high + 1) // 2
        fits = sum(max(o, min(w, middle)) for w, o in zip(wanted, least, strict=True)) <= room
        low, high = (middle, high) if fits else (low, middle - 1)
    widths = [max(own, min(w, low)) for w, own in zip(wanted, least, strict=True)]
    for i, own in enumerate(widths):
        if own < wanted[i] and sum(widths) < room:
            widths[i] += 1
    if sum(widths) > room and len(widths) == 1:
        widths = [max(1, room)]
    return widths


def _width(column: Column) -> int:
    return max(cell_len(column.name), _text_width(column), 1)


def _text_width(column: Column) -> int:
    return max((cell_len(_NULL if text is None else text) for text in column.texts), default=0)


def _cell(text: str | None, width: int, more: str, keeps_end: bool) -> Text:
    return Text(_NULL, "dim") if text is None else Text(_cut(text, width, more, keeps_end))


def _cut(text: str, width: int, more: str, keeps_end: bool = False) -> str:
    if cell_len(text) <= width:
        return text
    room = max(0, width - len(more))
    if keeps_end:
        return more[:width] + set_cell_size(text[::-1], room)[::-1]
    return set_cell_size(text, room).rstrip() + more[:width]


def _with_dots(column: Column, more: str) -> Column:
    texts = [None if text is None else text.replace("…", more) for text in column.texts]
    return dataclasses.replace(column, texts=texts)


def _ellipsis(console: Console) -> str:
    """Returns "…", or what stands for it where the encoding has none."""
    try:
        "…".encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return "..."
    return "…"
