"""What is wrong with a run, as ML Metadata and `summary.json` tell it."""

from __future__ import annotations

from bulk_inferencer._gate import Decision
from bulk_inferencer.results.summary import BranchSummary, Counts
from pipelines.outcome import Outcome, Result


def outcome(folder, gate, model="", state="COMPLETE", counts=(0, 0, 0), said=(0, 0, 0)):
    """Returns the outcome of one model that left no predictions in its folder."""
    summary = BranchSummary({"all": Counts(*said)}, Decision("not_blessed", ""), "")
    names = ("examples_read", "predictions_written", "examples_failed")
    by_name = dict(zip(names, counts, strict=True))
    result = Result(model, str(folder), gate, by_name, summary)
    return Outcome("BulkInferencer", 7, state, {}, [result], {})


def test_closed_gate_is_right_for_a_bad_model_alone(tmp_path):
    closed = outcome(tmp_path, "not_blessed")

    assert closed.problems(records=9, bad_model=True) == []
    assert closed.problems(records=9, bad_model=False) == [
        "the gate is not_blessed, not blessed.",
        "the number of records read is 0, not 9.",
        "the number of records predicted or failed is 0, not 9.",
    ]


def test_every_fact_that_is_wrong_is_named(tmp_path):
    made = outcome(tmp_path, "blessed", "five", "FAILED", counts=(8, 6, 1), said=(3, 2, 1))

    assert made.problems(records=9, bad_model=True) == [
        "BulkInferencer's state in ML Metadata is FAILED, not COMPLETE.",
        "five: the gate is blessed, not not_blessed.",
        "five: the gate in summary.json is not_blessed, not blessed.",
        "five: the number of records read is 8, not 0.",
        "five: the number of records predicted or failed is 7, not 0.",
        "five: the number of predictions is 0, not 6.",
        "five: examples_read in summary.json is 3, not 8.",
        "five: predictions_written in summary.json is 2, not 6.",
    ]
