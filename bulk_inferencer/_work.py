"""What scoring took: how often the model was called, with how many records, and for how long."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields


@dataclass
class Distribution:
    """Count, sum, minimum and maximum of values that are not kept; all 0 without values."""

    count: int = 0
    sum: int = 0
    min: int = 0
    max: int = 0

    def add(self, value: int) -> None:
        """Adds a value."""
        self.merge(Distribution(1, value, value, value))

    def merge(self, other: Distribution) -> None:
        """Adds all values of another distribution."""
        if other.count:
            self.min = min(self.min, other.min) if self.count else other.min
            self.max = max(self.max, other.max) if self.count else other.max
            self.count += other.count
            self.sum += other.sum

    @property
    def mean(self) -> float:
        """The mean; NaN if there are no values."""
        return self.sum / self.count if self.count else math.nan


@dataclass
class Work:
    """The work of one unit, or of all. Each number is a Beam metric of the same name.

    Attributes:
      batches: calls of the model that returned outputs.
      batch_records: records per such call.
      batch_bytes: bytes of those records, serialized.
      inference_milliseconds: wall time of such a call.
      halvings: how often a batch did not fit into memory and was halved.
      model_loads: how often the model was loaded: once per process that scored.
      model_load_milliseconds: wall time of a load.
      model_load_bytes: how much the memory of the process grew by a load.
    """

    batches: int = 0
    batch_records: Distribution = field(default_factory=Distribution)
    batch_bytes: Distribution = field(default_factory=Distribution)
    inference_milliseconds: Distribution = field(default_factory=Distribution)
    halvings: int = 0
    model_loads: int = 0
    model_load_milliseconds: Distribution = field(default_factory=Distribution)
    model_load_bytes: Distribution = field(default_factory=Distribution)

    def called(self, records: int, record_bytes: int, seconds: float) -> None:
        """Counts a call of the model that returned outputs."""
        self.count("batches")
        self.observe("batch_records", records)
        self.observe("batch_bytes", record_bytes)
        self.observe("inference_milliseconds", round(1000 * seconds))

    def halved(self) -> None:
        """Counts a batch that did not fit into memory."""
        self.count("halvings")

    def loaded(self, seconds: float, bytes_gained: int) -> None:
        """Counts a load of the model."""
        self.count("model_loads")
        self.observe("model_load_milliseconds", round(1000 * seconds))
        self.observe("model_load_bytes", bytes_gained)

    def count(self, name: str) -> None:
        """Adds 1 to a number. Subclasses override this to report it elsewhere too."""
        setattr(self, name, getattr(self, name) + 1)

    def observe(self, name: str, value: int) -> None:
        """Adds a value to a distribution. Subclasses override this to report it elsewhere too."""
        getattr(self, name).add(value)

    def merge(self, other: Work) -> None:
        """Adds the work of another unit."""
        for name in (f.name for f in fields(Work)):
            mine, theirs = getattr(self, name), getattr(other, name)
            if isinstance(mine, Distribution):
                mine.merge(theirs)
            else:
                setattr(self, name, mine + theirs)

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
