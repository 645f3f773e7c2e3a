"""A handler for Beam's own RunInference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from apache_beam.ml.inference.base import ModelHandler
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._formats.record_format import FORMAT_TF_EXAMPLE
from bulk_inferencer._models.predictor import Model
from bulk_inferencer._models.scorer import Failed
from bulk_inferencer._models.scoring import LogScorer
from bulk_inferencer.beam import metrics
from bulk_inferencer.beam.bundle import failed_record_error
from bulk_inferencer.beam.elements import record_of
from bulk_inferencer.beam.specs import bounds_of, model_of
from bulk_inferencer.errors import SettingsError


def CreateModelHandler(
    inference_spec_type: Any,
    load_override_fn: Callable[[str, list[str]], Any] | None = None,
    *,
    bounds: BatchBounds | None = None,
) -> ModelHandler:
    """Returns a handler for Beam's own `RunInference` and `KeyedModelHandler`.

    ```python
    handler = CreateModelHandler(SavedModel("models/five_times"))
    predictions = records | apache_beam.ml.inference.base.RunInference(handler)
    ```

    It takes tf.Examples, tf.SequenceExamples and serialized records, and gives PredictionLogs.

    Args:
      inference_spec_type: see `RunInference`.
      load_override_fn: see `RunInference`.
      bounds: bounds of a batch; Beam honours only `max_records`. Default: the spec's
        `batch_parameters`.

    Raises:
      SettingsError: the model is of another kind, or its settings contradict each other.
    """
    model = model_of(inference_spec_type, load_override_fn)
    return _PredictionLogHandler(model, bounds or bounds_of([inference_spec_type]))


class _PredictionLogHandler(ModelHandler):
    """Fails a batch if one of its records fails; Beam handles that."""

    def __init__(self, model: Model, bounds: BatchBounds) -> None:
        super().__init__(max_batch_size=bounds.max_records)
        self._model = model
        self._bounds = bounds

    def load_model(self) -> LogScorer:
        # The elements' type is not known here; this format lets every record through.
        return LogScorer.load(self._model, FORMAT_TF_EXAMPLE, self._bounds)

    def run_inference(
        self,
        batch: Sequence[Any],
        model: LogScorer,
        inference_args: dict[str, Any] | None = None,
    ) -> list[PredictionLog]:
        # Not a generator: Beam counts a batch as failed if the call itself raises.
        logs = []
        results = model.logs([record_of(value) for value in batch], metrics.MeteredWork())
        for number, log in enumerate(results):
            if isinstance(log, Failed):
                which = f"number {number} of a batch"
                raise failed_record_error(which, log, "with_exception_handling")
            logs.append(PredictionLog.FromString(log))
        return logs

    def validate_inference_args(self, inference_args: dict[str, Any] | None) -> None:
        if inference_args:
            raise SettingsError(
                f"Leave out inference_args ({', '.join(inference_args)}): a signature takes only "
                f"records."
            )

    def get_num_bytes(self, batch: Sequence[Any]) -> int:
        return sum(len(v) if isinstance(v, bytes) else v.ByteSize() for v in batch)

    def get_metrics_namespace(self) -> str:
        return metrics.NAMESPACE
