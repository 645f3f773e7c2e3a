"""RunInference and its kin: what a Beam author calls.

As little logic as possible in this module: models are in `models/`, PredictionLogs in `formats/`.

    Example | SequenceExample | bytes                    PredictionLog
    (key, one of them)                 -> RunInference -> (key, PredictionLog)
    (key, list of them)                                  (key, list of PredictionLogs)

With several models, a tuple of the models' results stands where one result would.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import tensorflow as tf
from apache_beam import coders
from apache_beam.ml.inference.base import ModelHandler
from apache_beam.transforms.window import WindowedValue
from apache_beam.typehints import typehints
from apache_beam.utils.shared import Shared
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from bulk_inferencer.beam import metrics
from bulk_inferencer.errors import EndpointError, FailedRecordError, SettingsError
from bulk_inferencer.formats.prediction_log import PredictionLogEncoder
from bulk_inferencer.models.batching import BatchBounds, Chunk, Failed, Scorer, batches
from bulk_inferencer.models.hooks import Hooked, Postprocess, Preprocess
from bulk_inferencer.models.predictor import (
    FORMAT_TF_EXAMPLE,
    FORMAT_TF_SEQUENCE_EXAMPLE,
    Model,
)
from bulk_inferencer.models.saved_model import SavedModel

_logger = logging.getLogger(__name__)

_RECORD_TYPES = (bytes, tf.train.Example, tf.train.SequenceExample)
_LISTS = (
    typehints.ListConstraint,
    typehints.SequenceTypeConstraint,
    typehints.IterableTypeConstraint,
)
_FAILURES = "failures"


class RecordFailure(NamedTuple):
    """A record that could not be scored.

    Attributes:
      key: its key, None where records have none.
      record: the serialized record.
      error_type: what kind of error it was, such as `InvalidArgumentError`.
      message: why it could not be scored.
    """

    key: Any
    record: bytes
    error_type: str
    message: str


# Not the row coder that Beam has for named tuples: it cannot encode keys of any type.
coders.registry.register_coder(RecordFailure, coders.PickleCoder)


class Results(NamedTuple):
    """What `with_failures` returns.

    Attributes:
      predictions: as without failures.
      failures: a `PCollection[RecordFailure]`.
    """

    predictions: beam.PCollection
    failures: beam.PCollection


class _RunInference(beam.PTransform):
    """The transform behind the public ones: scores elements with one model, or with several."""

    _takes_keyed_batches_only = False

    def __init__(
        self,
        specs: Sequence[Any],
        load_override_fn: Callable[[str, list[str]], Any] | None,
        *,
        preprocess: Preprocess | str | None,
        postprocess: Postprocess | str | None,
        bounds: BatchBounds | None,
        accelerator: str | None,
        min_ram: str | int | None,
        is_per_model: bool,
    ) -> None:
        super().__init__()
        if not specs:
            raise SettingsError("Expected at least one model in inference_spec_types, got none.")
        models = [_model(spec, load_override_fn) for spec in specs]
        if preprocess or postprocess:
            models = [Hooked(model, preprocess, postprocess) for model in models]
        self._models = models
        self._bounds = bounds or _bounds(specs)
        hints = {"accelerator": accelerator, "min_ram": min_ram}
        self._resource_hints = {name: hint for name, hint in hints.items() if hint}
        self._is_per_model = is_per_model
        self._with_failures = False

    def with_failures(self) -> beam.PTransform:
        """Returns this transform with `Results`: predictions, and the records that have none."""
        transform = copy.copy(self)
        transform._with_failures = True
        return transform

    def expand(self, examples: beam.PCollection) -> beam.PCollection | Results:
        output_type, record_format = _types(
            examples.element_type, self._is_per_model, self._takes_keyed_batches_only
        )
        for model in self._models:
            try:
                model.check(record_format)
            except EndpointError as error:
                _logger.warning("Could not check %s before the run: %s", model.uri, error)
        predict = beam.ParDo(
            _Predict(
                self._models, record_format, self._bounds, self._is_per_model, self._with_failures
            )
        )
        if self._resource_hints:
            predict = predict.with_resource_hints(**self._resource_hints)
        if not self._with_failures:
            return examples | "Predict" >> predict.with_output_types(output_type)
        results = examples | "Predict" >> predict.with_outputs(_FAILURES, main="predictions")
        results.predictions.element_type = output_type
        results.failures.element_type = RecordFailure
        return Results(results.predictions, results.failures)


class RunInference(_RunInference):
    """Scores each element of a collection with a model.

    Elements are tf.Examples, tf.SequenceExamples or serialized records, each alone, as
    `(key, record)` or as `(key, [record, ...])`. Keys may be of any type, repeated or None. Results
    are PredictionLogs in the same place, in the element's window and with its timestamp. Their
    order is not promised.
    """

    def __init__(
        self,
        inference_spec_type: Any,
        load_override_fn: Callable[[str, list[str]], Any] | None = None,
        *,
        preprocess: Preprocess | str | None = None,
        postprocess: Postprocess | str | None = None,
        bounds: BatchBounds | None = None,
        accelerator: str | None = None,
        min_ram: str | int | None = None,
    ) -> None:
        """Describes the model and how to call it.

        Args:
          inference_spec_type: `SavedModel`, `TFServing`, `VertexEndpoint` or tfx_bsl's
            `InferenceSpecType` with a `saved_model_spec`.
          load_override_fn: loads a SavedModel; see `SavedModel.load_override_fn`.
          preprocess: see `Hooked`.
          postprocess: see `Hooked`.
          bounds: bounds of a batch; default: the `batch_parameters` of the spec. A batch does not
            outlast a bundle.
          accelerator: Beam's resource hint for the step that calls the model, such as
            `type:nvidia-tesla-t4;count:1;install-nvidia-driver`.
          min_ram: Beam's resource hint for that step, such as `8GB`.

        Raises:
          SettingsError: the spec is of another kind or not consistent.
        """
        super().__init__(
            [inference_spec_type],
            load_override_fn,
            preprocess=preprocess,
            postprocess=postprocess,
            bounds=bounds,
            accelerator=accelerator,
            min_ram=min_ram,
            is_per_model=False,
        )


class RunInferencePerModel(_RunInference):
    """Scores each element with several models: like `RunInference`, with a tuple of results.

    A record that one of the models fails on is a failure.
    """

    def __init__(
        self,
        inference_spec_types: Iterable[Any],
        load_override_fn: Callable[[str, list[str]], Any] | None = None,
        *,
        preprocess: Preprocess | str | None = None,
        postprocess: Postprocess | str | None = None,
        bounds: BatchBounds | None = None,
        accelerator: str | None = None,
        min_ram: str | int | None = None,
    ) -> None:
        """Describes the models; see `RunInference` for the other arguments.

        Args:
          inference_spec_types: the models, in the order of the results.
          load_override_fn: loads each SavedModel.
          preprocess: runs before each model.
          postprocess: runs after each model.
          bounds: bounds of a batch; default: the tightest `batch_parameters` of the specs.
          accelerator: resource hint.
          min_ram: resource hint.

        Raises:
          SettingsError: there is no spec, or one is of another kind or not consistent.
        """
        super().__init__(
            list(inference_spec_types),
            load_override_fn,
            preprocess=preprocess,
            postprocess=postprocess,
            bounds=bounds,
            accelerator=accelerator,
            min_ram=min_ram,
            is_per_model=True,
        )


class RunInferenceOnKeyedBatches(RunInference):
    """`RunInference` for `(key, [record, ...])` alone; gives `(key, [PredictionLog, ...])`."""

    _takes_keyed_batches_only = True


class RunInferencePerModelOnKeyedBatches(RunInferencePerModel):
    """`RunInferencePerModel` for `(key, [record, ...])`; gives `(key, (logs of a model, ...))`."""

    _takes_keyed_batches_only = True


def CreateModelHandler(
    inference_spec_type: Any,
    load_override_fn: Callable[[str, list[str]], Any] | None = None,
    *,
    bounds: BatchBounds | None = None,
) -> ModelHandler:
    """Returns a handler for Beam's own `RunInference` and `KeyedModelHandler`.

    It takes tf.Examples, tf.SequenceExamples and serialized records, and gives PredictionLogs.

    Args:
      inference_spec_type: see `RunInference`.
      load_override_fn: see `RunInference`.
      bounds: bounds of a batch, of which Beam honours the number of records; default: the
        `batch_parameters` of the spec.

    Raises:
      SettingsError: the spec is of another kind or not consistent.
    """
    model = _model(inference_spec_type, load_override_fn)
    return _PredictionLogHandler(model, bounds or _bounds([inference_spec_type]))


class _PredictionLogHandler(ModelHandler):
    """Beam's view of a model. Errors of a record fail its batch, for Beam to handle."""

    def __init__(self, model: Model, bounds: BatchBounds) -> None:
        super().__init__(max_batch_size=bounds.max_records)
        self._model = model
        self._bounds = bounds

    def load_model(self) -> _Encoded:
        # Any record is taken: the elements' type is not known here.
        return _Encoded(self._model, FORMAT_TF_EXAMPLE)

    def run_inference(
        self,
        batch: Sequence[Any],
        model: _Encoded,
        inference_args: dict[str, Any] | None = None,
    ) -> Iterator[PredictionLog]:
        if inference_args:
            raise SettingsError(
                f"Expected no inference_args, got {', '.join(inference_args)}: a signature takes "
                f"records alone. Leave them out."
            )
        for log in model.logs([_record(value) for value in batch], self._bounds):
            if isinstance(log, Failed):
                raise _failed_record(f"number {log.index} of a batch", log)
            yield PredictionLog.FromString(log)

    def get_num_bytes(self, batch: Sequence[Any]) -> int:
        return sum(len(v) if isinstance(v, bytes) else v.ByteSize() for v in batch)

    def get_metrics_namespace(self) -> str:
        return metrics.NAMESPACE


