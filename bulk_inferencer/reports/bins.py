"""Distributions of several series over one axis, on which their bars have the same edges."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bulk_inferencer.reports import words
from bulk_inferencer.reports.plots import Bars, Distribution
from bulk_inferencer.results.statistics import OutputStatistics

_BARS = 50
# Where all values reach over so many times the width of nearly all, the few are left out.
_FAR = 3
_NEARLY_ALL = 0.995
_LARGEST = 1e300  # whose sums a plot can hold


def distribution(
    names: Sequence[str], series: Sequence[OutputStatistics]
) -> tuple[Distribution | None, int]:
    """Returns a plot of the numbers of some series, and how many of them are outside of it.

    There is no plot where all values are the same, or float64 has no bars between them.
    """
    known = [(name, own) for name, own in zip(names, series, strict=True) if own.values]
    low, high = _range([own for _, own in known])
    if max(-low, high) > _LARGEST or low + (high - low) / _BARS == low:
        return None, 0
    count = _BARS
    if all(own.is_categorical for _, own in known):  # whole numbers, each in the midst of its bar
        width = math.ceil((high - low + 1) / _BARS)
        count = math.ceil((high - low + 1) / width)
        low, high = low - 0.5, low - 0.5 + count * width
    bars = []
    outside = 0.0
    for name, own in known:
        edges, counts = _bars(own, count, low, high)
        bars.append(Bars(words.clean(name, 60), edges, counts, own.values))
        outside += own.values - counts.sum()
    return Distribution(tuple(bars)), max(0, round(outside))


def _bars(
    own: OutputStatistics, count: int, low: float, high: float
) -> tuple[np.ndarray, np.ndarray]:
    # What is outside of all bars counts in the nearest one: here in one more on either side.
    width = (high - low) / count
    edges, counts = own.histogram.bars(count + 2, low - width, high + width)
    below, *inside, above = counts
    # Rounding may move an edge beyond the value that it is.
    inside[0] += below if own.minimum >= low else 0
    inside[-1] += above if own.maximum <= high else 0
    return edges[1:-1], np.array(inside)


def _range(series: Sequence[OutputStatistics]) -> tuple[float, float]:
    low, high = min(own.minimum for own in series), max(own.maximum for own in series)
    inner_low = min(own.quantile(1 - _NEARLY_ALL) for own in series)
    inner_high = max(own.quantile(_NEARLY_ALL) for own in series)
    width = inner_high - inner_low
    if width > 0 and _FAR * width < high - low:
        return max(low, inner_low - 0.1 * width), min(high, inner_high + 0.1 * width)
    return low, high
