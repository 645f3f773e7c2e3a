"""New models while a pipeline runs: in our own RunInference, and in Beam's with our handler."""

from __future__ import annotations

import logging

import apache_beam as beam
import pytest
import tensorflow as tf
from apache_beam.ml.inference.base import KeyedModelHandler, KeyModelMapping, KeyModelPathMapping
from apache_beam.ml.inference.base import ModelMetadata as Metadata
from apache_beam.ml.inference.base import RunInference as BeamRunInference
from apache_beam.ml.inference.utils import WatchFilePattern
from apache_beam.pvalue import AsSingleton, EmptySideInput
from apache_beam.runners.common import DoFnRunner, Receiver
from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner
from apache_beam.testing import test_stream
from apache_beam.transforms.core import Windowing
from apache_beam.transforms.sideinputs import SideInputMap
from apache_beam.transforms.window import (
    FixedWindows,
    GlobalWindow,
    GlobalWindows,
    SlidingWindows,
    TimestampedValue,
    WindowedValue,
)
from apache_beam.typehints.typehints import List, Tuple
from apache_beam.utils.timestamp import Timestamp

from bulk_inferencer import HookedModel
from bulk_inferencer.beam import (
    BatchBounds,
    CreateModelHandler,
    RunInference,
    RunInferenceOnKeyedBatches,
    SavedModel,
    TFServing,
)
from bulk_inferencer.beam.model_updates import path_of, updated
from bulk_inferencer.beam.run_inference import _PredictWithUpdates
from bulk_inferencer.errors import ModelError, SettingsError
from tests.beam.helpers import (
    collect,
    collect_with_window,
    given,
    pipeline_of,
    plain,
    y_of,
)
from tests.helpers import FLOAT, RECORDS, exactly, example, save_functions


@pytest.fixture(scope="module")
def folder(linear_model, tmp_path_factory):
    """A folder with models that multiply by three and ten; the first model is by five."""
    folder = tmp_path_factory.mktemp("models")
    for name, number in (("three", 3), ("ten", 10)):

        def serve(examples, number=number):
            return {"y": number * tf.io.parse_example(examples, {"x": FLOAT})["x"]}

        save_functions(folder / name, serving_default=(serve, {"examples": RECORDS}))
    return folder


def at(seconds, value=None):
    """Returns an element of this time: an Example with x = the time, if no other."""
    return TimestampedValue(example(x=float(seconds)) if value is None else value, seconds)


def with_ours(model, metadata):
    return RunInference(
        SavedModel(model), model_metadata_pcoll=metadata, bounds=BatchBounds(max_records=2)
    )


def with_beams(model, metadata):
    handler = CreateModelHandler(SavedModel(model), max_batch_size=2)
    return BeamRunInference(handler, model_metadata_pcoll=metadata)


BOTH = pytest.mark.parametrize("transform", [with_ours, with_beams])


def test_model_is_replaced_by_the_one_in_a_folder_or_around_a_file():
    five = SavedModel("models/5", ("sum",), ("gpu",))
    hooked = HookedModel(five, "a:b")
    for path in ("gs://b/6", "gs://b/6/saved_model.pb", "gs://b/6/saved_model.pbtxt"):
        six = SavedModel("gs://b/6", ("sum",), ("gpu",))
        assert updated(five, path) == six
        assert updated(hooked, path) == HookedModel(six, "a:b")
    assert updated(hooked, "") == hooked


def test_only_saved_models_are_replaced():
    server = TFServing("localhost:8500", "m")
    message = (
        f"Only a SavedModel can be replaced while the pipeline runs, not {server!r}. A model "
        f"server loads new versions itself."
    )
    metadata = given(pipeline_of(), [], Metadata)
    for model in (server, HookedModel(server, "a:b")):
        with pytest.raises(SettingsError, match=exactly(message)):
            RunInference(model, model_metadata_pcoll=metadata)


