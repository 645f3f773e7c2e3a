"""The example pipelines, run as a newcomer does: with the command of the README."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from tfx import v1 as tfx

from bulk_inferencer import read_predictions
from bulk_inferencer.results.summary import Summary
from pipelines import run_local
from pipelines.five_times_table import data as five_times_table_data
from pipelines.five_times_table import pipeline as five_times_table
from pipelines.five_times_table import report as five_times_table_report
from pipelines.penguins import data as penguins_data
from pipelines.penguins import pipeline as penguins
from tests.helpers import features_of, tree
from tests.tfx_helpers import custom_properties, latest

CHECKOUT = Path(__file__).parent.parent
COUNTS = ("examples_read", "predictions_written", "examples_failed")


class Run(NamedTuple):
    """A run of `run_local`: its exit status, what it printed, and what ML Metadata says."""

    status: int
    printed: str
    inferencer: object

    @property
    def result(self):
        return self.inferencer.output("inference_result")

    @property
    def counts(self):
        properties = custom_properties(self.result)
        return tuple(properties[name] for name in COUNTS)


def run(workdir, name, *options):
    command = [sys.executable, "-m", "pipelines.run_local", name, "--workdir", str(workdir)]
    made = subprocess.run([*command, *options], cwd=CHECKOUT, capture_output=True, text=True)
    log = workdir / "run_local.log"
    assert made.returncode in (0, 1), made.stderr or log.read_text()[-3000:]
    recorded = latest(workdir / "metadata.sqlite", f"{name}.BulkInferencer")
    return Run(made.returncode, made.stdout, recorded)


# Five times table


@pytest.fixture(scope="module")
def five_times_run(tmp_path_factory):
    return run(tmp_path_factory.mktemp("five_times_table"), "five_times_table")


@pytest.mark.slow
def test_five_times_table_succeeds_with_a_blessed_model(five_times_run):
    assert five_times_run.printed.splitlines()[-1] == "OK: all predictions checked."
    assert five_times_run.status == 0
    assert five_times_run.inferencer.state == "COMPLETE"
    assert custom_properties(five_times_run.result)["gate"] == "blessed"


@pytest.mark.slow
def test_five_times_table_predicts_5x_within_one_percent(five_times_run):
    one_percent_of_range = 0.01 * 5 * 200

    predictions = list(read_predictions(five_times_run.result.uri, "unlabelled"))

    errors = {}
    for prediction in predictions:
        (x,) = features_of(prediction.record)["x"]
        errors[x] = abs(prediction.outputs["y"].item() - 5 * x)
    assert len(errors) == len(predictions) == 1001
    assert (min(errors), max(errors)) == (-100, 100)
    assert max(errors.values()) <= one_percent_of_range


@pytest.mark.slow
def test_five_times_table_counts_agree(five_times_run):
    total = Summary.read(five_times_run.inferencer.output("summary").uri).total

    assert five_times_run.counts == (1001, 1001, 0)
    assert tuple(getattr(total, name) for name in COUNTS) == five_times_run.counts
    assert "generated 1,001   read 1,001   predicted 1,001   failed 0" in five_times_run.printed


@pytest.mark.slow
def test_five_times_table_shows_what_scoring_took(five_times_run):
    work = Summary.read(five_times_run.inferencer.output("summary").uri).work

    assert work.batch_records.sum == 1001
    for part in str(work).split("; "):
        assert f"\n  {part}\n" in five_times_run.printed


@pytest.mark.slow
def test_readme_shows_what_five_times_table_prints(five_times_run):
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```text\n(.*?)```", readme, re.DOTALL)

    assert lines_of_output(shown) == lines_of_output(five_times_run.printed)


def lines_of_output(text):
    """Returns the lines without what differs from run to run: times, paths, tiny errors."""
    text = re.sub(r"\d+\.\d s$", "_ s", text, flags=re.MULTILINE)
    text = re.sub(r"(largest \|y - 5x\|:) \S+", r"\1 _", text)
    text = re.sub(r"\S*/bin/python\b|(?<=  )python\b", "python", text)
    text = re.sub(r"\S*five_times_table(?=$|/artifacts)", "_", text, flags=re.MULTILINE)
    text = re.sub(r"\S*(?=/artifacts)|Files in .*", "_", text)
    text = re.sub(r"[\d,]+(?= (?:to|calls|records|ms|x, in)|\))", "_", text)
    # The last digits of predictions depend on the version of TensorFlow.
    return [re.sub(r"(\.\d)\d{3}$", r"\1", line).split() for line in text.splitlines() if line]


@pytest.mark.slow
def test_model_that_is_not_blessed_is_not_scored_with(tmp_path):
    done = run(tmp_path, "five_times_table", "--bad-model")

    assert done.printed.splitlines()[-1] == "OK: the gate closed."
    assert done.status == 0
    assert done.inferencer.state == "COMPLETE"
    assert custom_properties(done.result)["gate"] == "not_blessed"
    assert done.counts == (0, 0, 0)
    assert tree(done.result.uri) == []
    summary = Summary.read(done.inferencer.output("summary").uri)
    assert summary.gate == "not_blessed"
    assert summary.gate_reason.endswith("says that the model is not blessed.")


@pytest.mark.slow
def test_five_times_table_takes_tfrecord(tmp_path, monkeypatch):
    monkeypatch.setenv("UNSUPPORTED_DO_NOT_PACKAGE_USER_MODULES", "1")
    # TFX parses all of the command line as flags where there are Beam arguments.
    monkeypatch.setattr("sys.argv", ["test"])
    data = five_times_table_data.make_data(str(tmp_path / "data"), data_format="tfrecord")
    metadata = str(tmp_path / "metadata.sqlite")
    pipeline = five_times_table.create_pipeline(
        pipeline_name="tfrecord",
        pipeline_root=str(tmp_path / "artifacts"),
        data_root=data.data_root,
        inference_data_root=data.inference_data_root,
        data_format="tfrecord",
        metadata_connection_config=(
            tfx.orchestration.metadata.sqlite_metadata_connection_config(metadata)
        ),
        beam_pipeline_args=run_local.BEAM_PIPELINE_ARGS,
    )

    tfx.orchestration.LocalDagRunner().run(pipeline)

    result = latest(metadata, "tfrecord.BulkInferencer").output("inference_result")
    results = five_times_table_report.parse(read_predictions(result.uri))
    assert len(results) == 1001
    assert max(abs(y - 5 * x) for x, y in results) <= 10


# Penguins


@pytest.fixture(scope="module")
def penguins_run(tmp_path_factory):
    return run(tmp_path_factory.mktemp("penguins"), "penguins")


@pytest.mark.slow
def test_penguins_succeed_with_a_blessed_model(penguins_run):
    assert penguins_run.printed.splitlines()[-1] == "OK: all predictions checked."
    assert penguins_run.status == 0
    assert penguins_run.inferencer.state == "COMPLETE"
    assert custom_properties(penguins_run.result)["gate"] == "blessed"
    assert penguins_run.counts == (100, 100, 0)


@pytest.mark.slow
def test_penguins_species_are_predicted_with_an_accuracy_of_090(penguins_run, tmp_path):
    species = penguins_data.make_data(str(tmp_path)).species

    predicted = {}
    for prediction in read_predictions(penguins_run.result.uri):
        features = features_of(prediction.record)
        assert "species" not in features
        (bird,) = features["bird"]
        predicted[bird.decode()] = prediction.outputs["species"].item().decode()

    assert predicted.keys() == species.keys()
    right = sum(predicted[bird] == species[bird] for bird in species)
    assert right / len(species) >= 0.9


# What is refused


def test_unknown_data_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"Expected data_format csv or tfrecord, got 'parquet'\."):
        five_times_table_data.make_data(str(tmp_path), data_format="parquet")
    with pytest.raises(ValueError, match=r"Expected data_format csv or tfrecord, got 'parquet'\."):
        five_times_table.create_pipeline(
            pipeline_name="p",
            pipeline_root="/p",
            data_root="/d",
            inference_data_root="/i",
            data_format="parquet",
        )


def test_too_few_unlabelled_examples_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"Expected at least 2 unlabelled examples, got 1\."):
        five_times_table_data.make_data(str(tmp_path), unlabelled=1)


@pytest.mark.parametrize("pipeline", [five_times_table, penguins])
def test_no_training_is_refused(pipeline):
    with pytest.raises(ValueError, match=r"Expected train_steps of at least 1, got 0\."):
        pipeline.create_pipeline(
            pipeline_name="p",
            pipeline_root="/p",
            data_root="/d",
            inference_data_root="/i",
            train_steps=0,
        )


@pytest.mark.parametrize("name", ["thesis.txt", "data"])
def test_folder_that_is_not_of_an_earlier_run_is_left_alone(tmp_path, capsys, name):
    (tmp_path / name).mkdir()

    status = run_local.main(["penguins", "--workdir", str(tmp_path)])

    assert status == 2
    assert capsys.readouterr().err == (
        f"Expected an empty directory or one from an earlier run, got {tmp_path} with {name}. "
        "Name another one with --workdir.\n"
    )
    assert os.listdir(tmp_path) == [name]


def test_file_in_place_of_a_folder_is_left_alone(tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("text")

    assert run_local.main(["penguins", "--workdir", str(file)]) == 2
    assert capsys.readouterr().err == (
        f"Expected a directory for --workdir, got the file {file}.\n"
    )
    assert file.read_text() == "text"
