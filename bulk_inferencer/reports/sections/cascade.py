"""How far records went through the stages of a cascade."""

from __future__ import annotations

from collections.abc import Mapping

from bulk_inferencer.reports import words
from bulk_inferencer.reports.branches import branches_of, names_models, of_all_splits
from bulk_inferencer.reports.parts import Cell, Column, Figure, Group, Part, Section, Table
from bulk_inferencer.reports.plots import Funnel
from bulk_inferencer.results.amounts import share
from bulk_inferencer.results.run_results import Results
from bulk_inferencer.results.summary import StageCounts

_MOST_STAGES = 40


def section(results: Results) -> Section | None:
    """Returns the section of stages; None if no model is a cascade."""
    cascades = {name: own.stages for name, own in branches_of(results).items() if own.stages}
    if not cascades:
        return None
    parts: list[Part] = []
    for name, stages in list(cascades.items())[:8]:
        title = words.clean(name) if names_models(results) else "Stages"
        parts.append(Group(title, (_figure(stages), _table(stages)), is_beside=True))
    lead = "How many records each stage settled, and how many it passed on, without failures."
    lead = f"{lead} {of_all_splits(results)}".rstrip()
    return Section("stages", "Stages of the cascade", tuple(parts), lead=lead)


def _figure(stages: Mapping[str, StageCounts]) -> Figure:
    shown = dict(list(stages.items())[:_MOST_STAGES])
    return Figure(
        "Records by stage",
        Funnel(
            tuple(shown),
            tuple(own.exited for own in shown.values()),
            tuple(own.escalated for own in shown.values()),
        ),
    )


def _table(stages: Mapping[str, StageCounts]) -> Table:
    whole = next(iter(stages.values())).records
    rows = [
        (
            Cell(words.clean(name)),
            Cell(words.number(own.records)),
            Cell(share(own.records, whole), "quiet"),
            Cell(words.number(own.exited)),
            Cell(words.number(own.escalated)),
        )
        for name, own in list(stages.items())[:_MOST_STAGES]
    ]
    left_out = len(stages) - len(rows)
    return Table(
        (
            *(Column("Stage"), Column("Records", True), Column("Of all", True)),
            *(Column("Settled", True), Column("Passed on", True)),
        ),
        tuple(rows),
        left_out=words.left_out(left_out, "further stage"),
    )
