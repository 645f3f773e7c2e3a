from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulk_inferencer._gate import BLESSED, NOT_BLESSED, Decision
from bulk_inferencer._layout import INFERENCE_RESULT
from bulk_inferencer._work import Distribution, Work
from bulk_inferencer.results.summary import (
    BranchSummary,
    Counts,
    StageCounts,
    Summary,
    stage_counts,
)

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
)
THREE = BranchSummary({}, Decision(NOT_BLESSED, "Evaluator did not bless it."), "/models/3")


def counts(*values):
    names = "examples_read", "predictions_written", "examples_failed", "shards", "bytes_written"
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
    "total": counts(15, 13, 2, 3, 150),
}


def written(summary, folder):
    """Returns the text of the only file that a summary leaves."""
    summary.write(str(folder))
    assert [file.name for file in folder.iterdir()] == ["summary.json"]
    return (folder / "summary.json").read_text()


def test_summary_of_one_model_without_a_name_is_flat(tmp_path):
    text = written(Summary({INFERENCE_RESULT: SEVEN}), tmp_path)
    assert text == json.dumps(SEVEN_JSON, indent=2) + "\n"


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


BRANCHES = st.builds(
    BranchSummary,
    splits=st.dictionaries(st.text(), st.builds(Counts)),
    gate=st.builds(Decision, st.sampled_from([BLESSED, "no_blessing"]), st.text()),
    signature_names=st.lists(st.text()).map(tuple),
    seconds=st.dictionaries(st.text(), st.floats(0, 1e9)),
    stages=st.dictionaries(st.text(), st.builds(StageCounts)),
)


@settings(max_examples=30)
@given(
    st.builds(Summary, BRANCHES.map(lambda b: {INFERENCE_RESULT: b}), st.just("all"), st.just({}))
    | st.builds(Summary, st.dictionaries(st.from_regex(r"[a-z]\w*"), BRANCHES, min_size=1))
)
def test_summary_is_read_as_it_was_written(tmp_path_factory, summary):
    folder = str(tmp_path_factory.mktemp("summary"))
    summary.write(folder)
    assert Summary.read(folder) == summary


@pytest.mark.parametrize(("splits", "is_overruled"), [({}, False), ({"a": Counts(1, 1)}, True)])
def test_model_that_scored_although_it_was_not_blessed_was_overruled(
    tmp_path, splits, is_overruled
):
    gate = Decision(NOT_BLESSED, "Evaluator did not bless it.", is_overruled)
    summary = Summary({"three": BranchSummary(splits, gate, "/models/3")})
    summary.write(str(tmp_path))
    assert Summary.read(str(tmp_path)) == summary


def test_total_is_the_sum_of_all_splits_and_models():
    assert SEVEN.total == Counts(15, 13, 2, 3, 150)
    assert THREE.total == Summary({}).total == Counts(0, 0, 0, 0, 0)
    summary = Summary({"seven": SEVEN, "three": THREE, "copy": SEVEN})
    assert summary.total == Counts(30, 26, 4, 6, 300)


def test_records_of_a_stage_exit_or_go_on_to_the_next():
    assert stage_counts({"b": 10, "a": 4, "c": 0}) == {
        "b": StageCounts(10, 6, 4),
        "a": StageCounts(4, 4, 0),
        "c": StageCounts(0, 0, 0),
    }
    assert list(stage_counts({"b": 1, "a": 1})) == ["b", "a"]
    assert stage_counts({}) == {}
