"""How many records a call of a model takes, and whether calls run side by side.

Larger calls make small models fast, and large ones slow and hungry. So a size is tried, and kept if
it pays:

    records    64     128     256     512     512     256
    seconds  0.10    0.20    0.34    0.71    0.70    0.34
             quick   quick  cheaper      not cheaper  from now on

Nothing here calls a model or looks at a clock: `Pace` is told what each call took.
"""

from __future__ import annotations

import logging
import math
import sys
import threading
from dataclasses import dataclass

_logger = logging.getLogger(__name__)

# Calls that are quicker than this always grow, slower ones as long as that makes records cheaper,
# and long ones not at all.
_QUICK_SECONDS = 0.25
_CHEAPER = 0.9
_LONG_SECONDS = 1.0
# The first call of a size may be slow, since models prepare for it.
_TRIES = 2
# Larger calls may add so much to the peak memory that the process had after its first ones.
_MORE_MEMORY = 0.25
_LITTLE_MEMORY = 64 << 20
# A call that could keep more cores busy than this needs no other call beside it.
_SEVERAL_CORES = 1.2
# Where so many calls fail before one succeeds, there is nothing to learn.
_MANY_FAILURES = 16
# So many calls have to succeed after a shortage of memory before larger ones are tried again, and
# _LONGER times as many when these do not fit either.
_CALLS_AFTER_SHORTAGE = 16
_LONGER = 4


@dataclass(frozen=True)
class Took:
    """What one call of a model took. The memory is that of the whole process, in bytes.

    Attributes:
      seconds: wall time.
      cpu_seconds: CPU time that the process used, or would have used on idle cores.
      peak_before: peak memory before the call.
      peak: peak memory after it.
      resident: memory in use after it.
    """

    seconds: float
    cpu_seconds: float = 0.0
    peak_before: int = 0
    peak: int = 0
    resident: int = 0

    @property
    def gain(self) -> int:
        """How much the peak memory grew."""
        return self.peak - self.peak_before


@dataclass
class _Trial:
    """All calls of one size.

    Attributes:
      calls: how many.
      seconds: the shortest.
      gain: how much they added to the peak memory, in bytes.
      freed: how much of that peak they freed again.
    """

    calls: int = 0
    seconds: float = math.inf
    gain: int = 0
    freed: int = 0

    def add(self, took: Took) -> None:
        self.calls += 1
        self.seconds = min(self.seconds, took.seconds)
        self.gain += took.gain
        if took.gain:
            self.freed = max(self.freed, took.peak - took.resident)

    @property
    def is_quick(self) -> bool:
        return self.seconds < _QUICK_SECONDS


class Pace:
    """Says how many records the next call of a model should take. Threads share it.

    Attributes:
      records: most records of the next call.
      one_at_a_time: whether calls should wait for one another: the first ones, to see what they
        take, and then those that take much memory and keep several cores busy. Side by side, they
        would take more memory and no less time.
    """

    def __init__(self, first_records: int) -> None:
        self.records = first_records
        self.one_at_a_time = True
        self._lock = threading.Lock()
        self._calls = 0
        self._failures = 0
        self._largest = 0  # records of a call so far
        self._first_gain = 0  # bytes of memory that the first calls added
        self._most_cores = 0.0  # that a call could keep busy
        self._most_gain = 0  # bytes that larger calls may add
        self._gain = 0  # bytes that larger calls have added
        self._trial = _Trial()
        self._cost_before: float | None = None  # seconds per record in calls of half the size
        self._most_records = sys.maxsize  # larger sizes do not pay
        self._wanted = 0  # the size before a shortage of memory
        self._pause = _CALLS_AFTER_SHORTAGE
        self._tries_again = False  # whether this size once was too large

    def learns_from(self, records: int) -> bool:
        """Returns whether a call with so many records would tell anything."""
        return self.one_at_a_time or records == self.records

    def called(self, records: int, took: Took) -> None:
        """Learns from a call that returned outputs."""
        with self._lock:
            self._calls += 1
            if self.one_at_a_time:
                self._learn_what_calls_take(records, took)
            if records == self.records:
                self._trial.add(took)
                self._choose_size(took)

    def failed(self) -> None:
        """Learns that a call failed because of a record."""
        with self._lock:
            self._failures += 1
            if not self._calls and self._failures >= _MANY_FAILURES:
                self.one_at_a_time = False

    def did_not_fit(self, records: int) -> None:
        """Makes calls smaller, since one with so many records did not fit into memory."""
        with self._lock:
            if self._tries_again:
                self._pause *= _LONGER
            self._wanted = max(self._wanted, min(self.records, records))
            self._cost_before = None
            size = min(self.records, (records + 1) // 2)
            self._set(size)
        _logger.warning(
            "A batch of %d records did not fit into memory. Batches have at most %d records now, "
            "and more later on. If that happens in every run, set BatchBounds.max_records to %d.",
            records,
            size,
            size,
        )

    def _learn_what_calls_take(self, records: int, took: Took) -> None:
        if self._calls <= _TRIES:
            self._first_gain += took.gain
            self._most_gain = max(_LITTLE_MEMORY, int(_MORE_MEMORY * took.peak))
        self._most_cores = max(self._most_cores, took.cpu_seconds / max(took.seconds, 1e-9))
        self._largest = max(self._largest, records)
        is_quick = took.seconds < _QUICK_SECONDS and records == self._largest
        if is_quick or self._calls >= _TRIES:
            is_hungry = self._first_gain > self._most_gain
            self.one_at_a_time = is_hungry and not is_quick and self._most_cores > _SEVERAL_CORES

    def _choose_size(self, took: Took) -> None:
        trial, before = self._trial, self._cost_before
        if self.records < self._wanted:
            if trial.calls >= self._pause:
                self._set(min(2 * self.records, self._wanted), tries_again=True)
            return
        cost = trial.seconds / self.records
        if before is not None:
            self._gain += took.gain
            too_hungry = self._gain > self._most_gain
            pays = trial.is_quick or cost < _CHEAPER * before
            if too_hungry or not pays:
                if too_hungry or trial.calls >= _TRIES:
                    self._most_records = self.records // 2
                    self._cost_before = None
                    self._set(self._most_records)
                return
        is_known = trial.is_quick or before is not None or trial.calls >= _TRIES
        if is_known and self._may_double():
            self._cost_before = cost
            self._set(2 * self.records)

    def _may_double(self) -> bool:
        trial = self._trial
        # Half of the size added `gain`. What the first calls added is not all due to their size,
        # least of all if they were quick.
        more = 2 * trial.gain
        if self._cost_before is None:
            more = 0 if trial.is_quick else trial.gain
        return (
            trial.seconds < _LONG_SECONDS
            and 2 * self.records <= self._most_records
            and self._gain + max(more, trial.freed) <= self._most_gain
        )

    def _set(self, records: int, tries_again: bool = False) -> None:
        self.records = records
        self._trial = _Trial()
        self._tries_again = tries_again
