"""Models on a GPU: `make test-gpu` runs these tests, on a machine that has one.

Each run has a process of its own, since TensorFlow takes a GPU for as long as a process lives.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer._run import run
from bulk_inferencer.job import InferenceJob, Outputs
from bulk_inferencer.results.reader import read_predictions
from tests.helpers import FLOAT, RECORDS, example, features_of, save_functions, write_tfrecord

ROOT = Path(__file__).parents[2]
MOST_SECONDS = 600
RUNS_ALL = "TEST_GPU"  # set by `make test-gpu`

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get(RUNS_ALL), reason="run by make test-gpu"),
]


# In processes of their own


def save_layers(path, _):
    """Saves layers with weights that are no round numbers: 32 features give `y` [batch, 8]."""
    features = {"x": tf.io.FixedLenFeature([32], tf.float32)}
    random = np.random.default_rng(0)
    first, second = (
        tf.Variable(random.normal(size=size).astype(np.float32)) for size in ((32, 256), (256, 8))
    )

    def serve(examples):
        x = tf.io.parse_example(examples, features)["x"]
        return {"y": tf.nn.relu(x @ first) @ second}

    save_functions(path, [first, second], serving_default=(serve, {"examples": RECORDS}))


def save_hungry(path, _):
    """Saves a model of which each record takes 64 MiB: `y` is the feature `x`."""

    def serve(examples):
        x = tf.io.parse_example(examples, {"x": FLOAT})["x"]
        return {"y": tf.reduce_max(tf.tile(x[:, None, None], [1, 4096, 4096]), [1, 2])}

    save_functions(path, serving_default=(serve, {"examples": RECORDS}))


def score(folder, bounds):
    """Scores the files in a folder, and notes what became of the GPU in `notes.json`."""
    (device, *_) = tf.config.list_physical_devices("GPU") or [None]
    job = InferenceJob(
        splits={"s": [f"{folder}/in/*"]},
        model=SavedModel(f"{folder}/model"),
        outputs=Outputs.under(f"{folder}/out"),
        bounds=BatchBounds(**bounds),
    )
    summary = run(job)
    work = summary.branches["inference_result"].work
    notes = {
        "written": summary.total.predictions_written,
        "failed": summary.total.examples_failed,
        "largest_call": work.batch_records.max,
        "halvings": work.halvings,
        "precision": keras.mixed_precision.dtype_policy().name,
        "tensor_float_32": tf.config.experimental.tensor_float_32_execution_enabled(),
    }
    if device:
        notes["grows"] = tf.config.experimental.get_memory_growth(device)
        notes["peak_bytes"] = tf.config.experimental.get_memory_info("GPU:0")["peak"]
    Path(folder, "notes.json").write_text(json.dumps(notes))


def in_process(function, folder, argument=None, *, on_gpu=False):
    """Calls a function of this module in a process of its own, which sees the GPUs or none."""
    program = f"from {__name__} import *; {function.__name__}({str(folder)!r}, {argument!r})"
    hidden = {} if on_gpu else {"CUDA_VISIBLE_DEVICES": "-1"}
    # TensorFlow's default rounds products of matrices on new GPUs to 10 bits.
    environment = {**os.environ, **hidden, "NVIDIA_TF32_OVERRIDE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=MOST_SECONDS,
    )
    assert done.returncode == 0, done.stdout[-10_000:]


# The tests


@pytest.fixture(scope="module", autouse=True)
def _gpu():
    if not tf.config.list_physical_devices("GPU"):
        pytest.skip("TensorFlow finds no GPU here")


def scored(folder, records, bounds, *, on_gpu=True):
    """Scores records with the model in a folder; returns the notes, and `y` by `x`."""
    write_tfrecord(folder / "in/0.gz", records)
    in_process(score, folder, bounds, on_gpu=on_gpu)
    found = read_predictions(f"{folder}/out/inference_result")
    by_x = {tuple(features_of(own.record)["x"]): own.outputs["y"] for own in found}
    return json.loads((folder / "notes.json").read_text()), by_x


def test_results_are_those_of_a_cpu(tmp_path):
    random = np.random.default_rng(1)
    records = [example(x=[float(x) for x in random.normal(size=32)]) for _ in range(20_000)]
    found = {}
    for place in ("gpu", "cpu"):
        folder = tmp_path / place
        in_process(save_layers, folder / "model")
        found[place] = scored(folder, records, {}, on_gpu=place == "gpu")
    notes, on_gpu = found["gpu"]
    _, on_cpu = found["cpu"]
    assert notes["peak_bytes"] > 0
    assert on_gpu.keys() == on_cpu.keys()
    for x, y in on_gpu.items():
        np.testing.assert_allclose(y, on_cpu[x], rtol=1e-4, atol=1e-4)


def test_batches_grow_and_the_gpu_is_left_as_it_was_but_for_its_memory(tmp_path):
    in_process(save_layers, tmp_path / "model")
    records = [example(x=[float(i)] * 32) for i in range(20_000)]
    notes, _ = scored(tmp_path, records, {"first_records": 64})
    assert (notes["written"], notes["failed"]) == (20_000, 0)
    assert notes["largest_call"] > 64
    assert notes["grows"]
    assert (notes["precision"], notes["tensor_float_32"]) == ("float32", True)


def test_batch_that_does_not_fit_into_the_memory_of_a_gpu_is_halved(tmp_path):
    in_process(save_hungry, tmp_path / "model")
    records = [example(x=float(i)) for i in range(4096)]  # 256 GiB at once
    bounds = {"first_records": 4096, "max_records": 4096}
    notes, by_x = scored(tmp_path, records, bounds)
    assert notes["halvings"] > 0
    assert notes["largest_call"] < 4096
    assert (notes["written"], notes["failed"]) == (4096, 0)
    assert {x: float(y) for (x,), y in by_x.items()} == {float(i): float(i) for i in range(4096)}
