from __future__ import annotations

import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulk_inferencer._gate import BLESSED, NOT_BLESSED, Decision
from bulk_inferencer._layout import INFERENCE_RESULT
from bulk_inferencer._work import Distribution, Work
from bulk_inferencer.results.summary import (
    BranchSummary,
    Counts,
    OutputSummary,
    StageCounts,
    Summary,
    stage_counts,
)

NUMBERS = OutputSummary(8, 0, 5, 2, 1, -1.5, 4.0, 1.25, 0.5, {"0.5": 1.0})
TEXTS = OutputSummary(4, 1, 0, 0, 0, *[math.nan] * 4, classes={"a": 3, "b": 1}, different_classes=2)
SEVEN = BranchSummary(
    splits={"a": Counts(10, 8, 2, 1, 100), "b": Counts(5, 5, 0, 2, 50)},
    gate=Decision(BLESSED, "Evaluator blessed the model."),
    model_path="/models/7",
    model_fingerprint="f00d",
    model_versions=("7", "8"),
    signature_names=("serving_default",),
    seconds={"score": 1.25},
    work=Work(batches=2, batch_records=Distribution(2, 15, 5, 10)),
    stages=stage_counts({"small": 13, "full": 4}),
    versions={"tfx": "1.16.0"},
    not_finite={"y": 3},
    statistics={"a": {"y": NUMBERS}, "b": {"y": TEXTS}},
    failures={"ValueError: no number": 2},
)
THREE = BranchSummary({}, Decision(NOT_BLESSED, "Evaluator did not bless it."), "/models/3")
OVERRULED = Decision(NOT_BLESSED, "Evaluator did not bless it.", is_overruled=True)


def counts(*values):
    names = "examples_read", "predictions_written", "examples_failed", "shards", "bytes_written"
    return dict(zip(names, values, strict=True))


def output(*values):
    names = (
        *("records", "missing", "values", "nan", "infinite", "minimum", "maximum", "mean"),
        *("standard_deviation", "quantiles", "classes", "different_classes"),
    )
    return dict(zip(names, values, strict=True))


NO_VALUES = {"count": 0, "sum": 0, "min": 0, "max": 0}
SEVEN_JSON = {
    "splits": {"a": counts(10, 8, 2, 1, 100), "b": counts(5, 5, 0, 2, 50)},
    "gate": "blessed",
    "gate_reason": "Evaluator blessed the model.",
    "model_path": "/models/7",
    "model_fingerprint": "f00d",
    "model_versions": ["7", "8"],
    "signature_names": ["serving_default"],
    "seconds": {"score": 1.25},
    "work": {
        "batches": 2,
        "batch_records": {"count": 2, "sum": 15, "min": 5, "max": 10},
        "batch_bytes": NO_VALUES,
        "inference_milliseconds": NO_VALUES,
        "halvings": 0,
        "model_loads": 0,
        "model_load_milliseconds": NO_VALUES,
        "model_load_bytes": NO_VALUES,
    },
    "stages": {
        "small": {"records": 13, "exited": 9, "escalated": 4},
        "full": {"records": 4, "exited": 4, "escalated": 0},
    },
    "versions": {"tfx": "1.16.0"},
    "not_finite": {"y": 3},
    "statistics": {
        "a": {"y": output(8, 0, 5, 2, 1, -1.5, 4.0, 1.25, 0.5, {"0.5": 1.0}, {}, 0)},
        "b": {"y": output(4, 1, 0, 0, 0, *["nan"] * 4, {}, {"a": 3, "b": 1}, 2)},
    },
    "failures": {"ValueError: no number": 2},
    "checks": [],
    "total": counts(15, 13, 2, 3, 150),
}


def written(summary, folder):
    """Returns the text of the only file that a summary leaves, which is read as it was written."""
    summary.write(str(folder))
    assert Summary.read(str(folder)) == summary
    assert [file.name for file in folder.iterdir()] == ["summary.json"]
    return (folder / "summary.json").read_text()


def test_summary_of_one_model_without_a_name_is_flat(tmp_path):
    text = written(Summary({INFERENCE_RESULT: SEVEN}), tmp_path)
    assert text == json.dumps(SEVEN_JSON, indent=2) + "\n"


def test_summary_of_a_run_with_a_table_holds_its_columns(tmp_path):
    text = written(Summary({INFERENCE_RESULT: SEVEN}, table_schema="YQ=="), tmp_path)
    assert json.loads(text) == {**SEVEN_JSON, "table_schema": "YQ=="}


def test_summary_of_named_models_has_one_entry_for_each(tmp_path):
    text = written(Summary({"seven": SEVEN, "three": THREE}, "split", {"a": 2, "b": 0}), tmp_path)
    values = json.loads(text)
    assert list(values) == ["models", "routing", "unrouted"]
    assert json.dumps(values["models"]["seven"]) == json.dumps(SEVEN_JSON)
    assert list(values["models"]) == ["seven", "three"]
    three = values["models"]["three"]
    assert (three["splits"], three["gate"]) == ({}, "not_blessed")
    assert three["total"] == counts(0, 0, 0, 0, 0)
    assert (values["routing"], values["unrouted"]) == ("split", {"a": 2, "b": 0})


@pytest.mark.parametrize("branch", [dataclasses.replace(SEVEN, gate=OVERRULED), THREE])
def test_model_that_scored_although_it_was_not_blessed_was_overruled(tmp_path, branch):
    written(Summary({"three": branch}), tmp_path)


def test_total_is_the_sum_of_all_splits_and_models():
    assert SEVEN.total == Counts(15, 13, 2, 3, 150)
    assert THREE.total == Summary({}).total == Counts(0, 0, 0, 0, 0)
    summary = Summary({"seven": SEVEN, "three": THREE, "copy": SEVEN})
    assert summary.total == Counts(30, 26, 4, 6, 300)


def test_records_of_a_stage_exit_or_go_on_to_the_next():
    expected = {"b": StageCounts(10, 6, 4), "a": StageCounts(4, 4, 0), "c": StageCounts(0, 0, 0)}
    found = stage_counts({"b": 10, "a": 4, "c": 0})
    assert list(found.items()) == list(expected.items())
    assert stage_counts({}) == {}


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=5))
def test_records_that_exit_are_all_of_the_first_stage(counts):
    ran = {f"stage_{i}": n for i, n in enumerate(sorted(counts, reverse=True))}
    stages = stage_counts(ran).values()
    assert sum(stage.exited for stage in stages) == max(counts)
    assert all(stage.records == stage.exited + stage.escalated for stage in stages)
