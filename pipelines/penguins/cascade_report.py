"""Compares predicted species with those that were held back: by stage, and of all birds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from bulk_inferencer import read_predictions
from pipelines.penguins import report
from pipelines.penguins.data import Data


class Result(NamedTuple):
    """What was predicted for one bird.

    Attributes:
      small: by the small model.
      full: by the full one; None if the small one settled the bird.
    """

    small: report.Result
    full: report.Result | None

    @property
    def final(self) -> report.Result:
        """What counts."""
        return self.full or self.small


def read(outputs: Mapping[str, str]) -> list[Result]:
    """Returns one result per prediction, in the order of the birds' names.

    Args:
      outputs: folders by output of the component.
    """
    results = [
        Result(
            small=report.result_of(prediction, "small/"),
            # A record holds the outputs of those stages only that ran for it.
            full=report.result_of(prediction) if "full/species" in prediction.outputs else None,
        )
        for prediction in read_predictions(outputs["inference_result"])
    ]
    return sorted(results, key=lambda result: result.small.bird)


def table(results: list[Result], data: Data) -> str:
    """Returns some birds of either stage, mistaken ones first, and the accuracy of either."""

    def is_right(result: Result) -> bool:
        return report.is_right(result.final, data)

    settled, escalated = _split(results)
    header = f"{'small says':<11} {'probability':>11}   {'full says':<11} {'probability':>11}"
    lines = [f"{'bird':<10} {header}   {'true species':<12}"]
    for result in report.some(escalated, is_right, 4) + report.some(settled, is_right, 4):
        bird = result.final.bird
        mark = "" if is_right(result) else "   wrong"
        lines.append(
            f"{bird:<10} {_said(result.small)}   {_said(result.full)}   "
            f"{data.species.get(bird, 'unknown'):<12}{mark}".rstrip()
        )
    lines += ["", f"{'':<17} {'birds':>6} {'right':>6} {'accuracy':>9} {'of small alone':>15}"]
    groups = {"settled by small": settled, "escalated to full": escalated, "all": results}
    for name, group in groups.items():
        right = sum(map(is_right, group))
        right_alone = sum(report.is_right(result.small, data) for result in group)
        count = max(1, len(group))
        lines.append(
            f"{name:<17} {len(group):>6,} {right:>6,} {right / count:>9.2f} "
            f"{right_alone / count:>15.2f}"
        )
    lines[-1] += f"   (at least {report.MIN_ACCURACY:.2f} is asked)"
    return "\n".join(lines)


def problems(results: list[Result], data: Data) -> list[str]:
    """Returns what is wrong with the predictions; nothing if they are good."""
    found = report.problems([result.final for result in results], data)
    settled, escalated = _split(results)
    if not (settled and escalated):
        found.append(
            f"Expected the small model to settle some birds and to hand on others, got "
            f"{len(settled):,} settled and {len(escalated):,} handed on. Change min_probability."
        )
    return found


def _split(results: list[Result]) -> tuple[list[Result], list[Result]]:
    """Returns those that the small model settled, and those that it handed on."""
    return [r for r in results if not r.full], [r for r in results if r.full]


def _said(result: report.Result | None) -> str:
    return f"{result.species:<11} {result.probability:>11.3f}" if result else " " * 23
