from __future__ import annotations

import dataclasses
import re

from bulk_inferencer._gate import BLESSED, NOT_BLESSED, Decision
from bulk_inferencer._layout import INFERENCE_RESULT
from bulk_inferencer.results import display_summary
from bulk_inferencer.results.checks import Check
from bulk_inferencer.results.places import Place
from bulk_inferencer.results.selection import Selection
from bulk_inferencer.results.summary import (
    BranchSummary,
    Counts,
    DamagedFile,
    Reused,
    Summary,
    stage_counts,
)

FIVE = BranchSummary(
    splits={"a": Counts(1005, 1003, 2), "b": Counts(5, 5, 0)},
    gate=Decision(BLESSED, "Evaluator blessed the model."),
    model_path="/models/5",
    failures={"it is no tf.Example": 2},
)
THREE = BranchSummary({}, Decision(NOT_BLESSED, "Evaluator did not bless it."), "/models/3")
MET = Check("mean of 'y'", "at most 5", "4", True)
UNMET = Check("largest 'y'", "at most 5", "7", False)


def one(**changes):
    return Summary({INFERENCE_RESULT: dataclasses.replace(FIVE, **changes)})


def test_summary_of_one_model_is_a_balance_with_the_gate_and_the_failures():
    line = "Summary: 1,008 predicted, 2 failed, gate: blessed, model: /models/5"
    assert repr(one()) == f"<{line}>"
    assert str(one()) == (
        f"{line}\n\n"
        "split   read  = predicted  + failed\n"
        "a      1,005        1,003         2\n"
        "b          5            5         0\n"
        "all    1,010        1,008         2\n\n"
        "gate     why                           path\n"
        "blessed  Evaluator blessed the model.  /models/5\n\n"
        "reason of failures   records\n"
        "it is no tf.Example        2"
    )


def test_summary_of_several_models_has_rows_for_each():
    text = str(Summary({"five": FIVE, "three": THREE}))
    for line in (
        "gates: five blessed, three not_blessed (closed), models: five, three",
        "model  split   read  = predicted  + failed",
        "five   all    1,010        1,008         2",
        "three             0            0         0",
        "three  not_blessed (closed)  Evaluator did not bless it.   /models/3",
        "five   it is no tf.Example        2",
    ):
        assert line in text


def test_ab_test_counts_the_records_that_reached_no_model():
    ten = dataclasses.replace(FIVE, splits={"a": Counts(10, 10, 0)})
    text = str(Summary({"five": FIVE, "ten": ten}, "split", {"a": 7, "b": 0}))
    assert (
        "ten         a         10           10         0\n"
        "(no model)  a          7            0         7\n"
        "all                1,027        1,018         9" in text
    )


def test_cascade_shows_where_records_exit():
    text = str(one(stages=stage_counts({"small": 13, "full": 4})))
    assert (
        "stage  records  = exited  + escalated\n"
        "small       13         9            4\n"
        "full         4         4            0" in text
    )


def test_expectations_are_shown_with_what_was_found_those_not_met_first():
    text = str(one(checks=(MET, UNMET)))
    assert text.startswith(
        "Summary: 1,008 predicted, 2 failed, gate: blessed, model: /models/5, expectations not met"
    )
    assert "largest 'y'  at most 5  7      NO\nmean of 'y'  at most 5  4      yes" in text
    assert repr(one(checks=(MET,))).endswith("model: /models/5, expectations met>")
    ten = dataclasses.replace(FIVE, checks=(UNMET,))
    assert repr(Summary({"five": FIVE, "ten": ten})).endswith("expectations not met by ten>")


def test_what_was_odd_about_a_run_is_shown():
    summary = dataclasses.replace(
        one(not_finite={"y": 3, "z": 0}),
        damaged_files=(DamagedFile("a", "/data/1.gz", "It ends within a record."),),
        reused=Reused(2, 1000),
    )
    text = str(summary)
    assert re.search(r"output  records with NaN or an infinity\ny +3\n", text)
    assert "1 input file could be read in part only:" in text
    assert "a      /data/1.gz  It ends within a record." in text
    assert text.endswith(
        "1,000 records of these had been read by an earlier run, which was interrupted."
    )


def test_summary_without_models_is_shown():
    assert repr(Summary({})) == "<Summary: 0 predicted, 0 failed, no models>"


def test_summary_is_html_in_a_notebook():
    page = one(model_path="<script>")._repr_html_()
    assert "<th" in page
    assert "&lt;script&gt;" in page
    assert "<script" not in page


def test_records_that_reached_no_model_count_in_their_split_if_all_models_are_read():
    summary = Summary({"five": FIVE, "ten": FIVE}, routing="split", unrouted={"a": 2, "b": 1})
    place = Place("folder", {}, None, None, summary, "folder")

    def unrouted(split, *models):
        return Selection(place, split, models).unrouted

    assert unrouted(None, "five", "ten") == {"a": 2, "b": 1}
    assert unrouted("b", "five", "ten") == {"b": 1}
    assert unrouted(None, "five") == {}
    line = display_summary.heading(summary, Counts(5, 5, 0), {"b": 1}, ["five", "ten"])
    assert line.startswith("5 predicted, 1 failed, ")