def test_path_is_the_id_of_beams_metadata(tmp_path):
    assert path_of(Metadata("models/6", "six")) == "models/6"
    assert path_of(Metadata(tmp_path, "six")) == str(tmp_path)
    assert path_of(EmptySideInput()) == ""
    for other in ("models/6", [KeyModelPathMapping(["k"], "models/6")], Metadata(None, "six")):
        message = (
            f"model_metadata_pcoll must hold Beam's ModelMetadata, whose model_id is the path of a "
            f"SavedModel, not {other!r}. Map its elements to ModelMetadata(path, name)."
        )
        with pytest.raises(SettingsError, match=exactly(message)):
            path_of(other)
    message = (
        "model_metadata_pcoll must be a collection of Beam's ModelMetadata, not 'models/6'. Make "
        "one: pipeline | beam.Create([...])."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        RunInference(SavedModel("models/5"), model_metadata_pcoll="models/6")


@pytest.mark.slow
@BOTH
def test_each_window_is_scored_by_the_model_that_is_named_for_it(linear_model, folder, transform):
    times = (12, 1, 22, 2, 13, 3, 23, 14, 4)
    models = {
        1: Metadata("", "the model given"),
        11: Metadata(str(folder / "ten"), "ten"),
        21: Metadata(str(folder / "three" / "saved_model.pb"), "saved_model"),
    }
    with pipeline_of() as pipeline:
        elements = [at(*pair) for pair in models.items()]
        metadata = given(pipeline, elements, Metadata, "Models") | beam.WindowInto(FixedWindows(10))
        records = given(pipeline, [at(time) for time in times], bytes)
        windows = records | "Windows" >> beam.WindowInto(FixedWindows(10))
        found = collect(windows | transform(linear_model, metadata))
    wanted = [(5.0, 10.0, 3.0)[time // 10] * time for time in times]
    assert sorted(map(y_of, found)) == sorted(wanted)


@pytest.mark.slow
@pytest.mark.parametrize(("bounds", "loads"), [(None, 3), (BatchBounds(max_records=6), 4)])
def test_elements_of_several_models_share_batches_and_loads(
    linear_model, folder, bounds, loads, caplog
):
    caplog.set_level(logging.INFO, "bulk_inferencer")
    elements = [at(10 * (i % 4) + i / 10, (i, [example(x=1.0), b"bad"])) for i in range(12)]
    with pipeline_of() as pipeline:
        names = [at(11, Metadata(str(folder / "ten"), "")), at(21, Metadata("", ""))]
        names += [at(1, Metadata(str(folder / "three"), ""))]
        metadata = given(pipeline, names, Metadata, "Models") | beam.WindowInto(FixedWindows(10))
        transform = RunInferenceOnKeyedBatches(
            HookedModel(SavedModel(linear_model)),
            model_metadata_pcoll=metadata,
            bounds=bounds,
        )
        keyed_batches = given(pipeline, elements, Tuple[int, List[bytes]])
        windows = keyed_batches | "Windows" >> beam.WindowInto(FixedWindows(10))
        results = windows | transform.with_failures()
        predictions = collect_with_window(results.predictions, "Predictions")
        failures = collect(results.failures, "Failures")
    # Without a name, in the last window, and with an empty one, it is the model given.
    factors = [3.0, 10.0, 5.0, 5.0]
    assert sorted(plain([value for value, *_ in predictions])) == [
        (i, [factors[i % 4]]) for i in range(12)
    ]
    assert all(window.start == 10 * (value[0] % 4) for value, _, window in predictions)
    assert sorted(failure.key for failure in failures) == list(range(12))
    # Batches of three elements are full when the last element comes, so that nothing is left.
    assert sum(message.startswith("Scoring with ") for message in caplog.messages) == loads


@pytest.mark.slow
def test_record_in_several_windows_is_scored_by_the_model_of_each(linear_model, folder):
    with pipeline_of() as pipeline:
        names = [at(1, Metadata(str(folder / "three"), "")), at(11, Metadata("", ""))]
        metadata = given(pipeline, names, Metadata, "Models") | beam.WindowInto(FixedWindows(10))
        records = given(pipeline, [at(7)], bytes)
        windows = records | "Windows" >> beam.WindowInto(SlidingWindows(10, 5))
        found = collect_with_window(windows | with_ours(linear_model, metadata))
    # A sliding window looks up the fixed window in which it ends.
    assert sorted((window.start, y_of(log)) for log, _, window in found) == [(0, 21.0), (5, 35.0)]


@pytest.mark.slow
@BOTH
def test_stream_switches_to_new_models(linear_model, folder, transform):
    pipeline = pipeline_of("--streaming", runner=BundleBasedDirectRunner())
    stream = test_stream.TestStream()
    names = {1: "", 11: str(folder / "ten"), 21: str(folder / "three"), 31: str(folder / "three")}
    for time, name in names.items():
        stream = stream.add_elements([at(time, Metadata(name, "new"))], tag="models")
        stream = stream.advance_watermark_to(time + 9, tag="models")
        stream = stream.add_elements([at(time + 1), at(time)], tag="records")
        stream = stream.advance_watermark_to(time + 9, tag="records")
    stream = stream.advance_watermark_to_infinity(tag="models")
    tagged = pipeline | stream.advance_watermark_to_infinity(tag="records")
    with pipeline:
        metadata = tagged["models"] | "Windows of models" >> beam.WindowInto(FixedWindows(10))
        windows = tagged["records"] | beam.WindowInto(FixedWindows(10))
        found = collect(windows | transform(linear_model, metadata))
    pairs = zip(*[iter(map(y_of, found))] * 2, strict=True)
    assert list(map(sorted, pairs)) == [[5.0, 10.0], [110.0, 120.0], [63.0, 66.0], [93.0, 96.0]]


@pytest.mark.slow
@BOTH
def test_model_is_the_one_that_beam_has_seen_in_a_folder(tmp_path, folder, linear_model, transform):
    ten = tmp_path / "10"
    for file in [f for f in (folder / "ten").rglob("*") if f.is_file()]:
        copy = ten / file.relative_to(folder / "ten")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())  # with a time of now: Beam passes over older files
    with pipeline_of() as pipeline:
        pattern = str(tmp_path / "*" / "saved_model.pb")
        metadata = pipeline | WatchFilePattern(pattern, 60, stop_timestamp=Timestamp.now())
        found = collect(given(pipeline, [example(x=2.0)]) | transform(linear_model, metadata))
    assert list(map(y_of, found)) == [20.0]


@pytest.mark.slow
def test_handlers_for_some_keys_each_have_a_model_of_their_own(linear_model, folder):
    handlers = [
        KeyModelMapping([key], CreateModelHandler(SavedModel(linear_model))) for key in "ab"
    ]
    with pipeline_of() as pipeline:
        paths = [KeyModelPathMapping(["a"], str(folder / "ten"), "ten")]
        paths += [KeyModelPathMapping(["b"], str(folder / "three"), "three")]
        metadata = given(pipeline, [paths], label="Models")
        # Beam scores the first batch before it looks at the paths.
        pairs = [("a", example(x=0.0)), ("a", example(x=1.0)), ("b", example(x=2.0))]
        handler = KeyedModelHandler(handlers)
        transform = BeamRunInference(handler, model_metadata_pcoll=metadata)
        found = collect(given(pipeline, pairs) | transform)
    assert sorted(plain(found)) == [("a", 0.0), ("a", 10.0), ("b", 6.0)]


@pytest.mark.slow
def test_model_that_does_not_exist_ends_the_run(linear_model, tmp_path):
    path, pipeline = str(tmp_path / "6"), pipeline_of()
    metadata = given(pipeline, [Metadata(path, "six")], label="Models")
    given(pipeline, [example(x=1.0)]) | with_ours(linear_model, metadata)
    with pytest.raises(ModelError, match=rf"^model_metadata_pcoll names '{path}': .*{path}"):
        pipeline.run()


@pytest.mark.slow
def test_global_side_input_is_looked_up_again_while_the_step_lives(linear_model, folder):
    """A runner that keeps the step between bundles, and a side input that has changed."""
    transform = RunInference(SavedModel(linear_model))
    metadata, receiver = [], _Receiver()
    side_input = SideInputMap(AsSingleton, {}, metadata)
    assert side_input.is_globally_windowed()
    step = DoFnRunner(
        _PredictWithUpdates(transform, "FORMAT_TF_EXAMPLE"),
        [beam.internal.util.ArgumentPlaceholder()],
        {},
        [side_input],
        Windowing(GlobalWindows()),
        {None: receiver},
    )
    step.setup()
    for path in ("", str(folder / "ten"), ""):
        metadata[:] = [WindowedValue(Metadata(path, ""), 0, (GlobalWindow(),))]
        side_input._cache.clear()  # as at the end of a bundle
        step.start()
        step.process(WindowedValue(example(x=1.0), 0, (GlobalWindow(),)))
        step.finish()
    assert list(map(y_of, receiver.found)) == [5.0, 10.0, 5.0]


class _Receiver(Receiver):
    def __init__(self):
        self.found = []

    def receive(self, windowed_value):
        self.found.append(windowed_value.value)
