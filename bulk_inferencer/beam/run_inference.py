"""RunInference and its variants: the wiring between Beam and `Bundle`, which does the work."""

from __future__ import annotations

import copy
import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.transforms.window import FixedWindows, GlobalWindows, Sessions, WindowedValue
from apache_beam.utils.shared import Shared

from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._formats.record_format import FORMAT_TF_EXAMPLE, FORMAT_TF_SEQUENCE_EXAMPLE
from bulk_inferencer._models.hooks import HookedModel, Postprocess, Preprocess
from bulk_inferencer._models.scoring import LogScorer
from bulk_inferencer.beam import metrics
from bulk_inferencer.beam.bundle import Bundle, RecordFailure, failed_record_error
from bulk_inferencer.beam.element_types import types_of
from bulk_inferencer.beam.specs import bounds_of, model_of
from bulk_inferencer.errors import EndpointError, SettingsError

_logger = logging.getLogger(__name__)

_FAILURES = "failures"
_ONE_WINDOW_PER_ELEMENT = (FixedWindows, GlobalWindows, Sessions)


class Results(NamedTuple):
    """What a transform returns after `with_failures()`.

    ```python
    predictions, failures = records | RunInference(model).with_failures()
    ```

    Attributes:
      predictions: what the transform returns without it.
      failures: a `PCollection[RecordFailure]`.
    """

    predictions: beam.PCollection
    failures: beam.PCollection


class _RunInference(beam.PTransform):
    _is_per_model = False
    _takes_keyed_batches_only = False

    def __init__(
        self,
        specs: Sequence[Any],
        load_override_fn: Callable[[str, list[str]], Any] | None,
        preprocess: Preprocess | str | None,
        postprocess: Postprocess | str | None,
        bounds: BatchBounds | None,
    ) -> None:
        super().__init__()
        if not specs:
            raise SettingsError("inference_spec_types is empty. Give at least one model.")
        models = [model_of(spec, load_override_fn) for spec in specs]
        if preprocess or postprocess:
            models = [HookedModel(model, preprocess, postprocess) for model in models]
        self._models = models
        self._bounds = bounds or bounds_of(specs)
        self._with_failures = False

    def with_failures(self) -> beam.PTransform:
        """Returns a copy that gives `Results`: predictions, and the records without one."""
        transform = copy.copy(self)
        # `with_resource_hints` changes this dict of Beam's in place.
        transform._resource_hints = dict(self.get_resource_hints())
        transform._with_failures = True
        return transform

    def expand(self, examples: beam.PCollection) -> beam.PCollection | Results:
        output_type, has_sequences = types_of(
            examples.element_type, self._is_per_model, self._takes_keyed_batches_only
        )
        record_format = FORMAT_TF_SEQUENCE_EXAMPLE if has_sequences else FORMAT_TF_EXAMPLE
        for model in self._models:
            try:
                model.check(record_format)
            except EndpointError as error:
                _logger.warning("Could not check %s before the run: %s", model.uri, error)
        one_window = type(examples.windowing.windowfn) in _ONE_WINDOW_PER_ELEMENT
        do_fn = _Predict if one_window else _PredictPerWindow
        predict = beam.ParDo(do_fn(self, record_format))
        if not self._with_failures:
            return examples | "Predict" >> predict.with_output_types(output_type)
        results = examples | "Predict" >> predict.with_outputs(_FAILURES, main="predictions")
        results.predictions.element_type = output_type
        results.failures.element_type = RecordFailure
        return Results(results.predictions, results.failures)


