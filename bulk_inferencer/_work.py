"""What scoring took: how often the model was called, with how much, and for how long."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass
class Distribution:
    """Count, sum and range of values that are not kept.

    Attributes:
      count: how many values there were.
      sum: their sum.
      min: the least of them; 0 if there were none.
      max: the largest of them; 0 if there were none.
    """

    count: int = 0
    sum: int = 0
    min: int = 0
    max: int = 0

    def add(self, value: int) -> None:
        """Takes one more value in."""
        self.merge(Distribution(1, value, value, value))

    def merge(self, other: Distribution) -> None:
        """Takes all values of another distribution in."""
        if other.count:
            self.min = min(self.min, other.min) if self.count else other.min
            self.max = max(self.max, other.max) if self.count else other.max
            self.count += other.count
            self.sum += other.sum

    @property
    def mean(self) -> float:
        """The mean; not a number if there were no values."""
        return self.sum / self.count if self.count else math.nan


@dataclass
class Work:
    """The work of one unit, or of all. Each number is a Beam metric of the same name.

    Attributes:
      batches: calls of the model that returned outputs.
      batch_records: records per such call.
      inference_milliseconds: wall time of such a call.
      halvings: how often a batch did not fit into memory and was halved.
      model_loads: how often the model was loaded: once per process that scored.
      model_load_milliseconds: wall time of that.
      model_load_bytes: memory that the process gained by it.
    """

    batches: int = 0
    batch_records: Distribution = field(default_factory=Distribution)
    inference_milliseconds: Distribution = field(default_factory=Distribution)
    halvings: int = 0
    model_loads: int = 0
    model_load_milliseconds: Distribution = field(default_factory=Distribution)
    model_load_bytes: Distribution = field(default_factory=Distribution)

    def called(self, records: int, seconds: float) -> None:
        """Counts a call of the model that returned outputs."""
        self.count("batches")
        self.observe("batch_records", records)
        self.observe("inference_milliseconds", round(1000 * seconds))

    def halved(self) -> None:
        """Counts a batch that did not fit into memory."""
        self.count("halvings")

    def loaded(self, seconds: float, bytes_gained: int) -> None:
        """Counts that the model was loaded."""
        self.count("model_loads")
        self.observe("model_load_milliseconds", round(1000 * seconds))
        self.observe("model_load_bytes", bytes_gained)

    def count(self, name: str) -> None:
        """Adds 1 to a number; what reports the work elsewhere too starts here."""
        setattr(self, name, getattr(self, name) + 1)

    def observe(self, name: str, value: int) -> None:
        """Adds a value to a distribution; what reports the work elsewhere too starts here."""
        getattr(self, name).add(value)

    def merge(self, other: Work) -> None:
        """Adds the work of another unit."""
        for name in (f.name for f in fields(Work)):
            mine, its = getattr(self, name), getattr(other, name)
            if isinstance(mine, Distribution):
                mine.merge(its)
            else:
                setattr(self, name, mine + its)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Work:
        """Returns the work of which `dataclasses.asdict` made a dict."""
        made: dict[str, Any] = {
            name: Distribution(**value) if isinstance(value, dict) else value
            for name, value in values.items()
        }
        return cls(**made)

    def __str__(self) -> str:
        if not self.batches:
            return "the model was not called"
        records, milliseconds = self.batch_records, self.inference_milliseconds
        text = (
            f"{self.batches:,} calls of the model, {records.min:,} to {records.max:,} records each "
            f"(mean {records.mean:,.0f}), {milliseconds.min:,} to {milliseconds.max:,} ms each "
            f"(mean {milliseconds.mean:,.0f})"
        )
        if self.model_loads:
            load = self.model_load_milliseconds
            text += f"; model loaded {self.model_loads} x, in {load.mean:,.0f} ms each"
        return text + (f"; halved {self.halvings} x" if self.halvings else "")
