from __future__ import annotations

import math

import numpy as np
import pytest

from bulk_inferencer.results.describe import describe
from bulk_inferencer.results.drift import drift

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=5_000), RNG.normal(0.5, size=8_000)
NAN = np.nan


def texts(**counts):
    return np.repeat(np.array([own.encode() for own in counts], object), list(counts.values()))


def cumulative(numbers, at):
    return np.searchsorted(np.sort(numbers), at, side="right") / len(numbers)


def test_drift_of_numbers_is_the_largest_difference_of_cumulative_shares():
    at = np.concatenate([A, B])
    exact = np.abs(cumulative(A, at) - cumulative(B, at)).max()
    assert drift(describe(A), describe(B)) == pytest.approx(exact, abs=0.01)
    assert drift(describe(np.array([0.0, 1, 2, 3])), describe(np.array([2.0, 3, 4, 5]))) == 0.5


@pytest.mark.parametrize("values", [A, texts(a=3, b=1), A > 0, np.arange(20_000), A.reshape(-1, 2)])
def test_equal_distributions_have_no_drift_however_many_records_there_are(values):
    whole = describe(values)
    assert drift(whole, whole) == 0
    assert drift(whole, whole.merge(whole)) == pytest.approx(0, abs=1e-9)
    assert drift(describe(A), describe(A[:50])) == drift(describe(A[:50]), describe(A))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (texts(a=3, b=1), texts(a=1, b=1, c=2), 0.5),
        (np.array([True, True, False]), np.array([False]), 2 / 3),
        (np.array([1, 1, 9]), np.array([2, 2, 2]), 1),
        (np.arange(20_000), np.arange(10_000, 30_000), 0.5),  # too many classes: as numbers
        (np.array([1.0, 2.0]), np.array([3.0, 4.0]), 1),
        (np.array([1.0, NAN]), np.array([1.0, 1.0, 1.0, np.inf]), 0.25),
        (np.array([NAN]), np.array([NAN, np.inf]), 0),
        (np.array([NAN]), np.array([1.0]), 1),
        (np.array([1, 2]), np.array([1.0, 2.0]), 0),
    ],
)
def test_drift_of(a, b, expected):
    assert drift(describe(a), describe(b)) == pytest.approx(expected, abs=0.01)
    assert drift(describe(b), describe(a)) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (texts(a=1), np.array([1])),
        (texts(a=1), np.zeros(0)),
        (np.zeros(0), np.array([1.0])),
        (texts(**{f"t{i}": 1 for i in range(10_001)}), texts(a=1)),
    ],
)
def test_drift_that_cannot_be_told_is_nan(a, b):
    assert math.isnan(drift(describe(a), describe(b)))
    assert math.isnan(drift(describe(b), describe(a)))
