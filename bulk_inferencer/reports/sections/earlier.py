"""A run beside an earlier one: counts, statistics, and the drift of each output."""

from __future__ import annotations

import math
from collections.abc import Callable

from bulk_inferencer.reports import words
from bulk_inferencer.reports.branches import branches_of, is_whole, names_models
from bulk_inferencer.reports.parts import Cell, Column, Group, Part, Section, Table, Text
from bulk_inferencer.reports.sections.outputs import pairs
from bulk_inferencer.reports.sections.overview import records_per_second, records_read
from bulk_inferencer.results.amounts import NOTHING, percent, share
from bulk_inferencer.results.drift import drift
from bulk_inferencer.results.run_results import Results
from bulk_inferencer.results.statistics import OutputStatistics

_MOST_LINES = 100


def section(results: Results, against: Results) -> Section:
    """Returns the section that compares two runs."""
    parts: list[Part] = [Group("The runs", (_counts(results, against),))]
    both = pairs(results, against)
    if both:
        parts.append(Group("Drift of outputs", (_drifts(results, against, both),)))
    else:
        parts.append(Text("The runs have no model of the same name, so no outputs are compared."))
    lead = f"The earlier run is {words.clean(against.name)}."
    return Section("against", "Against an earlier run", tuple(parts), lead=lead)


def _counts(results: Results, against: Results) -> Table:
    def line(title: str, of: Callable[[Results], str]) -> tuple[Cell, ...]:
        return (Cell(title), Cell(of(results)), Cell(of(against)))

    rows = (
        line("Records read", lambda own: words.number(records_read(own))),
        line("Predictions", lambda own: words.number(own.counts.predictions_written)),
        line("Failed", lambda own: words.number(own.counts.examples_failed)),
        line(
            "Share failed",
            lambda own: share(own.counts.examples_failed, own.counts.examples_read),
        ),
        line("Records per second", _rate),
        line("Models", _models),
        line("Fingerprints", _fingerprints),
        line("Splits", lambda own: words.listed(own.splits)),
    )
    return Table((Column(""), Column("This run"), Column("Earlier run")), rows)


def _rate(results: Results) -> str:
    rate = records_per_second(results) if is_whole(results) else math.nan
    return NOTHING if math.isnan(rate) else words.number(float(f"{rate:.3g}"))


def _models(results: Results) -> str:
    if names_models(results):
        return words.listed(results.models)
    paths = [own.model_path for own in branches_of(results).values()]
    return words.listed([own for own in paths if own]) or NOTHING


def _fingerprints(results: Results) -> str:
    found = [own.model_fingerprint[:12] for own in branches_of(results).values()]
    return words.listed([own for own in found if own]) or NOTHING


def _drifts(results: Results, against: Results, both: list[tuple[str, str]]) -> Table:
    has_names = len(both) > 1
    lines = []
    for model, older in both:
        before = against.statistics.of(older)
        for output, own in results.statistics.of(model).items():
            if output in before:
                lines.append((drift(own, before[output]), model, output, own, before[output]))
    # Those that cannot be told come last.
    lines.sort(key=lambda line: -line[0] if line[0] == line[0] else 1)
    rows = [
        (
            *((Cell(words.clean(model)),) if has_names else ()),
            Cell(words.clean(output)),
            Cell(words.number(round(own, 4)), share=own) if own == own else Cell("unknown"),
            *_statistics(now, then),
        )
        for own, model, output, now, then in lines[:_MOST_LINES]
    ]
    left_out = len(lines) - len(rows)
    numbers = ("Drift", "Records", "Mean", "Median", "Not finite")
    return Table(
        (
            *((Column("Model"),) if has_names else ()),
            *(Column("Output"), *(Column(title, True) for title in numbers)),
        ),
        tuple(rows),
        left_out=words.left_out(left_out, "further output"),
    )


def _statistics(now: OutputStatistics, then: OutputStatistics) -> tuple[Cell, ...]:
    def change(of: Callable[[OutputStatistics], str]) -> Cell:
        texts = of(then), of(now)
        return Cell(" → ".join(texts) if texts != (NOTHING,) * 2 else NOTHING)

    def number(value: float) -> str:
        return NOTHING if math.isnan(value) else words.number(value)

    return (
        change(lambda own: words.number(own.records)),
        change(lambda own: number(own.mean)),
        change(lambda own: number(own.quantile(0.5))),
        change(lambda own: percent(own.not_finite_fraction)),
    )
