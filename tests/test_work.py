"""How much is done for each record on the hot path: amounts of work, which no noise can change."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from bulk_inferencer.models.batching import BatchBounds, Scorer
from bulk_inferencer.models.saved_model import SavedModel
from bulk_inferencer.units.plan import InputFile, Unit
from bulk_inferencer.units.run import Outputs, run_unit
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

    def prepared(records, files=1, **bounds):
        folder = tmp_path / f"{records}-{files}"
        inputs = []
        for i in range(files):
            per_file = [example(x=float(x)) for x in range(i, records, files)]
            path = write_tfrecord(folder / f"in/{i}.gz", per_file)
            inputs.append(InputFile(path, Path(path).stat().st_size))
        outputs = Outputs.under(f"{folder}/out")
        make_folders(outputs, "s")
        unit = Unit("s", 0, 1, tuple(inputs))

        def run():
            predictor.sizes.clear()
            run_unit(unit, Scorer(predictor), BatchBounds(**bounds), outputs)
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


def test_no_python_function_is_called_per_record(score):
    few, many = calls_of(score(1000)), calls_of(score(4000))
    # A few more blocks are read, but nothing is called 3,000 times more often.
    assert many[0] - few[0] < 300


def test_calls_of_c_functions_per_record_are_few(score):
    few, many = calls_of(score(1000)), calls_of(score(4000))
    # Reading: its length, the checksum of that, and two lists to keep it in; writing: two lengths,
    # the headers for these, and one to join its log.
    assert (many[1] - few[1]) / 3000 <= 8


def test_no_proto_is_made_of_a_record(tmp_path, linear_model):
    path = write_tfrecord(tmp_path / "in/0.gz", [example(x=float(x)) for x in range(10)])
    code = f"""
import sys
from bulk_inferencer.models.batching import BatchBounds, Scorer
from bulk_inferencer.models.saved_model import SavedModel
from bulk_inferencer.units.plan import InputFile, Unit
from bulk_inferencer.units.run import Outputs, run_unit
from bulk_inferencer import files
outputs = Outputs.under({str(tmp_path / "out")!r})
for folder in (*outputs.folders, outputs.failed_examples + "/Split-s"):
    files.make_folder(folder + "/.work")
scorer = Scorer(SavedModel({linear_model!r}).load("FORMAT_TF_EXAMPLE"))
unit = Unit("s", 0, 1, (InputFile({path!r}, 1),))
manifest = run_unit(unit, scorer, BatchBounds(), outputs)
assert manifest.predictions_written == 10
print([m for m in sys.modules if m.startswith("tensorflow_serving.apis.predict")])
"""
    command = [sys.executable, "-W", "ignore", "-c", code]
    assert subprocess.check_output(command, cwd=CHECKOUT, text=True).splitlines()[-1] == "[]"
