"""How much is done for each element of RunInference, without a runner around it."""

from __future__ import annotations

from collections import deque

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindow, WindowedValue

from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer.beam.run_inference import RunInference, _Predict
from tests.helpers import calls_of, example


def test_python_functions_per_element_are_few(linear_model):
    bounds = BatchBounds(max_records=3000, first_records=3000)
    transform = RunInference(SavedModel(linear_model), bounds=bounds)
    do_fn = _Predict(transform, "FORMAT_TF_EXAMPLE")
    do_fn.setup()

    def calls_for(records):
        elements = [WindowedValue(example(x=1.0), 0, (GlobalWindow(),)) for _ in range(records)]

        def bundle():
            do_fn.start_bundle()
            for element in elements:
                yield from do_fn.process(element.value, element) or ()
            yield from do_fn.finish_bundle()

        return calls_of(lambda: deque(bundle(), maxlen=0))

    calls_for(10)
    few, many = calls_for(1000), calls_for(4000)
    # Taking it in: the step and the bundle. Handing it on: a generator of each, and of this test.
    assert (many[0] - few[0]) / 3000 <= 5.5


def test_elements_in_one_window_are_taken_without_asking_beam_for_more():
    # Timestamps and windows would come by a path that costs as much as the model does.
    assert _Predict.process.__defaults__ == (beam.DoFn.WindowedValueParam,)
