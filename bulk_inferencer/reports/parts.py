"""What a page consists of: plain data, which `page.html` turns into HTML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from bulk_inferencer.reports.plots import Plot

Tone: TypeAlias = Literal["", "good", "bad", "warn", "quiet"]


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
      text: what it says.
      tone: what that means: a colour and, where it is a verdict, a sign.
      share: from 0 to 1, a bar of this length behind a number, or how dark a cell of a confusion
        table is.
    """

    text: str
    tone: Tone = ""
    share: float | None = None


@dataclass(frozen=True)
class Column:
    """A column of a table; numbers stand on the right."""

    title: str
    is_number: bool = False
    is_code: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells.

    Attributes:
      columns: one for each cell of a row.
      rows: the cells.
      total: the row below all others; none if empty.
      left_out: how many rows there are besides, and of what; empty if there are all.
      is_matrix: whether shares are shown as how dark cells are, rather than as bars.
      is_dense: whether rows stand close to each other.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    total: tuple[Cell, ...] = ()
    left_out: str = ""
    is_matrix: bool = False
    is_dense: bool = False
    kind: Literal["table"] = "table"


@dataclass(frozen=True)
class Fact:
    """A name and its value."""

    name: str
    value: Cell
    is_code: bool = False


@dataclass(frozen=True)
class Facts:
    """A list of facts."""

    facts: tuple[Fact, ...]
    kind: Literal["facts"] = "facts"


@dataclass(frozen=True)
class Notice:
    """A sentence that stands out."""

    text: str
    tone: Tone = ""
    kind: Literal["notice"] = "notice"


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    kind: Literal["text"] = "text"


@dataclass(frozen=True)
class Figure:
    """A plot with a caption.

    Attributes:
      caption: what it shows, which a screen reader reads instead of the plot.
      plot: the plot.
    """

    caption: str
    plot: Plot
    kind: Literal["figure"] = "figure"


@dataclass(frozen=True)
class Group:
    """Parts with a title of their own.

    Attributes:
      title: the title.
      parts: the parts.
      badges: short verdicts beside the title.
      is_beside: whether there is a plot on the left and a table on its right.
    """

    title: str
    parts: tuple[Part, ...]
    badges: tuple[Cell, ...] = ()
    is_beside: bool = False
    kind: Literal["group"] = "group"


Part: TypeAlias = Table | Facts | Notice | Text | Figure | Group


@dataclass(frozen=True)
class Section:
    """A part of the page, to which a link leads from its top.

    Attributes:
      key: its anchor.
      title: the title.
      parts: the parts.
      lead: what it is about, in a sentence.
    """

    key: str
    title: str
    parts: tuple[Part, ...]
    lead: str = ""


@dataclass(frozen=True)
class Tile:
    """A number that matters, with what it is and a remark."""

    name: str
    value: str
    remark: str = ""
    tone: Tone = ""


@dataclass(frozen=True)
class Page:
    """The whole report.

    Attributes:
      title: its title.
      place: the folder of the results.
      kind: what was run, in a line.
      badges: the verdicts.
      tiles: the numbers that matter.
      notices: what a reader must know first.
      sections: the rest.
      footer: what wrote it.
    """

    title: str
    place: str
    kind: str
    badges: tuple[Cell, ...] = ()
    tiles: tuple[Tile, ...] = ()
    notices: tuple[Notice, ...] = ()
    sections: tuple[Section, ...] = ()
    footer: str = ""
