"""What is expected of predictions: checked as it is set, read from files, and judged."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from bulk_inferencer.errors import SettingsError
from bulk_inferencer.results.compare import Comparing, compare_batch
from bulk_inferencer.results.describe import describe
from bulk_inferencer.results.expectations import (
    Check,
    Expectations,
    OutputExpectations,
    check_baseline_models,
    check_outputs,
    judge,
    read_expectations,
)
from bulk_inferencer.results.statistics import Statistics
from bulk_inferencer.results.summary import Counts

Bounds = OutputExpectations

# Settings


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        (
            {"max_drift": 5},
            (
                "OutputExpectations.max_drift must be a number from 0 to 1, not 5. Write five "
                "percent as 0.05."
            ),
        ),
        (
            {"minimum": True},
            (
                "OutputExpectations.minimum must be a number, not True. Leave it out to expect "
                "nothing."
            ),
        ),
        (
            {"max_mean": math.nan},
            (
                "OutputExpectations.max_mean must be a number, not nan. Leave it out to expect "
                "nothing."
            ),
        ),
        (
            {"quantiles": {50: (0, 1)}},
            (
                "A key of OutputExpectations.quantiles must be a number from 0 to 1, not 50. The "
                "median is 0.5."
            ),
        ),
        (
            {"quantiles": {0.5: 10}},
            (
                "OutputExpectations.quantiles[0.5] must be the lowest and the highest value, such "
                "as (0.1, 0.5), not 10."
            ),
        ),
        (
            {"quantiles": [0.5]},
            "OutputExpectations.quantiles must be a dict, not [0.5]. Write {0.5: (10, 20)}.",
        ),
        (
            {"class_shares": {"cat": (0.5, 0.1)}},
            (
                "OutputExpectations.class_shares['cat'] is from 0.5 to 0.1, so nothing can be "
                "between. Exchange them."
            ),
        ),
        (
            {"class_shares": {"cat": (0.6, 1), "dog": (0.5, 1)}},
            (
                "The smallest shares in OutputExpectations.class_shares add up to 1.1, but all "
                "shares together are 1. Lower some of them."
            ),
        ),
        (
            {"minimum": 2, "maximum": 1},
            (
                "OutputExpectations.minimum is at least 2, but OutputExpectations.maximum is at "
                "most 1, so no predictions can meet both. Change one of them."
            ),
        ),
    ],
)
def test_bound_that_cannot_be_is_refused(bounds, message):
    with pytest.raises(SettingsError) as raised:
        OutputExpectations(**bounds)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    "bounds",
    [
        {"min_mean": 2, "max_mean": 1},
        {"min_mean": 2, "maximum": 1},
        {"minimum": 2, "max_mean": 1},
        {"quantiles": {0.1: (2, 3)}, "maximum": 1},
        {"quantiles": {0.1: (2, 3)}, "minimum": 4},
        {"quantiles": {0.9: (1, 2), 0.1: (3, 4)}},
    ],
)
def test_bounds_that_contradict_each_other_are_refused(bounds):
    with pytest.raises(SettingsError, match="so no predictions can meet both"):
        OutputExpectations(**bounds)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"min_records": 0},
            (
                "Expectations.min_records must be a whole number of at least 1, not 0. A model "
                "that has predicted nothing cannot be blessed."
            ),
        ),
        (
            {"outputs": {"y": {"minimum": 0}}},
            (
                "Expectations.outputs['y'] must be an OutputExpectations, not {'minimum': 0}. "
                "Write OutputExpectations(minimum=0)."
            ),
        ),
        (
            {"outputs": {0: Bounds()}},
            ("A key of Expectations.outputs must be a str, not 0. Write 'y'."),
        ),
        (
            {"outputs": {"y": Bounds(min_agreement=0.9)}},
            (
                "Output 'y' is expected to be like another model's, but "
                "Expectations.baseline_model does not say which. Name it."
            ),
        ),
        (
            {"baseline_model": "five"},
            (
                "Expectations.baseline_model is 'five', but nothing is expected of the differences "
                "from it. Set OutputExpectations.min_agreement or "
                "OutputExpectations.max_mean_absolute_difference or "
                "OutputExpectations.max_absolute_difference, or leave it out."
            ),
        ),
    ],
)
def test_expectations_that_cannot_be_are_refused(settings, message):
    with pytest.raises(SettingsError) as raised:
        Expectations(**settings)
    assert str(raised.value) == message


def test_expected_outputs_must_be_there_where_that_is_known():
    expected = Expectations(outputs={"scors": Bounds()})
    check_outputs(expected, (), "the model")
    with pytest.raises(SettingsError) as raised:
        check_outputs(expected, ("scores", "classes"), "/models/7")
    assert str(raised.value) == (
        "Something is expected of the output 'scors', but /models/7 has scores, classes. Did you "
        "mean 'scores'? Correct Expectations.outputs."
    )


def like(baseline_model, **bounds):
    return Expectations(outputs={"y": Bounds(**bounds)}, baseline_model=baseline_model)


@pytest.mark.parametrize(
    ("baseline_model", "models", "is_split", "end"),
    [
        ("fife", ["ten", "five"], False, "the others are five. Did you mean 'five'? Name another"),
        ("ten", ["ten", "five"], False, "but the others are five. Name another model of the same"),
        ("five", ["ten"], False, "but there is no other one. Name another model of the same run."),
        ("five", ["ten", "five"], True, "but in an A/B test no record goes to both models. Leave"),
    ],
)
def test_baseline_model_must_score_the_same_records(baseline_model, models, is_split, end):
    expected = {"ten": like(baseline_model, min_agreement=1)}
    with pytest.raises(SettingsError) as raised:
        check_baseline_models(expected, models, is_split)
    message = f"Model 'ten': Expectations.baseline_model is '{baseline_model}', "
    assert str(raised.value).startswith(message)
    assert end in str(raised.value)


# Files

WRITTEN = {
    "max_failed_fraction": 0.01,
    "min_records": 5,
    "outputs": {
        "y": {"minimum": 1e-3, "quantiles": {"0.5": [10, None]}, "max_drift": 0.1},
        "kind": {"class_shares": {"no": [None, 0.5], "010": {"at_least": 0.25}}},
    },
}
MEANT = Expectations(
    outputs={
        "y": Bounds(minimum=0.001, quantiles={0.5: (10, math.inf)}, max_drift=0.1),
        "kind": Bounds(class_shares={"no": (0, 0.5), "010": (0.25, 1)}),
    },
    max_failed_fraction=0.01,
    min_records=5,
)
IN_YAML = """\
max_failed_fraction: 1e-2
min_records: 5
outputs:
  y: {minimum: 1e-3, quantiles: {0.5: [10, .inf]}, max_drift: 0.1}
  kind:
    class_shares:
      no: [~, 0.5]
      010: {at_least: 0.25}
