"""RunInference on streams: what it gives stays in the window and at the time of its record."""

from __future__ import annotations

import apache_beam as beam
import pytest
from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner
from apache_beam.testing import test_stream
from apache_beam.transforms.window import (
    FixedWindows,
    IntervalWindow,
    SlidingWindows,
    TimestampedValue,
)
from apache_beam.typehints import typehints

from bulk_inferencer.beam import BatchBounds, RunInference, RunInferenceOnKeyedBatches, SavedModel
from tests.beam.helpers import collect_with_window, given, pipeline_of, plain, y_of
from tests.helpers import example

pytestmark = pytest.mark.slow

NO_EXAMPLE = b"no tf.Example"
# Batches of two are scored while a bundle goes on, and a rest when it ends.
TWO = BatchBounds(max_records=2)


def at(seconds, value=None):
    """Returns an element of this time: an Example with x = the time, if no other."""
    return TimestampedValue(example(x=float(seconds)) if value is None else value, seconds)


def tens(*starts):
    return [IntervalWindow(start, start + 10) for start in starts]


def streamed(element_type, *steps):
    """Returns a pipeline and its unbounded source: lists of elements, watermarks between them."""
    # Of Beam's runners in Python, this one alone has an unbounded source for tests.
    pipeline = pipeline_of("--streaming", runner=BundleBasedDirectRunner())
    stream = test_stream.TestStream().with_output_types(element_type)
    for step in steps:
        is_list = isinstance(step, list)
        stream = stream.add_elements(step) if is_list else stream.advance_watermark_to(step)
    return pipeline, pipeline | stream.advance_watermark_to_infinity()


def test_stream_is_scored_as_it_comes(linear_model):
    pipeline, stream = streamed(
        # A batch of 12 and 21, which are in two windows, among them.
        bytes,
        [at(1), at(4), at(2)],
        5,
        [at(12), at(21), at(11)],
        10,
        [at(13)],
        20,
        30,
    )
    with pipeline:
        windows = stream | beam.WindowInto(FixedWindows(10))
        predictions = windows | RunInference(SavedModel(linear_model), bounds=TWO)
        assert not predictions.is_bounded
        found = collect_with_window(predictions)
        pairs = predictions | beam.Map(lambda log: ("y", y_of(log)))
        sums = collect_with_window(pairs | beam.CombinePerKey(sum), "CollectSums")
    times = [1, 2, 4, 11, 12, 13, 21]
    assert sorted((y_of(log), time) for log, time, _ in found) == [(5.0 * t, t) for t in times]
    assert all([window] == tens(time // 10 * 10) for _, time, window in found)
    # No prediction is late: each is there when the watermark passes the end of its window.
    assert [y for (_, y), *_ in sums] == [35.0, 180.0, 105.0]
    assert [window for *_, window in sums] == tens(0, 10, 20)


@pytest.mark.parametrize("runner", ["stream", "batch"])
def test_sliding_windows_are_kept(linear_model, runner):
    elements = [at(1), at(4), at(6), at(7), at(13)]
    if runner == "stream":
        pipeline, values = streamed(bytes, elements[:3], 5, elements[3:])
    else:
        values = given(pipeline := pipeline_of(), elements, bytes)
    with pipeline:
        windows = values | beam.WindowInto(SlidingWindows(size=10, period=5))
        found = collect_with_window(windows | RunInference(SavedModel(linear_model), bounds=TWO))
    assert sorted((y_of(log), seconds, window) for log, seconds, window in found) == [
        (5.0 * x, float(x), window)
        for x in (1, 4, 6, 7, 13)
        for window in tens(x // 5 * 5 - 5, x // 5 * 5)
    ]


def test_keyed_lists_and_failures_stay_in_their_windows(linear_model):
    lists = [
        at(1, ("a", [example(x=1.0), NO_EXAMPLE])),
        at(12, ("b", [example(x=12.0), example(x=13.0), example(x=14.0)])),
        at(25, ("c", [NO_EXAMPLE])),
    ]
    keyed_batches = typehints.Tuple[str, typehints.List[bytes]]
    pipeline, stream = streamed(keyed_batches, lists[:2], 20, lists[2:])
    transform = RunInferenceOnKeyedBatches(SavedModel(linear_model), bounds=TWO).with_failures()
    with pipeline:
        results = stream | beam.WindowInto(FixedWindows(10)) | transform
        predictions = collect_with_window(results.predictions, "Predictions")
        failures = collect_with_window(results.failures, "Failures")
    assert plain([(value, time) for value, time, _ in predictions]) == [
        (("a", [5.0]), 1.0),
        (("b", [60.0, 65.0, 70.0]), 12.0),
    ]
    assert [(failure.key, time) for failure, time, _ in failures] == [("a", 1.0), ("c", 25.0)]
    assert [window for *_, window in predictions + failures] == tens(0, 10, 0, 20)
