"""How models differ: agreement, confusion, the records that differ most, and outcomes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from bulk_inferencer.reports import words
from bulk_inferencer.reports.branches import of_all_splits
from bulk_inferencer.reports.parts import Cell, Column, Figure, Group, Part, Section, Table, Text
from bulk_inferencer.reports.plots import Intervals
from bulk_inferencer.results.amounts import NOTHING, counted, share
from bulk_inferencer.results.comparison import (
    ClassPair,
    Comparison,
    DifferentRecord,
    Outcome,
    OutputComparison,
    PairComparison,
)
from bulk_inferencer.results.run_results import Results

_MOST_LINES = 100
_MOST_DETAILS = 12
_MOST_CLASSES = 12
_MOST_RECORDS = 10
_MOST_OUTCOMES = 40
_MOST_KEYS = 5


def differences(results: Results) -> Section | None:
    """Returns the section of how models differ; None if they were not compared."""
    pairs = (results.comparison or Comparison()).pairs
    compared = [(pair, name, own) for pair in pairs for name, own in pair.outputs.items()]
    not_compared = [(pair, name, why) for pair in pairs for name, why in pair.not_compared.items()]
    parts: list[Part] = []
    if compared:
        parts.append(_lines(compared))
        parts += [_details(*own) for own in compared[:_MOST_DETAILS]]
        if left_out := words.left_out(len(compared) - _MOST_DETAILS, "further line"):
            parts.append(Text(f"Details of {left_out}"))
    if not_compared:
        parts.append(Group("Not compared", (_reasons(not_compared),)))
    if not parts:
        return None
    lead = "Each output of every two models, over the records that both have it for."
    lead = f"{lead} {of_all_splits(results)}".rstrip()
    return Section("differences", "Differences", tuple(parts), lead=lead)


def outcomes(results: Results) -> Section | None:
    """Returns the section of business outcomes; None if there are none."""
    found = (results.comparison or Comparison()).outcomes
    if not found:
        return None
    shown = dict(list(found.items())[:_MOST_OUTCOMES])
    plot = Intervals(
        tuple(shown),
        tuple(own.mean for own in shown.values()),
        tuple(own.low for own in shown.values()),
        tuple(own.high for own in shown.values()),
        "Mean outcome",
    )
    figure = Figure("Means with 95 % confidence intervals", plot)
    group = Group("Mean outcome by model", (figure, _outcomes(shown, len(found))), is_beside=True)
    lead = (
        "What came of the keys that each model scored. Intervals that overlap tell nothing about "
        "the difference of two models."
    )
    lead = f"{lead} {of_all_splits(results)}".rstrip()
    return Section("outcomes", "Outcomes", (group,), lead=lead)


def _outcomes(shown: Mapping[str, Outcome], count: int) -> Table:
    rows = [
        (
            Cell(words.clean(name)),
            Cell(words.number(own.count)),
            Cell(words.number(own.mean)),
            Cell(
                f"{words.number(own.low)} to {words.number(own.high)}"
                if not math.isnan(own.low)
                else NOTHING
            ),
        )
        for name, own in shown.items()
    ]
    left_out = count - len(rows)
    columns = (Column("Model"), *(Column(t, True) for t in ("Outcomes", "Mean", "95 % interval")))
    return Table(
        columns,
        tuple(rows),
        left_out=words.left_out(left_out, "further model"),
    )


def _pair(pair: PairComparison) -> str:
    return " and ".join(words.clean(name, 60) for name in pair.models)


def _lines(compared: Sequence[tuple[PairComparison, str, OutputComparison]]) -> Table:
    rows = [
        (
            Cell(_pair(pair)),
            Cell(words.clean(name)),
            Cell(words.number(own.records)),
            Cell(
                share(own.agreeing, own.records),
                share=own.agreement if own.records else None,
            ),
            Cell(words.number(own.mean_absolute_difference) if own.values else NOTHING),
            Cell(words.number(own.max_absolute_difference) if own.values else NOTHING),
            Cell(words.number(own.not_finite) if own.not_finite else NOTHING),
        )
        for pair, name, own in compared[:_MOST_LINES]
    ]
    left_out = len(compared) - len(rows)
    titles = ("Records", "Agree", "Mean difference", "Largest difference", "Not finite")
    return Table(
        (Column("Models"), Column("Output"), *(Column(title, True) for title in titles)),
        tuple(rows),
        left_out=words.left_out(left_out, "further line"),
    )


def _details(pair: PairComparison, name: str, own: OutputComparison) -> Group:
    parts: list[Part] = []
    if own.confusion:
        parts.append(_confusion(pair, own.confusion))
    elif own.confusion is None:
        parts.append(Text("There are too many pairs of classes, or too long ones, to show them."))
    if own.most_different:
        parts.append(_most_different(pair, own.most_different))
    else:
        parts.append(Text("No record differs."))
    return Group(f"{words.clean(name)}: {_pair(pair)}", tuple(parts), (_badge(own),))


def _badge(own: OutputComparison) -> Cell:
    # Floats that are nearly equal do not agree, so that the share tells little.
    if own.confusion == () and own.values:
        mean = words.number(own.mean_absolute_difference)
        return Cell(f"mean difference {mean}", "quiet")
    return Cell(f"{share(own.agreeing, own.records)} agree", "quiet")


def _confusion(pair: PairComparison, confusion: Sequence[ClassPair]) -> Table:
    """Returns records by class of the first model, in rows, and of the second, in columns."""
    counts = {tuple(own.classes[model] for model in pair.models): own.records for own in confusion}
    frequent: Counter[str] = Counter()
    for classes, records in counts.items():
        for own in classes:
            frequent[own] += records
    shown = sorted(own for own, _ in frequent.most_common(_MOST_CLASSES))
    of_first: Counter[str] = Counter()
    for (first, _), records in counts.items():
        of_first[first] += records
    a, b = (words.clean(model, 40) for model in pair.models)
    rows = [
        (
            Cell(words.clean(row, 60)),
            *(
                Cell(words.number(n), share=n / of_first[row]) if n else Cell("0", "quiet")
                for n in (counts.get((row, column), 0) for column in shown)
            ),
        )
        for row in shown
    ]
    left_out = sum(n for classes, n in counts.items() if not set(classes) <= set(shown))
    return Table(
        (Column(f"{a} ↓   {b} →"), *(Column(words.clean(own, 60), True) for own in shown)),
        tuple(rows),
        left_out=f"{counted(left_out, 'record')} of rarer classes left out." if left_out else "",
        is_matrix=True,
    )


def _most_different(pair: PairComparison, records: Sequence[DifferentRecord]) -> Table:
    has_keys = any(own.keys for own in records)
    rows = [
        (
            Cell(words.number(own.difference)),
            *((Cell(_keys(own)),) if has_keys else ()),
            *(Cell(_values(own.values.get(model, ()))) for model in pair.models),
            Cell(f"{words.file(own.file)} record {own.record}"),
        )
        for own in records[:_MOST_RECORDS]
    ]
    return Table(
        (
            Column("Difference", True),
            *((Column("Keys"),) if has_keys else ()),
            *(Column(words.clean(model, 40)) for model in pair.models),
            Column("Record", is_code=True),
        ),
        tuple(rows),
        is_dense=True,
    )


def _keys(record: DifferentRecord) -> str:
    own = list(record.keys.items())[:_MOST_KEYS]
    return ", ".join(f"{words.clean(name, 40)} {_values(values)}" for name, values in own)


def _values(values: Sequence[object]) -> str:
    return words.value(values[0] if len(values) == 1 else list(values))


def _reasons(not_compared: Sequence[tuple[PairComparison, str, str]]) -> Table:
    rows = [
        (Cell(_pair(pair)), Cell(words.clean(name)), Cell(words.clean(why, 300)))
        for pair, name, why in not_compared[:_MOST_LINES]
    ]
    left_out = len(not_compared) - len(rows)
    return Table(
        (Column("Models"), Column("Output"), Column("Why")),
        tuple(rows),
        left_out=words.left_out(left_out, "further line"),
    )
