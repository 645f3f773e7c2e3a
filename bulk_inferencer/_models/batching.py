"""Batches: bounded by records and bytes, halved when too large, bisected when a record is bad."""

from __future__ import annotations

import contextlib
import logging
import math
import resource
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bulk_inferencer._models.predictor import Model, OutOfMemory, Predictor, RecordError
from bulk_inferencer._work import Work
from bulk_inferencer.errors import BulkInferencerError, SettingsError

_logger = logging.getLogger(__name__)

# Calls get larger while they take less than this, or while a record costs less than this share of
# what it cost in calls of half the size.
_QUICK_SECONDS = 0.25
_CHEAPER = 0.9


@dataclass(frozen=True)
class BatchBounds:
    """A batch ends at whichever bound is reached first.

    Attributes:
      max_records: most records in a batch, at least 1.
      max_bytes: most bytes of serialized records in a batch, at least 1. A record that is larger
        on its own is a batch of one.
      first_records: most records in the first call of the model, at least 1. From there on, the
        size is doubled as long as a call takes less than a quarter of a second or that makes a
        record cheaper by a tenth; `max_records` and more stand for one size from the start.

    Raises:
      SettingsError: a bound is less than 1.
    """

    max_records: int = 4096
    max_bytes: int = 16 << 20
    first_records: int = 64

    def __post_init__(self) -> None:
        for name in ("max_records", "max_bytes", "first_records"):
            value = getattr(self, name)
            if value < 1:
                raise SettingsError(
                    f"Expected a bound of at least 1, got {value} in BatchSpec.{name}. "
                    f"Leave it out for the default."
                )


@dataclass(frozen=True)
class Chunk:
    """Records as they were read: consecutive ones of one file.

    Attributes:
      path: the file.
      first: number of the first record within the file, from 0.
      records: serialized records.
    """

    path: str
    first: int
    records: list[bytes]


@dataclass(frozen=True)
class Segment:
    """Where consecutive records of a batch come from."""

    path: str
    first: int
    count: int


@dataclass(frozen=True)
class Batch:
    """Records that are scored in one call.

    Attributes:
      records: serialized records.
      segments: where they come from, in their order.
    """

    records: list[bytes]
    segments: tuple[Segment, ...]

    def locate(self, index: int) -> tuple[str, int]:
        """Returns the file of the record at `index`, and its number within the file, from 0."""
        for segment in self.segments:
            if index < segment.count:
                return segment.path, segment.first + index
            index -= segment.count
        raise IndexError("no such record in this batch")


def batches(chunks: Iterable[Chunk], bounds: BatchBounds) -> Iterator[Batch]:
    """Joins and cuts chunks into batches that keep the order and fill the bounds exactly."""
    records: list[bytes] = []
    segments: list[Segment] = []
    filled_bytes = 0
    for chunk in chunks:
        ends = np.cumsum(np.fromiter(map(len, chunk.records), np.int64, len(chunk.records)))
        start = 0
        while start < len(chunk.records):
            before = int(ends[start - 1]) if start else 0
            fitting = np.searchsorted(ends, before + bounds.max_bytes - filled_bytes, side="right")
            stop = min(int(fitting), start + bounds.max_records - len(records))
            if stop <= start and not records:
                stop = start + 1  # larger than max_bytes on its own
            if stop > start:
                records += chunk.records[start:stop]
                segments.append(Segment(chunk.path, chunk.first + start, stop - start))
                filled_bytes += int(ends[stop - 1]) - before
            is_full = stop < len(chunk.records) or len(records) == bounds.max_records
            if is_full:
                yield Batch(records, tuple(segments))
                records, segments, filled_bytes = [], [], 0
            start = max(start, stop)
    if records:
        yield Batch(records, tuple(segments))


@dataclass(frozen=True)
class Scored:
    """Consecutive records of a batch and their outputs.

    Attributes:
      start: index of the first record in the batch.
      stop: index after the last one.
      outputs: arrays of shape [stop - start, ...] by name.
    """

    start: int
    stop: int
    outputs: dict[str, np.ndarray]