class _Pending(NamedTuple):
    """An element that waits for its batch: a record or, if `is_batch`, several."""

    key: Any
    records: list[bytes]
    is_keyed: bool
    is_batch: bool
    timestamp: Any
    window: Any


class _Predict(beam.DoFn):
    """Gathers elements of a bundle into batches, and scores these."""

    def __init__(
        self,
        models: Sequence[Model],
        record_format: str,
        bounds: BatchBounds,
        is_per_model: bool,
        with_failures: bool,
    ) -> None:
        self._models = models
        self._record_format = record_format
        self._bounds = bounds
        self._is_per_model = is_per_model
        self._with_failures = with_failures
        self._shared = [Shared() for _ in models]

    def setup(self) -> None:
        self._encoded = [
            shared.acquire(lambda model=model: _Encoded(model, self._record_format))
            for shared, model in zip(self._shared, self._models, strict=True)
        ]

    def start_bundle(self) -> None:
        self._clear()

    def process(
        self,
        element: Any,
        timestamp: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
    ) -> Iterable[Any] | None:
        pending = _pending(element, timestamp, window)
        self._pending.append(pending)
        self._records += len(pending.records)
        self._bytes += sum(map(len, pending.records))
        is_full = self._records >= self._bounds.max_records or self._bytes >= self._bounds.max_bytes
        return self._flush() if is_full else None

    def finish_bundle(self) -> Iterable[Any]:
        return self._flush()

    def _clear(self) -> None:
        self._pending: list[_Pending] = []
        self._records = self._bytes = 0

    def _flush(self) -> Iterator[Any]:
        elements = self._pending
        self._clear()
        records = [record for element in elements for record in element.records]
        by_model = [encoded.logs(records, self._bounds) for encoded in self._encoded]
        results = zip(records, *by_model, strict=True)
        failed = 0
        for element in elements:
            scored: list[list[PredictionLog]] = []
            for _ in element.records:
                record, *logs = next(results)
                failure = next((log for log in logs if isinstance(log, Failed)), None)
                if failure is None:
                    scored.append([PredictionLog.FromString(log) for log in logs])
                    continue
                failed += 1
                yield self._failure(element, record, failure)
            if scored or (element.is_batch and not element.records):
                yield self._windowed(element, self._result(element, scored))
        metrics.count(len(records), len(records) - failed, failed)

    def _result(self, element: _Pending, scored: list[list[PredictionLog]]) -> Any:
        if element.is_batch:
            columns: list[list[PredictionLog]] = [
                [logs[i] for logs in scored] for i in range(len(self._models))
            ]
            result: Any = tuple(columns) if self._is_per_model else columns[0]
        else:
            result = tuple(scored[0]) if self._is_per_model else scored[0][0]
        return (element.key, result) if element.is_keyed else result

    def _failure(self, element: _Pending, record: bytes, failure: Failed) -> Any:
        if not self._with_failures:
            which = f"with key {element.key!r}" if element.is_keyed else f"{record[:80]!r}"
            raise _failed_record(which, failure)
        value = RecordFailure(element.key, record, failure.error_type, failure.message)
        return beam.pvalue.TaggedOutput(_FAILURES, self._windowed(element, value))

    def _windowed(self, element: _Pending, value: Any) -> WindowedValue:
        return WindowedValue(value, element.timestamp, (element.window,))


