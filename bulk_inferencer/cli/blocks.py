"""Paragraphs and tables that results show of themselves, fitted to the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bulk_inferencer.cli import tables
from bulk_inferencer.cli.cells import Column, one_line
from bulk_inferencer.results.blocks import Block, Grid, is_text, text_of

if TYPE_CHECKING:
    from rich.console import Console


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
        columns = [_column(block, index) for index in range(len(block.columns))]
        tables.print_table(console, columns)
        if block.left_out:
            console.print(f"and {block.left_out:,} more", style="dim")


def _column(grid: Grid, index: int) -> Column:
    cells = [row[index] for row in grid.rows]
    texts = ["" if cell is None else one_line(text_of(cell)) for cell in cells]
    return Column(one_line(grid.columns[index]), texts, not any(map(is_text, cells)))
