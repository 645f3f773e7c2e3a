"""Describes what models return: from arrays to statistics.

{"y": [n, ...], ...} --OutputCounter.add--> counts --OutputCounter.statistics--> OutputStatistics
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from bulk_inferencer._formats import dtypes
from bulk_inferencer._formats.partial import rows_with
from bulk_inferencer.results.classes import classes_of, flat, readable, rows_of
from bulk_inferencer.results.comparison import LONGEST_CLASS_BYTES
from bulk_inferencer.results.histogram import BucketCounter
from bulk_inferencer.results.moments import Moments
from bulk_inferencer.results.statistics import (
    MOST_CLASSES,
    OutputStatistics,
    bounded_classes,
)

# So many numbers at once stay in the processor's cache.
_BLOCK_VALUES = 1 << 15


def describe(values: np.ndarray) -> OutputStatistics:
    """Returns what an output of n records is like.

    Args:
      values: an array of shape [n, ...]: booleans, integers, floats (float16 and bfloat16 too), or
        objects that are `bytes`. Records whose rows are masked do not have the output. Of other
        dtypes, only records are counted.
    """
    counter = OutputCounter()
    counter.add(values)
    return counter.statistics(len(values))


class OutputCounter:
    """Gathers statistics of an output, batch by batch."""

    def __init__(self) -> None:
        self._records = 0
        self._nan = self._infinite = 0
        self._moments = Moments()
        self._buckets = BucketCounter()
        self._classes: Counter[Any] | None = Counter()  # by value

    def add(self, values: np.ndarray) -> None:
        """Adds the output of some records; see `describe`."""
        data = rows_of(values)
        if isinstance(values, np.ma.MaskedArray):
            data = data[rows_with(values)]
        self._records += len(data)
        if data.dtype.kind in "SU":
            data = data.astype(object)
        if data.dtype != object and not dtypes.is_number(data.dtype):
            return
        size = max(1, _BLOCK_VALUES // max(1, data.shape[1]))
        for start in range(0, len(data), size):
            self._add_block(flat(data[start : start + size]))

    def statistics(self, predicted: int) -> OutputStatistics:
        """Returns the statistics of all records; `predicted` is how many were predicted."""
        return OutputStatistics(
            records=self._records,
            missing=predicted - self._records,
            nan=self._nan,
            infinite=self._infinite,
            histogram=self._buckets.histogram(),
            classes=None if self._classes is None else bounded_classes(_as_text(self._classes)),
            **self._moments._asdict(),
        )

    def _add_block(self, values: np.ndarray) -> None:
        if values.dtype != object:
            self._add_numbers(values.astype(np.float64, copy=False).ravel())
        if self._classes is not None and (classes := classes_of(values)) is not None:
            self._add_classes(self._classes, classes)

    def _add_classes(self, known: Counter[Any], classes: np.ndarray) -> None:
        if classes.dtype == object:
            found = Counter(classes.tolist())
            if any(len(value) > LONGEST_CLASS_BYTES for value in found):
                self._classes = None
                return
            known.update(found)
        else:
            different, counts = np.unique(classes, return_counts=True)
            known.update(dict(zip(different.tolist(), counts.tolist(), strict=True)))
        if len(known) > MOST_CLASSES:
            # Some may be alike as text, and then they are not too many.
            texts = _as_text(known)
            self._classes = texts if len(texts) <= MOST_CLASSES else None

    def _add_numbers(self, numbers: np.ndarray) -> None:
        if not numbers.size:
            return
        moments = Moments.of(numbers)
        if not (math.isfinite(moments.minimum) and math.isfinite(moments.maximum)):
            nan = int(np.count_nonzero(np.isnan(numbers)))
            finite = numbers[np.isfinite(numbers)]
            self._nan += nan
            self._infinite += len(numbers) - len(finite) - nan
            numbers, moments = finite, Moments.of(finite)
        self._moments = self._moments.merge(moments)
        self._buckets.add(numbers)


class ModelCounter:
    """Gathers statistics of all outputs of a model."""

    def __init__(self) -> None:
        self._predicted = 0
        self._outputs: defaultdict[str, OutputCounter] = defaultdict(OutputCounter)

    def add(self, records: int, outputs: Iterable[tuple[str, np.ndarray]]) -> None:
        """Adds predictions: how many records they are of, and arrays of some of them by output."""
        self._predicted += records
        for name, values in outputs:
            self._outputs[name].add(values)

    def statistics(self) -> dict[str, OutputStatistics]:
        """Returns the statistics by output, so far."""
        return {name: own.statistics(self._predicted) for name, own in self._outputs.items()}


def _as_text(classes: Mapping[Any, int]) -> Counter[str]:
    texts: Counter[str] = Counter()
    for value, count in classes.items():
        texts[str(readable(value))] += count
    return texts
