"""Gathers the elements of a bundle into batches and scores them. Nothing here knows Beam.

    record                gather             score              PredictionLog
    (key, record)           ->   [record, ...] -> [log, ...] -> (key, PredictionLog)
    (key, [record, ...])                                        (key, [PredictionLog, ...])

With several models, each result is a tuple with one entry for each model.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._models.scorer import Failed
from bulk_inferencer._models.scoring import LogScorer
from bulk_inferencer._work import Work
from bulk_inferencer.beam.elements import (
    Record,
    bytes_of_record,
    is_keyed,
    records_of,
    scored_form,
)
from bulk_inferencer.beam.gathered import Gathered
from bulk_inferencer.errors import FailedRecordError

_Result = TypeVar("_Result")

_NO_KEY = object()  # None may be a key


class RecordFailure(NamedTuple):
    """A record that could not be scored.

    ```python
    _, failures = records | RunInference(model).with_failures()
    reasons = failures | beam.Map(lambda failure: f"{failure.key}: {failure.message}")
    ```

    Attributes:
      key: its key; None if the element has no key.
      record: the record: serialized, or the dict or row as it came.
      error_type: the kind of error, such as `InvalidArgumentError`.
      message: why the record could not be scored.
    """

    key: Any
    record: Any
    error_type: str
    message: str


def failed_record_error(
    which: str, failed: Failed | RecordFailure, method: str
) -> FailedRecordError:
    """Returns the error for a failed record; `method` is what would make it an output instead."""
    reason = f"{failed.error_type}: {failed.message}".rstrip(".")
    return FailedRecordError(
        f"The record {which} could not be scored: {reason}. Fix the record, or call {method}() to "
        f"get failures as a separate output."
    )


class Bundle:
    """Gathers elements until their records fill a batch, then scores those together."""

    def __init__(self, bounds: BatchBounds, is_per_model: bool) -> None:
        self._max_records, self._max_bytes = bounds.max_records, bounds.max_bytes
        self._is_per_model = is_per_model
        self._parse: Callable[[Any], Any] = _parse_row if is_per_model else PredictionLog.FromString
        self._clear()

    def add(self, handle: Any, element: Any) -> bool:
        """Adds an element and returns whether the records now fill a batch.

        Args:
          handle: identifies the element in `flush`.
          element: a record, `(key, record)` or `(key, [record, ...])`.

        Raises:
          SettingsError: the element is none of these.
        """
        own: Any = element if type(element) is bytes else records_of(element)
        for record in own if type(own) is list else (own,):
            scored = record if type(record) is bytes else scored_form(record)
            self._records.append(scored)
            self._bytes += len(scored) if type(scored) is bytes else bytes_of_record(scored)
        # Three lists instead of one of tuples: tuples that live on slow the garbage collector down.
        self._handles.append(handle)
        self._keys.append(element[0] if own is not element and is_keyed(element) else _NO_KEY)
        self._own_records.append(own)
        return len(self._records) >= self._max_records or self._bytes >= self._max_bytes

    def flush(
        self,
        scorers: Sequence[LogScorer],
        work: Work,
        emit: Callable[[Any, Any], _Result],
        fail: Callable[[Any, RecordFailure], _Result],
    ) -> Generator[_Result, None, tuple[int, int]]:
        """Scores the gathered records and yields the results in the order of the elements.

        Args:
          scorers: one for each model; only one without `is_per_model`.
          work: counts the calls of the models.
          emit: makes the result from an element's handle and its predictions.
          fail: makes the result from an element's handle and a failure.

        Returns:
          How many records there were, and how many of them failed.
        """
        read, failed = len(self._records), 0
        gathered = zip(self._handles, self._keys, self._own_records, strict=True)
        rows, parse = self._rows(scorers, work), self._parse
        self._clear()
        for handle, key, own in gathered:
            if type(own) is not list:
                row = next(rows)
                if type(row) is Failed:
                    failed += 1
                    yield fail(handle, _failure(key, own, row))
                else:
                    yield emit(handle, parse(row) if key is _NO_KEY else (key, parse(row)))
                continue
            parsed = []
            for record in own:
                row = next(rows)
                if type(row) is Failed:
                    failed += 1
                    yield fail(handle, _failure(key, record, row))
                else:
                    parsed.append(parse(row))
            if parsed or not own:  # an empty list stays an element
                value = _by_model(parsed, len(scorers)) if self._is_per_model else parsed
                yield emit(handle, (key, value))
        return read, failed

    def _clear(self) -> None:
        self._records: list[Record] = []
        self._bytes = 0
        self._handles: list[Any] = []
        self._keys: list[Any] = []
        self._own_records: list[Any] = []

    def _rows(self, scorers: Sequence[LogScorer], work: Work) -> Iterator[Any]:
        """Yields for each record the serialized logs, or the first failure if any model fails."""
        gathered = Gathered(self._records)
        by_model = [gathered.logs(scorer, work) for scorer in scorers]
        if not self._is_per_model:
            return iter(by_model[0])
        rows = zip(*by_model, strict=True)
        return (next((log for log in row if type(log) is Failed), row) for row in rows)


def _by_model(rows: list[tuple[PredictionLog, ...]], models: int) -> tuple[list[Any], ...]:
    return tuple([[row[i] for row in rows] for i in range(models)])


def _parse_row(row: Sequence[bytes]) -> tuple[PredictionLog, ...]:
    return tuple(map(PredictionLog.FromString, row))


def _failure(key: Any, record: Any, failed: Failed) -> RecordFailure:
    return RecordFailure(None if key is _NO_KEY else key, record, failed.error_type, failed.message)
