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
from bulk_inferencer.results.compare import Comparison, OutputComparison
from bulk_inferencer.results.summary import StageCounts, Summary
from pipelines import run_local
from pipelines.five_times_table import branch_pipeline as five_times_table_branch
from pipelines.five_times_table import branch_report, cascade_report
from pipelines.five_times_table import cascade_pipeline as five_times_table_cascade
from pipelines.five_times_table import data as five_times_table_data
from pipelines.five_times_table import pipeline as five_times_table
from pipelines.five_times_table import report as five_times_table_report
from pipelines.penguins import cascade_pipeline as penguins_cascade
from pipelines.penguins import cascade_report as penguins_cascade_report
from pipelines.penguins import data as penguins_data
from pipelines.penguins import pipeline as penguins
from pipelines.penguins import report as penguins_report
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
        return counts_of(self.result)


def counts_of(result):
    properties = custom_properties(result)
    return tuple(properties[name] for name in COUNTS)


def run(workdir, name, *options, inferencer="BulkInferencer"):
    command = [sys.executable, "-m", "pipelines.run_local", name, "--workdir", str(workdir)]
    made = subprocess.run([*command, *options], cwd=CHECKOUT, capture_output=True, text=True)
    log = workdir / "run_local.log"
    assert made.returncode in (0, 1), made.stderr or log.read_text()[-3000:]
    recorded = latest(workdir / "metadata.sqlite", f"{name}.{inferencer}")
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
    results = five_times_table_report.read({"inference_result": result.uri})
    assert len(results) == 1001
    assert max(abs(y - 5 * x) for x, y in results) <= 10


# Five beside ten


@pytest.fixture(scope="module")
def branch_run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("five_times_table_branch")
    return run(workdir, "five_times_table_branch", inferencer="BranchInferencer")


@pytest.mark.slow
def test_branch_succeeds_with_two_blessed_models(branch_run):
    assert branch_run.printed.splitlines()[-1] == "OK: all predictions checked."
    assert branch_run.status == 0
    assert branch_run.inferencer.state == "COMPLETE"
    for name in ("five", "ten"):
        result = branch_run.inferencer.output(name)
        assert custom_properties(result)["gate"] == "blessed"
        assert counts_of(result) == (1001, 1001, 0)
        assert re.search(rf"\n  {name} +generated 1,001   read 1,001   ", branch_run.printed)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "factor"), [("five", 5), ("ten", 10)])
def test_models_of_the_branch_learnt_different_tables(branch_run, name, factor):
    one_percent_of_range = 0.01 * factor * 200

    predictions = list(read_predictions(branch_run.inferencer.output(name).uri))

    assert len(predictions) == 1001
    for prediction in predictions:
        (x,) = features_of(prediction.record)["x"]
        assert abs(prediction.outputs["y"].item() - factor * x) <= one_percent_of_range


@pytest.mark.slow
def test_models_of_the_branch_are_compared(branch_run):
    (pair,) = Comparison.read(branch_run.inferencer.output("comparison").uri).pairs
    y = pair.outputs["y"]

    assert (pair.models, y.records) == (("five", "ten"), 1001)
    # |5x - 10x|, where |x| is 50.05 on average and 100 at most.
    assert y.mean_absolute_difference == pytest.approx(250.25, rel=0.01)
    assert y.max_absolute_difference == pytest.approx(500, rel=0.01)
    assert abs(y.most_different[0].keys["x"][0]) == 100
    assert (
        f"|five - ten| in comparison.json: mean {y.mean_absolute_difference:.4f}, "
        f"largest {y.max_absolute_difference:.4f}\n"
    ) in branch_run.printed


# Five, then ten


@pytest.fixture(scope="module")
def cascade_run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("five_times_table_cascade")
    return run(workdir, "five_times_table_cascade", inferencer="CascadeInferencer")


@pytest.mark.slow
def test_cascade_succeeds_with_two_blessed_models(cascade_run):
    assert cascade_run.printed.splitlines()[-1] == "OK: all predictions checked."
    assert cascade_run.status == 0
    assert cascade_run.inferencer.state == "COMPLETE"
    assert custom_properties(cascade_run.result)["gate"] == "blessed"
    assert cascade_run.counts == (1001, 1001, 0)
    assert "\n  five  got 1,001   settled 0   escalated 1,001\n" in cascade_run.printed


