"""What the reports of all races have in common."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


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


def print_targets(targets: Sequence[Target]) -> None:
    """Prints what was measured beside what it should be, if there is anything."""
    if targets:
        print(f"\n{'Ratios and targets: medians of all rounds':<52}{'':>8}{'min':>8}{'max':>8}")
    for target in targets:
        print(target)


def write(path: Path, races: Any, targets: Sequence[Target], facts: Mapping[str, str]) -> None:
    """Prints what the numbers depend on, and writes them all to a JSON file."""
    print("\n" + ", ".join(f"{name} {value}" for name, value in facts.items()))
    results = {
        "machine": facts,
        "races": races,
        "targets": [{**asdict(t), "value": t.value, "is_met": t.is_met} for t in targets],
    }
    path.write_text(json.dumps(results, indent=2) + "\n")
    print(f"\nwritten: {path}")


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
