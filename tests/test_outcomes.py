from __future__ import annotations

import math
import re
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulk_inferencer.errors import InputError
from bulk_inferencer.results.outcomes import (
    Outcome,
    Outcomes,
    outcome_of,
    outcomes_by_variant,
    read_outcomes,
    rows_by_key,
)

# Student's (1908) table of additional hours of sleep, second drug: mean 2.33, standard deviation
# 2.002249, t(0.975, 9) = 2.262157; 2.33 -+ 2.262157 * 2.002249 / sqrt(10) = 2.33 -+ 1.432322.
SLEEP = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def table(tmp_path, text):
    path = tmp_path / "outcomes.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


# Reading


def test_table_is_read(tmp_path):
    path = table(tmp_path, 'key,value\na,1\n"b, c",-2.5e3\n')
    assert read_outcomes(path) == Outcomes(("a", "b, c"), (1.0, -2500.0))


def test_other_columns_and_the_order_of_columns_do_not_matter(tmp_path):
    path = table(tmp_path, "day,value,key\nmonday,1,a\ntuesday,2,b\n")
    assert read_outcomes(path) == Outcomes(("a", "b"), (1.0, 2.0))


def test_table_that_a_spreadsheet_wrote_is_read(tmp_path):
    path = table(tmp_path, "\ufeffkey,value\r\nä,1\r\n")
    assert read_outcomes(path) == Outcomes(("ä",), (1.0,))


def test_table_without_rows_has_no_outcomes(tmp_path):
    assert read_outcomes(table(tmp_path, "key,value\n")) == Outcomes((), ())


def error_of(path):
    with pytest.raises(InputError) as error:
        read_outcomes(path)
    return str(error.value)


def test_error_for_an_empty_file(tmp_path):
    path = table(tmp_path, "")
    assert error_of(path) == (
        f"Expected the columns key and value, got an empty file at {path}. Name the columns in "
        f"the first line."
    )


@pytest.mark.parametrize("names", ["key, sum", "sum, value", "a, 1"])
def test_error_for_a_missing_column(tmp_path, names):
    path = table(tmp_path, names.replace(" ", "") + "\na,1\n")
    assert error_of(path) == (
        f"Expected the columns key and value, got {names} at {path}. Name the columns in the first "
        f"line."
    )


@pytest.mark.parametrize("value", ["", "many", "nan", "inf", "-inf"])
def test_error_for_a_value_that_is_no_finite_number(tmp_path, value):
    path = table(tmp_path, f"key,value\na,1\nb,{value}\n")
    assert error_of(path) == (
        f"Expected a finite number as value, got '{value}' in line 3 of {path}. Correct the line, "
        f"or leave it out."
    )


def test_error_for_a_row_that_is_too_short(tmp_path):
    path = table(tmp_path, "key,value\na\n")
    assert error_of(path) == (
        f"Expected a finite number as value, got '' in line 2 of {path}. Correct the line, or "
        f"leave it out."
    )


def test_error_for_a_key_that_is_there_twice(tmp_path):
    path = table(tmp_path, "key,value\na,1\nb,2\na,1\n")
    assert error_of(path) == (
        f"Expected every key once, got 'a' a second time in line 4 of {path}. Sum or average its "
        f"rows first."
    )


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"key,value\n\xff,1\n", "'utf-8' codec can't decode byte 0xff in position 10: "),
        (b"key,value\n" + b"a" * 200_000 + b",1\n", "field larger than field limit (131072)"),
    ],
)
def test_error_for_what_is_no_csv_in_utf8(tmp_path, content, error):
    path = table(tmp_path, content)
    text = error_of(path)
    assert text.startswith(f"Expected outcomes as CSV in UTF-8, got an error in {path}: {error}")
    assert text.endswith(". Write the file again.")


# Means


def test_interval_of_a_known_example():
    outcome = outcome_of(SLEEP)
    assert outcome.count == 10
    assert outcome.mean == pytest.approx(2.33)
    assert outcome.low == pytest.approx(2.33 - 1.432322, abs=1e-6)
    assert outcome.high == pytest.approx(2.33 + 1.432322, abs=1e-6)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2))
def test_interval_lies_around_the_mean(values):
    outcome = outcome_of(values)
    assert outcome.count == len(values)
    assert outcome.mean == pytest.approx(statistics.fmean(values), abs=1e-6)
    assert outcome.low <= outcome.mean <= outcome.high


@given(st.floats(-1e6, 1e6), st.integers(2, 9))
def test_equal_values_have_an_interval_of_no_width(value, count):
    assert outcome_of([value] * count) == Outcome(count, value, value, value)


def test_few_values_have_no_interval():
    assert outcome_of([]) == Outcome(0, math.nan, math.nan, math.nan)
    assert outcome_of([2.5]) == Outcome(1, 2.5, math.nan, math.nan)


def test_outcomes_that_differ_are_not_equal():
    assert outcome_of([]) != outcome_of([1.0])
    assert Outcome(1, 1.0, 0.5, 1.5) != (1, 1.0, 0.5, 1.5)
    assert len({outcome_of([]), outcome_of([])}) == 1


# Variants


def test_each_variant_has_the_outcomes_of_its_keys():
    outcomes = Outcomes(("a1", "b1", "a2", "b2", "a3"), (1.0, 2.0, 3.0, 4.0, 100.0))
    by_variant = outcomes_by_variant(outcomes, 0b01111, lambda key: key[0], ["b", "a", "c"])
    assert list(by_variant.items()) == [
        ("b", outcome_of([2.0, 4.0])),
        ("a", outcome_of([1.0, 3.0])),
        ("c", Outcome(0, math.nan, math.nan, math.nan)),
    ]


@given(st.lists(st.booleans()))
def test_only_matched_rows_count(is_matched):
    outcomes = Outcomes(
        tuple(map(str, range(len(is_matched)))), tuple(map(float, range(len(is_matched))))
    )
    matched = sum(1 << row for row, bit in enumerate(is_matched) if bit)
    expected = outcome_of([float(row) for row, bit in enumerate(is_matched) if bit])
    assert outcomes_by_variant(outcomes, matched, lambda _: "a", ["a"]) == {"a": expected}


def test_missing_table_is_named(tmp_path):
    message = (
        f"Expected outcomes as a CSV file that all workers can read, found none at "
        f"{tmp_path}/none.csv. Correct the path."
    )
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        read_outcomes(f"{tmp_path}/none.csv")


def test_rows_are_those_of_the_table_as_it_was_read_first(tmp_path):
    path = tmp_path / "outcomes.csv"
    path.write_text("key,value\nu1,1\nu2,2\n")
    digest = read_outcomes(str(path)).digest
    assert rows_by_key(str(path), digest) == {b"u1": 0, b"u2": 1}
    path.write_text("key,value\nu0,0\nu1,1\nu2,2\n")
    message = (
        f"Expected {path} to stay as it was at the start of the run, but its content has changed. "
        f"Run again."
    )
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        rows_by_key(str(path), digest)