class RunInference(_RunInference):
    """Scores each element of a collection with a model.

        record                   PredictionLog
        (key, record)         -> (key, PredictionLog)
        (key, [record, ...])     (key, [PredictionLog, ...])

    ```python
    predictions = records | RunInference(SavedModel("models/five_times"))
    ```

    A record is a tf.Example, a tf.SequenceExample or `bytes`. Keys may be of any type, repeated or
    None. Results have the element's window and timestamp, and come in no particular order.
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
        """Takes the model and how to call it.

        Args:
          inference_spec_type: `SavedModel`, `TFServing`, `VertexEndpoint` or tfx_bsl's
            `InferenceSpecType` with a `saved_model_spec`.
          load_override_fn: loads a SavedModel; see `SavedModel.load_override_fn`.
          preprocess: see `HookedModel`.
          postprocess: see `HookedModel`.
          bounds: bounds of a batch. Default: the spec's `batch_parameters`. A batch never spans
            two bundles.

        Raises:
          SettingsError: the model is of another kind, or its settings contradict each other.
        """
        super().__init__([inference_spec_type], load_override_fn, preprocess, postprocess, bounds)


class RunInferencePerModel(_RunInference):
    """Scores each element with several models; a result is a tuple with one entry per model.

    ```python
    pairs = records | RunInferencePerModel([SavedModel("models/1"), SavedModel("models/2")])
    ```

    Otherwise it works as `RunInference`. A record that one of the models fails on is a failure.
    """

    _is_per_model = True

    def __init__(
        self,
        inference_spec_types: Iterable[Any],
        load_override_fn: Callable[[str, list[str]], Any] | None = None,
        *,
        preprocess: Preprocess | str | None = None,
        postprocess: Postprocess | str | None = None,
        bounds: BatchBounds | None = None,
    ) -> None:
        """Takes the models in the order of the results; see `RunInference` for the rest.

        Hooks run around each model. By default, batches have the tightest bounds of all specs.

        Raises:
          SettingsError: there is no model, or see `RunInference`.
        """
        specs = list(inference_spec_types)
        super().__init__(specs, load_override_fn, preprocess, postprocess, bounds)


class RunInferenceOnKeyedBatches(RunInference):
    """`RunInference` for `(key, [record, ...])` only; gives `(key, [PredictionLog, ...])`.

    ```python
    logs_by_user = records_by_user | RunInferenceOnKeyedBatches(SavedModel("models/five_times"))
    ```
    """

    _takes_keyed_batches_only = True


class RunInferencePerModelOnKeyedBatches(RunInferencePerModel):
    """`RunInferencePerModel` for `(key, [record, ...])` only; gives `(key, (list per model))`.

    ```python
    logs_by_user = records_by_user | RunInferencePerModelOnKeyedBatches([one, two])
    ```
    """

    _takes_keyed_batches_only = True


class _Predict(beam.DoFn):
    """Scores elements that are in one window each, a batch at a time."""

    def __init__(self, transform: _RunInference, record_format: str) -> None:
        self._bounds = transform._bounds
        self._is_per_model = transform._is_per_model
        self._with_failures = transform._with_failures
        self._loaders = [
            (Shared(), functools.partial(LogScorer.load, model, record_format, self._bounds))
            for model in transform._models
        ]

    def setup(self) -> None:
        self._scorers = [shared.acquire(load) for shared, load in self._loaders]

    def start_bundle(self) -> None:
        self._bundle = Bundle(self._scorers, self._bounds, self._is_per_model)

    def process(
        self, element: Any, windowed_value: WindowedValue = beam.DoFn.WindowedValueParam
    ) -> Iterable[Any] | None:
        is_full = self._bundle.add(windowed_value, element)
        # Beam multiplies the windows of what is returned here by those of this element. An element
        # may be in several even if its collection's windowing does not say so; then the batch
        # waits for the next element.
        return self._flush() if is_full and len(windowed_value.windows) == 1 else None

    def finish_bundle(self) -> Iterable[Any]:
        return self._flush()

    def _flush(self) -> Iterator[Any]:
        read, failed = yield from self._bundle.flush(
            metrics.MeteredWork(), WindowedValue.with_value, self._fail
        )
        metrics.count(read, read - failed, failed)

    def _fail(self, element: WindowedValue, failure: RecordFailure) -> beam.pvalue.TaggedOutput:
        if self._with_failures:
            return beam.pvalue.TaggedOutput(_FAILURES, element.with_value(failure))
        which = repr(failure.record[:80])
        if failure.key is not None:
            which += f" with key {failure.key!r}"
        raise failed_record_error(which, failure, "with_failures")


class _PredictPerWindow(_Predict):
    """Scores elements that may be in several windows, once for each of them.

    Beam calls a step that asks for the window once per window of an element. That costs time for
    every element, but without it Beam would multiply the windows of what the step returns by those
    of the element that it is called with.
    """

    def process(
        self,
        element: Any,
        windowed_value: WindowedValue = beam.DoFn.WindowedValueParam,
        window: Any = beam.DoFn.WindowParam,
    ) -> Iterable[Any] | None:
        return super().process(element, windowed_value)
