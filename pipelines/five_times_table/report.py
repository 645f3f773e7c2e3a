"""Compares predicted y with 5x."""

from __future__ import annotations

import math
from collections.abc import Iterable

import tensorflow as tf

from bulk_inferencer.results.reader import Prediction
from pipelines.five_times_table.data import FACTOR, X_MAX, X_MIN, Data

# The largest |y - 5x| that passes: 1 % of the range of y.
TOLERANCE = 0.01 * FACTOR * (X_MAX - X_MIN)

Result = tuple[float, float]


def parse(predictions: Iterable[Prediction]) -> list[Result]:
    """Returns (x, predicted y), in ascending order of x."""
    results = []
    for prediction in predictions:
        features = tf.train.Example.FromString(prediction.record).features.feature
        results.append((features["x"].float_list.value[0], prediction.outputs["y"].item()))
    return sorted(results)


def table(results: list[Result], data: Data, rows: int = 11) -> str:
    """Returns about `rows` lines of evenly spaced results, and the largest error of all."""
    step = max(1, (len(results) - 1) // max(1, rows - 1))
    lines = [f"{'x':>8} {'5x':>10} {'predicted y':>14}"]
    for x, y in results[::step]:
        # The sum makes 0 of a -0 that rounding left.
        lines.append(f"{x:>8.1f} {FACTOR * x:>10.1f} {round(y, 4) + 0.0:>14.4f}")
    largest = f"{_largest_error(results):.6f}" if results else "unknown, nothing was predicted"
    lines += ["", f"largest |y - 5x|: {largest} (allowed: {TOLERANCE:g}, 1 % of the range of y)"]
    return "\n".join(lines)


def problems(results: list[Result], data: Data) -> list[str]:
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
    if results and _largest_error(results) > TOLERANCE:
        x, y = max(results, key=_error)
        found.append(
            f"Expected every y within {TOLERANCE:g} of 5x, got y = {y:g} for x = {x:g}. "
            "Train for more steps."
        )
    return found


def _largest_error(results: list[Result]) -> float:
    return _error(max(results, key=_error))


def _error(result: Result) -> float:
    x, y = result
    error = abs(y - FACTOR * x)
    return math.inf if math.isnan(error) else error
