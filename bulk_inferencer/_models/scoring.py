"""From records to predictions and PredictionLogs: each batch is scored once and encoded once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from bulk_inferencer._formats.batches import BatchBounds, batches
from bulk_inferencer._formats.input_format import Chunk
from bulk_inferencer._formats.prediction_log import PredictionLogEncoder
from bulk_inferencer._formats.rows import as_list, taken
from bulk_inferencer._models.predictor import Model, Prediction
from bulk_inferencer._models.scorer import Failed, Scorer
from bulk_inferencer._signatures import Signature
from bulk_inferencer._work import Work
from bulk_inferencer.errors import prefix_errors


@dataclass(frozen=True)
class LogEncoder:
    """Makes the PredictionLogs of a model, which need not be loaded for that.

    Attributes:
      signatures: the signatures that were called.
      input_name: the name under which a PredictionLog carries the record.
      label: what messages of errors begin with.
    """

    signatures: tuple[Signature, ...]
    input_name: str
    label: str = ""

    @functools.cached_property
    def _encoder(self) -> PredictionLogEncoder:
        return PredictionLogEncoder(self.signatures, self.input_name)

    def __call__(
        self, records: Sequence[bytes] | None, outputs: Mapping[str, np.ndarray]
    ) -> Sequence[bytes]:
        """Returns serialized PredictionLogs; with None for the records, such as hold none.

        Raises:
          ModelError: a PredictionLog cannot carry an output.
        """
        with prefix_errors(self.label):
            return self._encoder.encode(records, outputs)

    def __getstate__(self) -> dict[str, Any]:
        return {own.name: getattr(self, own.name) for own in fields(self)}  # not what is cached


@dataclass(frozen=True)
class ScoredRows:
    """Records of a batch that one call of the model scored.

    Attributes:
      rows: k indexes in the batch, in ascending order.
      records: the k records.
      prediction: what the model returned, arrays of shape [k, ...].
      encode: makes PredictionLogs of the records and the outputs.
    """

    rows: Sequence[int]
    records: Sequence[bytes]
    prediction: Prediction
    encode: LogEncoder

    @functools.cached_property
    def logs(self) -> Sequence[bytes]:
        """The k serialized PredictionLogs, made when they are first asked for.

        Raises:
          ModelError: a PredictionLog cannot carry an output.
        """
        return self.encode(as_list(self.records), self.prediction.outputs)

    def logs_without_records(self) -> Sequence[bytes]:
        """Returns the PredictionLogs without the records; see `logs`."""
        return self.encode(None, self.prediction.outputs)


class LogScorer:
    """A loaded model whose predictions come with their PredictionLogs.

    All threads of a process share it.
    """

    def __init__(self, scorer: Scorer, bounds: BatchBounds | None = None, label: str = "") -> None:
        """Wraps what calls the model; `label` begins the message of every error."""
        self._scorer = scorer
        self._bounds = bounds or BatchBounds()
        self._label = label

    @functools.cached_property
    def _encode(self) -> LogEncoder:
        # Not before the first call of the model, which may decide what the input is.
        predictor = self._scorer.predictor
        return LogEncoder(tuple(predictor.signatures), predictor.input_name, self._label)

    @classmethod
    def load(
        cls,
        model: Model,
        record_format: str,
        bounds: BatchBounds,
        label: str = "",
        elsewhere: Callable[[], Iterable[bytes]] = tuple,
    ) -> LogScorer:
        """Loads a model; see `Scorer` for `elsewhere`.

        Raises:
          BulkInferencerError: see `Model.load`.
        """
        with prefix_errors(label):
            scorer = Scorer.load(model, record_format, bounds, elsewhere)
        return cls(scorer, bounds, label)

    def score(
        self, batch: Sequence[bytes], work: Work, rows: Sequence[int] | None = None
    ) -> Iterator[ScoredRows | Failed]:
        """Yields results that cover each of the rows exactly once, in order.

        Args:
          batch: serialized records.
          work: counts the calls of the model.
          rows: indexes of the records to score, in ascending order; default: all.

        Raises:
          BulkInferencerError: the model fails, and no record is at fault.
        """
        records = batch if rows is None else taken(batch, rows)
        rows = range(len(batch)) if rows is None else rows
        with prefix_errors(self._label):
            for result in self._scorer.score(records, work):
                if isinstance(result, Failed):
                    yield replace(result, index=rows[result.index])
                    continue
                scored = slice(result.start, result.stop)
                yield ScoredRows(rows[scored], records[scored], result.prediction, self._encode)

    def fails(self, records: Sequence[bytes]) -> bool:
        """Returns whether one of the records cannot be scored, and forgets the predictions.

        Raises:
          BulkInferencerError: see `score`.
        """
        return any(isinstance(result, Failed) for result in self.score(records, Work()))

    def logs(self, records: Sequence[bytes], work: Work) -> list[bytes | Failed]:
        """Returns a serialized PredictionLog or a failure for each record, in order."""
        logs: list[bytes | Failed] = []
        for batch in batches([Chunk("", 0, records)], self._bounds):
            for result in self.score(batch.records, work):
                logs += [result] if isinstance(result, Failed) else result.logs
        return logs
