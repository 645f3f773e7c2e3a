from __future__ import annotations

import numpy as np

from bulk_inferencer._layout import INFERENCE_RESULT
from bulk_inferencer.results.describe import describe
from bulk_inferencer.results.statistics import Statistics

Y = describe(np.array([0.0, 1.0, 2.0, 5.0, np.nan]))
LABEL = describe(np.array([b"<b>", b"a", b"a", b"a"], object))


def one(*outputs, failures=None):
    named = {f"output_{i}": own for i, own in enumerate(outputs)}
    return Statistics(
        {INFERENCE_RESULT: {"a": named}}, {INFERENCE_RESULT: {"a": failures}} if failures else {}
    )


def test_output_is_a_row_with_its_distribution():
    assert str(one(Y, LABEL, failures={"it is no tf.Example": 2})) == (
        "Statistics of 2 outputs, 2 failed\n\n"
        "output    records  NaN  smallest  median  mean  std. dev.  largest  distribution\n"
        "output_0        5    1         0     1.5     2    1.87083        5  █   █   █          █\n"
        "output_1        4                                                   a 75 %, <b> 25 %\n\n"
        "Failures:\n\n"
        "reason               records\n"
        "it is no tf.Example        2"
    )


def test_splits_are_one_and_models_are_named():
    both = Statistics({"five": {"a": {"y": Y}, "b": {"y": Y}}, "ten": {"a": {"y": Y}}})
    assert repr(both) == "<Statistics of 2 models, 1 output, 0 failed>"
    assert "model  output  records  NaN" in str(both)
    assert "five   y            10    2" in str(both)
    assert "ten    y             5    1" in str(both)


def test_of_many_classes_the_most_frequent_are_shown():
    many = describe(np.array([b"%d" % (i % 7) for i in range(70)], object))
    assert "0 14.3 %, 1 14.3 %, 2 14.3 %, 4 more" in str(one(many))
    numbers = describe(np.arange(70) % 7)
    assert "█" in str(one(numbers))


def test_statistics_of_nothing_are_shown():
    assert str(Statistics()) == "Statistics of 0 models, 0 outputs, 0 failed"


def test_statistics_are_html_in_a_notebook():
    page = one(Y, LABEL)._repr_html_()
    assert page.count("<rect") == 4
    assert "<title>from 0 to 5</title>" in page
    assert "&lt;b&gt; 25 %" in page
