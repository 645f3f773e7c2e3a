"""RunInference and its kin: what a Beam author calls.

As little logic as possible in this module: models are in `models/`, PredictionLogs in `formats/`.

    Example | SequenceExample | bytes                    PredictionLog
    (key, one of them)                 -> RunInference -> (key, PredictionLog)
    (key, list of them)                                  (key, list of PredictionLogs)

With several models, a tuple of the models' results stands where one result would.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.transforms.window import FixedWindows, GlobalWindows, Sessions, WindowedValue
from apache_beam.utils.shared import Shared
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from bulk_inferencer._models.batching import BatchBounds, Failed
from bulk_inferencer._models.hooks import Hooked, Postprocess, Preprocess
from bulk_inferencer._models.predictor import Model
from bulk_inferencer.beam import metrics
from bulk_inferencer.beam.elements import records_of, types_of
from bulk_inferencer.beam.encoded import Encoded, failed_record_error
from bulk_inferencer.beam.specs import bounds_of, model_of
from bulk_inferencer.errors import EndpointError, SettingsError

_logger = logging.getLogger(__name__)

_FAILURES = "failures"
_ONE_WINDOW_PER_ELEMENT = (FixedWindows, GlobalWindows, Sessions)
_NO_KEY = object()  # of an element that is no pair; a key may be None


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
        is_per_model: bool,
    ) -> None:
        super().__init__()
        if not specs:
            raise SettingsError("Expected at least one model in inference_spec_types, got none.")
        models = [model_of(spec, load_override_fn) for spec in specs]
        if preprocess or postprocess:
            models = [Hooked(model, preprocess, postprocess) for model in models]
        self._models = models
        self._bounds = bounds or bounds_of(specs)
        self._is_per_model = is_per_model
        self._with_failures = False

    def with_failures(self) -> beam.PTransform:
        """Returns this transform with `Results`: predictions, and the records that have none."""
        transform = copy.copy(self)
        transform._with_failures = True
        return transform

    def expand(self, examples: beam.PCollection) -> beam.PCollection | Results:
        output_type, record_format = types_of(
            examples.element_type, self._is_per_model, self._takes_keyed_batches_only
        )
        for model in self._models:
            try:
                model.check(record_format)
            except EndpointError as error:
                _logger.warning("Could not check %s before the run: %s", model.uri, error)
        one_window = type(examples.windowing.windowfn) in _ONE_WINDOW_PER_ELEMENT
        do_fn = (_Predict if one_window else _PredictPerWindow)(
            self._models, record_format, self._bounds, self._is_per_model, self._with_failures
        )
        predict = beam.ParDo(do_fn)
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

        Raises:
          SettingsError: the spec is of another kind or not consistent.
        """
        super().__init__(
            [inference_spec_type],
            load_override_fn,
            preprocess=preprocess,
            postprocess=postprocess,
            bounds=bounds,
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
    ) -> None:
        """Describes the models; see `RunInference` for the other arguments.

        Args:
          inference_spec_types: the models, in the order of the results.
          load_override_fn: loads each SavedModel.
          preprocess: runs before each model.
          postprocess: runs after each model.
          bounds: bounds of a batch; default: the tightest `batch_parameters` of the specs.

        Raises:
          SettingsError: there is no spec, or one is of another kind or not consistent.
        """
        super().__init__(
            list(inference_spec_types),
            load_override_fn,
            preprocess=preprocess,
            postprocess=postprocess,
            bounds=bounds,
            is_per_model=True,
        )


class RunInferenceOnKeyedBatches(RunInference):
    """`RunInference` for `(key, [record, ...])` alone; gives `(key, [PredictionLog, ...])`."""

    _takes_keyed_batches_only = True


class RunInferencePerModelOnKeyedBatches(RunInferencePerModel):
    """`RunInferencePerModel` for `(key, [record, ...])`; gives `(key, (logs of a model, ...))`."""

    _takes_keyed_batches_only = True


