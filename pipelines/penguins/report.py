"""Compares predicted species with those that were held back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import tensorflow as tf

from bulk_inferencer.results.reader import Prediction
from pipelines.penguins.data import KEY, Data

# The lowest accuracy that passes.
MIN_ACCURACY = 0.9


class Result(NamedTuple):
    """What was predicted for one bird."""

    bird: str
    species: str
    probability: float


def parse(predictions: Iterable[Prediction]) -> list[Result]:
    """Returns one result per prediction, in the order of the birds' names."""
    results = []
    for prediction in predictions:
        features = tf.train.Example.FromString(prediction.record).features.feature
        results.append(
            Result(
                bird=features[KEY].bytes_list.value[0].decode(),
                species=prediction.outputs["species"].item().decode(),
                probability=prediction.outputs["probabilities"].max().item(),
            )
        )
    return sorted(results)


def table(results: list[Result], data: Data, rows: int = 8) -> str:
    """Returns about `rows` lines, the birds that were mistaken first, and the accuracy of all."""
    right = [result for result in results if _is_right(result, data)]
    wrong = [result for result in results if not _is_right(result, data)]
    wrong_shown = wrong[: rows // 2]
    step = max(1, len(right) // (rows - len(wrong_shown)))
    shown = wrong_shown + right[::step][: rows - len(wrong_shown)]

    lines = [f"{'bird':<10} {'predicted':<11} {'probability':>11}   {'true species':<12}"]
    for result in shown:
        true_species = data.species.get(result.bird, "unknown")
        mark = "" if _is_right(result, data) else "   wrong"
        lines.append(
            f"{result.bird:<10} {result.species:<11} {result.probability:>11.3f}   "
            f"{true_species:<12}{mark}".rstrip()
        )
    accuracy = f"{_accuracy(results, data):.2f} (at least {MIN_ACCURACY:.2f} is asked)"
    lines += ["", f"{len(right):,} of {len(results):,} birds right, accuracy {accuracy}"]
    return "\n".join(lines)


def problems(results: list[Result], data: Data) -> list[str]:
    """Returns what is wrong with the predictions; nothing if they are good."""
    found = []
    if [result.bird for result in results] != sorted(data.species):
        found.append(
            f"Expected one prediction for each of the {data.records:,} birds in "
            f"{data.inference_data_root}, got {len(results):,} that do not match them."
        )
    accuracy = _accuracy(results, data)
    if accuracy < MIN_ACCURACY:
        found.append(
            f"Expected an accuracy of at least {MIN_ACCURACY:.2f} on the held-back birds, "
            f"got {accuracy:.2f}. Train for more steps."
        )
    return found


def _is_right(result: Result, data: Data) -> bool:
    return data.species.get(result.bird) == result.species


def _accuracy(results: list[Result], data: Data) -> float:
    # Of all birds that were generated: one without a prediction counts as mistaken.
    return sum(_is_right(result, data) for result in results) / max(1, data.records)
