"""Records to PredictionLogs: what all transforms do with a model on a worker."""

from __future__ import annotations

from bulk_inferencer._formats.prediction_log import PredictionLogEncoder
from bulk_inferencer._models.batching import BatchBounds, Chunk, Failed, Scorer, batches
from bulk_inferencer._models.predictor import Model
from bulk_inferencer._work import Work
from bulk_inferencer.errors import FailedRecordError


class Encoded:
    """A loaded model whose outputs are PredictionLogs. Shared by all threads of a process."""

    def __init__(self, model: Model, record_format: str, bounds: BatchBounds) -> None:
        self._scorer = Scorer.load(model, record_format, bounds)
        self._bounds = bounds
        predictor = self._scorer.predictor
        self._encoder = PredictionLogEncoder(predictor.signatures, predictor.input_name)

    def logs(self, records: list[bytes], work: Work) -> list[bytes | Failed]:
        """Returns a serialized PredictionLog or a failure for each record, in order."""
        logs: list[bytes | Failed] = []
        for batch in batches([Chunk("", 0, records)], self._bounds):
            for result in self._scorer.score(batch.records, work):
                if isinstance(result, Failed):
                    logs.append(result)
                else:
                    scored = batch.records[result.start : result.stop]
                    logs += self._encoder.encode(scored, result.outputs)
        return logs


def failed_record_error(which: str, failure: Failed, method: str) -> FailedRecordError:
    """Returns the error for a failure that nobody asked for as an output.

    Args:
      which: the record, in words.
      failure: why it could not be scored.
      method: what to call on `RunInference` to get failures as an output.
    """
    return FailedRecordError(
        f"Expected every record to be scored, but the one {which} failed: "
        f"{failure.reason.rstrip('.')}. "
        f"Mend it, or take failures as an output of their own: RunInference(...).{method}()."
    )
