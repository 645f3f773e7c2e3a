"""What is shown of statistics: a row for each output, with its distribution, and the failures."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bulk_inferencer._layout import names_models
from bulk_inferencer.results.amounts import counted, share
from bulk_inferencer.results.blocks import Bars, Block, Cell, grid, number

if TYPE_CHECKING:
    from bulk_inferencer.results.statistics import OutputStatistics, Statistics

_BARS = 20
_MOST_CLASSES = 3
_HEAD = (
    *("model", "output", "records", "missing", "NaN", "infinite"),
    *("smallest", "median", "mean", "std. dev.", "largest", "distribution"),
)


def title(statistics: Statistics) -> str:
    """Returns what there are statistics of, in a line."""
    outputs = {name for model in statistics.outputs for name in statistics.of(model)}
    failed = sum(sum(statistics.failures_of(m).values()) for m in statistics.failures)
    parts = [counted(len(outputs), "output"), f"{failed:,} failed"]
    if names_models(statistics.outputs):
        parts.insert(0, counted(len(statistics.outputs), "model"))
    return f"Statistics of {', '.join(parts)}"


def blocks(statistics: Statistics) -> Iterator[Block]:
    """Yields the outputs of all models, with all splits as one, and the reasons of failures."""
    names = names_models(statistics.outputs)
    rows = [
        (model if names else None, output, *_output(own))
        for model in statistics.outputs
        for output, own in statistics.of(model).items()
    ]
    if rows:
        yield grid(_HEAD, rows)
    failures = [
        ((model or "(no model)") if names else None, reason, records)
        for model in statistics.failures
        for reason, records in statistics.failures_of(model).items()
    ]
    if failures:
        yield "Failures:"
        yield grid(("model", "reason", "records"), failures, most=10)


def _output(own: OutputStatistics) -> tuple[Cell, ...]:
    numbers: tuple[Cell, ...] = (None,) * 5
    if own.values:
        deviation = own.standard_deviation
        numbers = (own.minimum, own.quantile(0.5), own.mean, deviation, own.maximum)
    counts = (own.records, own.missing or None, own.nan or None, own.infinite or None)
    return (*counts, *numbers, _distribution(own))


def _distribution(own: OutputStatistics) -> Bars | str | None:
    """Returns the classes of an output that has few, or the histogram of its numbers."""
    if own.classes and (not own.values or len(own.classes) <= _MOST_CLASSES):
        shares = [
            f"{name} {share(records, own.records)}"
            for name, records in itertools.islice(own.classes.items(), _MOST_CLASSES)
        ]
        more = len(own.classes) - len(shares)
        return ", ".join(shares) + (f", {more:,} more" if more else "")
    if own.values:
        label = f"from {number(own.minimum)} to {number(own.maximum)}"
        return Bars(tuple(map(float, own.bars(_BARS)[1])), label)
    return None
