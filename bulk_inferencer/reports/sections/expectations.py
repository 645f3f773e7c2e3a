"""What was expected of predictions, and whether it holds."""

from __future__ import annotations

from bulk_inferencer.reports import words
from bulk_inferencer.reports.branches import branches_of, names_models
from bulk_inferencer.reports.parts import Cell, Column, Group, Part, Section, Table
from bulk_inferencer.results.amounts import counted
from bulk_inferencer.results.run_results import Results
from bulk_inferencer.results.summary import BranchSummary

_MOST_CHECKS = 200


def section(results: Results) -> Section | None:
    """Returns the section of expectations; None if there are none."""
    judged = {name: own for name, own in branches_of(results).items() if own.checks}
    if not judged:
        return None
    parts: list[Part] = []
    for name, branch in list(judged.items())[:20]:
        table = _table(branch)
        badge = (verdict(branch),)
        parts.append(Group(words.clean(name), (table,), badge) if names_models(results) else table)
    return Section("expectations", "Expectations", tuple(parts), lead=_lead(judged))


def verdict(branch: BranchSummary, name: str = "") -> Cell:
    """Returns whether a model meets what is expected of it, as a badge."""
    of = f"{words.clean(name, 40)}: " if name else ""
    if branch.meets_expectations:
        return Cell(f"{of}meets its expectations", "good")
    missed = sum(not check.is_met for check in branch.checks)
    if not missed:
        return Cell(f"{of}meets its expectations, but its gate did not let it through", "bad")
    return Cell(f"{of}misses {counted(missed, 'expectation')}", "bad")


def _lead(judged: dict[str, BranchSummary]) -> str:
    checks = [check for branch in judged.values() for check in branch.checks]
    met = sum(check.is_met for check in checks)
    return f"{met:,} of {counted(len(checks), 'expectation')} {'is' if met == 1 else 'are'} met."


def _table(branch: BranchSummary) -> Table:
    ranked = sorted(branch.checks, key=lambda check: check.is_met)  # what is wrong comes first
    rows = [
        (
            Cell(words.clean(f"{check.what[:1].upper()}{check.what[1:]}")),
            Cell(words.clean(check.expected)),
            Cell(words.clean(check.found)),
            Cell("met", "good") if check.is_met else Cell("not met", "bad"),
        )
        for check in ranked[:_MOST_CHECKS]
    ]
    left_out = len(ranked) - len(rows)
    return Table(
        (Column("What"), Column("Expected"), Column("Found"), Column("Verdict")),
        tuple(rows),
        left_out=words.left_out(left_out, "further expectation"),
    )
