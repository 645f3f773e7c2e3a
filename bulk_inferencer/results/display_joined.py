"""What is shown of two results side by side: how many records they share, and their comparison."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bulk_inferencer.results import display_comparison
from bulk_inferencer.results.blocks import Block, Grid, grid

if TYPE_CHECKING:
    from bulk_inferencer.results.joined_results import JoinedComparison

_MOST_RECORDS = 5


def title(joined: JoinedComparison) -> str:
    """Returns what was compared, in a line."""
    a, b = joined.names
    return f"{a} and {b}: {joined.both:,} records in both"


def blocks(joined: JoinedComparison, most_records: int = _MOST_RECORDS) -> Iterator[Block]:
    """Yields the balance of records, and how those that both have differ."""
    columns = ", ".join(joined.joined_by)
    yield f"Records are joined by {columns or 'what they hold'}."
    yield _balance(joined)
    if not joined.both:
        yield "No record is in both, so there is nothing to compare."
    yield from display_comparison.blocks(joined.comparison, most_records)
    pairs = joined.comparison.pairs
    if pairs and not any(pair.outputs for pair in pairs):
        yield "No output is in both. If there are several models, choose one of each."


def _balance(joined: JoinedComparison) -> Grid:
    rows = [
        (n, joined.records_read(n), joined.failed[n], joined.only[n], joined.both)
        for n in joined.names
    ]
    return grid(("result", "read", "failed", "only here", "in both"), rows)
