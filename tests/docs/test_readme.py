"""The README's snippets run, and the commands, files and tests that it names exist."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

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
    assert len(PYTHON_BLOCKS) == 5


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
