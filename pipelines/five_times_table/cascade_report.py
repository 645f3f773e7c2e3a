"""Compares what five and then ten predict with 50x."""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.five_times_table import report
from pipelines.five_times_table.data import FACTORS, X_MAX, X_MIN, Data

FACTOR = FACTORS["five"] * FACTORS["ten"]

Result = tuple[float, float, float]


def read(outputs: Mapping[str, str]) -> list[Result]:
    """Returns (x, y of stage five, y), in ascending order of x.

    Args:
      outputs: folders by output of the component.
    """
    five = report.read_results(outputs["inference_result"], "five/y")
    last = report.read_results(outputs["inference_result"], "y")
    return [(x, y_of_five, y) for (x, y_of_five), (_, y) in zip(five, last, strict=True)]


def table(results: list[Result], data: Data) -> str:
    """Returns some lines of evenly spaced results, and the largest error of all."""
    lines = [f"{'x':>8} {'50x':>10} {'five/y':>14} {'y':>14}"]
    for x, five, y in report.evenly_spaced(results):
        lines.append(
            f"{x:>8.1f} {FACTOR * x:>10.1f} {report.rounded(five):>14.4f} "
            f"{report.rounded(y):>14.4f}"
        )
    lines += ["", report.largest_error(_ends(results), FACTOR)]
    lines.append(
        f"ten learnt from x of {X_MIN:g} to {X_MAX:g} and gets {FACTORS['five'] * X_MIN:g} to "
        f"{FACTORS['five'] * X_MAX:g} here: a straight line goes on"
    )
    return "\n".join(lines)


def problems(results: list[Result], data: Data) -> list[str]:
    """Returns what is wrong with the predictions; nothing if they are good."""
    return report.problems(_ends(results), data, FACTOR)


def _ends(results: list[Result]) -> list[report.Result]:
    return [(x, y) for x, _, y in results]
