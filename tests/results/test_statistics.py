from __future__ import annotations

import dataclasses
import functools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulk_inferencer.results.describe import describe
from bulk_inferencer.results.statistics import OutputStatistics, Statistics
from bulk_inferencer.results.summary import OutputSummary

NUMBERS = describe(np.array([1.0, 2.0, np.nan, 4.0]))
TEXTS = describe(np.array([b"a", b"b", b"a"], object))


def merged(parts):
    return functools.reduce(Statistics.merge, parts, Statistics())


VALUES = st.lists(st.floats(width=16) | st.just(math.nan), max_size=4).map(np.array)
CODES = st.lists(st.integers(0, 3), max_size=4).map(lambda own: np.array(own, int))
# A model returns all outputs for a number of records, but some of them for none.
PARTS = st.builds(
    lambda y, n, model, split, reasons: Statistics(
        {
            model: {
                split: {
                    "y": describe(y),
                    **({"n": describe(np.resize(n, len(y)))} if len(n) else {}),
                }
            }
        },
        {model: {split: reasons}},
    ),
    VALUES,
    CODES,
    st.sampled_from(["five", "ten"]),
    st.sampled_from(["a", "b"]),
    st.dictionaries(st.sampled_from(["E: 1", "E: 2", "F"]), st.integers(1, 3)),
)


def exact(statistics):
    """Returns the statistics without what depends on rounding."""
    return {
        (model, split, name): dataclasses.replace(own, mean=0.0, sum_of_squares=0.0)
        for model, splits in statistics.outputs.items()
        for split, outputs in splits.items()
        for name, own in outputs.items()
    }


@settings(max_examples=60)
@given(st.lists(PARTS, max_size=5), st.integers(0, 5))
def test_statistics_are_the_same_however_they_are_grouped(parts, at):
    whole = merged(parts)
    grouped = merged(parts[:at]).merge(merged(parts[at:]))
    assert (exact(grouped), grouped.failures) == (exact(whole), whole.failures)
    for (model, split, name), own in exact(whole).items():
        assert own == exact(merged(parts[::-1]))[model, split, name]
        found = whole.outputs[model][split][name]
        again = grouped.outputs[model][split][name]
        assert again.mean == pytest.approx(found.mean, nan_ok=True)
        assert again.sum_of_squares == pytest.approx(found.sum_of_squares, abs=1e-9)
        # As many records were predicted, whichever output one asks.
        predicted = {n.records + n.missing for n in whole.outputs[model][split].values()}
        assert predicted == {own.records + own.missing}


def test_statistics_are_read_as_they_were_written(tmp_path):
    assert Statistics.read_if_any(str(tmp_path)) is None
    outputs = {
        "y": NUMBERS,
        "t": TEXTS,
        "none": OutputStatistics(),
        "many": describe(np.arange(20_000)),
    }
    statistics = Statistics(
        {"five": {"a": outputs}}, {"five": {"a": {"E": 2}}, "": {"a": {"F": 1}}}
    )
    statistics.write(str(tmp_path))
    assert Statistics.read(str(tmp_path)) == Statistics.read_if_any(str(tmp_path)) == statistics
    (text,) = (tmp_path / "statistics.json").read_text().splitlines()
    values = json.loads(text)["outputs"]["five"]["a"]
    assert values["none"]["mean"] == "nan"
    assert values["y"]["standard_deviation"] == pytest.approx(np.std([1, 2, 4]))
    assert values["y"]["histogram"] == {"bits": 52, "numbers": [1, 2, 4], "counts": [1, 1, 1]}
    assert values["t"]["classes"] == {"a": 2, "b": 1}
    assert values["many"]["classes"] is None
    assert len(json.dumps(values["many"])) < 20_000


def test_statistics_of_a_model_are_of_one_split_or_of_all_together():
    a, b = {"y": NUMBERS, "t": TEXTS}, {"y": NUMBERS}
    failures = {"five": {"a": {"E": 2}, "b": {"E": 1, "F": 2}}, "": {"a": {"G": 1}}}
    statistics = Statistics({"five": {"a": a, "b": b}, "ten": {"a": b}}, failures)
    assert statistics.of("five", "a") == a
    assert statistics.of("five")["y"] == NUMBERS.merge(NUMBERS)
    assert (statistics.of("five")["t"].records, statistics.of("five")["t"].missing) == (3, 4)
    assert statistics.failures_of("five") == {"E": 3, "F": 2}
    assert statistics.failures_of("five", "b") == {"F": 2, "E": 1}
    assert statistics.of("none") == statistics.of("five", "c") == {}
    assert statistics.failures_of("ten") == {}
    assert statistics.selected(["ten", "none"]) == Statistics({"ten": {"a": b}})
    expected = Statistics({"five": {"b": b}}, {"five": {"b": {"E": 1, "F": 2}}, "": {}})
    assert statistics.selected(["five", ""], "b") == expected


def test_quantiles_and_bars_end_at_the_smallest_and_the_largest_number():
    numbers = np.random.default_rng(0).normal(size=10_000)
    found = describe(numbers)
    assert (found.quantile(0), found.quantile(1)) == (numbers.min(), numbers.max())
    assert found.quantile(0.5) == pytest.approx(np.median(numbers), abs=0.002)
    edges, counts = found.bars(3)
    assert (edges[0], edges[-1], counts.sum()) == (numbers.min(), numbers.max(), 10_000)
    assert all(math.isnan(OutputStatistics().quantile(q)) for q in (0, 0.5, 1))
    assert math.isnan(OutputStatistics().not_finite_fraction)
    assert math.isnan(OutputStatistics().standard_deviation)


def test_summary_of_an_output_holds_the_20_most_frequent_classes():
    classes = np.repeat(np.arange(30), np.arange(30, 0, -1))
    found = describe(classes).summary
    assert list(found.classes.items()) == [(str(i), 30 - i) for i in range(20)]
    assert (found.different_classes, found.quantiles["0.5"]) == (30, 8)
    assert describe(np.arange(20_000)).summary.different_classes is None
    nothing = [math.nan] * 4
    assert TEXTS.summary == OutputSummary(
        3, 0, 0, 0, 0, *nothing, classes={"a": 2, "b": 1}, different_classes=2
    )
    assert Statistics({"m": {"s": {"t": TEXTS}}}).summary_of("m") == {"s": {"t": TEXTS.summary}}


@pytest.mark.parametrize(
    ("values", "is_categorical"),
    [
        (np.array([1, 2]), True),
        (np.array([[0.1, 0.9], [0.2, 0.8]]), False),
        (np.array([0.5, 0.25]), False),
        (np.arange(20_000), False),
        (np.zeros(0, int), False),
    ],
)
def test_output_is_categorical_if_each_record_is_a_class_that_is_known(values, is_categorical):
    assert describe(values).is_categorical is is_categorical
