from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from bulk_inferencer.results.summary import Counts, StageCounts, Summary
from bulk_inferencer.work import Distribution, Work

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
