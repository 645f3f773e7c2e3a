"""A handler for Beam's own RunInference."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.ml.inference.base import ModelHandler
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from bulk_inferencer._checks import check_number
from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._formats.record_format import FORMAT_TF_EXAMPLE
from bulk_inferencer._models.predictor import Model
from bulk_inferencer._models.scorer import Failed
from bulk_inferencer._models.scoring import LogScorer
from bulk_inferencer.beam import metrics
from bulk_inferencer.beam.bundle import failed_record_error
from bulk_inferencer.beam.elements import Record, bytes_of_record, record_of, scored_form
from bulk_inferencer.beam.gathered import Gathered
from bulk_inferencer.beam.model_updates import updated
from bulk_inferencer.beam.specs import (
    SIZES,
    batch_parameters_of,
    bounds_from,
    check_model,
    model_of,
)
from bulk_inferencer.errors import SettingsError

# The elements' type is not known here; this format lets every record through.
_RECORD_FORMAT = FORMAT_TF_EXAMPLE

# What Beam's handlers call differently than its `BatchElements`.
_NAMES_OF_HANDLERS = {
    "batch_length_fn": "length_fn",
    "batch_bucket_boundaries": "bucket_boundaries",
}


def CreateModelHandler(
    inference_spec_type: Any,
    load_override_fn: Callable[[str, list[str]], Any] | None = None,
    *,
    bounds: BatchBounds | None = None,
    large_model: bool = False,
    model_copies: int | None = None,
    env_vars: Mapping[str, str] | None = None,
    **batch_elements: Any,
) -> ModelHandler:
    """Returns a handler for Beam's own `RunInference` and `KeyedModelHandler`.

    ```python
    handler = CreateModelHandler(SavedModel("models/five_times"), max_batch_size=256)
    predictions = records | apache_beam.ml.inference.base.RunInference(handler)
    ```

    It takes the same records as our `RunInference` and gives PredictionLogs. With Beam's
    `model_metadata_pcoll` or `watch_model_pattern`, `model_id` is the path of a SavedModel, or of
    the `saved_model.pb` in it.

    Args:
      inference_spec_type: see `RunInference`.
      load_override_fn: see `RunInference`.
      bounds: bounds of a call of the model; Beam's batches have at most `max_records`. Default:
        the spec's `batch_parameters`, and those in `batch_elements`.
      large_model: whether the processes of a worker share one model, as in Beam's own handlers.
      model_copies: how many they share, as in Beam's own handlers.
      env_vars: environment variables that Beam sets before it loads the model.
      **batch_elements: parameters of Beam's `BatchElements`, such as `min_batch_size`,
        `max_batch_size`, `target_batch_duration_secs` or `variance`. Default: those that are set in
        the spec's `batch_parameters`.

    Raises:
      SettingsError: the model is of another kind, its settings contradict each other, or
        `BatchElements` does not take a parameter.
      ModelError: the model does not exist, or cannot take records.
    """
    if model_copies is not None:
        check_number("model_copies", model_copies, "Leave it out for one.", 1, whole=True)
    given = {_NAMES_OF_HANDLERS.get(name, name): v for name, v in batch_elements.items()}
    given = {name: value for name, value in given.items() if value is not None}
    sizes = [name for name in SIZES if name in given]
    if bounds and sizes:
        raise SettingsError(
            f"The size of batches is given twice, by bounds and by {' and '.join(sizes)}. Leave "
            f"one of them out."
        )
    model = model_of(inference_spec_type, load_override_fn)
    parameters = batch_parameters_of(inference_spec_type)
    if bounds:
        parameters = {name: v for name, v in parameters.items() if name not in SIZES}
    parameters |= given
    # The size of a batch is the number of its records, unless they have a size of their own.
    if "element_size_fn" in parameters:
        bounds = bounds or BatchBounds()
    elif bounds:
        parameters["max_batch_size"] = bounds.max_records
    else:
        bounds = bounds_from([parameters])
    _check_batch_elements(parameters)
    check_model(model, _RECORD_FORMAT)
    copies = 1 if large_model and model_copies is None else model_copies
    return _PredictionLogHandler(model, bounds, parameters, copies, env_vars or {})


def _check_batch_elements(parameters: dict[str, Any]) -> None:
    known = list(inspect.signature(beam.BatchElements).parameters)
    if unknown := sorted(parameters.keys() - known):
        raise SettingsError(
            f"Beam's BatchElements does not take {', '.join(unknown)}. It takes {', '.join(known)}."
        )
    try:
        beam.BatchElements(**parameters)
    except (TypeError, ValueError) as error:
        settings = ", ".join(f"{name}={value!r}" for name, value in parameters.items())
        raise SettingsError(f"Beam's BatchElements refuses {settings}: {error}.") from error


class _Loaded:
    """A loaded model that may be in another process: all that goes in and out can be pickled."""

    def __init__(self, scorer: LogScorer) -> None:
        self._scorer = scorer

    def score(self, records: list[Record]) -> tuple[list[bytes | Failed], metrics.NotedWork]:
        """Returns a serialized PredictionLog or a failure for each record, and what it took."""
        work = metrics.NotedWork()
        return Gathered(records).logs(self._scorer, work), work


class _PredictionLogHandler(ModelHandler):
    """Fails a batch if one of its records fails; Beam handles that."""

    def __init__(
        self,
        model: Model,
        bounds: BatchBounds,
        batch_elements: Mapping[str, Any],
        shared_copies: int | None,
        env_vars: Mapping[str, str],
    ) -> None:
        super().__init__()
        self._model = self._first_model = model
        self._bounds = bounds
        self._batch_elements = batch_elements
        self._shared_copies = shared_copies
        self._env_vars = dict(env_vars)  # by this name, Beam looks for them

    def load_model(self) -> _Loaded:
        return _Loaded(LogScorer.load(self._model, _RECORD_FORMAT, self._bounds))

    def update_model_path(self, model_path: str | None = None) -> None:
        self._model = updated(self._first_model, model_path) if model_path else self._first_model

    def run_inference(
        self,
        batch: Sequence[Any],
        model: _Loaded,
        inference_args: dict[str, Any] | None = None,
    ) -> list[PredictionLog]:
        # Not a generator: Beam counts a batch as failed if the call itself raises.
        logs = []
        results, work = model.score([scored_form(record_of(value)) for value in batch])
        work.meter()
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
        return sum(bytes_of_record(value) for value in batch)

    def get_metrics_namespace(self) -> str:
        return metrics.NAMESPACE

    def batch_elements_kwargs(self) -> Mapping[str, Any]:
        return self._batch_elements

    def share_model_across_processes(self) -> bool:
        return self._shared_copies is not None

    def model_copies(self) -> int:
        return self._shared_copies or 1