class _Encoded:
    """A loaded model whose outputs are PredictionLogs. Shared by all threads of a process."""

    def __init__(self, model: Model, record_format: str) -> None:
        self._scorer = Scorer(model.load(record_format))
        predictor = self._scorer.predictor
        self._encoder = PredictionLogEncoder(predictor.signatures, predictor.input_name)

    def logs(self, records: list[bytes], bounds: BatchBounds) -> Iterator[bytes | Failed]:
        """Yields a serialized PredictionLog or a failure for each record, in order."""
        for batch in batches([Chunk("", 0, records)], bounds):
            for result in self._scorer.score(batch.records):
                if isinstance(result, Failed):
                    yield result
                else:
                    scored = batch.records[result.start : result.stop]
                    yield from self._encoder.encode(scored, result.outputs)


def _failed_record(which: str, failure: Failed) -> FailedRecordError:
    return FailedRecordError(
        f"Expected every record to be scored, but the one {which} failed: "
        f"{failure.reason.rstrip('.')}. "
        f"Mend it, or take failures as an output of their own: RunInference(...).with_failures()."
    )


# Elements


def _pending(element: Any, timestamp: Any, window: Any) -> _Pending:
    is_keyed = isinstance(element, tuple)
    key, value = element if is_keyed else (None, element)
    is_batch = is_keyed and not isinstance(value, _RECORD_TYPES)
    records = [_record(v) for v in value] if is_batch else [_record(value)]
    return _Pending(key, records, is_keyed, is_batch, timestamp, window)


