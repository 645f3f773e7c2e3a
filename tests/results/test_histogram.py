from __future__ import annotations

import functools
import json
import math
import re
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bulk_inferencer.errors import SettingsError
from bulk_inferencer.results import codec
from bulk_inferencer.results.histogram import MOST_BUCKETS, BucketCounter, Histogram

MOST, LEAST = sys.float_info.max, 5e-324
# Of every size and sign, with many that are close together or alike.
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.floats(-2, 2) | st.integers(-9, 9)


def values(fewest, most):
    return arrays.arrays(np.float64, st.integers(fewest, most), elements=NUMBERS.map(float))


def spread(seed, count):
    """Returns numbers of every size and both signs, in far more than 2,048 buckets."""
    rng = np.random.default_rng(seed)
    exponents = rng.integers(-1074, 1024, count)
    return np.ldexp(rng.uniform(0.5, 1, count), exponents) * rng.choice([-1, 1], count)


def merged(parts):
    return functools.reduce(Histogram.merge, map(Histogram.of, parts), Histogram())


def counted(parts):
    counter = BucketCounter()
    for part in parts:
        counter.add(part)
    return counter.histogram()


@pytest.mark.parametrize(
    "numbers",
    [
        np.random.default_rng(0).normal(size=20_000),
        np.random.default_rng(1).standard_cauchy(20_000),
        np.maximum(0, np.random.default_rng(2).normal(size=20_000)),
        np.random.default_rng(3).integers(-9, 9, 20_000).astype(float),
        spread(4, 20_000),
    ],
    ids=["normal", "cauchy", "many zeros", "few", "all sizes"],
)
def test_histogram_is_the_same_however_numbers_are_grouped(numbers):
    whole = Histogram.of(numbers)
    assert len(whole.counts) <= MOST_BUCKETS
    assert whole.total == len(numbers)
    assert list(whole.counts) == sorted(whole.counts)
    for parts in (np.split(numbers, [1, 500, 9_000]), np.array_split(np.sort(numbers)[::-1], 7)):
        assert merged(parts) == counted(parts) == whole
        assert Histogram.of(parts[0]).merge(merged(parts[1:])) == whole


@settings(max_examples=40)
@given(st.lists(values(0, 20), max_size=4), st.integers(0, 3), st.booleans())
def test_small_groups_and_large_ones_merge_in_any_order(parts, at, is_wide):
    parts.insert(at, spread(at, 5_000 if is_wide else 0))
    whole = Histogram.of(np.concatenate(parts))
    assert merged(parts) == merged(parts[::-1]) == counted(parts) == whole
    assert codec.from_json(Histogram, json.loads(json.dumps(codec.to_json(whole)))) == whole


@settings(max_examples=50)
@given(values(1, 30), st.floats(0, 1))
def test_quantiles_of_few_numbers_are_exact(numbers, q):
    found = Histogram.of(numbers).quantile(q)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = np.quantile(numbers, q)
    if np.isfinite(expected):
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-300)


@settings(max_examples=30)
@given(st.integers(0, 5), st.sampled_from(["normal", "cauchy", "all sizes"]), st.floats(0, 1))
def test_quantiles_of_many_numbers_are_within_the_width_of_a_bucket(seed, kind, q):
    rng = np.random.default_rng(seed)
    numbers = {
        "normal": rng.normal(size=5_000),
        "cauchy": rng.standard_cauchy(5_000),
        "all sizes": spread(seed, 5_000),
    }[kind]
    histogram = Histogram.of(numbers)
    place = q * (len(numbers) - 1)
    ends = np.sort(numbers)[[math.floor(place), math.ceil(place)]]
    lows, highs = histogram.edges
    # Buckets of the numbers that it is interpolated between.
    within = [np.flatnonzero((lows <= end) & (end <= highs)) for end in ends]
    assert lows[within[0]].min() <= histogram.quantile(q) <= highs[within[1]].max()


def test_numbers_that_are_not_finite_are_left_out_and_zero_has_no_sign():
    assert Histogram.of(np.array([np.nan, np.inf, -np.inf])) == Histogram()
    assert Histogram.of(np.array([[-0.0], [0.0]])).counts == {0: 2}
    numbers = np.array([-2.0, -1.0, -0.0, 1.0, 2.0])
    assert Histogram.of(numbers).edges[0].tolist() == numbers.tolist()
    assert math.isnan(Histogram().quantile(0.5))
    assert [part.size for part in Histogram().bars()] == [0, 0]


def test_largest_and_smallest_numbers_have_buckets_that_end_before_infinity():
    numbers = np.array([-MOST, -LEAST, 0.0, LEAST, MOST])
    histogram = Histogram.of(numbers)
    assert [histogram.quantile(q) for q in (0, 0.25, 0.75, 1)] == [-MOST, -LEAST, LEAST, MOST]
    assert math.isfinite(histogram.quantile(0.9))
    edges, counts = histogram.bars(4)
    assert edges == pytest.approx([-MOST, -MOST / 2, 0, MOST / 2, MOST])
    assert counts.tolist() == [1, 1, 2, 1]
    wide = Histogram.of(np.concatenate([spread(0, 50_000), numbers]))
    assert wide.bits == -1
    assert np.isfinite(wide.edges).all()
    assert -MOST <= wide.quantile(0) <= wide.quantile(1) <= MOST
    assert wide.bars(10)[1].sum() == pytest.approx(50_005)


@pytest.mark.parametrize("count", [1, 7, 50])
def test_bars_have_equal_widths_and_hold_all_numbers(count):
    numbers = np.random.default_rng(0).normal(size=50_000)
    histogram = Histogram.of(numbers)
    edges, counts = histogram.bars(count, numbers.min(), numbers.max())
    assert np.diff(edges) == pytest.approx(np.full(count, np.ptp(numbers) / count))
    assert counts.sum() == pytest.approx(len(numbers))
    expected, _ = np.histogram(numbers, edges)
    assert counts == pytest.approx(expected, rel=0.1, abs=30)
    few = Histogram.of(np.array([0.0, 1.0, 1.0, 4.0]))
    assert few.bars(4)[1].tolist() == [1, 2, 0, 1]
    (low, high), alone = Histogram.of(np.full(9, 5.0)).bars(1)
    assert (low, high, alone.tolist()) == (4.5, 5.5, [9])


@pytest.mark.parametrize("q", [-0.1, 1.5, math.nan])
def test_quantile_is_of_a_share(q):
    message = f"A quantile must be from 0 to 1, not {q!r}. The median is 0.5."
    with pytest.raises(SettingsError, match=f"^{re.escape(message)}$"):
        Histogram().quantile(q)
