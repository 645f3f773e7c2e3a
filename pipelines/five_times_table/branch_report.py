"""Compares what five and ten predict with 5x and 10x, and with what `comparison.json` says."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import NamedTuple

from bulk_inferencer.results.compare import Comparison, OutputComparison
from pipelines.five_times_table import report
from pipelines.five_times_table.data import FACTORS, Data


class Results(NamedTuple):
    """What the two models predicted.

    Attributes:
      five: (x, y) in ascending order of x.
      ten: the same of the other model.
      difference: what `comparison.json` says of their y.
    """

    five: list[report.Result]
    ten: list[report.Result]
    difference: OutputComparison


def read(outputs: Mapping[str, str]) -> Results:
    """Returns what was predicted.

    Args:
      outputs: folders by output of the component.
    """
    (pair,) = Comparison.read(outputs["comparison"]).pairs
    return Results(
        five=report.read_results(outputs["five"]),
        ten=report.read_results(outputs["ten"]),
        difference=pair.outputs["y"],
    )


def table(results: Results, data: Data) -> str:
    """Returns some lines of evenly spaced results, the largest errors and the difference."""
    lines = [f"{'x':>8} {'five':>14} {'ten':>14}"]
    for x, five, ten in report.evenly_spaced(_side_by_side(results)):
        lines.append(f"{x:>8.1f} {report.rounded(five):>14.4f} {report.rounded(ten):>14.4f}")
    lines.append("")
    for name, factor in FACTORS.items():
        lines.append(report.largest_error(getattr(results, name), factor, name))
    y = results.difference
    lines.append(
        f"|five - ten| in comparison.json: mean {y.mean_absolute_difference:.4f}, "
        f"largest {y.max_absolute_difference:.4f}"
    )
    return "\n".join(lines)


def problems(results: Results, data: Data) -> list[str]:
    """Returns what is wrong with the predictions; nothing if they are good."""
    found = [
        f"{name}: {problem}"
        for name, factor in FACTORS.items()
        for problem in report.problems(getattr(results, name), data, factor)
    ]
    differences = [abs(five - ten) for _, five, ten in _side_by_side(results)] or [math.nan]
    expected = statistics.fmean(differences), max(differences)
    y = results.difference
    got = y.mean_absolute_difference, y.max_absolute_difference
    if not all(math.isclose(*pair, rel_tol=1e-6) for pair in zip(expected, got, strict=True)):
        found.append(
            f"Expected |five - ten| in comparison.json as in the predictions, mean {expected[0]:g} "
            f"and largest {expected[1]:g}, got {got[0]:g} and {got[1]:g}."
        )
    return found


def _side_by_side(results: Results) -> list[tuple[float, float, float]]:
    ten = dict(results.ten)
    return [(x, y, ten[x]) for x, y in results.five if x in ten]