@pytest.mark.slow
def test_cascade_predicts_50x_within_one_percent(cascade_run):
    predictions = list(read_predictions(cascade_run.result.uri))

    assert len(predictions) == 1001
    for prediction in predictions:
        (x,) = features_of(prediction.record)["x"]
        five, y = (prediction.outputs[name].item() for name in ("five/y", "y"))
        assert abs(five - 5 * x) <= 0.01 * 5 * 200
        assert abs(y - 50 * x) <= 0.01 * 50 * 200


# Reports of the five times tables


def five_times_data(xs):
    return five_times_table_data.Data("/labelled", "/unlabelled", tuple(xs))


@pytest.fixture
def branch_results():
    """Returns what perfect models predict."""
    xs = [-100.0, 0.0, 100.0]
    five, ten = ([(x, factor * x) for x in xs] for factor in (5, 10))
    return branch_report.Results(five, ten, difference(mean=1000 / 3, largest=500.0))


def difference(mean, largest, records=3):
    return OutputComparison(
        records=records,
        agreeing=0,
        values=records,
        not_finite=0,
        sum_absolute_difference=mean * records,
        max_absolute_difference=largest,
        confusion={},
        most_different=(),
        keeps=0,
    )


def test_branch_report_shows_the_models_side_by_side(branch_results):
    data = five_times_data([-100.0, 0.0, 100.0])

    assert branch_report.table(branch_results, data).splitlines() == [
        "       x           five            ten",
        "  -100.0      -500.0000     -1000.0000",
        "     0.0         0.0000         0.0000",
        "   100.0       500.0000      1000.0000",
        "",
        "largest |five - 5x|: 0.000000 (allowed: 10, 1 % of the range of five)",
        "largest |ten - 10x|: 0.000000 (allowed: 20, 1 % of the range of ten)",
        "|five - ten| in comparison.json: mean 333.3333, largest 500.0000",
    ]
    assert branch_report.problems(branch_results, data) == []


def test_branch_report_says_what_is_wrong(branch_results):
    wrong = branch_results._replace(
        ten=[(-100.0, -1000.0), (0.0, 0.0), (100.0, 500.0)],
        difference=difference(mean=1.0, largest=2.0),
    )

    assert branch_report.problems(wrong, five_times_data([-100.0, 0.0, 100.0])) == [
        "ten: Expected every y within 20 of 10x, got y = 500 for x = 100. Train for more steps.",
        (
            "Expected |five - ten| in comparison.json as in the predictions, mean 166.667 and "
            "largest 500, got 1 and 2."
        ),
    ]
    (problem,) = branch_report.problems(
        branch_results._replace(five=[], ten=[]), five_times_data([])
    )
    assert problem.endswith("mean nan and largest nan, got 333.333 and 500.")


def test_cascade_report_shows_both_stages():
    results = [(-100.0, -500.0, -5000.0), (100.0, 500.0, 5000.5)]
    data = five_times_data([-100.0, 100.0])

    assert cascade_report.table(results, data).splitlines() == [
        "       x        50x         five/y              y",
        "  -100.0    -5000.0      -500.0000     -5000.0000",
        "   100.0     5000.0       500.0000      5000.5000",
        "",
        "largest |y - 50x|: 0.500000 (allowed: 100, 1 % of the range of y)",
        "ten learnt from x of -100 to 100 and gets -500 to 500 here: a straight line goes on",
    ]
    assert cascade_report.problems(results, data) == []


def test_cascade_report_says_what_is_wrong():
    (problem,) = cascade_report.problems([(100.0, 500.0, 500.0)], five_times_data([100.0]))

    assert problem == (
        "Expected every y within 100 of 50x, got y = 500 for x = 100. Train for more steps."
    )


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


# A small model before the full one


@pytest.fixture(scope="module")
def penguins_cascade_run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("penguins_cascade")
    return run(workdir, "penguins_cascade", inferencer="CascadeInferencer")


