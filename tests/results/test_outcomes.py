"""Outcomes: how they are read, and their means."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulk_inferencer.errors import InputError
from bulk_inferencer.results import outcomes
from bulk_inferencer.results.comparison import Outcome
from bulk_inferencer.results.outcomes import Outcomes, outcome_of, read_outcomes
from tests.helpers import exactly

# Student's (1908) table of additional hours of sleep, second drug: mean 2.33, standard deviation
# 2.002249, t(0.975, 9) = 2.262157; 2.33 -+ 2.262157 * 2.002249 / sqrt(10) = 2.33 -+ 1.432322.
SLEEP = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def table(tmp_path, content):
    path = tmp_path / "outcomes.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


# Reading


@pytest.mark.parametrize(
    ("content", "keys", "values"),
    [
        ('key,value\na,1\n"b, c",-2.5e3\n', ("a", "b, c"), (1.0, -2500.0)),
        ("day,value,key\nmonday,1,a\ntuesday,2,b\n", ("a", "b"), (1.0, 2.0)),
        ("\ufeffkey,value\r\nä,1\r\n", ("ä",), (1.0,)),  # as spreadsheets write it
        ("key,value\n", (), ()),
    ],
    ids=["simple", "other columns", "spreadsheet", "no rows"],
)
def test_table_is_read(tmp_path, content, keys, values):
    read = read_outcomes(table(tmp_path, content))
    assert read == Outcomes(keys, values)
    assert read.rows == {key.encode(): row for row, key in enumerate(keys)}


COLUMNS = (
    "Outcomes need the columns key and value, but {{}} has {}. Name the columns in the first line."
)
NOT_FINITE = (
    "The value '{}' in line {} of {{}} is not a finite number. Correct the line, or leave it out."
)
TWICE = (
    "The key 'a' occurs a second time in line 4 of {}. Combine its rows into one, such as their "
    "sum or mean."
)
NO_CSV = "Could not read {{}} as CSV in UTF-8: {}. Write the file again."
MISSING = (
    "There is no file of outcomes at {}. Correct the path; all workers must be able to read it."
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", COLUMNS.format("no line")),
        ("key,sum\na,1\n", COLUMNS.format("key, sum")),
        ("sum,value\na,1\n", COLUMNS.format("sum, value")),
        *((f"key,value\na,1\nb,{x}\n", NOT_FINITE.format(x, 3)) for x in ("", "x", "nan", "-inf")),
        ("key,value\na\n", NOT_FINITE.format("", 2)),
        ("key,value\na,1\nb,2\na,1\n", TWICE),
        (f"key,value\n{'a' * 200_000},1\n",
         NO_CSV.format("field larger than field limit (131072)")),
        (b"key,value\n\xff,1\n",
         NO_CSV.format("'utf-8' codec can't decode byte 0xff in position 10: invalid start byte")),
        (None, MISSING),
    ],
)  # fmt: skip
def test_table_that_is_not_as_it_should_be_is_refused(tmp_path, content, message):
    path = f"{tmp_path}/none.csv" if content is None else table(tmp_path, content)
    with pytest.raises(InputError, match=exactly(message.format(path))):
        read_outcomes(path)


# Means


@pytest.mark.parametrize(
    ("degrees", "quantile"),
    # The 97.5 % points of Student's t, from tables of the distribution.
    [(1, 12.7062047), (2, 4.3026527), (10, 2.2281389), (30, 2.0422725), (1000, 1.9623391)],
)
def test_interval_is_that_of_students_t(degrees, quantile):
    assert outcomes._students_t(degrees) == pytest.approx(quantile, abs=1e-6)


def test_interval_of_a_known_example():
    outcome = outcome_of(SLEEP)
    assert (outcome.count, outcome.mean) == (10, pytest.approx(2.33))
    assert outcome.low == pytest.approx(2.33 - 1.432322, abs=1e-6)
    assert outcome.high == pytest.approx(2.33 + 1.432322, abs=1e-6)


@settings(max_examples=40)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2))
def test_interval_lies_around_the_mean(values):
    outcome = outcome_of(values)
    assert outcome.count == len(values)
    assert outcome.mean == pytest.approx(statistics.fmean(values), abs=1e-6)
    assert outcome.low <= outcome.mean <= outcome.high


@settings(max_examples=20)
@given(st.floats(-1e6, 1e6), st.integers(2, 9))
def test_equal_values_have_an_interval_of_no_width_and_few_have_none(value, count):
    assert outcome_of([value] * count) == Outcome(count, value, value, value)
    assert outcome_of([value]) == Outcome(1, value, math.nan, math.nan)
    assert outcome_of([]) == Outcome(0, math.nan, math.nan, math.nan)