"""


@pytest.mark.parametrize("text", [IN_YAML, json.dumps(WRITTEN), json.dumps(WRITTEN, indent="\t")])
def test_file_holds_the_expectations_of_a_model_or_of_several(tmp_path, text):
    path = tmp_path / "expectations"
    path.write_text(text)
    assert read_expectations(path) == {"inference_result": MEANT}
    path.write_text(json.dumps({"five": WRITTEN, "ten": {"min_records": 7}}))
    assert read_expectations(path) == {"five": MEANT, "ten": Expectations(min_records=7)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "The file is empty. Write what is expected, such as outputs."),
        ("- y", "The file must hold names and values, such as minimum: 0, not ['y']."),
        (
            "max_failed_fracton: 1",
            (
                "There is no expectation 'max_failed_fracton'. Did you mean 'max_failed_fraction'? "
                "There are outputs, max_failed_fraction, min_records, baseline_model."
            ),
        ),
        (
            "output: {y: {minimum: 0}}",
            (
                "Model 'output' (or is it none? Did you mean 'outputs'?): There is no expectation "
                "'y'. "
                "There are outputs, max_failed_fraction, min_records, baseline_model."
            ),
        ),
        (
            "outputs: {y: {minimun: 0}}",
            "Output 'y': There is no expectation 'minimun'. Did you mean 'minimum'? There are "
            + ", ".join(own.name for own in dataclasses.fields(OutputExpectations))
            + ".",
        ),
        ("outputs: {y: 5}", "Output 'y': It must hold names and values, such as minimum: 0, not "),
        (
            "outputs: {y: {minimum: low}}",
            "Output 'y': OutputExpectations.minimum must be a number, not 'low'. Leave it out to ",
        ),
        ("outputs: {y: {quantiles: {0.5: [1, 2], .50: [1, 2]}}}", "Output 'y': quantiles has 0.5 "),
        ("min_records: 2.5", "Expectations.min_records must be a whole number of at least 1, not "),
    ],
)
def test_file_with_something_else_is_refused(tmp_path, text, message):
    path = tmp_path / "expectations.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError) as raised:
        read_expectations(path)
    assert str(raised.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: 1\nb: {x: 1, x: 2}", "{} has the key 'x' twice. Remove one of them."),
        (b'{"x": 1, "x": 2}', "{} has the key 'x' twice. Remove one of them."),
        (b"a: [1", "{} is neither YAML nor JSON: while parsing a flow sequence"),
        (b"\xff", "{} is not text in UTF-8: 'utf-8' codec can't decode byte 0xff in position 0"),
        (None, "There is no file {}. Correct the path."),
    ],
)
def test_file_that_cannot_be_read_is_named(tmp_path, content, message):
    path = tmp_path / "expectations"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError) as raised:
        read_expectations(path)
    assert str(raised.value).startswith(message.format(path))


# Judgement

Y = np.array([0.0, 10, 20, 30, math.nan, math.inf])
KIND = np.array([b"cat", b"cat", b"dog", b"true", b"dog", b"cat"], object)


def judged(bounds, values=Y, baseline=None, other=None, failed=0):
    """Returns the checks of an output `y` beyond that of the number of records."""
    rows = values[: len(values) - failed]
    outputs = {"y": describe(rows)} if len(rows) else {}
    comparison = None
    if other is not None:
        pair = {"five": {"y": other}, "ten": {"y": rows}}
        comparison = compare_batch([b""] * len(rows), pair, lambda i: ("", i), Comparing())
    compares = bounds.compares_models
    _, *checks = judge(
        Expectations(outputs={"y": bounds}, baseline_model="five" if compares else ""),
        model="ten",
        statistics=Statistics({"ten": {"all": outputs}}),
        comparison=comparison,
        counts=Counts(len(values), len(rows), failed),
        baseline=None if baseline is None else Statistics({"old": {"a": {"y": baseline}}}),
    )
    return checks


@pytest.mark.parametrize(
    ("bounds", "values", "sentence"),
    [
        (Bounds(minimum=0), Y, "The smallest number of 'y' should be at least 0, and is 0."),
        (Bounds(minimum=0.5), Y, "The smallest number of 'y' should be at least 0.5, but is 0."),
        (
            Bounds(maximum=29.999999),
            Y,
            "The largest number of 'y' should be at most 29.999999, but is 30.",
        ),
        (
            Bounds(maximum=1.00000012),
            np.array([1.00000016]),
            "The largest number of 'y' should be at most 1.00000012, but is 1.00000016.",
        ),
        (
            Bounds(maximum=2**53),
            np.array([2**53 + 2]),
            "The largest number of 'y' should be at most 9007199254740992, but is 9.0072e+15.",
        ),
        (
            Bounds(class_shares={"a\nb": (0.5, 1)}),
            np.array([b"a\nb"], object),
            "The share of class 'a\\nb' of 'y' should be from 0.5 to 1, and is 1.",
        ),
        (
            Bounds(max_mean=15),
            np.array([15.0000001]),
            "The mean of 'y' should be at most 15, but is 15.0000001.",
        ),
        (Bounds(maximum=29), Y, "The largest number of 'y' should be at most 29, but is 30."),
        (Bounds(min_mean=15), Y, "The mean of 'y' should be at least 15, and is 15."),
        (
            Bounds(min_mean=0, max_mean=14.9999999),
            Y,
            "The mean of 'y' should be from 0 to 14.9999999, but is 15.",
        ),
        (
            Bounds(quantiles={1: (0, 29)}),
            Y,
            "The 1 quantile of 'y' should be from 0 to 29, but is 30.",
        ),
        (
            Bounds(quantiles={0.5: (None, 20)}),
            Y,
            "The median of 'y' should be at most 20, and is 15.",
        ),
        (
            Bounds(max_not_finite_fraction=0.3),
            Y,
            (
                "The share of NaN and infinities among the numbers of 'y' should be at most 0.3, "
                "but is 0.333333."
            ),
        ),
        (
            Bounds(max_not_finite_fraction=0.3),
            KIND,
            (
                "The share of NaN and infinities among the numbers of 'y' should be at most 0.3, "
                "but is unknown, since it holds no numbers."
            ),
        ),
        (
            Bounds(minimum=0),
            np.array([math.nan]),
            (
                "The smallest number of 'y' should be at least 0, but is unknown, since all of its "
                "numbers are NaN or infinite."
            ),
        ),
        (
            Bounds(min_mean=0),
            KIND,
            "The mean of 'y' should be at least 0, but is unknown, since it holds no numbers.",
        ),
        (
            Bounds(class_shares={"cat": (0.5, 1)}),
            KIND,
            "The share of class 'cat' of 'y' should be from 0.5 to 1, and is 0.5.",
        ),
        (
            Bounds(class_shares={"cow": (0.1, 1)}),
            KIND,
            "The share of class 'cow' of 'y' should be from 0.1 to 1, but is 0.",
        ),
        (
            Bounds(class_shares={"true": (0.5, 1)}),
            np.array([True, False]),
            "The share of class 'true' of 'y' should be from 0.5 to 1, and is 0.5.",
        ),
        (
            Bounds(class_shares={"cat": (0, 1)}),
            Y,
            (
                "The share of class 'cat' of 'y' should be from 0 to 1, but is unknown, since the "
                "output has no classes."
            ),
        ),
        (
            Bounds(class_shares={"cat": (0, 1)}),
            np.array([b"c" * 300], object),
            (
                "The share of class 'cat' of 'y' should be from 0 to 1, but is unknown, since "
                "there are more classes than can be counted."
            ),
        ),
        (
            Bounds(max_drift=0.1),
            Y,
            (
                "The drift of 'y' from the baseline should be at most 0.1, and is unknown, since "
                "there is no baseline yet."
            ),
        ),
        (Bounds(), Y, "The output 'y' should be there, and is there."),
    ],
)
def test_each_bound_is_a_sentence(bounds, values, sentence):
    (check,) = judged(bounds, values)
    assert str(check) == sentence
    assert check.is_met == (" and is " in sentence)


@pytest.mark.parametrize(
    ("baseline", "found", "is_met"),
    [
        (Y, "0", True),
        (np.array([0.0, 10, 20, 30, 40, 50]), "0.333333", False),
        (KIND, "unknown, since the two cannot be compared", False),
        (Y[:0], "unknown, since the baseline has no such output", False),
    ],
)
def test_drift_is_bounded_by_what_the_baseline_was_like(baseline, found, is_met):
    (check,) = judged(Bounds(max_drift=0.1), baseline=describe(baseline))
    assert check == Check("drift of 'y' from the baseline", "at most 0.1", found, is_met)


AGREES = Bounds(min_agreement=0.75)
CLOSE = Bounds(max_mean_absolute_difference=1)
NEAR = Bounds(max_absolute_difference=1)
FOUR = np.array([1.0, 2, 3, 4])
WITH_NAN = np.array([1.0, 2, 3, math.nan])


@pytest.mark.parametrize(
    ("bounds", "other", "found", "is_met"),
    [
        (AGREES, np.array([1.0, 2, 3, 9]), "0.75", True),
        (AGREES, np.array([1.0, 2, 9, 9]), "0.5", False),
        (CLOSE, np.array([1.0, 2, 3, 8]), "1", True),
        (NEAR, np.array([1.0, 2, 3, 8]), "4", False),
        (CLOSE, WITH_NAN, "unknown, since NaN or an infinity leaves 1 without one", False),
        (NEAR, WITH_NAN, "unknown, since NaN or an infinity leaves 1 without one", False),
        (
            AGREES,
            np.array([b"a"] * 4, object),
            "unknown, since it could not be compared: text of 'five', numbers of 'ten'",
            False,
        ),
        (AGREES, None, "unknown, since no record was scored by 'five' as well", False),
        (CLOSE, None, "unknown, since no record was scored by 'five' as well", False),
    ],
)
def test_model_is_compared_with_the_one_beside_it(bounds, other, found, is_met):
    (check,) = judged(bounds, FOUR, other=other)
    assert (check.found, check.is_met) == (found, is_met)
    assert check.what.endswith(" 'y' of 'five'")


def test_without_predictions_nothing_is_met_and_the_checks_say_so():
    def found(counts, statistics):
        checks = judge(
            Expectations(outputs={"y": Bounds(minimum=0)}, max_failed_fraction=0.5),
            model="ten",
            statistics=statistics,
            comparison=None,
            counts=counts,
            baseline=None,
        )
        assert not any(check.is_met for check in checks)
        return [str(check) for check in checks]

    assert found(Counts(), Statistics()) == [
        "The number of predicted records should be at least 1, but is 0.",
        (
            "The share of records that failed should be at most 0.5, but is unknown, since there "
            "are no records."
        ),
        "The output 'y' should be there, but is missing, since no record was predicted.",
    ]
    assert found(Counts(2000, 0, 2000), Statistics())[1] == (
        "The share of records that failed should be at most 0.5, but is 1 (2,000 of 2,000)."
    )
    (check,) = judged(Bounds(), Y[:1], failed=1)
    assert check.found == "missing, since no record was predicted"


def test_output_that_the_model_does_not_have_is_missing():
    statistics = Statistics({"ten": {"all": {"z": describe(Y)}}})
    _, check = judge(
        Expectations(outputs={"y": Bounds(minimum=0)}),
        model="ten",
        statistics=statistics,
        comparison=None,
        counts=Counts(6, 6),
        baseline=None,
    )
    assert check == Check("output 'y'", "there", "missing, since the model has z", False)
