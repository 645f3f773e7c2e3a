from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from bulk_inferencer._work import Distribution, Work
from bulk_inferencer.results.summary import BranchSummary, Counts, StageCounts, Summary

SUMMARY = Summary(
    splits={"a": Counts(10, 8, 2, 1, 100), "b": Counts(5, 5, 0, 2, 50)},
    gate="blessed",
    gate_reason="Evaluator blessed the model.",
    model_path="/models/7",
    model_fingerprint="f00d",
    model_versions=("7", "8"),
    signature_names=("serving_default",),
    seconds={"score": 1.25},
    work=Work(batches=2, batch_records=Distribution(2, 15, 5, 10)),
    stages=StageCounts.of_cascade({"small": 13, "full": 4}),
    versions={"tfx": "1.16.0"},
)


def test_total_is_the_sum_of_all_splits():
    assert SUMMARY.total == Counts(15, 13, 2, 3, 150)


def test_total_of_no_splits_is_zero():
    assert Summary({}, "not_blessed", "", "/models/7").total == Counts(0, 0, 0, 0, 0)


def test_json_holds_everything():
    assert json.loads(json.dumps(SUMMARY.to_dict())) == {
        "splits": {
            "a": {
                "examples_read": 10,
                "predictions_written": 8,
                "examples_failed": 2,
                "shards": 1,
                "bytes_written": 100,
            },
            "b": {
                "examples_read": 5,
                "predictions_written": 5,
                "examples_failed": 0,
                "shards": 2,
                "bytes_written": 50,
            },
        },
        "total": {
            "examples_read": 15,
            "predictions_written": 13,
            "examples_failed": 2,
            "shards": 3,
            "bytes_written": 150,
        },
        "gate": "blessed",
        "gate_reason": "Evaluator blessed the model.",
        "model_path": "/models/7",
        "model_fingerprint": "f00d",
        "model_versions": ["7", "8"],
        "signature_names": ["serving_default"],
        "work": {
            "batches": 2,
            "batch_records": {"count": 2, "sum": 15, "min": 5, "max": 10},
            "inference_milliseconds": {"count": 0, "sum": 0, "min": 0, "max": 0},
            "halvings": 0,
            "model_loads": 0,
            "model_load_milliseconds": {"count": 0, "sum": 0, "min": 0, "max": 0},
            "model_load_bytes": {"count": 0, "sum": 0, "min": 0, "max": 0},
        },
        "stages": {
            "small": {"records": 13, "exited": 9, "escalated": 4},
            "full": {"records": 4, "exited": 4, "escalated": 0},
        },
        "seconds": {"score": 1.25},
        "versions": {"tfx": "1.16.0"},
    }


@given(
    st.builds(
        Summary,
        splits=st.dictionaries(st.text(), st.builds(Counts)),
        signature_names=st.lists(st.text()).map(tuple),
        seconds=st.dictionaries(st.text(), st.floats(0, 1e9)),
        stages=st.dictionaries(st.text(), st.builds(StageCounts)),
    )
)
def test_summary_survives_json(summary):
    assert Summary.from_dict(json.loads(json.dumps(summary.to_dict()))) == summary


def test_summary_is_written_and_read_as_one_file(tmp_path):
    SUMMARY.write(str(tmp_path))
    assert [file.name for file in tmp_path.iterdir()] == ["summary.json"]
    assert Summary.read(str(tmp_path)) == SUMMARY


# Stages


def test_records_of_a_stage_exit_or_go_on_to_the_next():
    assert StageCounts.of_cascade({"a": 10, "b": 4, "c": 0}) == {
        "a": StageCounts(10, 6, 4),
        "b": StageCounts(4, 4, 0),
        "c": StageCounts(0, 0, 0),
    }
    assert list(StageCounts.of_cascade({"b": 1, "a": 1})) == ["b", "a"]
    assert StageCounts.of_cascade({}) == {}


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=5))
def test_records_that_exit_are_all_of_the_first_stage(counts):
    ran = {f"stage_{i}": n for i, n in enumerate(sorted(counts, reverse=True))}
    stages = StageCounts.of_cascade(ran).values()
    assert sum(stage.exited for stage in stages) == max(counts)
    assert all(stage.records == stage.exited + stage.escalated for stage in stages)


# Several models

BLOCKED = Summary({}, "not_blessed", "Evaluator did not bless it.", "/models/3")
BRANCHES = BranchSummary({"seven": SUMMARY, "three": BLOCKED}, "split", {"a": 2, "b": 0})


def test_models_that_the_gate_let_through_are_those_with_splits():
    assert BRANCHES.scored == {"seven": SUMMARY}


def test_json_of_several_models_holds_the_summary_of_each(tmp_path):
    BRANCHES.write(str(tmp_path))
    assert json.loads((tmp_path / "summary.json").read_text()) == {
        "models": {
            name: json.loads(json.dumps(summary.to_dict()))
            for name, summary in (("seven", SUMMARY), ("three", BLOCKED))
        },
        "routing": "split",
        "unrouted": {"a": 2, "b": 0},
    }


def test_summary_of_several_models_is_read_as_it_was_written(tmp_path):
    for branches in (BRANCHES, BranchSummary({"seven": SUMMARY}, "all")):
        branches.write(str(tmp_path))
        assert BranchSummary.read(str(tmp_path)) == branches
    assert [file.name for file in tmp_path.iterdir()] == ["summary.json"]
