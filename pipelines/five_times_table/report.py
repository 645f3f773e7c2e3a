"""Compares the y that the models predicted with 5x, 10x and 50x."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd
import tensorflow as tf

from bulk_inferencer import read_predictions
from bulk_inferencer.results.comparison import Comparison, OutputComparison
from pipelines.five_times_table.data import FACTORS, X_MAX, X_MIN, Data
from pipelines.outcome import Report


class TimesTable(NamedTuple):
    """What was predicted where y = factor * x is right.

    Attributes:
      factor: what x is multiplied by.
      points: (x, y) in ascending order of x.
      name: what y is called.
    """

    factor: float
    points: list[tuple[float, float]]
    name: str = "y"

    @property
    def tolerance(self) -> float:
        """The largest |y - factor * x| that passes: 1 % of the range of y."""
        return 0.01 * self.factor * (X_MAX - X_MIN)

    def error(self, point: tuple[float, float]) -> float:
        """Returns |y - factor * x|; infinity if y is not a number."""
        x, y = point
        error = abs(y - self.factor * x)
        return math.inf if math.isnan(error) else error

    def largest_error(self) -> str:
        """Returns a line that tells the largest error."""
        errors = list(map(self.error, self.points))
        largest = f"{max(errors):.6f}" if errors else "unknown, nothing was predicted"
        return (
            f"largest |{self.name} - {self.factor:g}x|: {largest} "
            f"(allowed: {self.tolerance:g}, 1 % of the range of {self.name})"
        )

    def problems(self, data: Data) -> list[str]:
        """Returns what is wrong with the predictions; nothing if they are good."""
        found = []
        same_xs = len(self.points) == len(data.xs) and all(
            math.isclose(x, generated, rel_tol=1e-6)  # What is read back went through float32.
            for (x, _), generated in zip(self.points, data.xs, strict=True)
        )
        if not same_xs:
            found.append(
                f"The {len(self.points):,} predictions do not match the {data.records:,} x in "
                f"{data.inference_data_root}: there must be one for each."
            )
        x, y = max(self.points, key=self.error, default=(0.0, 0.0))
        if self.error((x, y)) > self.tolerance:
            found.append(
                f"y = {y:g} for x = {x:g} is more than {self.tolerance:g} away from "
                f"{self.factor:g}x. Train for more steps."
            )
        return found


def report(outputs: Mapping[str, str], data: Data) -> Report:
    """Reports on the pipeline with one model."""
    rows = pd.read_parquet(outputs["prediction_table"])
    table = TimesTable(FACTORS["five"], sorted(zip(rows["x"], rows["y"], strict=True)))
    lines = [*_lines(table.points, ["predicted y"], table.factor), "", table.largest_error()]
    return Report("\n".join(lines), table.problems(data))


def branch_report(outputs: Mapping[str, str], data: Data) -> Report:
    """Reports on the pipeline with five beside ten."""
    (pair,) = Comparison.read(outputs["comparison"]).pairs
    five, ten = (_read(outputs[name], factor, name=name) for name, factor in FACTORS.items())
    return compare_branch(five, ten, pair.outputs["y"], data)


def compare_branch(
    five: TimesTable, ten: TimesTable, difference: OutputComparison, data: Data
) -> Report:
    """Compares the models with their tables, and their difference with `comparison.json`."""
    y_of_ten = dict(ten.points)
    rows = [(x, y, y_of_ten[x]) for x, y in five.points if x in y_of_ten]
    mean, largest = difference.mean_absolute_difference, difference.max_absolute_difference
    lines = [
        *_lines(rows, ["five", "ten"]),
        "",
        five.largest_error(),
        ten.largest_error(),
        f"|five - ten| in comparison.json: mean {mean:.4f}, largest {largest:.4f}",
    ]
    problems = [
        f"{table.name}: {problem}" for table in (five, ten) for problem in table.problems(data)
    ]
    found = [abs(five_y - ten_y) for _, five_y, ten_y in rows] or [math.nan]
    pairs = [(mean, statistics.fmean(found)), (largest, max(found))]
    if not all(math.isclose(*pair, rel_tol=1e-6) for pair in pairs):
        problems.append(
            f"|five - ten| in comparison.json has a mean of {mean:g} and a maximum of {largest:g}; "
            f"the predictions have {pairs[0][1]:g} and {pairs[1][1]:g}."
        )
    return Report("\n".join(lines), problems)


def cascade_report(outputs: Mapping[str, str], data: Data) -> Report:
    """Reports on the pipeline with five, then ten."""
    folder = outputs["inference_result"]
    five = _read(folder, FACTORS["five"], "five/y")
    return compare_cascade(five, _read(folder, FACTORS["five"] * FACTORS["ten"]), data)


def compare_cascade(five: TimesTable, last: TimesTable, data: Data) -> Report:
    """Compares what comes out of the last stage with 50x."""
    rows = [(x, y, last_y) for (x, y), (_, last_y) in zip(five.points, last.points, strict=True)]
    low, high = five.factor * X_MIN, five.factor * X_MAX
    note = f"ten learnt from x of {X_MIN:g} to {X_MAX:g} and gets {low:g} to {high:g} here: "
    note += "a straight line goes on"
    lines = [*_lines(rows, ["five/y", "y"], last.factor), "", last.largest_error(), note]
    return Report("\n".join(lines), last.problems(data))


def _read(folder: str, factor: float, output: str = "y", name: str = "y") -> TimesTable:
    points = []
    for prediction in read_predictions(folder):
        features = tf.train.Example.FromString(prediction.record).features.feature
        points.append((features["x"].float_list.value[0], prediction.outputs[output].item()))
    return TimesTable(factor, sorted(points), name)


def _lines(
    rows: Sequence[tuple[float, ...]], titles: Sequence[str], factor: float | None = None
) -> list[str]:
    """Returns about 11 of the rows, each x and predictions, with factor * x if there is one."""
    exact = f" {f'{factor:g}x':>10}" if factor else ""
    lines = [f"{'x':>8}{exact}" + "".join(f" {title:>14}" for title in titles)]
    for x, *ys in rows[:: max(1, (len(rows) - 1) // 10)]:
        exact = f" {factor * x:>10.1f}" if factor else ""
        # The sum makes 0 of a -0 that rounding left.
        lines.append(f"{x:>8.1f}{exact}" + "".join(f" {round(y, 4) + 0.0:>14.4f}" for y in ys))
    return lines
