"""Numbers and names as people read them."""

from __future__ import annotations

import math

import pytest

from bulk_inferencer.reports import words
from bulk_inferencer.results.amounts import NOTHING


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0, "0"), (1234567, "1,234,567"), (10**20, "100,000,000,000,000,000,000")),
        *((0.0, "0"), (0.1, "0.1"), (1 / 3, "0.33333"), (4221.5712, "4,221.6"), (5.0, "5")),
        *((12345.678, "12,346"), (-2.5, "\N{MINUS SIGN}2.5"), (1e15, "1e+15")),
        *((0.00001234, "1.234e\N{MINUS SIGN}05"), (9.99999, "10"), (99999.9, "100,000")),
        *((math.nan, "NaN"), (math.inf, "∞"), (-math.inf, "\N{MINUS SIGN}∞"), (True, "True")),
    ],
)
def test_numbers_have_the_digits_that_tell(value, text):
    assert words.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((None, NOTHING), (7, "7"), (1234567, "1234567"), (b"\xff<b>", "\\xff<b>")),
        *(([1.5, None, "a"], "[1.5, \N{EN DASH}, a]"), ("\ud800", "?")),
        (list(range(9)), "[0, 1, 2, 3, 4, 5, … 9 values]"),
        ({"a": [1]}, '{"a": [1]}'),
    ],
)
def test_values_of_rows(value, text):
    assert words.value(value) == text


def test_long_texts_keep_both_ends():
    for text in (words.value("a" + "b" * 10**6 + "c"), words.value(b"a" + b"b" * 10**6)):
        assert len(text) < 130
    shown = words.clean("a" + "b" * 300 + "c")
    assert (shown[:2], shown[-2:]) == ("ab", "bc")
    assert words.file("/x" * 100 + "/a.parquet") == "…" + ("/x" * 100 + "/a.parquet")[-100:]


def test_lists_of_names_end():
    assert words.listed(["a"]) == "a"
    assert words.listed(["a", "b", "c"]) == "a, b and c"
    assert words.listed(["a", "b", "c", "d"], 2) == "a, b and 2 more"
