"""How much is done for each record on the hot path: amounts of work, which no noise can change."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._models.saved_model import SavedModel
from tests.helpers import calls_of, example, write_tfrecord
from tests.units.helpers import Function, score, sinks_in, unit_of

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def prepare(tmp_path, linear_model):
    """Returns a function that scores a file of so many records."""
    predict = SavedModel(linear_model).load("FORMAT_TF_EXAMPLE").predict
    predict([example(x=1.0)])  # traced once, whatever is counted

    def prepared(records, *, are_equally_long=True, **bounds):
        def record(x):
            return example(x=float(x)) if are_equally_long else example(x=float(x), t="t" * (x % 9))

        path = write_tfrecord(tmp_path / f"{records}.gz", map(record, range(records)))
        models = {"inference_result": Function(predict)}
        sinks = sinks_in(f"{tmp_path}/out", models)
        return lambda: score(unit_of(path), models, sinks, bounds=BatchBounds(**bounds))

    return prepared


@pytest.mark.parametrize("are_equally_long", [True, False])
def test_no_function_is_called_per_record(prepare, are_equally_long):
    few, many = (calls_of(prepare(n, are_equally_long=are_equally_long)) for n in (1000, 4000))
    # A few more blocks are read, but nothing is called 3,000 times more often.
    assert many[0] - few[0] < 300
    # What `map` calls is not seen here.
    assert (many[1] - few[1]) / 3000 <= 0.1


def test_memory_does_not_grow_with_the_records(prepare):
    peaks = []
    for records in (2000, 8000):
        run = prepare(records, max_records=500, max_bytes=20_000)
        run()  # what is cached for ever is cached now
        tracemalloc.start()
        run()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    few, many = peaks
    assert many < 1.1 * few


@pytest.mark.slow
def test_no_proto_is_made_of_a_record(tmp_path, linear_model):
    path = write_tfrecord(tmp_path / "in/0.gz", [example(x=float(x)) for x in range(10)])
    code = f"""
import dataclasses, sys
from bulk_inferencer import InferenceJob, Outputs, SavedModel
from bulk_inferencer._formats.input_format import InputFile
from bulk_inferencer._units.plan import Unit
from bulk_inferencer.job import unit_task
outputs = Outputs.under({str(tmp_path / "out")!r})
job = InferenceJob(splits={{"s": ["*"]}}, model=SavedModel({linear_model!r}), outputs=outputs)
task = dataclasses.replace(unit_task(job), manifests_folder={str(tmp_path)!r})
manifest = task.load().run(Unit("s", 0, 1, (InputFile({path!r}, {os.path.getsize(path)}),)))
print(manifest.predictions_made, [m for m in sys.modules if m.startswith("tensorflow_serving.")])
"""
    command = [sys.executable, "-W", "ignore", "-c", code]
    assert subprocess.check_output(command, cwd=CHECKOUT, text=True).splitlines()[-1] == "10 []"
