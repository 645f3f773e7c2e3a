from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from bulk_inferencer.results.describe import ModelCounter, OutputCounter, describe
from bulk_inferencer.results.histogram import Histogram
from bulk_inferencer.results.statistics import OutputStatistics

NAN, INF = np.nan, np.inf


def texts(*values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16, "float32", "float64"])
def test_floats_of_every_width_are_described_as_float64(dtype):
    values = np.array([[1.5, NAN], [-3, INF], [0, -INF], [1.5, 2]], dtype)
    found = describe(values)
    assert (found.records, found.missing, found.values, found.nan, found.infinite) == (
        4,
        0,
        5,
        1,
        2,
    )
    assert (found.minimum, found.maximum, found.mean) == (-3, 2, 0.4)
    assert found.standard_deviation == pytest.approx(np.std([1.5, -3, 0, 1.5, 2]))
    assert found.histogram == Histogram.of(np.array([1.5, -3, 0, 1.5, 2]))
    assert found.classes == {"1": 3, "0": 1}  # NaN counts as the largest
    assert found.not_finite_fraction == 3 / 8


def test_class_is_the_value_of_one_text_integer_or_boolean():
    assert describe(np.array([True, False, True])).classes == {"True": 2, "False": 1}
    assert describe(np.array([[7], [-1], [7]])).classes == {"7": 2, "-1": 1}
    found = describe(texts(b"b", b"a", "ä".encode(), b"\xff", b"a"))
    assert found.classes == {"a": 2, "\\xff": 1, "b": 1, "ä": 1}
    assert next(iter(found.classes)) == "a"
    assert (found.records, found.numbers, found.is_categorical) == (5, 0, True)
    assert describe(np.array(["x", "x"])).classes == {"x": 2}


@pytest.mark.parametrize(
    "values", [np.zeros(3), np.zeros((3, 1)), np.zeros((3, 2), int), np.full((3, 2), b"a", object)]
)
def test_other_outputs_have_no_classes(values):
    found = describe(values)
    assert (found.records, found.classes, found.is_categorical) == (3, {}, False)


def test_integers_beyond_float64_are_the_nearest_float64():
    large = np.iinfo(np.int64).max
    found = describe(np.array([large, -large, 0]))
    assert (found.minimum, found.maximum, found.mean) == (-(2.0**63), 2.0**63, 0)
    assert found.classes == {str(own): 1 for own in (-large, 0, large)}
    assert describe(np.array([2**64 - 1], np.uint64)).maximum == 2.0**64


def test_sums_beyond_float64_leave_a_mean_within_the_numbers():
    most = np.finfo(np.float64).max
    for values in (np.full(9, most), np.array([most, -most, most])):
        found = describe(values)
        assert abs(found.mean) <= most
        assert found.merge(found).mean == pytest.approx(found.mean)
    assert describe(np.array([most, -most])).standard_deviation == INF
    opposite = describe(np.full(3, most)).merge(describe(np.full(1, -most)))
    assert opposite.mean == pytest.approx(most / 2)
    constant = describe(np.full(3, 0.1)).merge(describe(np.full(7, 0.1)))
    assert (constant.mean, constant.standard_deviation) == (0.1, 0)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (4, 0), (4, 0, 2)])
def test_outputs_without_values_only_count_records(shape):
    assert describe(np.zeros(shape)) == OutputStatistics(records=shape[0])
    assert describe(np.zeros(shape, object)) == OutputStatistics(records=shape[0])


def test_masked_rows_are_records_without_the_output():
    values = np.ma.MaskedArray([[1.0, 5.0], [9.0, 9.0], [2.0, 1.0]], [[0, 0], [1, 1], [0, 0]])
    found = describe(values)
    assert (found.records, found.missing, found.values, found.maximum) == (2, 1, 4, 5)
    assert found.classes == {"0": 1, "1": 1}
    assert describe(np.ma.MaskedArray([b"a", b"b"], [True, False], object)).classes == {"b": 1}
    assert describe(np.ma.masked_all((2, 3))).missing == 2


def test_classes_are_kept_up_to_a_bound_and_not_beyond():
    def of(*batches):
        counter = OutputCounter()
        for batch in batches:
            counter.add(batch)
        return counter.statistics(sum(map(len, batches))).classes

    many = np.arange(10_000)
    assert of(many, many) == {str(i): 2 for i in range(10_000)}
    assert of(many, many + 1) is None
    assert of(many + 1, many, many[:5]) is None
    assert describe(many).merge(describe(many + 1)).classes is None
    long = texts(b"x" * 256, b"y" * 257)
    assert of(long[:1]) == {"x" * 256: 1}
    assert of(long, long[:1]) is None
    assert of(texts(b"\xff" * 65)) is None  # "\xff" takes four bytes of text.
    # Of 10,001 different values, two are the same text.
    alike = texts(b"\xff", b"\\xff", *(b"%d" % i for i in range(9_999)))
    assert of(alike)["\\xff"] == 2
    assert of(alike, texts(b"another")) is None


def test_output_that_comes_and_goes_is_missing_from_the_other_predictions():
    counter = ModelCounter()
    counter.add(3, {"y": np.zeros(3)}.items())
    counter.add(2, {"y": np.zeros(2), "z": np.ma.MaskedArray([1.0, 2.0], [True, False])}.items())
    counter.add(4, [("y", np.zeros(1)), ("y", np.zeros((3, 7)))])
    found = counter.statistics()
    assert {name: (own.records, own.missing) for name, own in found.items()} == {
        "y": (9, 0),
        "z": (1, 8),
    }


def test_values_of_other_dtypes_are_only_counted():
    assert describe(np.zeros((2, 3), complex)) == OutputStatistics(records=2)


def test_large_outputs_are_described_in_parts():
    values = np.random.default_rng(0).normal(size=(3, 50_000)).astype(np.float32)
    found = describe(values)
    assert found.mean == pytest.approx(values.astype(float).mean())
    assert found.standard_deviation == pytest.approx(values.astype(float).std())
    assert found.histogram == Histogram.of(values)
    assert sum(found.classes.values()) == 3