def _record(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, (tf.train.Example, tf.train.SequenceExample)):
        serialized: bytes = value.SerializeToString()
        return serialized
    raise _element_error(type(value).__name__)


def _element_error(got: Any) -> SettingsError:
    return SettingsError(
        f"Expected elements to be bytes, tf.train.Example or tf.train.SequenceExample, each alone, "
        f"as (key, record) or as (key, [record, ...]), got {got}. Convert them with beam.Map."
    )


def _types(element_type: Any, is_per_model: bool, keyed_batches_only: bool) -> tuple[Any, str]:
    """Returns the type of the results and the format of the records, from the elements' type."""
    log: Any = typehints.Tuple[PredictionLog, ...] if is_per_model else PredictionLog
    if element_type is typehints.Any:
        return typehints.Any, FORMAT_TF_EXAMPLE
    if not isinstance(element_type, typehints.TupleConstraint):
        if keyed_batches_only or element_type not in _RECORD_TYPES:
            raise _element_error(element_type)
        return log, _record_format(element_type)
    if len(element_type.tuple_types) != 2:
        raise _element_error(element_type)
    key_type, value_type = element_type.tuple_types
    if isinstance(value_type, _LISTS):
        logs: Any = typehints.List[PredictionLog]
        result = typehints.Tuple[logs, ...] if is_per_model else logs
        value_type = value_type.inner_type
    else:
        result = log
        if keyed_batches_only:
            raise _element_error(element_type)
    if value_type is typehints.Any:
        return typehints.Tuple[key_type, typehints.Any], FORMAT_TF_EXAMPLE
    if value_type not in _RECORD_TYPES:
        raise _element_error(element_type)
    return typehints.Tuple[key_type, result], _record_format(value_type)


def _record_format(record_type: type) -> str:
    is_sequence = record_type is tf.train.SequenceExample
    return FORMAT_TF_SEQUENCE_EXAMPLE if is_sequence else FORMAT_TF_EXAMPLE


# Specs: tfx_bsl's message becomes ours here, and nowhere else.


def _model(spec: Any, load_override_fn: Callable[[str, list[str]], Any] | None) -> Model:
    kind = spec.WhichOneof("type") if _is_inference_spec_type(spec) else None
    if kind == "saved_model_spec":
        given = spec.saved_model_spec
        spec = SavedModel(given.model_path, tuple(given.signature_name), tuple(given.tag))
    elif kind == "ai_platform_prediction_model_spec":
        raise SettingsError(
            "Expected a saved_model_spec, got an ai_platform_prediction_model_spec: that service "
            "has been shut down. Use VertexEndpoint or TFServing."
        )
    elif not all(hasattr(spec, name) for name in ("check", "load", "uri")):
        raise SettingsError(
            f"Expected SavedModel, TFServing, VertexEndpoint or an InferenceSpecType with a "
            f"saved_model_spec, got {type(spec).__name__} {spec}."
        )
    if load_override_fn is None:
        return spec
    if not isinstance(spec, SavedModel):
        raise SettingsError(
            f"Expected a SavedModel for load_override_fn, got {type(spec).__name__}. Leave it out."
        )
    return dataclasses.replace(spec, load_override_fn=load_override_fn)


def _is_inference_spec_type(spec: Any) -> bool:
    descriptor = getattr(spec, "DESCRIPTOR", None)
    return getattr(descriptor, "name", None) == "InferenceSpecType"


def _bounds(specs: Sequence[Any]) -> BatchBounds:
    """Returns the tightest of the specs' batch parameters, where zero stands for the default."""
    given = [s.batch_parameters for s in specs if _is_inference_spec_type(s)]
    for parameters in given:
        if 0 < parameters.max_batch_size < parameters.min_batch_size:
            raise SettingsError(
                f"Expected min_batch_size to be at most max_batch_size in batch_parameters, got "
                f"{parameters.min_batch_size} and {parameters.max_batch_size}."
            )
    sizes = [p.max_batch_size for p in given if p.max_batch_size]
    return BatchBounds(max_records=min(sizes)) if sizes else BatchBounds()
