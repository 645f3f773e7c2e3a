"""Calls a model: halves a batch that is too large, and bisects one that holds a bad record."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._formats.rows import bytes_of
from bulk_inferencer._models import usage
from bulk_inferencer._models.pace import Pace, Took
from bulk_inferencer._models.predictor import (
    Model,
    NothingScored,
    OutOfMemory,
    Prediction,
    Predictor,
    reason_of,
)
from bulk_inferencer._work import Work
from bulk_inferencer.errors import BulkInferencerError


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

    How many records a call takes is up to `Pace`. A batch that does not fit into memory is halved,
    and one that fails for any other reason is bisected until the bad records stand alone.

    All threads of a process share it.
    """

    def __init__(
        self,
        predictor: Predictor,
        first_records: int | None = None,
        elsewhere: Callable[[], Iterable[bytes]] = tuple,
    ) -> None:
        """Wraps a loaded model.

        Args:
          predictor: the loaded model.
          first_records: see `BatchBounds`.
          elsewhere: gives other records of the input, to try if the first batch is not scored.
        """
        self.predictor = predictor
        self._elsewhere = elsewhere
        self._scores_elsewhere: bool | None = None  # not tried yet
        self._try_elsewhere = threading.Lock()
        self.pace = Pace(first_records or sys.maxsize)
        self._turn = threading.Lock()
        self._unreported_loads: list[tuple[float, int]] = []

    @classmethod
    def load(
        cls,
        model: Model,
        record_format: str,
        bounds: BatchBounds,
        elsewhere: Callable[[], Iterable[bytes]] = tuple,
    ) -> Scorer:
        """Loads a model. The first call of `score` counts that as work.

        Raises:
          BulkInferencerError: see `Model.load`.
        """
        started, bytes_before = time.perf_counter(), usage.resident_bytes()
        scorer = cls(model.load(record_format), bounds.first_records, elsewhere)
        bytes_gained = max(0, usage.resident_bytes() - bytes_before)
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
        yield from self._score_in_pieces(records, 0, len(records), work)

    def _score_in_pieces(
        self, records: Sequence[bytes], start: int, stop: int, work: Work
    ) -> Iterator[Scored | Failed]:
        while start < stop:
            middle = min(stop, start + self.pace.records)
            yield from self._score(records, start, middle, work)
            start = middle

    def _score(
        self, records: Sequence[bytes], start: int, stop: int, work: Work
    ) -> Iterator[Scored | Failed]:
        try:
            prediction, seconds = self._call(records[start:stop])
        except BulkInferencerError:
            raise
        except Exception as error:  # noqa: BLE001, a model may run any code
            if has_room := not isinstance(error, OutOfMemory):
                self.pace.failed()
            if stop - start == 1:
                yield _failed(start, error)
                return
            if not has_room:
                work.halved()
                self.pace.did_not_fit(stop - start)
        else:
            work.called(stop - start, bytes_of(records[start:stop]), seconds)
            yield Scored(start, stop, prediction)
            return
        # Not in `except`, where the traceback would keep the failed batch alive.
        if has_room:
            middle = (start + stop) // 2
            yield from self._score(records, start, middle, work)
            yield from self._score(records, middle, stop, work)
        else:
            yield from self._score_in_pieces(records, start, stop, work)

    def _call(self, records: Sequence[bytes]) -> tuple[Prediction, float]:
        """Calls the predictor when it is this thread's turn; returns wall seconds, too."""
        with self._turn_to_call() as is_alone:
            learns = self.pace.learns_from(len(records))
            peak_before = usage.peak_bytes() if learns else 0
            cpu_before = usage.cpu_seconds() if is_alone else 0.0
            started = time.perf_counter()
            prediction = self._predict(records)
            seconds = time.perf_counter() - started
            if learns:
                cpu = usage.cpu_seconds() - cpu_before if is_alone else 0.0
                took = Took(seconds, cpu, peak_before, usage.peak_bytes(), usage.resident_bytes())
                self.pace.called(len(records), took)
        return prediction, seconds

    def _predict(self, records: Sequence[bytes]) -> Prediction:
        try:
            return self.predictor.predict(records)
        except NothingScored:
            with self._try_elsewhere:
                if self._scores_elsewhere is None:
                    self._scores_elsewhere = any(map(self._scores, self._elsewhere()))
            if not self._scores_elsewhere:
                raise
        return self.predictor.predict(records)

    def _scores(self, record: bytes) -> bool:
        try:
            self.predictor.predict([record])
        except NothingScored:
            return False
        except BulkInferencerError:
            raise
        except Exception:  # noqa: BLE001, a model may run any code
            return False
        return True

    @contextmanager
    def _turn_to_call(self) -> Iterator[bool]:
        """Waits for other calls if need be, and says whether it did."""
        if self.pace.one_at_a_time:
            with self._turn:
                if self.pace.one_at_a_time:
                    yield True
                    return
        # Threads that waited for calls that turned out to be light do not hold up one another.
        yield False


def _failed(index: int, error: Exception) -> Failed:
    reason = reason_of(error)
    return Failed(index, reason.error_type, reason.message)
