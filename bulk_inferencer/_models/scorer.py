"""Calls a model: halves a batch that is too large, and bisects one that holds a bad record."""

from __future__ import annotations

import contextlib
import logging
import math
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._models.predictor import (
    Model,
    OutOfMemory,
    Prediction,
    Predictor,
    RecordError,
)
from bulk_inferencer._work import Work
from bulk_inferencer.errors import BulkInferencerError

_logger = logging.getLogger(__name__)

# Calls grow as long as they take less than _QUICK_SECONDS, or as long as a record costs less than
# _CHEAPER times what it cost in calls of half the size.
_QUICK_SECONDS = 0.25
_CHEAPER = 0.9


@dataclass(frozen=True)
class Scored:
    """Consecutive records of a batch and what the model returned for them.

    Attributes:
      start: index of the first record in the batch.
      stop: index after the last one.
      prediction: arrays of shape [stop - start, ...].
    """

    start: int
    stop: int
    prediction: Prediction


@dataclass(frozen=True)
class Failed:
    """One record that could not be scored.

    Attributes:
      index: its index in the batch.
      error_type: the kind of error.
      message: the reason, on one line.
    """

    index: int
    error_type: str
    message: str

    @property
    def reason(self) -> str:
        """Kind and message, on one line."""
        return f"{self.error_type}: {self.message}"


class Scorer:
    """Calls a predictor so that neither a lack of memory nor a bad record costs the whole batch.

    The first calls take few records, and later ones more, as long as that pays. A batch that does
    not fit into memory is halved, and the size that fits is kept for the rest of the process. A
    batch that fails for any other reason is bisected until the bad records stand alone.

    All threads of a process share it. If two of them set a size at once, either will do.
    """

    def __init__(self, predictor: Predictor, first_records: int | None = None) -> None:
        """Wraps a loaded model; see `BatchBounds` for `first_records`."""
        self.predictor = predictor
        self._call_records = first_records
        self._seconds_per_record = math.inf  # in calls of half the size
        self.safe_records: int | None = None
        self._unreported_loads: list[tuple[float, int]] = []

    @classmethod
    def load(cls, model: Model, record_format: str, bounds: BatchBounds) -> Scorer:
        """Loads a model. The first call of `score` counts that as work.

        Raises:
          BulkInferencerError: see `Model.load`.
        """
        started, bytes_before = time.perf_counter(), _resident_bytes()
        scorer = cls(model.load(record_format), bounds.first_records)
        bytes_gained = max(0, _resident_bytes() - bytes_before)
        scorer._unreported_loads.append((time.perf_counter() - started, bytes_gained))
        return scorer

    def score(
        self, records: Sequence[bytes], work: Work | None = None
    ) -> Iterator[Scored | Failed]:
        """Yields results that cover every record exactly once, in order; counts calls in `work`.

        Raises:
          BulkInferencerError: the model fails, and no record is at fault.
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
            prediction = self.predictor.predict(records[start:stop])
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
            yield Scored(start, stop, prediction)
            return
        # Not in `except`, where the traceback would keep the failed batch alive.
        yield from self._score(records, start, middle, work)
        yield from self._score(records, middle, stop, work)

    def _grow(self, seconds: float) -> None:
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
            "Set BatchBounds.max_records to start with that.",
            self.safe_records,
        )


def _resident_bytes() -> int:
    """Returns the memory that the process uses, or 0 if the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


def _failed(index: int, error: Exception) -> Failed:
    if isinstance(error, RecordError):
        return Failed(index, error.error_type, error.message)
    return Failed(index, type(error).__name__, str(error))