class _Predict(beam.DoFn):
    """Gathers elements of a bundle into batches, and scores these. Each is in one window."""

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
            shared.acquire(lambda model=model: Encoded(model, self._record_format, self._bounds))
            for shared, model in zip(self._shared, self._models, strict=True)
        ]

    def start_bundle(self) -> None:
        self._clear()

    def process(
        self, element: Any, windowed_value: WindowedValue = beam.DoFn.WindowedValueParam
    ) -> Iterable[Any] | None:
        records = records_of(element)
        if isinstance(records, bytes):
            self._records.append(records)
            self._bytes += len(records)
        else:
            self._records += records
            self._bytes += sum(map(len, records))
        # Two lists, not one of pairs: objects that live on are what the garbage collector looks at.
        self._elements.append(windowed_value)
        self._records_of_elements.append(records)
        is_full = (
            len(self._records) >= self._bounds.max_records or self._bytes >= self._bounds.max_bytes
        )
        # Beam multiplies the windows of what is returned here by those of the element; what is in
        # several, although its collection's windows do not say so, waits for the next one.
        return self._flush() if is_full and len(windowed_value.windows) == 1 else None

    def finish_bundle(self) -> Iterable[Any]:
        return self._flush()

    def _clear(self) -> None:
        self._elements: list[WindowedValue] = []
        self._records_of_elements: list[bytes | list[bytes]] = []
        self._records: list[bytes] = []
        self._bytes = 0

    def _flush(self) -> Iterator[Any]:
        elements = zip(self._elements, self._records_of_elements, strict=True)
        results = self._results(self._records)
        read, failed = len(self._records), 0
        self._clear()
        for element, records in elements:
            value = element.value
            key = value[0] if isinstance(value, tuple) else _NO_KEY
            if isinstance(records, bytes):
                result = next(results)
                if type(result) is Failed:
                    failed += 1
                    yield self._failure(element, key, records, result)
                else:
                    yield element.with_value(result if key is _NO_KEY else (key, result))
                continue
            scored = []
            for record in records:
                result = next(results)
                if type(result) is Failed:
                    failed += 1
                    yield self._failure(element, key, record, result)
                else:
                    scored.append(result)
            if scored or not records:
                yield element.with_value((key, self._list_of(scored)))
        metrics.count(read, read - failed, failed)

    def _results(self, records: list[bytes]) -> Iterator[Any]:
        """Yields for each record a PredictionLog, or a tuple of them with several models.

        Where a model fails on a record, that one's failure stands in their place.
        """
        parse = PredictionLog.FromString
        work = metrics.MeteredWork()
        by_model = [encoded.logs(records, work) for encoded in self._encoded]
        if not self._is_per_model:
            for log in by_model[0]:
                yield log if type(log) is Failed else parse(log)
            return
        for row in zip(*by_model, strict=True):
            failure = next((log for log in row if type(log) is Failed), None)
            yield failure or tuple([parse(log) for log in row])

    def _list_of(self, scored: list[Any]) -> Any:
        """Returns the results of a list of records: a list, or one for each of several models."""
        if not self._is_per_model:
            return scored
        return tuple([[logs[i] for logs in scored] for i in range(len(self._models))])

    def _failure(
        self, element: WindowedValue, key: Any, record: bytes, failure: Failed
    ) -> beam.pvalue.TaggedOutput:
        """Returns a failure for the output of them, or raises it where nobody asked for that."""
        if not self._with_failures:
            which = f"{record[:80]!r}" if key is _NO_KEY else f"with key {key!r}"
            raise failed_record_error(which, failure, "with_failures")
        key = None if key is _NO_KEY else key
        value = RecordFailure(key, record, failure.error_type, failure.message)
        return beam.pvalue.TaggedOutput(_FAILURES, element.with_value(value))


class _PredictPerWindow(_Predict):
    """The same for elements in several windows: each is scored once for each of them.

    A step that asks for the window is called once per window of an element, which costs every
    element time. One that does not would see Beam multiply the windows of what it returns by those
    of the element that it is called with.
    """

    def process(
        self,
        element: Any,
        windowed_value: WindowedValue = beam.DoFn.WindowedValueParam,
        window: Any = beam.DoFn.WindowParam,
    ) -> Iterable[Any] | None:
        return super().process(element, windowed_value)
