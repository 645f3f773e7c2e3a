"""What a comparison holds, merges and writes. How batches are compared: see test_compare.py."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from bulk_inferencer.results.comparison import (
    ClassPair,
    Comparison,
    DifferentRecord,
    Outcome,
    OutputComparison,
    PairComparison,
    confusion_table,
)

INF, NAN = math.inf, math.nan


def output(**changes):
    """Returns a comparison of four records, of which three agree."""
    whole = OutputComparison(
        records=4,
        agreeing=3,
        values=3,
        not_finite=1,
        sum_absolute_difference=1.5,
        max_absolute_difference=1.5,
        confusion=confusion_table(("a", "b"), {("x", "x"): 3, ("x", "y"): 1}),
        most_different=(DifferentRecord(INF, "f", 7, {"id": [3]}, {"a": ["nan"], "b": [2.0]}),),
        keeps=2,
    )
    return dataclasses.replace(whole, **changes)


def different(file, record, difference=1.0):
    return DifferentRecord(difference, file, record, {}, {})


# Merging


def test_merged_outputs_are_added_up():
    other = output(
        confusion=confusion_table(("a", "b"), {("x", "y"): 5}),
        max_absolute_difference=2.0,
        most_different=(different("e", 9, 1.5), different("f", 1)),
        keeps=3,
    )
    assert output().merge(other) == OutputComparison(
        records=8,
        agreeing=6,
        values=6,
        not_finite=2,
        sum_absolute_difference=3.0,
        max_absolute_difference=2.0,
        confusion=(ClassPair({"a": "x", "b": "y"}, 6), ClassPair({"a": "x", "b": "x"}, 3)),
        most_different=(output().most_different[0], different("e", 9, 1.5)),
        keeps=2,
    )


def test_outcomes_of_both_are_merged():
    x = Outcome(1, 1.0, NAN, NAN)
    merged = Comparison(outcomes={"a": x}).merge(Comparison(outcomes={"b": x}))
    assert merged == Comparison(outcomes={"a": x, "b": x})


def table(count, first=0):
    return {(str(i), "x"): 1 for i in range(first, first + count)}


def test_confusion_is_ordered_by_frequency_and_then_by_class():
    found = confusion_table(("m", "n"), {("b", "y"): 1, ("c", "x"): 2, ("a", "z"): 1})
    assert found == (
        ClassPair({"m": "c", "n": "x"}, 2),
        ClassPair({"m": "a", "n": "z"}, 1),
        ClassPair({"m": "b", "n": "y"}, 1),
    )


def test_confusion_is_given_up_for_good_beyond_1000_pairs_of_classes():
    whole = output(confusion=confusion_table(("a", "b"), table(1000)))
    assert len(whole.confusion) == 1000
    assert confusion_table(("a", "b"), table(1001)) is None
    assert len(whole.merge(whole).confusion) == 1000
    merged = whole.merge(output(confusion=confusion_table(("a", "b"), table(1000, first=1))))
    assert merged.confusion is None
    assert (merged.merge(output()).confusion, output().merge(merged).confusion) == (None, None)


@pytest.mark.parametrize(
    ("text", "fits"), [("x" * 256, True), ("x" * 257, False), ("ä" * 129, False)]
)
def test_confusion_is_given_up_for_a_class_of_more_than_256_bytes(text, fits):
    assert (confusion_table(("a", "b"), {("y", text): 1}) is not None) == fits


def test_shares_and_means_of_nothing_are_not_numbers():
    assert (output().agreement, output().mean_absolute_difference) == (0.75, 0.5)
    nothing = output(records=0, values=0)
    assert math.isnan(nothing.agreement)
    assert math.isnan(nothing.mean_absolute_difference)


def test_outcome_without_a_mean_equals_itself():
    assert Outcome(0, NAN, NAN, NAN) == Outcome(0, NAN, NAN, NAN)
    assert Outcome(1, 2.0, NAN, NAN) != Outcome(1, 3.0, NAN, NAN)
    assert Outcome(1, 2.0, NAN, NAN) != (1, 2.0, NAN, NAN)


# JSON


def test_comparison_is_one_file_of_strict_json_and_is_read_as_it_was_written(tmp_path):
    pair = PairComparison(("a", "b"), {"y": output(), "z": output(confusion=None)}, {"w": "why"})
    outcomes = {"a": Outcome(2, 1.0, -INF, INF), "b": Outcome(0, NAN, NAN, NAN)}
    comparison = Comparison((pair,), outcomes)
    comparison.write(str(tmp_path))

    (file,) = tmp_path.iterdir()
    assert file.name == "comparison.json"
    different = {"difference": "inf", "file": "f", "record": 7}
    y = {
        "records": 4,
        "agreeing": 3,
        "agreement": 0.75,
        "values": 3,
        "not_finite": 1,
        "sum_absolute_difference": 1.5,
        "mean_absolute_difference": 0.5,
        "max_absolute_difference": 1.5,
        "confusion": [
            {"classes": {"a": "x", "b": "x"}, "records": 3},
            {"classes": {"a": "x", "b": "y"}, "records": 1},
        ],
        "most_different": [
            {**different, "keys": {"id": [3]}, "values": {"a": ["nan"], "b": [2.0]}}
        ],
        "keeps": 2,
    }
    outputs = {"y": y, "z": {**y, "confusion": None}}
    expected = {
        "pairs": [{"models": ["a", "b"], "outputs": outputs, "not_compared": {"w": "why"}}],
        "outcomes": {
            "a": {"count": 2, "mean": 1.0, "low": "-inf", "high": "inf"},
            "b": {"count": 0, "mean": "nan", "low": "nan", "high": "nan"},
        },
    }
    assert file.read_text() == json.dumps(expected, indent=2) + "\n"
    assert Comparison.read(str(tmp_path)) == comparison
