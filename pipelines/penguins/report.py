"""Compares the species that were predicted with those that were held back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from bulk_inferencer import read_predictions
from pipelines.outcome import Report
from pipelines.penguins.data import KEY, MIN_ACCURACY, Data

_REQUIRED = f"(at least {MIN_ACCURACY:.2f} is required)"


class Said(NamedTuple):
    """What a model said of a bird."""

    species: str
    probability: float


class Result(NamedTuple):
    """What was predicted for one bird.

    Attributes:
      bird: its name.
      said: what each model said that was asked, in order. The last one counts.
    """

    bird: str
    said: tuple[Said, ...]

    def is_right(self, data: Data, model: int = -1) -> bool:
        """Whether a model, by default the last one, named the species that was held back."""
        return data.species.get(self.bird) == self.said[model].species


def report(outputs: Mapping[str, str], data: Data) -> Report:
    """Reports on the pipeline with one model."""
    results = _read(outputs["inference_result"], [""])
    right = sum(result.is_right(data) for result in results)
    accuracy = f"accuracy {_accuracy(results, data):.2f} {_REQUIRED}"
    lines = [
        *_lines(_some(results, data, 8), data, ["predicted"]),
        "",
        f"{right:,} of {len(results):,} birds right, {accuracy}",
    ]
    return Report("\n".join(lines), _problems(results, data))


def cascade_report(outputs: Mapping[str, str], data: Data) -> Report:
    """Reports on the pipeline with a small model before the full one."""
    return compare_cascade(_read(outputs["inference_result"], ["small/", "full/"]), data)


def compare_cascade(results: Sequence[Result], data: Data) -> Report:
    """Compares the birds that the small model settled, and those that it handed on."""
    settled = [result for result in results if len(result.said) == 1]
    escalated = [result for result in results if len(result.said) > 1]
    shown = [*_some(escalated, data, 4), *_some(settled, data, 4)]
    lines = [
        *_lines(shown, data, ["small says", "full says"]),
        "",
        f"{'':<17} {'birds':>6} {'right':>6} {'accuracy':>9} {'of small alone':>15}",
    ]
    groups = {"settled by small": settled, "escalated to full": escalated, "all": results}
    for name, group in groups.items():
        right = sum(result.is_right(data) for result in group)
        alone = sum(result.is_right(data, model=0) for result in group)
        count = max(1, len(group))
        accuracies = f"{right / count:>9.2f} {alone / count:>15.2f}"
        lines.append(f"{name:<17} {len(group):>6,} {right:>6,} {accuracies}")
    lines[-1] += f"   {_REQUIRED}"
    problems = _problems(results, data)
    if not (settled and escalated):
        problems.append(
            f"The small model settled {len(settled):,} birds and handed on {len(escalated):,}: it "
            "should do some of each. Change min_probability."
        )
    return Report("\n".join(lines), problems)


def _read(folder: str, stages: Sequence[str]) -> list[Result]:
    """Returns the results in the order of the birds' names.

    Args:
      folder: where the predictions are.
      stages: what the outputs of each model begin with.
    """
    results = []
    for record, outputs in read_predictions(folder):
        features = tf.train.Example.FromString(record).features.feature
        said = tuple(
            Said(
                outputs[f"{stage}species"].item().decode(),
                outputs[f"{stage}probabilities"].max().item(),
            )
            for stage in stages
            if f"{stage}species" in outputs  # A cascade leaves out the stages that did not run.
        )
        results.append(Result(features[KEY].bytes_list.value[0].decode(), said))
    return sorted(results)


def _some(results: Sequence[Result], data: Data, count: int) -> list[Result]:
    """Returns at most `count` results: the first that are wrong, and others spread out."""
    wrong = [result for result in results if not result.is_right(data)][: count // 2]
    right = [result for result in results if result.is_right(data)]
    rest = count - len(wrong)
    return wrong + right[:: max(1, len(right) // rest)][:rest]


def _lines(results: Sequence[Result], data: Data, titles: Sequence[str]) -> list[str]:
    """Returns a line for each bird under a header; the titles are of what the models said."""
    columns = [f"{title:<11} {'probability':>11}" for title in titles]
    lines = ["   ".join([f"{'bird':<8}", *columns, "true species"])]
    for result in results:
        said = [f"{species:<11} {probability:>11.3f}" for species, probability in result.said]
        said += [" " * 23] * (len(titles) - len(said))
        species = f"{data.species.get(result.bird, 'unknown'):<12}"
        mark = "" if result.is_right(data) else "wrong"
        lines.append("   ".join([f"{result.bird:<8}", *said, species, mark]).rstrip())
    return lines


def _problems(results: Sequence[Result], data: Data) -> list[str]:
    found = []
    if [result.bird for result in results] != sorted(data.species):
        found.append(
            f"The {len(results):,} predictions do not match the {data.records:,} birds in "
            f"{data.inference_data_root}: there must be one for each."
        )
    accuracy = _accuracy(results, data)
    if accuracy < MIN_ACCURACY:
        found.append(
            f"The accuracy on the held-back birds is {accuracy:.2f}, below {MIN_ACCURACY:.2f}. "
            "Train for more steps."
        )
    return found


def _accuracy(results: Sequence[Result], data: Data) -> float:
    # Of all birds that were generated: one without a prediction counts as mistaken.
    return sum(result.is_right(data) for result in results) / max(1, data.records)
