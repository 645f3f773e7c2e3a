"""How much is done for each record on the hot path: amounts of work, which no noise can change."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections import Counter, deque
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.transforms.window import GlobalWindow, WindowedValue

from bulk_inferencer._models.batching import BatchBounds, Scorer
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer._units.outputs import Outputs
from bulk_inferencer._units.plan import InputFile, Unit
from bulk_inferencer._units.run import run_unit
from bulk_inferencer.beam.run_inference import _Predict
from tests.helpers import example, make_folders, write_tfrecord

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parent.parent


class Counting:
    """A predictor that counts the sizes of its batches."""

    def __init__(self, predictor):
        self._predictor = predictor
        self.sizes = []

    def __getattr__(self, name):
        return getattr(self._predictor, name)

    def predict(self, batch):
        self.sizes.append(len(batch))
        return self._predictor.predict(batch)


@pytest.fixture
def score(tmp_path, linear_model):
    """Runs a unit of so many records in so many files and returns the sizes of its batches."""
    predictor = Counting(SavedModel(linear_model).load("FORMAT_TF_EXAMPLE"))
    predictor.predict([example(x=1.0)])  # traced once, whatever is counted

    def prepared(records, files=1, *, are_equally_long=True, **bounds):
        folder = tmp_path / f"{records}-{files}"

        def record(x):
            return example(x=float(x)) if are_equally_long else example(x=float(x), t="t" * (x % 9))

        inputs = []
        for i in range(files):
            per_file = [record(x) for x in range(i, records, files)]
            path = write_tfrecord(folder / f"in/{i}.gz", per_file)
            inputs.append(InputFile(path, Path(path).stat().st_size))
        outputs = Outputs.under(f"{folder}/out")
        make_folders(outputs, "s")
        unit = Unit("s", 0, 1, tuple(inputs))

        def run():
            predictor.sizes.clear()
            run_unit(unit, {"": Scorer(predictor)}, BatchBounds(**bounds), outputs)
            return list(predictor.sizes)

        return run

    return prepared


def test_model_is_called_once_per_full_batch_however_many_files_there_are(score):
    assert score(1000, files=7, max_records=300)() == [300, 300, 300, 100]


def calls_of(function):
    """Returns how often Python functions and C functions were called."""
    calls = Counter()
    sys.setprofile(lambda frame, event, argument: calls.update([event]))
    try:
        function()
    finally:
        sys.setprofile(None)
    return calls["call"], calls["c_call"]


@pytest.mark.parametrize("are_equally_long", [True, False])
def test_no_python_function_is_called_per_record(score, are_equally_long):
    few, many = (calls_of(score(n, are_equally_long=are_equally_long)) for n in (1000, 4000))
    # A few more blocks are read, but nothing is called 3,000 times more often.
    assert many[0] - few[0] < 300


@pytest.mark.parametrize(("are_equally_long", "most"), [(True, 0.1), (False, 1.1)])
def test_calls_of_c_functions_per_record_are_few(score, are_equally_long, most):
    few, many = (calls_of(score(n, are_equally_long=are_equally_long)) for n in (1000, 4000))
    # Where records differ in length, each is appended to a list; what `map` calls is not seen here.
    assert (many[1] - few[1]) / 3000 <= most


def test_memory_does_not_grow_with_the_records(score):
    peaks = []
    for records in (2000, 8000):
        run = score(records, max_records=500, max_bytes=20_000)
        run()  # what is cached for ever is cached now
        tracemalloc.start()
        run()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    few, many = peaks
    assert many < 1.1 * few


@pytest.fixture
def run_bundle(linear_model):
    """Runs the step of RunInference on a bundle of so many records, without a runner around it."""
    do_fn = _Predict(
        [SavedModel(linear_model)],
        "FORMAT_TF_EXAMPLE",
        BatchBounds(max_records=1000, first_records=1000),
        is_per_model=False,
        with_failures=False,
    )
    do_fn.setup()

    def run(records):
        elements = [WindowedValue(example(x=1.0), 0, (GlobalWindow(),)) for _ in range(records)]

        def bundle():
            do_fn.start_bundle()
            for element in elements:
                yield from do_fn.process(element.value, element) or ()
            yield from do_fn.finish_bundle()

        return calls_of(lambda: deque(bundle(), maxlen=0))

    run(10)
    return run


def test_python_functions_per_element_are_few(run_bundle):
    few, many = run_bundle(1000), run_bundle(4000)
    # Taking it in: the step and what it calls for the record; handing it on: a generator for the
    # results, one for the outputs, and that of this test.
    assert (many[0] - few[0]) / 3000 <= 5.5


def test_elements_in_one_window_are_taken_without_asking_beam_for_more():
    # Timestamps and windows would come by a path that costs as much as the model does.
    assert _Predict.process.__defaults__ == (beam.DoFn.WindowedValueParam,)


def test_no_proto_is_made_of_a_record(tmp_path, linear_model):
    path = write_tfrecord(tmp_path / "in/0.gz", [example(x=float(x)) for x in range(10)])
    code = f"""
import sys
from bulk_inferencer._models.batching import BatchBounds, Scorer
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer._units.plan import InputFile, Unit
from bulk_inferencer._units.outputs import Outputs
from bulk_inferencer._units.run import run_unit
from bulk_inferencer import _files
outputs = Outputs.under({str(tmp_path / "out")!r})
for folder in (*outputs.folders, outputs.failed_examples + "/Split-s"):
    _files.make_folder(folder + "/.work")
scorer = Scorer(SavedModel({linear_model!r}).load("FORMAT_TF_EXAMPLE"))
unit = Unit("s", 0, 1, (InputFile({path!r}, 1),))
manifest = run_unit(unit, {{"": scorer}}, BatchBounds(), outputs)
assert manifest.predictions_written == 10
print([m for m in sys.modules if m.startswith("tensorflow_serving.apis.predict")])
"""
    command = [sys.executable, "-W", "ignore", "-c", code]
    assert subprocess.check_output(command, cwd=CHECKOUT, text=True).splitlines()[-1] == "[]"
