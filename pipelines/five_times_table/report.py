"""Compares predicted y with 5x."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import tensorflow as tf

from bulk_inferencer import read_predictions
from pipelines.five_times_table.data import FACTORS, X_MAX, X_MIN, Data

FACTOR = FACTORS["five"]

Result = tuple[float, float]


def read(outputs: Mapping[str, str]) -> list[Result]:
    """Returns (x, predicted y), in ascending order of x.

    Args:
      outputs: folders by output of the component.
    """
    return read_results(outputs["inference_result"])


def read_results(folder: str, output: str = "y") -> list[Result]:
    """Returns x and one output of the predictions in a folder, in ascending order of x."""
    results = []
    for prediction in read_predictions(folder):
        features = tf.train.Example.FromString(prediction.record).features.feature
        results.append((features["x"].float_list.value[0], prediction.outputs[output].item()))
    return sorted(results)


def table(results: list[Result], data: Data) -> str:
    """Returns some lines of evenly spaced results, and the largest error of all."""
    lines = [f"{'x':>8} {'5x':>10} {'predicted y':>14}"]
    for x, y in evenly_spaced(results):
        lines.append(f"{x:>8.1f} {FACTOR * x:>10.1f} {rounded(y):>14.4f}")
    lines += ["", largest_error(results)]
    return "\n".join(lines)


def problems(results: list[Result], data: Data, factor: float = FACTOR) -> list[str]:
    """Returns what is wrong with the predictions; nothing if they are good."""
    found = []
    same_xs = len(results) == len(data.xs) and all(
        math.isclose(x, generated, rel_tol=1e-6)  # What is read back went through float32.
        for (x, _), generated in zip(results, data.xs, strict=True)
    )
    if not same_xs:
        found.append(
            f"Expected one prediction for each of the {data.records:,} x in "
            f"{data.inference_data_root}, got {len(results):,} that do not match them."
        )
    x, y = max(results, key=lambda result: _error(result, factor), default=(0.0, 0.0))
    if _error((x, y), factor) > tolerance(factor):
        found.append(
            f"Expected every y within {tolerance(factor):g} of {factor:g}x, got y = {y:g} for "
            f"x = {x:g}. Train for more steps."
        )
    return found


def tolerance(factor: float) -> float:
    """The largest |y - factor * x| that passes: 1 % of the range of y."""
    return 0.01 * factor * (X_MAX - X_MIN)


def largest_error(results: Sequence[Result], factor: float = FACTOR, name: str = "y") -> str:
    """Returns a line with the largest |y - factor * x|."""
    errors = [_error(result, factor) for result in results]
    largest = f"{max(errors):.6f}" if errors else "unknown, nothing was predicted"
    return (
        f"largest |{name} - {factor:g}x|: {largest} "
        f"(allowed: {tolerance(factor):g}, 1 % of the range of {name})"
    )


def evenly_spaced(
    rows: Sequence[tuple[float, ...]], count: int = 11
) -> Sequence[tuple[float, ...]]:
    """Returns about `count` of the rows."""
    return rows[:: max(1, (len(rows) - 1) // (count - 1))]


def rounded(y: float) -> float:
    """Returns y as it is shown; the sum makes 0 of a -0 that rounding left."""
    return round(y, 4) + 0.0


def _error(result: Result, factor: float) -> float:
    x, y = result
    error = abs(y - factor * x)
    return math.inf if math.isnan(error) else error
