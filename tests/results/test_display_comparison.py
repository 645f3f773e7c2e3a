from __future__ import annotations

import math
import re

from bulk_inferencer.results.comparison import (
    Comparison,
    DifferentRecord,
    Outcome,
    OutputComparison,
    PairComparison,
    confusion_table,
)

MODELS = ("five", "ten")


def output(classes=None, different=(), **numbers):
    values = {"values": 0, "not_finite": 0, "max_absolute_difference": 0.0, **numbers}
    confusion = None if classes is None else confusion_table(MODELS, classes)
    return OutputComparison(
        records=200,
        agreeing=25,
        sum_absolute_difference=values["max_absolute_difference"] * values["values"] / 2,
        confusion=confusion,
        most_different=tuple(different),
        keeps=20,
        **values,
    )


def different(number, difference, five, ten, **keys):
    values = {"five": five, "ten": ten}
    return DifferentRecord(difference, "/data/in.gz", number, keys, values)


def comparison(not_compared=None, **outputs):
    return Comparison((PairComparison(MODELS, outputs, not_compared or {}),))


def test_outputs_are_compared_in_a_row_each():
    y = output({}, values=200, not_finite=3, max_absolute_difference=5.0)
    text = str(comparison(y=y, label=output({})))
    assert text == (
        "Comparison of five and ten\n\n"
        "output  records   agree  mean |five - ten|  largest  NaN or infinite\n"
        "y           200  12.5 %                2.5        5                3\n"
        "label       200  12.5 %"
    )


def test_few_classes_are_a_matrix_in_the_order_of_numbers():
    text = str(comparison(y=output({("10", "2"): 3, ("2", "2"): 1, ("2", "<b>"): 5})))
    assert text.endswith(
        "Classes of y:\n\n"
        "five → ten  2  10  <b>\n"
        "2           1   0    5\n"
        "10          3   0    0\n"
        "<b>         0   0    0"
    )


def test_of_many_classes_the_largest_pairs_are_listed():
    text = str(comparison(y=output({(str(i), str(i + 1)): i for i in range(1, 100)})))
    assert "five  ten  records\n99    100       99\n98    99        98" in text
    assert text.endswith("and 89 more")
    assert str(comparison(y=output(None))).endswith("y has too many classes for a table of them.")


def test_records_that_differ_most_are_shown_with_keys_and_values():
    records = [
        different(7, math.inf, ["nan"], [2.0], id=["<script>"], n=[1, 2]),
        different(8, 1.5, [1.0, 2.0, 3.0, 4.0, 5.0], [2.5] * 5),
        different(9, 0.0, [1.0], [1.0]),
    ]
    text = str(comparison(y=output({}, records)))
    fields = [re.split("  +", line.strip()) for line in text.splitlines()[-3:]]
    assert fields == [
        ["key", "five", "ten", "difference", "input"],
        ["id <script>, n [1, 2]", "nan", "2", "inf", "in.gz, record 7"],
        ["[1, 2, 3, 4, ...]", "[2.5, 2.5, 2.5, 2.5, ...]", "1.5", "in.gz, record 8"],
    ]
    assert "<script" not in comparison(y=output({}, records))._repr_html_()


def test_outputs_without_a_comparison_have_a_reason():
    text = str(comparison({"z": "only 'five' has it"}))
    assert text.endswith("Not compared of five and ten:\n\noutput  why\nz       only 'five' has it")


def test_outcomes_are_shown_with_their_intervals():
    outcomes = Comparison(outcomes={"five": Outcome(3, 0.5, 0.25, 0.75)})
    assert repr(outcomes) == "<Comparison of outcomes of five>"
    assert str(outcomes).endswith(
        "model  outcomes  mean  from    to\nfive          3   0.5  0.25  0.75"
    )


def test_pairs_of_three_models_are_told_apart():
    pairs = [PairComparison((a, b), {}, {"y": "x"}) for a, b in (("a", "b"), ("a", "c"))]
    assert repr(Comparison(tuple(pairs))) == "<Comparison of a and b; a and c>"
    assert repr(Comparison()) == "<Comparison of no models>"
