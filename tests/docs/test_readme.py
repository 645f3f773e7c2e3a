"""The README's snippets run, and the commands, files and tests that it names exist."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tests import helpers

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON_BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def block_with(text):
    """Returns the one Python block of the README that holds `text`."""
    (block,) = [block for block in PYTHON_BLOCKS if text in block]
    return block


def producer(**outputs):
    """Returns what stands in for a component with channels of these types."""
    from tfx import types

    return SimpleNamespace(outputs={k: types.Channel(type=t) for k, t in outputs.items()})


def test_component_call_builds_a_component():
    from tfx.types import standard_artifacts

    names = {
        "inference_example_gen": producer(examples=standard_artifacts.Examples),
        "trainer": producer(model=standard_artifacts.Model),
        "evaluator": producer(blessing=standard_artifacts.ModelBlessing),
    }
    exec(block_with("BulkInferencer("), names)

    assert set(names["bulk_inferencer"].outputs) == {
        "inference_result",
        "summary",
        "failed_examples",
    }


def test_call_for_several_models_builds_a_component():
    from tfx.types import standard_artifacts

    names = {
        "inference_example_gen": producer(examples=standard_artifacts.Examples),
        "trainer_5": producer(model=standard_artifacts.Model),
        "trainer_10": producer(model=standard_artifacts.Model),
        "evaluator_5": producer(blessing=standard_artifacts.ModelBlessing),
    }
    exec(block_with("BranchInferencer("), names)

    assert set(names["branch"].inputs) == {
        "examples",
        "model_five",
        "model_ten",
        "blessing_five",
    }


@pytest.fixture
def data_and_model(linear_model, tmp_path, monkeypatch):
    """Makes `data/` and `models/`, as the README has them, in the current folder."""
    records = [helpers.example(x=float(x)) for x in range(3)]
    helpers.write_tfrecord(tmp_path / "data" / "part.tfrecord.gz", records)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "five_times").symlink_to(linear_model)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def four_inputs(tmp_path, monkeypatch):
    """Makes the same table in three formats, a folder of JPEGs, and a model for each kind."""
    monkeypatch.chdir(tmp_path)
    points = pd.DataFrame({"id": ["a", "b", "c"], "x": [1.5, 2.5, 4.0]})
    records = [helpers.example(**row) for row in points.to_dict("records")]
    helpers.write_tfrecord("data/points.tfrecord.gz", records)
    points.to_csv("data/points.csv", index=False)
    points.to_parquet("data/points.parquet")
    number = {"x": tf.TensorSpec([None], tf.float32, name="x")}
    helpers.save_functions("models/five_times", serving_default=(five_times, number))
    for grey in (0, 255):
        pixels = np.full((8, 8, 1), grey, np.uint8)
        tf.io.write_file(f"images/{grey}.jpg", tf.io.encode_jpeg(pixels))
    jpegs = {"jpegs": tf.TensorSpec([None], tf.string, name="jpegs")}
    helpers.save_functions("models/brightness", serving_default=(brightness, jpegs))


def five_times(x):
    return {"y": 5 * x}


def brightness(jpegs):
    def mean(jpeg):
        return tf.reduce_mean(tf.cast(tf.io.decode_jpeg(jpeg), tf.float32))

    return {"brightness": tf.map_fn(mean, jpegs, fn_output_signature=tf.float32)}


@pytest.mark.usefixtures("four_inputs")
def test_one_call_scores_csv_parquet_tfrecords_and_images(capsys):
    block = block_with(" predict(")
    exec(block, {})
    assert f"{block}```\n\n```text\n{capsys.readouterr().out}```" in README

    scored = {"id": ["a", "b", "c"], "y": [7.5, 12.5, 20.0]}
    for source in ("from_csv", "from_parquet", "from_tfrecord"):
        assert pd.read_parquet(f"{source}/prediction_table").to_dict("list") == scored
    images = pd.read_parquet("from_images/prediction_table").sort_values("key")
    assert images.to_dict("list") == {
        "key": ["images/0.jpg", "images/255.jpg"],
        "brightness": [0.0, 255.0],
    }


@pytest.mark.usefixtures("data_and_model")
def test_job_without_tfx_runs_and_its_predictions_are_read_back():
    names = {}
    exec(block_with("InferenceJob("), names)
    assert names["summary"].total.predictions_written == 3

    names = {"inference_result_uri": "results/inference_result"}
    exec(block_with("read_predictions("), names)
    assert names["prediction"].outputs["y"] == pytest.approx(10.0)


@pytest.mark.usefixtures("data_and_model")
def test_pipeline_without_tfx_prints_a_log_for_each_record(capsys):
    exec(block_with("RunInference("), {})
    printed = capsys.readouterr().out
    assert printed.count("predict_log {") == 3
    values = re.findall(r"float_val: ([0-9.]+)", printed)
    assert sorted(map(float, values)) == [0.0, 5.0, 10.0]


def test_every_python_block_is_run_here():
    assert len(PYTHON_BLOCKS) == 6


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^make ([a-z-]+)", README, re.MULTILINE)
    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_linked_files_exist():
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_each_difference_to_tfx_has_its_test():
    table = README.partition("## How it differs")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    tests = (ROOT / "tests/components/test_against_tfx_bulk_inferrer.py").read_text(
        encoding="utf-8"
    )
    assert len(rows) - 2 == tests.count("\ndef test_")
