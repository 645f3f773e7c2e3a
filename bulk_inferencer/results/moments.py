"""Range, mean and variance of numbers, of parts that are merged."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np


class Moments(NamedTuple):
    """What finite numbers are like; see `OutputStatistics`."""

    values: int = 0
    minimum: float = math.nan
    maximum: float = math.nan
    mean: float = math.nan
    sum_of_squares: float = 0.0

    @classmethod
    def of(cls, numbers: np.ndarray) -> Moments:
        """Returns the moments of finite numbers, as float64 of shape [n].

        If one is not finite, `minimum` or `maximum` is not, and the rest means nothing.
        """
        if not numbers.size:
            return cls()
        low, high = float(numbers.min()), float(numbers.max())
        with np.errstate(over="ignore", invalid="ignore"):
            mean = float(numbers.mean())
            if not math.isfinite(mean):  # The sum is beyond float64.
                mean = float((numbers / len(numbers)).sum())
            mean = min(max(mean, low), high)
            distances = numbers - mean
            squares = float(np.multiply(distances, distances, out=distances).sum())
        return cls(len(numbers), low, high, mean, squares)

    def merge(self, other: Moments) -> Moments:
        """Returns the moments of the numbers of both."""
        if not self.values or not other.values:
            return self if self.values else other
        values = self.values + other.values
        low, high = min(self.minimum, other.minimum), max(self.maximum, other.maximum)
        distance, share = other.mean - self.mean, other.values / values
        mean = self.mean + distance * share
        if not math.isfinite(mean):  # The distance is beyond float64.
            mean = self.mean * (1 - share) + other.mean * share
        between = distance * distance * self.values * share
        squares = self.sum_of_squares + other.sum_of_squares + between
        return Moments(values, low, high, min(max(mean, low), high), squares)
