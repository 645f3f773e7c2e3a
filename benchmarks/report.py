"""What the reports of all races have in common."""

from __future__ import annotations

import os
import platform
import statistics
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Target:
    """A measured value, with the target that it should reach.

    Attributes:
      what: what was measured.
      values: the values, round by round.
      at_least: the lower bound of their median, or None.
      at_most: the upper bound, or None. Without bounds, the value is for information.
    """

    what: str
    values: list[float]
    at_least: float | None = None
    at_most: float | None = None

    @property
    def value(self) -> float:
        """The median."""
        return statistics.median(self.values)

    @property
    def is_met(self) -> bool:
        """Whether the median is within the bounds."""
        enough = self.at_least is None or self.value >= self.at_least
        return enough and (self.at_most is None or self.value <= self.at_most)

    def __str__(self) -> str:
        text = f"{self.what:<52}{self.value:>8.2f}{min(self.values):>8.2f}{max(self.values):>8.2f}"
        if self.at_least is None and self.at_most is None:
            return text
        wanted = f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"
        return f"{text}  {wanted:>6}  {'met' if self.is_met else 'missed'}"


def machine() -> dict[str, str]:
    """Returns what the numbers depend on."""
    from bulk_inferencer._versions import library_versions

    cores = len(os.sched_getaffinity(0))
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {"cores": f"{cores} ({model})", **library_versions()}
