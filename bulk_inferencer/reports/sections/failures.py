"""Records that could not be scored, by reason, and files that could not be read to their end."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from typing import Any

from bulk_inferencer.reports import words
from bulk_inferencer.reports.parts import Cell, Column, Part, Section, Table, Text
from bulk_inferencer.results.amounts import counted
from bulk_inferencer.results.reasons import general_form
from bulk_inferencer.results.run_results import Results

_MOST_REASONS = 20
_MOST_EXAMPLES = 3
_MOST_FILES = 20
# Failures that are looked through for examples.
_MOST_READ = 100_000


def section(results: Results) -> Section | None:
    """Returns the section of failures; None if the results do not know any."""
    if results.summary is None or not results.splits:
        return None
    counts = _reasons(results)
    damaged = _damaged_files(results)
    if not counts and not damaged:
        if not results.counts.examples_read:
            return None
        return Section("failures", "Failures", (Text("No record failed."),))
    parts: list[Part] = []
    if counts:
        parts.append(_table(counts, _examples(results, counts)))
    return Section("failures", "Failures", (*parts, *damaged), lead=_lead(counts))


def _lead(counts: Mapping[str, int]) -> str:
    failed = counted(sum(counts.values()), "failure")
    return f"{failed}, by reason. Record numbers count from 0 within a file." if counts else ""


def _reasons(results: Results) -> Counter[str]:
    counts: Counter[str] = Counter()
    unrouted = [""] if results.selection.unrouted else []
    for model, split in itertools.product([*results.models, *unrouted], results.splits):
        counts.update(results.statistics.failures_of(model, split))
    return counts


def _examples(results: Results, counts: Mapping[str, int]) -> dict[str, list[dict[str, Any]]]:
    """Returns some failures for each of the most frequent reasons."""
    wanted = [reason for reason, _ in Counter(counts).most_common(_MOST_REASONS)]
    found: dict[str, list[dict[str, Any]]] = {reason: [] for reason in wanted}
    read = 0
    for table in results.failure_tables():
        for row in table.to_pylist():
            reason = row["reason"]
            own = found.get(reason if reason in found else general_form(reason))
            if own is not None and len(own) < _MOST_EXAMPLES:
                own.append(row)
        read += table.num_rows
        if read >= _MOST_READ or all(len(own) == _MOST_EXAMPLES for own in found.values()):
            break
    return found


def _table(counts: Counter[str], examples: Mapping[str, list[dict[str, Any]]]) -> Table:
    total = sum(counts.values())
    ranked = counts.most_common()
    rows = [
        (
            Cell(words.number(count), share=count / total),
            Cell(words.clean(reason, 500)),
            Cell("; ".join(map(_example, examples.get(reason, ())))),
        )
        for reason, count in ranked[:_MOST_REASONS]
    ]
    rest = ranked[_MOST_REASONS:]
    failed = sum(count for _, count in rest)
    return Table(
        (Column("Records", True), Column("Reason"), Column("For example", is_code=True)),
        tuple(rows),
        left_out=(
            f"{counted(len(rest), 'further reason')} of {counted(failed, 'record')} left out."
            if rest
            else ""
        ),
    )


def _example(row: Mapping[str, Any]) -> str:
    file = words.file(str(row["file"]))
    model = f" ({words.clean(str(row['model']), 40)})" if row.get("model") else ""
    return f"{file} record {row['record']}{model}"


def _damaged_files(results: Results) -> list[Part]:
    assert results.summary
    files = [own for own in results.summary.damaged_files if own.split in results.splits]
    if not files:
        return []
    rows = [
        (
            Cell(words.clean(own.split)),
            Cell(words.file(own.file)),
            Cell(words.clean(own.reason, 500), "warn"),
        )
        for own in files[:_MOST_FILES]
    ]
    left_out = len(files) - len(rows)
    table = Table(
        (Column("Split"), Column("Damaged file", is_code=True), Column("What is wrong with it")),
        tuple(rows),
        left_out=words.left_out(left_out, "further file"),
    )
    return [table]
