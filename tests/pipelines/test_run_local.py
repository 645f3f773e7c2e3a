"""The example pipelines, run as a newcomer does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest

from bulk_inferencer import Comparison, Summary, read_predictions
from bulk_inferencer.results.summary import StageCounts
from pipelines import run_local
from pipelines.catalogue import PIPELINES
from pipelines.penguins.data import make_data
from tests.components.tfx_helpers import custom_properties, latest
from tests.helpers import features_of, tree
from tests.pipelines.conftest import BAD_MODEL, STARTED

CHECKOUT = Path(__file__).parents[2]


class Run(NamedTuple):
    """A run of `run_local`: what it printed, and what ML Metadata says of the inferencer."""

    printed: str
    inferencer: Any

    def predictions(self, result="inference_result"):
        return list(read_predictions(self.inferencer.output(result).uri, "unlabelled"))

    def gate_and_counts(self, result="inference_result"):
        names = ("gate", "examples_read", "predictions_written", "examples_failed")
        properties = custom_properties(self.inferencer.output(result))
        return tuple(properties[name] for name in names)

    def summary(self):
        (summary,) = Summary.read(self.inferencer.output("summary").uri).branches.values()
        return summary


@pytest.fixture(scope="module")
def runs(request):
    """Returns what waits for a run with these arguments; see conftest.py."""

    def wait_for(arguments):
        workdir, made = request.session.stash[STARTED][arguments]
        status, printed = made.result()
        assert status == 0, printed
        (folder,) = (workdir / "artifacts").glob("*Inferencer")
        node = f"{arguments.split()[0]}.{folder.name}"
        return Run(printed, latest(workdir / "metadata.sqlite", node))

    return wait_for


@pytest.mark.slow
def test_model_that_is_not_blessed_is_not_scored_with(runs):
    made = runs(BAD_MODEL)

    assert made.inferencer.state == "COMPLETE"
    assert made.printed.splitlines()[-2] == "OK: the gate closed."
    assert re.search(r"\n  because +mean_absolute_error is \d+\.?\d*, at most 1 is", made.printed)
    assert made.gate_and_counts() == ("not_blessed", 0, 0, 0)
    assert made.summary().gate.verdict == "not_blessed"
    assert tree(made.inferencer.output("inference_result").uri) == []


RESULT = "inference_result"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "factors"),
    [
        ("five_times_table", [(RESULT, "y", 5)]),
        ("five_times_table_branch", [("five", "y", 5), ("ten", "y", 10)]),
        ("five_times_table_cascade", [(RESULT, "five/y", 5), (RESULT, "y", 50)]),
    ],
)
def test_times_tables_score_every_x_and_are_right_within_one_percent(runs, name, factors):
    made = runs(name)

    for result, output, factor in factors:
        check_counts(made, 1001, result)
        predictions = made.predictions(result)
        points = {features_of(p.record)["x"][0]: p.outputs[output].item() for p in predictions}
        assert len(points) == len(predictions) == 1001
        assert (min(points), max(points)) == (-100, 100)
        assert max(abs(y - factor * x) for x, y in points.items()) <= 0.01 * factor * 200


@pytest.mark.slow
def test_code_that_the_demo_ends_with_reads_the_predictions(runs):
    (code,) = re.findall(
        r"^ +import pandas\n +(.*)$", runs("five_times_table").printed, re.MULTILINE
    )
    table = eval(code, {"pandas": pd})
    assert list(table) == ["x", "y"]
    assert len(table) == 1001


def check_counts(made, records, result=RESULT):
    assert made.inferencer.state == "COMPLETE"
    success, report = made.printed.splitlines()[-2:]
    assert success == "OK: all predictions checked."
    assert Path(report.removeprefix("The report, for a browser: ")).read_text().startswith("<!")
    assert made.gate_and_counts(result) == ("blessed", records, records, 0)
    label = "" if result == RESULT else f"{result} +"
    shown = f"generated {records:,}   read {records:,}   predicted {records:,}   failed 0\n"
    assert re.search(f"\n  {label}{shown}", made.printed)


@pytest.mark.slow
def test_models_of_the_branch_are_compared(runs):
    made = runs("five_times_table_branch")
    (pair,) = Comparison.read(made.inferencer.output("comparison").uri).pairs

    y = pair.outputs["y"]
    assert (pair.models, y.records) == (("five", "ten"), 1001)
    assert abs(y.most_different[0].keys["x"][0]) == 100
    shown = f"mean {y.mean_absolute_difference:.4f}, largest {y.max_absolute_difference:.4f}\n"
    assert f"|five - ten| in comparison.json: {shown}" in made.printed


@pytest.mark.slow
def test_work_and_the_counts_of_stages_are_shown(runs):
    made = runs("five_times_table_cascade")

    assert "\n  five  got 1,001   settled 0   escalated 1,001\n" in made.printed
    for part in str(made.summary().work).split("; "):
        assert f"\n  {part}\n" in made.printed


@pytest.mark.slow
def test_penguins_species_are_predicted_with_an_accuracy_of_090(runs, tmp_path):
    held_back = make_data(str(tmp_path)).species
    made = runs("penguins")

    check_counts(made, 100)
    predicted = {}
    for record, outputs in made.predictions():
        features = features_of(record)
        assert "species" not in features
        predicted[features["bird"][0].decode()] = outputs["species"].item().decode()
    assert predicted.keys() == held_back.keys()
    assert sum(predicted[bird] == held_back[bird] for bird in held_back) >= 90


@pytest.mark.slow
def test_small_model_of_the_cascade_settles_the_penguins_that_it_is_sure_of(runs):
    made = runs("penguins_cascade")
    outputs = [prediction.outputs for prediction in made.predictions()]
    settled = [o["small/probabilities"].max() for o in outputs if "full/probabilities" not in o]
    escalated = [o["small/probabilities"].max() for o in outputs if "full/probabilities" in o]

    check_counts(made, 100)
    assert max(escalated) < 0.95 <= min(settled)
    assert len(settled) > 50
    assert made.summary().stages == {
        "small": StageCounts(100, len(settled), len(escalated)),
        "full": StageCounts(len(escalated), len(escalated), 0),
    }
    assert f"\n  settled by small {len(settled):>7}" in made.printed
    assert f"\n  escalated to full {len(escalated):>6}" in made.printed


# What the pages show


@pytest.mark.slow
def test_readme_shows_what_five_times_table_prints(runs):
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```text\n(five_times_table\n.*?)```", readme, re.DOTALL)

    assert lines_of_output(shown) == lines_of_output(runs("five_times_table").printed)


def lines_of_output(text):
    """Returns the lines without what differs from run to run: times, paths, tiny errors."""
    text = re.sub(r"\d+\.\d s$", "_ s", text, flags=re.MULTILINE)
    text = re.sub(r"(largest \|y - 5x\|:) \S+", r"\1 _", text)
    text = re.sub(r"\S*/bin/python\b|(?<=  )python\b", "python", text)
    text = re.sub(r"\S*(?=/artifacts)|Files in .*", "_", text)
    text = re.sub(r"[\d,]+(?= (?:to|calls|records|ms|x, in)|\))", "_", text)
    # The last digits of predictions depend on the version of TensorFlow.
    return [re.sub(r"(\.\d)\d{3}$", r"\1", line).split() for line in text.splitlines() if line]


@pytest.mark.slow
def test_penguins_page_shows_what_the_cascade_prints(runs):
    def shape_of(text):  # without birds and numbers, which depend on the version of TensorFlow
        lines = [line for line in text.splitlines() if line and "bird_" not in line]
        return [re.sub(r"[\d.,]+", "_", line).split() for line in lines]

    page = (CHECKOUT / "pipelines/penguins/README.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```text\nPredictions\n(.*?)```", page, re.DOTALL)
    printed = runs("penguins_cascade").printed
    (found,) = re.findall(r"\nPredictions\n(.*?)\nWork\n", printed, re.DOTALL)
    assert shape_of(shown) == shape_of(found)


# What goes wrong


def test_error_is_shown_and_logged(tmp_path, monkeypatch, capsys):
    def load():
        raise ModuleNotFoundError("No module named 'palmerpenguins'")

    monkeypatch.setitem(PIPELINES, "penguins", PIPELINES["penguins"]._replace(load=load))

    assert run_local.main(["penguins", f"--workdir={tmp_path}"]) == 1
    printed, logged = capsys.readouterr()
    error = "ModuleNotFoundError: No module named 'palmerpenguins'\n"
    assert logged.endswith(error)
    assert printed.endswith(f"\nFAILED: {error}Full log: {tmp_path}/run_local.log\n")


def test_command_leaves_alone_what_is_not_from_an_earlier_run(tmp_path):
    file = tmp_path / "data" / "thesis.txt"
    file.parent.mkdir()
    file.write_text("text")
    strange = "is neither empty nor from an earlier run: it has {}. Name another directory"
    refused = {
        tmp_path: strange.format("data"),
        file.parent: strange.format("thesis.txt"),
        file: "is a file. Name a directory",
    }
    for workdir, message in refused.items():
        command = ["-m", "pipelines.run_local", "penguins", f"--workdir={workdir}"]
        made = subprocess.run(
            [sys.executable, *command], cwd=CHECKOUT, capture_output=True, text=True
        )
        assert (made.returncode, made.stdout) == (2, "")
        assert made.stderr == f"{workdir} {message} with --workdir.\n"
    assert file.read_text() == "text"
