"""A histogram of numbers that can be merged in any grouping, with the same result.

A bucket holds the numbers whose float64s begin alike. With 3 bits of the mantissa:

    bucket   8184      8185       8186      ...  8192      8193
    numbers  [1, 1.125) [1.125, 1.25) [1.25, 1.375)  [2, 2.25)  [2.25, 2.5)

At first all 52 bits count, so that each bucket holds one number. Whenever there are more than 2,048
buckets, bits are dropped until there are not. So the number of bits depends on the numbers alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from bulk_inferencer.errors import SettingsError

MOST_BUCKETS = 2048
_ALL_BITS = 52
_WITHOUT_SIGN = np.int64(0x7FFF_FFFF_FFFF_FFFF)
_MOST = float(np.finfo(np.float64).max)
# Numbers in so few buckets for each of them are counted without sorting them.
_BUCKETS_PER_NUMBER = 8


@dataclass(frozen=True)
class Histogram:
    """How many numbers there are in each of at most 2,048 buckets.

    Merging is associative, and `Histogram()` is neutral: however numbers are grouped, their
    histogram is the same. Up to 2,048 different numbers, it is exact.

    ```python
    histogram = Histogram.of(np.array([1.0, 2.5, 2.5]))
    histogram.quantile(0.5)  # 2.5
    edges, counts = histogram.bars(10)
    ```

    Attributes:
      bits: how many bits of the mantissa tell buckets apart: 52 if each is one number, down to -1.
      counts: how many numbers there are, by bucket in ascending order. A bucket is the first bits
        of its numbers, without their sign, and negative for negative numbers.
    """

    bits: int = _ALL_BITS
    counts: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, values: np.ndarray) -> Histogram:
        """Returns the histogram of numbers of any shape, without those that are not finite."""
        numbers = np.asarray(values, np.float64).ravel()
        counter = BucketCounter()
        counter.add(numbers[np.isfinite(numbers)])
        return counter.histogram()

    def merge(self, *others: Histogram) -> Histogram:
        """Returns the histogram of the numbers of all."""
        parts = [own for own in (self, *others) if own.counts] or [self]
        return parts[0] if len(parts) == 1 else _joined([p._buckets for p in parts]).histogram()

    @property
    def total(self) -> int:
        """How many numbers there are."""
        return sum(self.counts.values())

    def quantile(self, q: float) -> float:
        """Returns the number below which a share `q` of all numbers lies.

        As by `numpy.quantile`, it is interpolated between the two numbers that are nearest; those
        of a bucket are taken to be at equal distances. NaN if there are no numbers.

        Args:
          q: from 0 to 1.

        Raises:
          SettingsError: `q` is not from 0 to 1.
        """
        if not 0 <= q <= 1:
            raise SettingsError(f"A quantile must be from 0 to 1, not {q!r}. The median is 0.5.")
        if not self.counts:
            return math.nan
        position = q * (int(self._ends[-1]) - 1)
        lower, share = self._number(math.floor(position)), position - math.floor(position)
        if not share:
            return lower
        upper = self._number(math.ceil(position))
        if math.isinf(upper - lower):
            return lower * (1 - share) + upper * share
        return lower + (upper - lower) * share

    def bars(
        self, count: int = 50, minimum: float | None = None, maximum: float | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns bars of equal width, for a plot.

        Args:
          count: how many.
          minimum: where the first one begins; default: where the lowest bucket does.
          maximum: where the last one ends; default: where the highest bucket does.

        Returns:
          The edges of the bars, of shape [count + 1], and how many numbers each holds, as float64
          of shape [count]: a bucket is shared out among the bars that it reaches into. Both are
          empty if there are no numbers.
        """
        if not self.counts:
            return np.empty(0), np.empty(0)
        lows, highs = self.edges
        start = float(lows[0]) if minimum is None else minimum
        stop = float(highs[-1]) if maximum is None else maximum
        if start == stop:
            margin = max(0.5, abs(start) / 1000)
            start, stop = max(start - margin, -_MOST), min(stop + margin, _MOST)
        # Halves, since the whole may be beyond float64.
        bars = np.linspace(start / 2, stop / 2, count + 1) * 2
        counts = self._buckets.counts.astype(np.float64)
        lows, highs = np.clip(lows, start, stop), np.clip(highs, start, stop)
        if self.bits == _ALL_BITS:
            return bars, np.histogram(lows, bars, weights=counts)[0]
        # `numpy.interp` divides by widths first, and some are next to nothing.
        at = np.minimum(np.searchsorted(highs, bars), len(highs) - 1)
        widths = highs - lows
        with np.errstate(over="ignore"):
            shares = np.divide(
                bars - lows[at], widths[at], out=np.ones(len(bars)), where=widths[at] > 0
            )
        reached = self._ends[at] - counts[at] * (1 - np.clip(shares, 0, 1))
        reached[0], reached[-1] = 0, self._ends[-1]
        return bars, np.diff(reached)

    @property
    def edges(self) -> tuple[np.ndarray, np.ndarray]:
        """The lowest and the highest end of each bucket, in ascending order, as float64.

        They are equal for buckets of one number.
        """
        keys, shift = self._buckets.keys, _ALL_BITS - self.bits
        magnitudes = np.abs(keys).astype(np.uint64)
        if not shift:
            values = np.copysign(magnitudes.view(np.float64), keys)
            return values, values
        inner = (magnitudes << np.uint64(shift)).view(np.float64)
        outer = ((magnitudes + np.uint64(1)) << np.uint64(shift)).view(np.float64)
        outer = np.where(np.signbit(outer), _MOST, np.minimum(outer, _MOST))
        # The bucket 0 has numbers of both signs.
        return np.where(keys > 0, inner, -outer), np.where(keys < 0, -inner, outer)

    def coarser(self, bits: int) -> Histogram:
        """Returns the histogram with so many bits, if it has more."""
        return self._buckets.dropping(max(0, self.bits - bits)).histogram()

    def as_json(self) -> dict[str, Any]:
        """Returns what `codec` writes: numbers as they are, or buckets as distances from the last.

        There may be many histograms in a file, and distances are short.
        """
        counts = [*self.counts.values()]
        if self.bits == _ALL_BITS:
            return {"bits": self.bits, "numbers": self.edges[0].tolist(), "counts": counts}
        steps = [after - before for before, after in itertools.pairwise([0, *self.counts])]
        return {"bits": self.bits, "steps": steps, "counts": counts}

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> Histogram:
        """Returns the histogram that `as_json` has made a value of."""
        if value["bits"] == _ALL_BITS:
            patterns = np.array(value["numbers"], np.float64).view(np.int64)
            keys = np.where(patterns < 0, -(patterns & _WITHOUT_SIGN), patterns).tolist()
        else:
            keys = [*itertools.accumulate(value["steps"])]
        return cls(value["bits"], dict(zip(keys, value["counts"], strict=True)))

    @cached_property
    def _buckets(self) -> _Buckets:
        keys = np.fromiter(self.counts.keys(), np.int64, len(self.counts))
        return _Buckets(self.bits, keys, np.fromiter(self.counts.values(), np.int64, len(keys)))

    @cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum(self._buckets.counts)

    def _number(self, index: int) -> float:
        """Returns one of the numbers, by its place among all of them in ascending order."""
        bucket = int(np.searchsorted(self._ends, index, side="right"))
        count = int(self._buckets.counts[bucket])
        place = index - (int(self._ends[bucket]) - count)
        low, high = (float(own[bucket]) for own in self.edges)
        return low + (high - low) * ((place + 0.5) / count)


