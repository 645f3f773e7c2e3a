from __future__ import annotations

import math

import numpy as np
import pytest

from bulk_inferencer import (
    BatchBounds,
    Comparing,
    ExitWhen,
    FailureLimit,
    Limits,
    SavedModel,
    TFServing,
)
from bulk_inferencer._checks import check_kind, check_number, check_tuple, doubled
from bulk_inferencer.errors import SettingsError
from tests.helpers import exactly


@pytest.mark.parametrize(
    ("bounds", "wanted", "good", "bad"),
    [
        ({}, "a number", (-1, 0.5, math.inf, True), ("3", None, math.nan, 1j)),
        ({"low": 1}, "a number of at least 1", (1, 1.5, np.float32(2)), (0, 0.9, -math.inf)),
        ({"low": 0, "high": 1}, "a number from 0 to 1", (0, 1.0), (-0.1, 1.1, math.inf)),
        ({"whole": True}, "a whole number", (-7, np.int64(7)), (1.0, 1.5, "3", [3])),
        ({"whole": True, "low": 1}, "a whole number of at least 1", (1, 9), (0, 1.5)),
    ],
)
def test_number_has_to_be_one_within_the_bounds(bounds, wanted, good, bad):
    for value in good:
        check_number("A.b", value, "Mind it.", **bounds)
    for value in bad:
        message = f"A.b must be {wanted}, not {value!r}. Mind it."
        with pytest.raises(SettingsError, match=exactly(message)):
            check_number("A.b", value, "Mind it.", **bounds)


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        ("id", str, "A.b must be a tuple of names, not 'id'. Write ('id',)."),
        (("id", 3), str, "A.b must be a tuple of names, not ('id', 3). Write ('name',)."),
        (None, str, "A.b must be a tuple of names, not None. Write ('name',)."),
        (1.5, float, "A.b must be a tuple of float, not 1.5. Write (1.5,)."),
        (["x"], float, "A.b must be a tuple of float, not ['x']. Write (float(...),)."),
    ],
)
def test_tuple_has_to_hold_values_of_one_kind(value, kind, message):
    with pytest.raises(SettingsError, match=exactly(message)):
        check_tuple("A.b", value, kind)
    for good in ((), ("a", "b"), ["a"], {"a"}):
        check_tuple("A.b", good, str)


@pytest.mark.parametrize("word", ["serve", "serving_default", "train"])
def test_name_that_has_come_apart_into_its_letters_is_refused(word):
    message = (
        f"A.b has the letters {', '.join(word)} as names, because '{word}' was given where a list "
        f"belongs. Write ['{word}']. If they are meant, put them in alphabetical order."
    )
    for letters in (list(word), tuple(word)):
        with pytest.raises(SettingsError, match=exactly(message)):
            check_tuple("A.b", letters, str)


def test_names_of_one_letter_pass_where_nobody_would_write_a_word_so():
    for meant in (["a", "b", "c"], ["b", "a"], {"c", "b", "a"}, ["t", "ra", "in"]):
        check_tuple("A.b", meant, str)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (BatchBounds, {"max_records": 1.5, "max_bytes": "3", "first_records": 0}),
        (Comparing, {"key_features": "id", "most_different": -1}),
        (ExitWhen, {"at_least": "0.9", "at_most": math.nan}),
        (FailureLimit, {"max_count": 0.5, "max_fraction": 1.1}),
        (Limits, {"request_seconds": "60", "total_seconds": None}),
        (SavedModel, {"signatures": "a", "tags": "serve", "import_modules": "ops"}),
        (TFServing, {"signatures": "a", "version": "7"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_number_and_tuple_of_names_in_settings_is_checked(kind, settings):
    needed = {ExitWhen: ("y",), SavedModel: ("/model",), TFServing: ("host:1", "model")}
    for field, value in settings.items():
        message = rf"^{kind.__name__}\.{field} must be a .*, not {value!r}\. "
        with pytest.raises(SettingsError, match=message):
            kind(*needed.get(kind, ()), **{field: value})


def test_names_that_occur_several_times_are_found():
    assert doubled(iter("bacab")) == "a, b"
    assert doubled(("a", "b")) == ""


def test_value_of_another_class_is_refused_with_an_example():
    check_kind("F.x", "text", str, "'text'")
    message = "F.x must be a str, not 7. Write 'text'."
    with pytest.raises(SettingsError, match=exactly(message)):
        check_kind("F.x", 7, str, "'text'")