@pytest.mark.slow
def test_penguins_cascade_succeeds_with_two_blessed_models(penguins_cascade_run):
    assert penguins_cascade_run.printed.splitlines()[-1] == "OK: all predictions checked."
    assert penguins_cascade_run.status == 0
    assert penguins_cascade_run.inferencer.state == "COMPLETE"
    assert custom_properties(penguins_cascade_run.result)["gate"] == "blessed"
    assert penguins_cascade_run.counts == (100, 100, 0)


@pytest.mark.slow
def test_small_model_settles_the_penguins_of_which_it_is_sure(penguins_cascade_run):
    predictions = list(read_predictions(penguins_cascade_run.result.uri))
    escalated = [p for p in predictions if "full/probabilities" in p.outputs]
    settled = [p for p in predictions if "full/probabilities" not in p.outputs]

    assert min(p.outputs["small/probabilities"].max() for p in settled) >= 0.95
    assert max(p.outputs["small/probabilities"].max() for p in escalated) < 0.95
    assert len(settled) > 50
    assert Summary.read(penguins_cascade_run.inferencer.output("summary").uri).stages == {
        "small": StageCounts(100, len(settled), len(escalated)),
        "full": StageCounts(len(escalated), len(escalated), 0),
    }
    assert f"\n  settled by small {len(settled):>7}" in penguins_cascade_run.printed
    assert f"\n  escalated to full {len(escalated):>6}" in penguins_cascade_run.printed


@pytest.mark.slow
def test_penguins_page_shows_what_the_cascade_prints(penguins_cascade_run):
    page = (CHECKOUT / "pipelines/penguins/README.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```text\nPredictions\n(.*?)```", page, re.DOTALL)

    assert shape_of_output(shown) == shape_of_output(
        re.findall(r"\nPredictions\n(.*?)\nWork\n", penguins_cascade_run.printed, re.DOTALL)[0]
    )


def shape_of_output(text):
    """Returns the lines that are not of one bird, without numbers: which birds, TensorFlow says."""
    lines = [line for line in text.splitlines() if line and "bird_" not in line]
    return [re.sub(r"[\d.,]+", "_", line).split() for line in lines]


ADELIE, GENTOO = "Adelie", "Gentoo"


@pytest.fixture
def birds():
    """Returns data of three birds, and what two models say of them."""
    said = penguins_report.Result
    data = penguins_data.Data("/labelled", "/unlabelled", {"a": ADELIE, "b": GENTOO, "c": ADELIE})
    results = [
        penguins_cascade_report.Result(said("a", ADELIE, 0.99), None),
        penguins_cascade_report.Result(said("b", ADELIE, 0.6), said("b", GENTOO, 0.9)),
        penguins_cascade_report.Result(said("c", GENTOO, 0.98), None),
    ]
    return data, results


def test_penguins_cascade_report_shows_who_settled_which_bird(birds):
    data, results = birds

    assert penguins_cascade_report.table(results, data).splitlines() == [
        "bird       small says  probability   full says   probability   true species",
        "b          Adelie            0.600   Gentoo            0.900   Gentoo",
        "c          Gentoo            0.980                             Adelie         wrong",
        "a          Adelie            0.990                             Adelie",
        "",
        "                   birds  right  accuracy  of small alone",
        "settled by small       2      1      0.50            0.50",
        "escalated to full      1      1      1.00            0.00",
        "all                    3      2      0.67            0.33   (at least 0.90 is asked)",
    ]


def test_penguins_cascade_report_says_what_is_wrong(birds):
    data, results = birds

    assert penguins_cascade_report.problems(results[:1], data) == [
        (
            "Expected one prediction for each of the 3 birds in /unlabelled, got 1 that do not "
            "match them."
        ),
        (
            "Expected an accuracy of at least 0.90 on the held-back birds, got 0.33. Train for "
            "more steps."
        ),
        (
            "Expected the small model to settle some birds and to hand on others, got 1 settled "
            "and 0 handed on. Change min_probability."
        ),
    ]


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


@pytest.mark.parametrize(
    "pipeline",
    [
        five_times_table,
        five_times_table_branch,
        five_times_table_cascade,
        penguins,
        penguins_cascade,
    ],
)
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