class _Buckets(NamedTuple):
    """Buckets in ascending order, as int64, and how many numbers each holds."""

    bits: int
    keys: np.ndarray
    counts: np.ndarray

    def dropping(self, bits: int) -> _Buckets:
        """Returns what is left without the last so many bits."""
        if not bits or not self.keys.size:
            return self._replace(bits=self.bits - bits)
        keys = _shifted(self.keys, bits)
        starts = np.concatenate([[0], np.flatnonzero(keys[1:] != keys[:-1]) + 1])
        return _Buckets(self.bits - bits, keys[starts], np.add.reduceat(self.counts, starts))

    def bounded(self) -> _Buckets:
        """Returns what is left without as many bits as have to go."""
        low, high = 0, self.bits + 1  # At -1, two exponents share a bucket, which is always enough.
        while low < high:
            middle = (low + high) // 2
            keys = _shifted(self.keys, middle)
            is_enough = np.count_nonzero(keys[1:] != keys[:-1]) < MOST_BUCKETS
            low, high = (low, middle) if is_enough else (middle + 1, high)
        return self.dropping(low)

    def histogram(self) -> Histogram:
        return Histogram(
            self.bits, dict(zip(self.keys.tolist(), self.counts.tolist(), strict=True))
        )


def _shifted(keys: np.ndarray, bits: int) -> np.ndarray:
    """Drops bits of magnitudes. The order stays."""
    return np.sign(keys) * (np.abs(keys) >> bits)


