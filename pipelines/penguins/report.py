"""Compares predicted species with those that were held back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from bulk_inferencer import read_predictions
from bulk_inferencer.results.reader import Prediction
from pipelines.penguins.data import KEY, Data

# The lowest accuracy that passes.
MIN_ACCURACY = 0.9


class Result(NamedTuple):
    """What was predicted for one bird."""

    bird: str
    species: str
    probability: float


def read(outputs: Mapping[str, str]) -> list[Result]:
    """Returns one result per prediction, in the order of the birds' names.

    Args:
      outputs: folders by output of the component.
    """
    return sorted(result_of(p) for p in read_predictions(outputs["inference_result"]))


def result_of(prediction: Prediction, stage: str = "") -> Result:
    """Returns what was predicted; with `stage` ("small/"), what this stage of a cascade did."""
    features = tf.train.Example.FromString(prediction.record).features.feature
    return Result(
        bird=features[KEY].bytes_list.value[0].decode(),
        species=prediction.outputs[f"{stage}species"].item().decode(),
        probability=prediction.outputs[f"{stage}probabilities"].max().item(),
    )


def table(results: list[Result], data: Data) -> str:
    """Returns some birds, those that were mistaken first, and the accuracy of all."""
    lines = [f"{'bird':<10} {'predicted':<11} {'probability':>11}   {'true species':<12}"]
    for result in some(results, lambda result: is_right(result, data), 8):
        true_species = data.species.get(result.bird, "unknown")
        mark = "" if is_right(result, data) else "   wrong"
        lines.append(
            f"{result.bird:<10} {result.species:<11} {result.probability:>11.3f}   "
            f"{true_species:<12}{mark}".rstrip()
        )
    accuracy = f"{_accuracy(results, data):.2f} (at least {MIN_ACCURACY:.2f} is asked)"
    right = sum(is_right(result, data) for result in results)
    lines += ["", f"{right:,} of {len(results):,} birds right, accuracy {accuracy}"]
    return "\n".join(lines)


def some(results: list[Any], is_right: Callable[[Any], bool], count: int) -> list[Any]:
    """Returns at most `count` results: the first that are wrong, others spread out."""
    wrong = [result for result in results if not is_right(result)][: count // 2]
    right = [result for result in results if is_right(result)]
    rest = count - len(wrong)
    return wrong + right[:: max(1, len(right) // rest)][:rest]


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


def is_right(result: Result, data: Data) -> bool:
    """Whether the species is the one that was held back."""
    return data.species.get(result.bird) == result.species


def _accuracy(results: list[Result], data: Data) -> float:
    # Of all birds that were generated: one without a prediction counts as mistaken.
    return sum(is_right(result, data) for result in results) / max(1, data.records)
