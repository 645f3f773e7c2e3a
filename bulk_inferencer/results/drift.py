"""How far apart the distributions of an output are, of two runs, splits or models."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from bulk_inferencer.results.statistics import OutputStatistics


def drift(a: OutputStatistics, b: OutputStatistics) -> float:
    """Returns the distance of two distributions, from 0 for equal ones to 1.

    For outputs of one text, boolean or integer per record, it is the largest difference of the
    shares of a class (L-infinity), as long as all classes are known. For other numbers, and where
    there are more classes of integers than that, it is the largest difference of the shares of
    numbers that are at most x, over all x (Kolmogorov-Smirnov). NaN and infinities count as one
    number above all others.

    ```python
    drift(today.statistics.of("five")["score"], yesterday.statistics.of("five")["score"])
    ```

    Returns:
      The distance. NaN if it cannot be told: there are no records, or text stands against numbers,
      or there are too many different texts.
    """
    if a.is_categorical and b.is_categorical and bool(a.numbers) == bool(b.numbers):
        assert a.classes is not None
        assert b.classes is not None
        shares = _shares(a.classes), _shares(b.classes)
        return max(
            abs(shares[0].get(n, 0) - shares[1].get(n, 0)) for n in {**a.classes, **b.classes}
        )
    if not a.numbers or not b.numbers:
        return math.nan
    # The distance may not depend on how finely each of the two was counted.
    bits = min(a.histogram.bits, b.histogram.bits)
    below_a, below_b = (own.histogram.coarser(bits).counts for own in (a, b))
    buckets = sorted({*below_a, *below_b})
    parts = [
        np.cumsum([own.get(bucket, 0) for bucket in buckets]) / whole.numbers
        for own, whole in ((below_a, a), (below_b, b))
    ]
    return float(np.abs(parts[0] - parts[1]).max(initial=0))


def _shares(classes: Mapping[str, int]) -> dict[str, float]:
    total = sum(classes.values())
    return {name: count / total for name, count in classes.items()}
