"""What plots show: plain data, which `drawing.py` draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np


@dataclass(frozen=True)
class Bars:
    """The distribution of numbers in one series of a `Distribution`.

    Attributes:
      name: the series.
      edges: float64 [bars + 1], in order.
      counts: int64 [bars].
      total: how many numbers the series has in all.
    """

    name: str
    edges: np.ndarray
    counts: np.ndarray
    total: int


@dataclass(frozen=True)
class Distribution:
    """Distributions of numbers over each other."""

    series: tuple[Bars, ...]
    kind: Literal["distribution"] = "distribution"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the series."""
        return tuple(own.name for own in self.series)


@dataclass(frozen=True)
class Classes:
    """How frequent classes are.

    Attributes:
      classes: the classes, the most frequent first.
      names: the names of the series.
      counts: records by series and class.
      totals: all records by series.
    """

    classes: tuple[str, ...]
    names: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    totals: tuple[int, ...]
    kind: Literal["classes"] = "classes"


@dataclass(frozen=True)
class Steps:
    """Values over time, each of which holds for a span.

    Attributes:
      edges: float64 [spans + 1], in seconds since the start.
      values: float64 [spans].
      unit: of the values.
    """

    edges: np.ndarray
    values: np.ndarray
    unit: str
    kind: Literal["steps"] = "steps"

    @property
    def names(self) -> tuple[str, ...]:
        """The only series has no name."""
        return ()


@dataclass(frozen=True)
class Intervals:
    """Means with intervals that they lie in.

    Attributes:
      rows: what each is the mean of.
      means: the means.
      lows: the lower ends; NaN where there is none.
      highs: the upper ends.
      label: what they measure.
    """

    rows: tuple[str, ...]
    means: tuple[float, ...]
    lows: tuple[float, ...]
    highs: tuple[float, ...]
    label: str
    kind: Literal["intervals"] = "intervals"

    @property
    def names(self) -> tuple[str, ...]:
        """The only series has no name."""
        return ()


@dataclass(frozen=True)
class Funnel:
    """How many of the records each stage settles, and how many it passes on."""

    stages: tuple[str, ...]
    exited: tuple[int, ...]
    escalated: tuple[int, ...]
    kind: Literal["funnel"] = "funnel"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the series."""
        return ("settled here", "passed on")


Plot: TypeAlias = Distribution | Classes | Steps | Intervals | Funnel
