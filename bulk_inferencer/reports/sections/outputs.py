"""What each output is like: distributions, quantiles and classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bulk_inferencer.reports import words
from bulk_inferencer.reports.bins import distribution
from bulk_inferencer.reports.branches import branches_of, names_models
from bulk_inferencer.reports.drawing import SERIES
from bulk_inferencer.reports.parts import Cell, Column, Figure, Group, Part, Section, Table, Text
from bulk_inferencer.reports.plots import Classes
from bulk_inferencer.results.amounts import NOTHING, counted, percent, share
from bulk_inferencer.results.drift import drift
from bulk_inferencer.results.run_results import Results
from bulk_inferencer.results.statistics import OutputStatistics

MOST_PANELS = 24
_MOST_LINES = 100
_MOST_BARS = 12
_MOST_CLASSES = 20
_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


@dataclass(frozen=True)
class Panel:
    """One output, of one or several series side by side.

    Attributes:
      title: the output, and the model where runs are the series.
      names: the models, or the runs; one empty name if there is nothing to tell apart.
      series: what the output is like, for each name.
      drift: how far apart two runs are; None if models are the series.
    """

    title: str
    names: tuple[str, ...]
    series: tuple[OutputStatistics, ...]
    drift: float | None = None


def section(results: Results, against: Results | None = None) -> Section | None:
    """Returns the section of distributions; None if there are no predictions."""
    if against and not list(pairs(results, against)):
        against = None  # There is nothing to put beside the outputs of this run.
    panels = list(_runs(results, against) if against else _models(results))
    if not panels:
        return None
    parts: list[Part] = [_group(panel) for panel in panels[:MOST_PANELS]]
    if more := panels[MOST_PANELS:]:
        parts.append(Group("Further outputs", (_lines(more),)))
    return Section("outputs", "Outputs", tuple(parts), lead=_lead(results, panels, against))


def _lead(results: Results, panels: Sequence[Panel], against: Results | None) -> str:
    if against:
        return "Each output of this run beside the earlier one, the most different ones first."
    over = "over all splits" if len(results.splits) > 1 else ""
    return f"The distribution of {counted(len(panels), 'output')} {over}".rstrip() + "."


# Which panels there are


def _models(results: Results) -> Iterator[Panel]:
    """Yields a panel per output, with the models that have it."""
    has_names = names_models(results)
    found: dict[str, dict[str, OutputStatistics]] = {}
    for model in results.models:
        for output, own in _statistics(results, model).items():
            found.setdefault(output, {})[model if has_names else ""] = own
    for output, series in found.items():
        yield Panel(output, tuple(series), tuple(series.values()))


def _runs(results: Results, against: Results) -> list[Panel]:
    """Returns a panel per output and model of both runs, the most different first."""
    panels = []
    for model, older in pairs(results, against):
        before = against.statistics.of(older)
        for output, own in _statistics(results, model).items():
            title = f"{model}: {output}" if len(results.models) > 1 else output
            if output in before:
                series = own, before[output]
                panels.append(Panel(title, ("this run", "earlier run"), series, drift(*series)))
            else:
                panels.append(Panel(title, ("this run",), (own,)))
    return sorted(panels, key=lambda panel: -(panel.drift or 0))


def _statistics(results: Results, model: str) -> dict[str, OutputStatistics]:
    """Returns what the outputs of a model are like, those of the stages of a cascade last."""
    branch = branches_of(results).get(model)
    stages = branch.stages if branch else ()
    found = results.statistics.of(model)
    return dict(sorted(found.items(), key=lambda own: own[0].partition("/")[0] in stages))


def pairs(results: Results, against: Results) -> list[tuple[str, str]]:
    """Returns each model with that of an earlier run: of the same name, or the only ones."""
    if len(results.models) == len(against.models) == 1:
        return [(results.models[0], against.models[0])]
    return [(model, model) for model in results.models if model in against.models]


# One panel


def _group(panel: Panel) -> Group:
    shown = Panel(panel.title, panel.names[:SERIES], panel.series[:SERIES], panel.drift)
    parts: list[Part] = []
    has_classes = any(own.classes for own in shown.series)
    has_few = all(own.is_categorical and len(own.classes or ()) <= 30 for own in shown.series)
    if any(own.values for own in shown.series) and not has_few:
        parts += [_numbers_figure(shown), _numbers_table(shown)]
    elif any(own.numbers for own in shown.series) and not has_classes:
        parts.append(_numbers_table(shown))
    if has_classes:
        parts += [_classes_figure(shown), _classes_table(shown)]
    if any(own.classes is None for own in shown.series):
        parts.append(Text("There are too many different values, or too long ones, to count them."))
    if left_out := len(panel.names) - len(shown.names):
        parts.append(Text(f"{counted(left_out, 'further model')} left out."))
    is_beside = any(isinstance(part, Figure) for part in parts)
    return Group(words.clean(panel.title), tuple(parts), tuple(_badges(panel)), is_beside)


def _badges(panel: Panel) -> Iterator[Cell]:
    if panel.drift is not None:
        yield Cell(f"drift {words.number(round(panel.drift, 4))}", "quiet")
    elif panel.names == ("this run",):
        yield Cell("not in the earlier run", "quiet")
    if not_finite := max(own.not_finite_fraction if own.numbers else 0 for own in panel.series):
        yield Cell(f"{percent(not_finite)} not finite", "warn")
    if missing := max(own.missing for own in panel.series):
        yield Cell(f"{counted(missing, 'record')} without it", "quiet")


def _numbers_figure(panel: Panel) -> Part:
    plot, outside = distribution(panel.names, panel.series)
    if plot is None:
        known = [own for own in panel.series if own.values]
        low, high = min(own.minimum for own in known), max(own.maximum for own in known)
        span = f"from {words.number(low)} to {words.number(high)}"
        return Text(f"All values are {span if low < high else words.number(low)}.")
    caption = "Distribution of its values" if len(panel.names) == 1 else "Shares of its values"
    if outside:
        caption += f", without {words.number(outside)} that are far outside"
    return Figure(caption, plot)


def _numbers_table(panel: Panel) -> Table:
    series = panel.series
    rows = [
        ("Records", [words.number(own.records) for own in series]),
        ("Mean", [words.number(own.mean) for own in series]),
        ("Standard deviation", [words.number(own.standard_deviation) for own in series]),
        ("Smallest", [words.number(own.minimum) for own in series]),
    ]
    for q in _QUANTILES:
        title = "Median" if q == 0.5 else f"{q:.0%}".replace("%", " % quantile")
        rows.append((title, [words.number(own.quantile(q)) for own in series]))
    rows.append(("Largest", [words.number(own.maximum) for own in series]))
    for title, counts in (
        ("NaN", [own.nan for own in series]),
        ("Infinite", [own.infinite for own in series]),
    ):
        if any(counts):
            rows.append((title, [words.number(own) for own in counts]))
    cells = [(Cell(title, "quiet"), *map(Cell, texts)) for title, texts in rows]
    names = [words.clean(name, 60) for name in panel.names]
    return Table((Column(""), *(Column(name, True) for name in names)), tuple(cells))


def _ranked_classes(panel: Panel) -> list[str]:
    counts: Counter[str] = Counter()
    for own in panel.series:
        counts.update(own.classes or {})
    return [name for name, _ in counts.most_common()]


def _classes_figure(panel: Panel) -> Figure:
    shown = _ranked_classes(panel)[:_MOST_BARS]
    plot = Classes(
        tuple(words.clean(name, words.LONGEST_VALUE) for name in shown),
        tuple(words.clean(name, 60) for name in panel.names),
        tuple(tuple((own.classes or {}).get(name, 0) for name in shown) for own in panel.series),
        tuple(own.records for own in panel.series),
    )
    return Figure(_class_title(panel), plot)


def _class_title(panel: Panel) -> str:
    is_index = any(own.numbers and not own.is_categorical for own in panel.series)
    return "Position of the largest value" if is_index else "Classes"


def _classes_table(panel: Panel) -> Table:
    ranked = _ranked_classes(panel)
    columns = [Column("Position" if "Position" in _class_title(panel) else "Class")]
    rows = [[Cell(words.clean(name, words.LONGEST_VALUE))] for name in ranked[:_MOST_CLASSES]]
    for name, own in zip(panel.names, panel.series, strict=True):
        columns += [Column(words.clean(name, 60) or "Records", True), Column("Share", True)]
        for row, label in zip(rows, ranked, strict=False):
            count = (own.classes or {}).get(label, 0)
            row += [Cell(words.number(count)), Cell(share(count, own.records), "quiet")]
    left_out = len(ranked) - len(rows)
    return Table(
        tuple(columns),
        tuple(map(tuple, rows)),
        left_out=words.left_out(left_out, "less frequent class", "less frequent classes"),
    )


# What has no panel


def _lines(panels: Sequence[Panel]) -> Table:
    lines = [
        (panel, name, own)
        for panel in panels
        for name, own in zip(panel.names, panel.series, strict=True)
    ]
    has_names = any(name for _, name, _ in lines)
    rows = [
        (
            Cell(words.clean(panel.title)),
            *((Cell(words.clean(name, 60)),) if has_names else ()),
            Cell(words.number(own.records)),
            Cell(percent(own.not_finite_fraction) if own.numbers else NOTHING),
            *(
                Cell(words.number(value) if own.values else NOTHING)
                for value in (own.mean, own.minimum, own.quantile(0.5), own.maximum)
            ),
            Cell(words.number(len(own.classes)) if own.classes else NOTHING),
        )
        for panel, name, own in lines[:_MOST_LINES]
    ]
    left_out = len(lines) - len(rows)
    return Table(
        (
            *(Column("Output"), *((Column("Of"),) if has_names else ())),
            *(Column(title, True) for title in ("Records", "Not finite", "Mean", "Smallest")),
            *(Column(title, True) for title in ("Median", "Largest", "Classes")),
        ),
        tuple(rows),
        left_out=words.left_out(left_out, "further line"),
    )
