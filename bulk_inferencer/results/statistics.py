"""Statistics of predictions: what the outputs of each model are like, in bounded memory.

Each unit counts its batches into an `OutputStatistics` per output (see `describe.py`). Those of all
units are merged into one `Statistics`, which is written to `statistics.json` in the folder of the
summary.
"""

from __future__ import annotations

import functools
import itertools
import math
import posixpath
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TypeAlias, TypeVar

import numpy as np

from bulk_inferencer import _files
from bulk_inferencer._layout import STATISTICS_FILE
from bulk_inferencer.results import codec, display_statistics
from bulk_inferencer.results.blocks import Block, Shown
from bulk_inferencer.results.comparison import LONGEST_CLASS_BYTES
from bulk_inferencer.results.histogram import Histogram
from bulk_inferencer.results.moments import Moments
from bulk_inferencer.results.reasons import merged_reasons
from bulk_inferencer.results.summary import OutputSummary

MOST_CLASSES = 10_000
_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_MOST_CLASSES_SHOWN = 20


@dataclass(frozen=True)
class OutputStatistics:
    """What one output of one model is like.

    ```python
    scores = results.statistics.of("five")["score"]
    scores.mean, scores.quantile(0.5), scores.classes
    ```

    Numbers count as float64, and integers beyond 2**53 as the nearest float64.

    Attributes:
      records: records that have the output.
      missing: records that were predicted without it.
      values: finite numbers; 0 for text.
      nan: further numbers that are NaN.
      infinite: further numbers that are an infinity.
      minimum: the smallest finite number; NaN if there are none, as below.
      maximum: the largest.
      mean: their mean.
      sum_of_squares: sum of (number - mean)**2; infinity if float64 cannot hold it.
      histogram: how the finite numbers are distributed.
      classes: records by class, the most frequent first; empty without classes. None if there are
        more than 10,000, or one has more than 256 bytes. The class of a record is defined in
        `OutputComparison`.
    """

    JSON_NAMES = (
        *("records", "missing", "values", "nan", "infinite", "minimum", "maximum", "mean"),
        *("standard_deviation", "sum_of_squares", "histogram", "classes"),
    )

    records: int = 0
    missing: int = 0
    values: int = 0
    nan: int = 0
    infinite: int = 0
    minimum: float = math.nan
    maximum: float = math.nan
    mean: float = math.nan
    sum_of_squares: float = 0.0
    histogram: Histogram = field(default_factory=Histogram)
    classes: Mapping[str, int] | None = field(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        # In tuples, `math.nan` equals itself; in dataclasses, only before Python 3.13.
        return isinstance(other, OutputStatistics) and _items(self) == _items(other)

    @property
    def numbers(self) -> int:
        """How many numbers there are, finite or not."""
        return self.values + self.nan + self.infinite

    @property
    def not_finite_fraction(self) -> float:
        """The share of numbers that are NaN or an infinity, from 0 to 1; NaN without numbers."""
        return (self.nan + self.infinite) / self.numbers if self.numbers else math.nan

    @property
    def standard_deviation(self) -> float:
        """The square root of the mean of (number - mean)**2; NaN without finite numbers."""
        return math.sqrt(self.sum_of_squares / self.values) if self.values else math.nan

    @property
    def is_categorical(self) -> bool:
        """Whether each record is one text, integer or boolean, with classes that are all known."""
        if not self.classes or sum(self.classes.values()) != self.records:
            return False
        return self.numbers in (0, self.records)

    def quantile(self, q: float) -> float:
        """Returns the finite number below which a share `q` of them lies; see `Histogram`.

        Raises:
          SettingsError: `q` is not from 0 to 1.
        """
        found = self.histogram.quantile(q)
        if math.isnan(found) or q in (0, 1):
            return self.maximum if q == 1 else self.minimum
        return min(max(found, self.minimum), self.maximum)

    def bars(self, count: int = 50) -> tuple[np.ndarray, np.ndarray]:
        """Returns bars of equal width from the smallest to the largest number; see `Histogram`."""
        return self.histogram.bars(count, self.minimum, self.maximum)

    @property
    def summary(self) -> OutputSummary:
        """The few of them that stand in `summary.json`."""
        classes = self.classes or {}
        return OutputSummary(
            records=self.records,
            missing=self.missing,
            values=self.values,
            nan=self.nan,
            infinite=self.infinite,
            minimum=self.minimum,
            maximum=self.maximum,
            mean=self.mean,
            standard_deviation=self.standard_deviation,
            quantiles={str(q): self.quantile(q) for q in _QUANTILES} if self.values else {},
            classes=dict(itertools.islice(classes.items(), _MOST_CLASSES_SHOWN)),
            different_classes=None if self.classes is None else len(classes),
        )

    def merge(self, *others: OutputStatistics) -> OutputStatistics:
        """Returns the statistics of the records of all.

        Merging is associative, for means up to rounding, and `OutputStatistics()` is neutral.
        """
        if not others:
            return self
        parts = (self, *others)
        classes = [own.classes for own in parts if own.classes is not None]
        moments = functools.reduce(Moments.merge, (own._moments for own in parts))
        return OutputStatistics(
            records=sum(own.records for own in parts),
            missing=sum(own.missing for own in parts),
            nan=sum(own.nan for own in parts),
            infinite=sum(own.infinite for own in parts),
            histogram=self.histogram.merge(*(own.histogram for own in others)),
            classes=bounded_classes(*classes) if len(classes) == len(parts) else None,
            **moments._asdict(),
        )

    @property
    def _moments(self) -> Moments:
        return Moments(*(getattr(self, name) for name in Moments._fields))


@dataclass(frozen=True, repr=False)
class Statistics(Shown):
    """The content of `statistics.json`.

    ```python
    statistics = Statistics.read("results/summary")
    statistics.of("five", split="unlabelled")["score"].mean
    ```

    A single model without a name is `inference_result`. Merging is associative, for means up to
    rounding, and `Statistics()` is neutral.

    Attributes:
      outputs: by model, split and output. Of each model and split, `records` and `missing` of an
        output add up to the records that were predicted.
      failures: records by reason, the most frequent first; by model and split. Those that reached
        no model, in an A/B test, have the model "". Reasons that differ in numbers and quoted texts
        alone become one if there are more than five.
    """

    outputs: Mapping[str, Mapping[str, Mapping[str, OutputStatistics]]] = field(
        default_factory=dict
    )
    failures: Mapping[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)

    def of(self, model: str, split: str | None = None) -> Mapping[str, OutputStatistics]:
        """Returns the statistics of a model by output, of one split or of all together.

        They are empty if the model predicted nothing.
        """
        return _merged_outputs(*_parts(self.outputs, model, split))

    def failures_of(self, model: str, split: str | None = None) -> Mapping[str, int]:
        """Returns a model's failed records by reason, of one split or of all together."""
        return merged_reasons(*_parts(self.failures, model, split))

    def summary_of(self, model: str) -> dict[str, dict[str, OutputSummary]]:
        """Returns what stands in `summary.json` of the statistics of a model, by split."""
        splits = self.outputs.get(model, {})
        return {s: {name: own.summary for name, own in o.items()} for s, o in splits.items()}

    def selected(self, models: Iterable[str], split: str | None = None) -> Statistics:
        """Returns those of some models, and of one split if it is named."""
        models = list(models)
        return Statistics(
            _selected(self.outputs, models, split), _selected(self.failures, models, split)
        )

    def merge(self, *others: Statistics) -> Statistics:
        """Returns the statistics of the records of all."""
        parts = (self, *others)
        return Statistics(
            outputs=_merged([own.outputs for own in parts], _merged_outputs),
            failures=_merged([own.failures for own in parts], merged_reasons),
        )

    def _title(self) -> str:
        return display_statistics.title(self)

    def _blocks(self) -> Iterator[Block]:
        return display_statistics.blocks(self)

    def write(self, folder: str) -> None:
        """Writes `statistics.json` into `folder`, with NaN and infinities as text."""
        codec.write_file(posixpath.join(folder, STATISTICS_FILE), self)

    @classmethod
    def read(cls, folder: str) -> Statistics:
        """Returns the statistics in `folder`."""
        return codec.read_file(posixpath.join(folder, STATISTICS_FILE), cls)

    @classmethod
    def read_if_any(cls, folder: str) -> Statistics | None:
        """Returns the statistics in `folder`; None if no run has written any there."""
        return cls.read(folder) if _files.exists(posixpath.join(folder, STATISTICS_FILE)) else None


def bounded_classes(*parts: Mapping[str, int]) -> dict[str, int] | None:
    """Returns records by class, the most frequent first, of several counts of them.

    None if there are too many classes, or one is too long. Both would be so in every grouping of
    parts: so merging stays associative.
    """
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(part)
        if len(counts) > MOST_CLASSES:
            return None
    if any(len(n.encode()) > LONGEST_CLASS_BYTES for n in counts):
        return None
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


_Part = TypeVar("_Part")
_BySplit: TypeAlias = "Mapping[str, Mapping[str, _Part]]"


def _parts(found: _BySplit[_Part], model: str, split: str | None) -> list[_Part]:
    return [own for name, own in found.get(model, {}).items() if split in (None, name)]


def _selected(
    found: _BySplit[_Part], models: Sequence[str], split: str | None
) -> dict[str, dict[str, _Part]]:
    return {
        model: {name: own for name, own in found[model].items() if split in (None, name)}
        for model in models
        if model in found
    }


def _merged(
    found: Sequence[_BySplit[_Part]], merge: Callable[..., _Part]
) -> dict[str, dict[str, _Part]]:
    parts: dict[str, dict[str, list[_Part]]] = {}
    for by_model in found:
        for model, splits in by_model.items():
            for split, part in splits.items():
                parts.setdefault(model, {}).setdefault(split, []).append(part)
    return {
        model: {split: merge(*own) for split, own in splits.items()}
        for model, splits in parts.items()
    }


_Outputs: TypeAlias = Mapping[str, OutputStatistics]


def _merged_outputs(*parts: _Outputs) -> dict[str, OutputStatistics]:
    """Merges outputs of one model. One that a part lacks is missing from all of its records."""
    found = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        lacking = sum(_predicted(part) for part in parts if name not in part)
        own = [part[name] for part in parts if name in part]
        found[name] = own[0].merge(*own[1:], *[OutputStatistics(missing=lacking)] * bool(lacking))
    return found


def _predicted(outputs: _Outputs) -> int:
    return max((own.records + own.missing for own in outputs.values()), default=0)


def _items(statistics: OutputStatistics) -> tuple[object, ...]:
    return tuple(getattr(statistics, own.name) for own in fields(statistics))
