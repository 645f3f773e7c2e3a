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
from bulk_inferencer.beam.elements import shown_record
from bulk_inferencer.beam.model_updates import path_of, updated
from bulk_inferencer.beam.specs import bounds_of, check_model, model_of
from bulk_inferencer.errors import SettingsError, prefix_errors

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
    _model_metadata: beam.PCollection | None = None

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
            examples.element_type,
            len(self._models) if self._is_per_model else None,
            self._takes_keyed_batches_only,
        )
        record_format = FORMAT_TF_SEQUENCE_EXAMPLE if has_sequences else FORMAT_TF_EXAMPLE
        for model in self._models:
            check_model(model, record_format)
        one_window = type(examples.windowing.windowfn) in _ONE_WINDOW_PER_ELEMENT
        if self._model_metadata is not None:
            metadata = beam.pvalue.AsSingleton(self._model_metadata)
            predict = beam.ParDo(_PredictWithUpdates(self, record_format), metadata)
        elif one_window:
            predict = beam.ParDo(_Predict(self, record_format))
        else:
            predict = beam.ParDo(_PredictPerWindow(self, record_format))
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

    A record is a tf.Example, a tf.SequenceExample, `bytes`, or a row: a dict, a `beam.Row`, a
    NamedTuple or a dataclass. A row is scored as the tf.Example with its values: whole numbers,
    booleans and times (microseconds since 1970) are integers, a list or a NumPy array has several
    values, and None or a missing column has none. Whole numbers in a column that has floats in the
    same batch are floats, too.

    Keys may be of any type, repeated or None. Results have the element's window and timestamp, and
    come in no particular order.
    """

    def __init__(
        self,
        inference_spec_type: Any,
        load_override_fn: Callable[[str, list[str]], Any] | None = None,
        *,
        preprocess: Preprocess | str | None = None,
        postprocess: Postprocess | str | None = None,
        bounds: BatchBounds | None = None,
        model_metadata_pcoll: beam.PCollection | None = None,
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
          model_metadata_pcoll: a collection of Beam's `ModelMetadata`, at most one in a window, as
            from Beam's `WatchFilePattern`. `model_id` is the path of the SavedModel that scores
            the window, or of the `saved_model.pb` in it. The model above scores windows without
            metadata, or with an empty `model_id`.

        Raises:
          SettingsError: the model is of another kind, or its settings contradict each other.
        """
        super().__init__([inference_spec_type], load_override_fn, preprocess, postprocess, bounds)
        if model_metadata_pcoll is not None:
            if not isinstance(model_metadata_pcoll, beam.PCollection):
                raise SettingsError(
                    f"model_metadata_pcoll must be a collection of Beam's ModelMetadata, not "
                    f"{model_metadata_pcoll!r}. Make one: pipeline | beam.Create([...])."
                )
            updated(self._models[0], "")  # refuses a model that cannot be replaced
            self._model_metadata = model_metadata_pcoll


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
        self._models = [(Shared(), model) for model in transform._models]
        self._load = functools.partial(
            LogScorer.load, record_format=record_format, bounds=self._bounds
        )

    def setup(self) -> None:
        self._scorers = [
            shared.acquire(functools.partial(self._load, model)) for shared, model in self._models
        ]

    def start_bundle(self) -> None:
        self._bundle = Bundle(self._bounds, self._is_per_model)

    def process(
        self, element: Any, windowed_value: WindowedValue = beam.DoFn.WindowedValueParam
    ) -> Iterable[Any] | None:
        is_full = self._bundle.add(windowed_value, element)
        # Beam multiplies the windows of what is returned here by those of this element. An element
        # may be in several even if its collection's windowing does not say so; then the batch
        # waits for the next element.
        return self._flush(self._bundle) if is_full and len(windowed_value.windows) == 1 else None

    def finish_bundle(self) -> Iterable[Any]:
        return self._flush(self._bundle)

    def _flush(self, bundle: Bundle) -> Iterator[Any]:
        read, failed = yield from bundle.flush(
            self._scorers, metrics.MeteredWork(), WindowedValue.with_value, self._fail
        )
        metrics.count(read, read - failed, failed)

    def _fail(self, element: WindowedValue, failure: RecordFailure) -> beam.pvalue.TaggedOutput:
        if self._with_failures:
            return beam.pvalue.TaggedOutput(_FAILURES, element.with_value(failure))
        which = shown_record(failure.record)
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


class _PredictWithUpdates(_Predict):
    """Scores elements with the model that a side input names for their window.

    It asks for the window: otherwise Beam would keep the first value of a side input in the global
    window for as long as it keeps the step.
    """

    def setup(self) -> None:
        self._loaded: str | None = None  # the path that the scorers came from

    def start_bundle(self) -> None:
        self._bundles: dict[str, Bundle] = {}

    def process(  # type: ignore[override]  # Beam hands over a side input by its position
        self,
        element: Any,
        metadata: Any,
        windowed_value: WindowedValue = beam.DoFn.WindowedValueParam,
        window: Any = beam.DoFn.WindowParam,
    ) -> Iterable[Any] | None:
        path = path_of(metadata)
        if path not in self._bundles:
            self._bundles[path] = Bundle(self._bounds, self._is_per_model)
        is_full = self._bundles[path].add(windowed_value, element)
        return self._flush_with_model(path) if is_full else None

    def finish_bundle(self) -> Iterator[Any]:
        # First with the model that is loaded, so that it is not loaded again.
        for path in sorted(self._bundles, key=lambda path: path != self._loaded):
            yield from self._flush_with_model(path)

    def _flush_with_model(self, path: str) -> Iterator[Any]:
        if path != self._loaded:
            ((shared, model),) = self._models
            with prefix_errors(f"model_metadata_pcoll names {path!r}" if path else ""):
                model = updated(model, path)
                # One thread loads it, and the others take what it has loaded.
                load = functools.partial(self._load, model)
                self._scorers = [shared.acquire(load, tag=path)]
            _logger.info("Scoring with %s.", model.uri)
            self._loaded = path
        # Not kept: its model would be loaded again at the end of the bundle, for nothing.
        yield from self._flush(self._bundles.pop(path))
