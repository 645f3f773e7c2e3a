"""From records to predictions and PredictionLogs: each batch is scored once and encoded once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from bulk_inferencer._formats.batches import BatchBounds, Chunk, batches
from bulk_inferencer._formats.prediction_log import PredictionLogEncoder
from bulk_inferencer._models.predictor import Model, Prediction
from bulk_inferencer._models.scorer import Failed, Scorer
from bulk_inferencer._work import Work
from bulk_inferencer.errors import prefix_errors


@dataclass(frozen=True)
class ScoredRows:
    """Records of a batch that one call of the model scored.

    Attributes:
      rows: k indexes in the batch, in ascending order.
      prediction: what the model returned, arrays of shape [k, ...].
      logs: k serialized PredictionLogs.
    """

    rows: Sequence[int]
    prediction: Prediction
    logs: list[bytes]


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
    def _encoder(self) -> PredictionLogEncoder:
        # Not before the first call of the model, which may decide what the input is.
        predictor = self._scorer.predictor
        return PredictionLogEncoder(predictor.signatures, predictor.input_name)

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
        records = batch if rows is None else [batch[i] for i in rows]
        rows = range(len(batch)) if rows is None else rows
        with prefix_errors(self._label):
            for result in self._scorer.score(records, work):
                if isinstance(result, Failed):
                    yield replace(result, index=rows[result.index])
                    continue
                scored = slice(result.start, result.stop)
                logs = self._encoder.encode(records[scored], result.prediction.outputs)
                yield ScoredRows(rows[scored], result.prediction, logs)

    def fails(self, record: bytes) -> bool:
        """Returns whether a record cannot be scored, and forgets its prediction.

        Raises:
          BulkInferencerError: see `score`.
        """
        return any(isinstance(result, Failed) for result in self.score([record], Work()))

    def logs(self, records: list[bytes], work: Work) -> list[bytes | Failed]:
        """Returns a serialized PredictionLog or a failure for each record, in order."""
        logs: list[bytes | Failed] = []
        for batch in batches([Chunk("", 0, records)], self._bounds):
            for result in self.score(batch.records, work):
                logs += [result] if isinstance(result, Failed) else result.logs
        return logs
