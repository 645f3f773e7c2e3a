"""RunInference on streams: what it gives stays in the window and at the time of its record."""

from __future__ import annotations

import apache_beam as beam
import pytest
from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner
from apache_beam.testing import test_stream
from apache_beam.transforms.window import FixedWindows, IntervalWindow, SlidingWindows
from apache_beam.typehints import typehints

from bulk_inferencer.beam import (
    BatchBounds,
    RunInference,
    RunInferenceOnKeyedBatches,
    SavedModel,
)
from tests.beam_helpers import collect, collect_with_window, given, pipeline_of, y_of
from tests.helpers import example, features_of

pytestmark = pytest.mark.slow

NO_EXAMPLE = b"no tf.Example"
# Batches of two are scored while a bundle goes on, and a rest when it ends.
TWO = BatchBounds(max_records=2)


def at(seconds, value=None):
    """Returns an element of this time: an Example with x = the time, if no other."""
    value = example(x=float(seconds)) if value is None else value
    return beam.window.TimestampedValue(value, seconds)


def stream_of(element_type, *steps):
    """Returns an unbounded source: lists of elements, and watermarks between them."""
    stream = test_stream.TestStream().with_output_types(element_type)
    for step in steps:
        is_list = isinstance(step, list)
        stream = stream.add_elements(step) if is_list else stream.advance_watermark_to(step)
    return stream.advance_watermark_to_infinity()


def streaming_pipeline():
    # Of Beam's runners in Python, this one alone has an unbounded source for tests.
    return pipeline_of("--streaming", runner=BundleBasedDirectRunner())


def test_stream_is_scored_as_it_comes(linear_model):
    stream = stream_of(
        bytes, [at(1), at(4), at(2)], 5, [at(12), at(11)], 10, [at(13)], 20, [at(21)], 30
    )
    with streaming_pipeline() as pipeline:
        values = pipeline | stream | beam.WindowInto(FixedWindows(10))
        predictions = values | RunInference(SavedModel(linear_model), bounds=TWO)
        assert not predictions.is_bounded
        found = collect_with_window(predictions)
        sums = collect_with_window(
            predictions
            | beam.Map(lambda log: ("y", y_of(log)))
            | beam.CombinePerKey(sum)
            | beam.Values(),
            "CollectSums",
        )
    assert len(found) == 7
    for log, seconds, window in found:
        assert y_of(log) == 5 * seconds
        start = seconds // 10 * 10
        assert window == IntervalWindow(start, start + 10)
    # No prediction is late: each is there when the watermark passes the end of its window.
    assert [(y, window.start) for y, _, window in sums] == [(35.0, 0), (180.0, 10), (105.0, 20)]


@pytest.mark.parametrize("runner", ["stream", "batch"])
def test_sliding_windows_are_kept(linear_model, runner):
    elements = [at(1), at(4), at(6), at(7), at(13)]
    pipeline = streaming_pipeline() if runner == "stream" else pipeline_of()
    with pipeline:
        if runner == "stream":
            values = pipeline | stream_of(bytes, elements[:3], 5, elements[3:])
        else:
            values = given(pipeline, elements, bytes)
        found = collect_with_window(
            values
            | beam.WindowInto(SlidingWindows(size=10, period=5))
            | RunInference(SavedModel(linear_model), bounds=TWO)
        )
    assert sorted((y_of(log), seconds, window) for log, seconds, window in found) == [
        (5.0 * x, float(x), IntervalWindow(start, start + 10))
        for x in (1, 4, 6, 7, 13)
        for start in (x // 5 * 5 - 5, x // 5 * 5)
    ]


def test_keyed_lists_and_failures_stay_in_their_windows(linear_model):
    type_of_elements = typehints.Tuple[str, typehints.List[bytes]]
    lists = [
        at(1, ("a", [example(x=1.0), NO_EXAMPLE])),
        at(12, ("b", [example(x=12.0), example(x=13.0), example(x=14.0)])),
        at(25, ("c", [NO_EXAMPLE])),
    ]
    transform = RunInferenceOnKeyedBatches(SavedModel(linear_model), bounds=TWO).with_failures()
    with streaming_pipeline() as pipeline:
        results = (
            pipeline
            | stream_of(type_of_elements, lists[:2], 20, lists[2:])
            | beam.WindowInto(FixedWindows(10))
            | transform
        )
        predictions = collect_with_window(results.predictions, "Predictions")
        failures = collect_with_window(results.failures, "Failures")
    assert [((key, *map(y_of, logs)), *place) for (key, logs), *place in predictions] == [
        (("a", 5.0), 1.0, IntervalWindow(0, 10)),
        (("b", 60.0, 65.0, 70.0), 12.0, IntervalWindow(10, 20)),
    ]
    assert [(failure.key, *place) for failure, *place in failures] == [
        ("a", 1.0, IntervalWindow(0, 10)),
        ("c", 25.0, IntervalWindow(20, 30)),
    ]


def test_groups_of_a_window_hold_its_records_only(linear_model):
    elements = [("k", example(x=float(x))) for x in range(20)]
    with pipeline_of() as pipeline:
        groups = collect(
            given(pipeline, elements)
            | beam.Map(
                lambda e: beam.window.TimestampedValue(e, features_of(e[1])["x"][0])
            ).with_output_types(typehints.Tuple[str, bytes])
            | beam.WindowInto(FixedWindows(5))
            | RunInference(SavedModel(linear_model), bounds=BatchBounds(max_records=7))
            | beam.MapTuple(lambda key, log: (key, y_of(log)))
            | beam.GroupByKey()
            | beam.MapTuple(lambda _, ys: sorted(ys))
        )
    assert sorted(groups) == [[5.0 * x for x in range(s, s + 5)] for s in range(0, 20, 5)]
