"""Counts that add up: what was read was predicted, or failed."""

from __future__ import annotations

from collections.abc import Iterator

from bulk_inferencer.reports import words
from bulk_inferencer.reports.branches import names_models
from bulk_inferencer.reports.parts import Cell, Column, Section, Table
from bulk_inferencer.results.amounts import NOTHING, in_bytes, share
from bulk_inferencer.results.run_results import Results
from bulk_inferencer.results.summary import Counts, Summary


def section(results: Results) -> Section | None:
    """Returns the section of counts; None if nothing was read."""
    summary = results.summary
    if summary is None or not results.splits:
        return None
    has_names = names_models(results)
    columns = (
        *((Column("Model"),) if has_names else ()),
        *(Column("Split"), Column("Read", True), Column("= predicted", True)),
        *(Column("+ failed", True), Column("Share failed", True), Column("Size", True)),
    )
    rows = [
        (*((Cell(words.clean(model)),) if has_names else ()), Cell(words.clean(split)), *counts)
        for model, split, counts in _rows(results, summary)
    ]
    if not rows:
        return None
    left_out = len(rows) - words.MOST_ROWS
    return Section(
        "balance",
        "Balance",
        (
            Table(
                columns,
                tuple(rows[: words.MOST_ROWS]),
                total=_total(results, has_names) if len(rows) > 1 else (),
                left_out=words.left_out(left_out, "further row"),
            ),
        ),
        lead="Every record that was read was either predicted or failed. None was lost.",
    )


def _rows(results: Results, summary: Summary) -> Iterator[tuple[str, str, tuple[Cell, ...]]]:
    for split in results.splits:
        for model in results.models:
            counts = summary.branches[model].splits.get(split)
            if counts is not None:
                yield model, split, _cells(counts)
        if unrouted := results.selection.unrouted.get(split):
            yield "(no model)", split, _cells(Counts(unrouted, 0, unrouted))


def _total(results: Results, has_names: bool) -> tuple[Cell, ...]:
    unrouted = sum(results.selection.unrouted.values())
    total = results.counts + Counts(unrouted, 0, unrouted)
    return (Cell("All"), *((Cell(""),) if has_names else ()), *_cells(total))


def _cells(counts: Counts) -> tuple[Cell, ...]:
    failed = counts.examples_failed
    written = counts.bytes_written
    return (
        Cell(words.number(counts.examples_read)),
        Cell(words.number(counts.predictions_written)),
        Cell(words.number(failed), "warn" if failed else ""),
        Cell(share(failed, counts.examples_read), "quiet"),
        Cell(in_bytes(written) if written else NOTHING, "quiet"),
    )