@dataclass(frozen=True)
class Failed:
    """One record that could not be scored.

    Attributes:
      index: its index in the batch.
      error_type: what kind of error it was.
      message: why, in a line.
    """

    index: int
    error_type: str
    message: str

    @property
    def reason(self) -> str:
        """Kind and message, in a line."""
        return f"{self.error_type}: {self.message}"


class Scorer:
    """Calls a predictor so that neither memory nor a bad record costs the batch.

    Calls take few records at first, and more as long as that pays. A batch that does not fit
    into memory is halved, and the size that fits is kept for the rest of the process. A batch that
    fails for any other reason is bisected until the records that cause it stand alone.

    Threads of a process share a scorer: where two of them set a size at once, either will do.
    """

    def __init__(self, predictor: Predictor, first_records: int | None = None) -> None:
        """Takes a loaded model.

        Args:
          predictor: the model.
          first_records: see `BatchBounds`; default: batches are scored in one call.
        """
        self.predictor = predictor
        self._call_records = first_records
        self._seconds_per_record = math.inf  # before the last time that the size was doubled
        self.safe_records: int | None = None
        self._unreported_loads: list[tuple[float, int]] = []

    @classmethod
    def load(cls, model: Model, record_format: str, bounds: BatchBounds) -> Scorer:
        """Loads a model; the first `score` counts that as work.

        Raises:
          ModelError: see `Model.load`.
        """
        started, bytes_before = time.perf_counter(), _resident_bytes()
        scorer = cls(model.load(record_format), bounds.first_records)
        bytes_gained = max(0, _resident_bytes() - bytes_before)
        scorer._unreported_loads.append((time.perf_counter() - started, bytes_gained))
        return scorer

    def score(
        self, records: Sequence[bytes], work: Work | None = None
    ) -> Iterator[Scored | Failed]:
        """Yields results that cover every record exactly once, in order.

        Args:
          records: a batch.
          work: counts what this takes.

        Raises:
          ModelError: the model fails whatever the records are.
        """
        work = work or Work()
        if self._unreported_loads:
            with contextlib.suppress(IndexError):  # another thread was faster
                work.loaded(*self._unreported_loads.pop())
        start = 0
        while start < len(records):
            stop = min(len(records), start + (self._call_records or len(records)))
            yield from self._score(records, start, stop, work)
            start = stop

    def _score(
        self, records: Sequence[bytes], start: int, stop: int, work: Work
    ) -> Iterator[Scored | Failed]:
        started = time.perf_counter()
        try:
            outputs = self.predictor.predict(records[start:stop])
        except BulkInferencerError:
            raise
        except Exception as error:  # noqa: BLE001, a model may run any code
            if stop - start == 1:
                yield _failed(start, error)
                return
            middle = (start + stop) // 2
            if isinstance(error, OutOfMemory):
                work.halved()
                self._remember_safe_size(middle - start)
        else:
            seconds = time.perf_counter() - started
            work.called(stop - start, seconds)
            if stop - start == self._call_records:
                self._grow(seconds)
            yield Scored(start, stop, outputs)
            return
        # Outside of `except`, so that the failed batch is not kept alive by its traceback.
        yield from self._score(records, start, middle, work)
        yield from self._score(records, middle, stop, work)

    def _grow(self, seconds: float) -> None:
        """Doubles the size of calls after one that took so long, if that is likely to pay."""
        records = self._call_records or 1
        seconds_per_record = seconds / records
        if seconds < _QUICK_SECONDS or seconds_per_record < _CHEAPER * self._seconds_per_record:
            self._call_records = min(2 * records, self.safe_records or sys.maxsize)
            self._seconds_per_record = seconds_per_record

    def _remember_safe_size(self, size: int) -> None:
        self.safe_records = min(size, self.safe_records or size)
        self._call_records = min(size, self._call_records or size)
        _logger.warning(
            "A batch did not fit into memory; from now on batches have at most %d records. "
            "Set BatchSpec.max_records to start with that.",
            self.safe_records,
        )


def _resident_bytes() -> int:
    """Returns the memory that the process has now, or 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


def _failed(index: int, error: Exception) -> Failed:
    if isinstance(error, RecordError):
        return Failed(index, error.error_type, error.message)
    return Failed(index, type(error).__name__, str(error))