def _joined(parts: Sequence[_Buckets]) -> _Buckets:
    """Returns the buckets of all, which are as many as may be."""
    bits = min(part.bits for part in parts)
    parts = [part.dropping(part.bits - bits) for part in parts]
    keys = np.concatenate([part.keys for part in parts])
    counts = np.concatenate([part.counts for part in parts])
    order = np.argsort(keys, kind="stable")  # which merges what is sorted already
    keys, counts = keys[order], counts[order]
    joined = _Buckets(bits, keys, counts)
    starts = np.concatenate([[0], np.flatnonzero(keys[1:] != keys[:-1]) + 1])
    joined = _Buckets(bits, keys[starts], np.add.reduceat(counts, starts))
    return joined if len(joined.keys) <= MOST_BUCKETS else joined.bounded()


class BucketCounter:
    """Makes a histogram of many batches of numbers, without one for each batch."""

    def __init__(self) -> None:
        self._buckets = _Buckets(_ALL_BITS, np.empty(0, np.int64), np.empty(0, np.int64))

    def add(self, numbers: np.ndarray) -> None:
        """Adds finite numbers, as float64 of shape [n].

        Buckets that are too fine for the numbers before would be so for all of them together. So
        their bits are enough.
        """
        if not numbers.size:
            return
        bits = self._buckets.bits
        patterns = numbers.view(np.int64)
        magnitudes = patterns & _WITHOUT_SIGN
        magnitudes >>= _ALL_BITS - bits
        parts = [self._buckets] if self._buckets.keys.size else []
        lowest, highest = int(magnitudes.min()), int(magnitudes.max())
        if not lowest:
            # Zeros would be far from everything else, and there may be many.
            is_other = magnitudes != 0
            zeros = len(magnitudes) - int(np.count_nonzero(is_other))
            parts.append(_Buckets(bits, np.zeros(1, np.int64), np.array([zeros])))
            magnitudes, patterns = magnitudes[is_other], patterns[is_other]
            lowest = int(magnitudes.min(initial=highest))
        if magnitudes.size:
            if highest - lowest < len(magnitudes) * _BUCKETS_PER_NUMBER:
                parts += _counted(bits, magnitudes, patterns, lowest)
            else:
                keys, counts = np.unique(
                    np.where(patterns < 0, -magnitudes, magnitudes), return_counts=True
                )
                parts.append(_Buckets(bits, keys, counts))
        self._buckets = _joined(parts)

    def histogram(self) -> Histogram:
        """Returns the histogram of all numbers."""
        return self._buckets.histogram()


def _counted(
    bits: int, magnitudes: np.ndarray, patterns: np.ndarray, lowest: int
) -> list[_Buckets]:
    """Returns the buckets of negative numbers and those of positive ones."""
    codes = magnitudes - lowest
    codes <<= 1
    codes |= patterns < 0
    by_code = np.bincount(codes, minlength=2)
    parts = []
    for is_negative, sign in ((0, 1), (1, -1)):
        counts = by_code[is_negative::2]
        found = np.flatnonzero(counts)
        if found.size:
            parts.append(_Buckets(bits, (sign * (found + lowest))[::sign], counts[found][::sign]))
    return parts
