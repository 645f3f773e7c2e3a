"""What is shown of results: paragraphs and tables, as HTML for notebooks and as plain text.

The HTML has no colours of its own, so that it is readable in light and dark themes. All that comes
from results is escaped, and sizes are bounded, however many rows there are.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

_LONGEST_TEXT = 200
_LONGEST_HEADING = 60
_LONGEST_LINE = 40  # Longer texts in cells are broken.
_LONGEST_PARAGRAPH = 2000
_MOST_ROWS = 20
_LARGE = 1e15  # Floats beyond this are not shown as whole numbers.
_BAR_WIDTH = 4
_BAR_HEIGHT = 22
_TEXT_BARS = " ▁▂▃▄▅▆▇█"

# Wide tables scroll by themselves where the page is narrow.
_WIDE = "max-width: 100%; overflow-x: auto"
_BREAKING = "overflow-wrap: anywhere"
_LEFT = "text-align: left"
_RIGHT = "text-align: right"
_ONE_LINE = "white-space: nowrap"
_LINES = "min-width: 18em"


@dataclass(frozen=True)
class Bars:
    """A small histogram.

    Attributes:
      heights: of its bars, of any scale and none below 0.
      label: what it shows, for those who cannot see it.
    """

    heights: tuple[float, ...]
    label: str


@dataclass(frozen=True)
class Value:
    """A number, or several, that is already text."""

    text: str


Cell: TypeAlias = str | int | float | Value | Bars | None


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
      columns: the headings of its columns.
      rows: as many cells as there are columns in each; None is an empty one.
      left_out: how many rows there are beyond these.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    left_out: int = 0


Block: TypeAlias = str | Grid


class Shown:
    """What is a line as `repr`, paragraphs and tables as `str`, and HTML in notebooks."""

    def _title(self) -> str:
        raise NotImplementedError

    def _blocks(self) -> Iterable[Block]:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{self._title()}>"

    def __str__(self) -> str:
        return as_text(self._title(), self._blocks())

    def _repr_html_(self) -> str:
        return as_html(self._title(), self._blocks())


def grid(
    columns: Sequence[str], rows: Iterable[Sequence[Cell]], most: int = _MOST_ROWS, more: int = 0
) -> Grid:
    """Returns a table of at most so many rows, without the columns in which nothing stands.

    Args:
      columns: the headings.
      rows: the cells of each row.
      most: how many rows it may have.
      more: how many there are beyond `rows`.
    """
    all_rows, indices = [tuple(row) for row in rows], range(len(columns))
    has_cells = [not all_rows or any(row[i] is not None for row in all_rows) for i in indices]
    kept = [i for i in indices if has_cells[i]]
    shown = tuple(tuple(row[i] for i in kept) for row in all_rows[:most])
    return Grid(tuple(columns[i] for i in kept), shown, more + max(0, len(all_rows) - most))


def number(value: float) -> str:
    """Returns a number as text: a count with commas, a float with six digits or, if whole, all."""
    if isinstance(value, int):
        return f"{value:,}"
    is_whole = math.isfinite(value) and value.is_integer() and abs(value) < _LARGE
    return f"{value:.0f}" if is_whole else f"{value:.6g}"


def shortened(text: str, longest: int = _LONGEST_TEXT) -> str:
    """Returns a text on one line, without its middle if it is long: names differ at both ends."""
    line = " ".join(text[: 4 * longest].split()) if len(text) <= 4 * longest else text
    if len(line) <= longest:
        return line
    head = (longest - 1) // 2
    return " ".join(f"{line[:head]}…{line[head + 1 - longest :]}".split())


def text_of(cell: Cell) -> str:
    """Returns a cell as a short text."""
    if cell is None:
        return ""
    if isinstance(cell, Bars):
        top = max(cell.heights, default=0) or 1
        return "".join(_TEXT_BARS[math.ceil(8 * height / top)] for height in cell.heights)
    if isinstance(cell, (str, Value)):
        return shortened(cell if isinstance(cell, str) else cell.text)
    return number(cell)


def is_text(cell: Cell) -> bool:
    """Returns whether a cell stands at the left, as text does, and not at the right."""
    return isinstance(cell, (str, Bars))


def as_html(title: str, blocks: Iterable[Block]) -> str:
    """Returns a title and blocks as HTML."""
    parts = [f"<p><b>{_paragraph(title)}</b></p>", *map(_html_block, blocks)]
    return f'<div class="bulk-inferencer" style="{_BREAKING}">{"".join(parts)}</div>'


def as_text(title: str, blocks: Iterable[Block]) -> str:
    """Returns a title and blocks as lines of text."""
    return "\n\n".join([title, *map(_text_block, blocks)])


def _html_block(block: Block) -> str:
    if isinstance(block, str):
        return f"<p>{_paragraph(block)}</p>"
    sides = [_side(block, i) for i in range(len(block.columns))]
    names = zip(map(_heading, block.columns), sides, strict=True)
    head = "".join(_cell("th", name, side) for name, side in names)
    body = "".join(f"<tr>{''.join(map(_html_cell, row))}</tr>" for row in block.rows)
    table = f'<table class="dataframe"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    left_out = f"<p>{_left_out(block)}</p>" if block.left_out else ""
    return f'<div style="{_WIDE}">{table}</div>{left_out}'


def _html_cell(cell: Cell) -> str:
    if isinstance(cell, Bars):
        return f'<td style="{_LEFT}">{_drawn(cell)}</td>'
    return _cell("td", text_of(cell), _LEFT if is_text(cell) else _RIGHT)


def _cell(tag: str, text: str, side: str) -> str:
    lines = _ONE_LINE if len(text) <= _LONGEST_LINE else _LINES
    return f'<{tag} style="{side}; {lines}">{html.escape(text)}</{tag}>'


def _heading(name: str) -> str:
    return shortened(name, _LONGEST_HEADING)


def _drawn(bars: Bars) -> str:
    top = max(bars.heights, default=0) or 1
    shapes = []
    for i, height in enumerate(bars.heights):
        if height > 0:
            tall = max(1, round(_BAR_HEIGHT * height / top))  # what is there is seen
            shapes.append(
                f'<rect x="{i * _BAR_WIDTH}" y="{_BAR_HEIGHT - tall}" width="{_BAR_WIDTH - 1}" '
                f'height="{tall}"></rect>'
            )
    width = _BAR_WIDTH * len(bars.heights)
    label = html.escape(bars.label)
    return (
        f'<svg width="{width}" height="{_BAR_HEIGHT}" role="img" aria-label="{label}" '
        f'fill="currentColor"><title>{label}</title>{"".join(shapes)}</svg>'
    )


def _text_block(block: Block) -> str:
    if isinstance(block, str):
        return block
    cells = [[_heading(name) for name in block.columns]]
    cells += [[text_of(cell) for cell in row] for row in block.rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    is_left = [_side(block, i) == _LEFT for i in range(len(widths))]
    lines = [
        "  ".join(
            text.ljust(width) if left else text.rjust(width)
            for text, width, left in zip(row, widths, is_left, strict=True)
        ).rstrip()
        for row in cells
    ]
    return "\n".join([*lines, _left_out(block)] if block.left_out else lines)


def _side(block: Grid, column: int) -> str:
    return _LEFT if any(is_text(row[column]) for row in block.rows) else _RIGHT


def _paragraph(text: str) -> str:
    return html.escape(shortened(text, _LONGEST_PARAGRAPH))


def _left_out(block: Grid) -> str:
    return f"and {block.left_out:,} more"
