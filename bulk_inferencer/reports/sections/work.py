"""How fast a run was: its rate and the size of its batches over time, and what calls took."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from bulk_inferencer._work import Distribution, Work
from bulk_inferencer.reports import words
from bulk_inferencer.reports.branches import branches_of, names_models, of_whole_run
from bulk_inferencer.reports.parts import Cell, Column, Figure, Group, Part, Section, Table
from bulk_inferencer.reports.plots import Steps
from bulk_inferencer.results.amounts import NOTHING, counted, duration, in_bytes
from bulk_inferencer.results.run_results import Results
from bulk_inferencer.results.timeline import Point


def section(results: Results) -> Section | None:
    """Returns the section of the run's speed; None if the model was not called."""
    if results.summary is None:
        return None
    called = {name: own.work for name, own in branches_of(results).items() if own.work.batches}
    if not called:
        return None
    parts: list[Part] = []
    points = results.summary.timeline.points
    if len(points) > 1:
        parts.append(Group("Over the run", (_rate(points), _batches(points))))
    if names_models(results):
        parts.append(Group("Calls of the models", (_models(called),)))
    else:
        (work,) = called.values()
        parts.append(Group("Calls of the model", (_table(work),), tuple(_badges(work))))
    return Section("speed", "Speed", tuple(parts), lead=of_whole_run(results))


def _rate(points: Sequence[Point]) -> Figure:
    values = np.array([own.records_per_second for own in points])
    return Figure("Records per second", Steps(_edges(points), values, "records per second"))


def _batches(points: Sequence[Point]) -> Figure:
    values = np.array([own.batch_records for own in points])
    values = np.where(np.isnan(values), 0, values)
    return Figure(
        "Records per call of the model", Steps(_edges(points), values, "records per call")
    )


def _edges(points: Sequence[Point]) -> np.ndarray:
    return np.array([*(own.seconds for own in points), points[-1].seconds + points[-1].duration])


def _badges(work: Work) -> list[Cell]:
    if not work.halvings:
        return []
    return [Cell(f"{counted(work.halvings, 'batch', 'batches')} did not fit into memory", "warn")]


def _table(work: Work) -> Table:
    rows: list[tuple[str, Distribution, Callable[[float], str]]] = [
        ("Records per call", work.batch_records, words.number),
        ("Bytes per call", work.batch_bytes, in_bytes),
        ("Time of a call", work.inference_milliseconds, _milliseconds),
        ("Time to load the model", work.model_load_milliseconds, _milliseconds),
        ("Memory that loading took", work.model_load_bytes, in_bytes),
    ]
    cells = [
        (Cell(title), *(Cell(text) for text in _texts(own, as_text)))
        for title, own, as_text in rows
        if own.count
    ]
    names = ("Calls", "Smallest", "Mean", "Largest", "Total")
    return Table((Column(""), *(Column(name, True) for name in names)), tuple(cells))


def _models(called: Mapping[str, Work]) -> Table:
    rows = [
        (
            Cell(words.clean(name)),
            Cell(words.number(work.batches)),
            Cell(words.number(work.batch_records.sum)),
            Cell(words.number(_rounded(work.batch_records.mean))),
            Cell(_milliseconds(work.inference_milliseconds.mean)),
            Cell(_milliseconds(work.inference_milliseconds.max)),
            Cell(words.number(work.halvings), "warn" if work.halvings else ""),
        )
        for name, work in list(called.items())[: words.MOST_ROWS]
    ]
    left_out = len(called) - len(rows)
    titles = ("Calls", "Records", "Records per call", "Mean time", "Longest time", "Halved")
    return Table(
        (Column("Model"), *(Column(title, True) for title in titles)),
        tuple(rows),
        left_out=words.left_out(left_out, "further model"),
    )


def _rounded(mean: float) -> float:
    return mean if math.isnan(mean) or mean < 100 else round(mean)


def _texts(own: Distribution, as_text: Callable[[float], str]) -> list[str]:
    values = (own.min, _rounded(own.mean), own.max, own.sum)
    return [words.number(own.count), *(as_text(value) for value in values)]


def _milliseconds(value: float) -> str:
    return duration(value / 1000) if not math.isnan(value) else NOTHING
