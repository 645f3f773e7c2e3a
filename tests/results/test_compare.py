"""How batches are compared, and that they can be cut and merged in any way."""

from __future__ import annotations

import functools
import itertools
import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulk_inferencer.results.compare import Comparing, compare_batch
from bulk_inferencer.results.comparison import Comparison, DifferentRecord, PairComparison
from tests.helpers import example

INF, NAN = math.inf, math.nan


def in_one_file(index):
    return "file", index


def texts(*values):
    return np.array(values, object)


def masked(values, is_masked):
    """Returns an array of which whole rows are masked."""
    values = np.asarray(values)
    mask = np.reshape(is_masked, (-1,) + (1,) * (values.ndim - 1))
    return np.ma.MaskedArray(values, np.broadcast_to(mask, values.shape))


def compare_pair(a, b, most_different=10, key_features=(), records=None):
    """Returns the comparison of the outputs of the models `a` and `b`, by output name."""
    records = records or [b""] * len(next(iter(a.values())))
    comparing = Comparing(key_features, most_different)
    (pair,) = compare_batch(records, {"a": a, "b": b}, in_one_file, comparing).pairs
    assert pair.models == ("a", "b")
    return pair


def compare(a, b, *args, **settings):
    """Returns the comparison of two arrays, which are the output `y` of the models `a` and `b`."""
    pair = compare_pair({"y": np.asanyarray(a)}, {"y": np.asanyarray(b)}, *args, **settings)
    assert not pair.not_compared
    return pair.outputs["y"]


def confusion(output):
    """Returns the numbers of records by the classes of `a` and `b`."""
    return {(pair.classes["a"], pair.classes["b"]): pair.records for pair in output.confusion}


def ranked(output):
    return [(different.record, different.difference) for different in output.most_different]


# Numbers


def test_outputs_without_values_agree():
    output = compare(np.zeros((2, 0)), np.zeros((2, 0)))
    assert (output.records, output.agreeing, output.values, output.not_finite) == (2, 2, 0, 0)
    assert (output.sum_absolute_difference, output.max_absolute_difference) == (0.0, 0.0)


@given(st.lists(st.tuples(*[st.floats(allow_subnormal=False)] * 4)))
def test_numbers_are_those_of_a_plain_loop(rows):
    array = np.array(rows, np.float64).reshape(-1, 2, 2)
    values = not_finite = agreeing = 0
    differences, of_records = [], []
    for a1, a2, b1, b2 in array.reshape(-1, 4).tolist():
        of_record = 0.0
        for a, b in ((a1, b1), (a2, b2)):
            equal = a == b or (math.isnan(a) and math.isnan(b))
            difference = 0.0 if equal else abs(a - b)
            if math.isfinite(difference):
                values += 1
                differences.append(difference)
                of_record = max(of_record, difference)
            else:
                not_finite += 1
                of_record = INF
        of_records.append(of_record)
        scores = [(a1, a2), (b1, b2)]
        first, second = (int(not math.isnan(s) and (math.isnan(t) or t > s)) for s, t in scores)
        agreeing += first == second
    pair = compare_pair({"y": array[:, 0]}, {"y": array[:, 1]})
    if not rows:
        assert pair == PairComparison(("a", "b"), {}, {})
        return
    output = pair.outputs["y"]
    assert (output.records, output.agreeing) == (len(rows), agreeing)
    assert (output.values, output.not_finite) == (values, not_finite)
    assert output.max_absolute_difference == max(differences, default=0.0)
    assert output.sum_absolute_difference == pytest.approx(sum(differences))
    expected = sorted(enumerate(of_records), key=lambda entry: -entry[1])
    assert ranked(output) == [entry for entry in expected if entry[1]][:10]


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "bool", "int8", "uint8", "int64", "uint64"]
)
def test_every_number_dtype_is_compared(dtype):
    output = compare(np.array([1, 0, 1], dtype), np.array([1, 1, 0], dtype))
    assert (output.sum_absolute_difference, output.agreeing) == (2.0, 1)


def test_bfloat16_is_compared_with_other_floats_and_large_integers_exactly():
    a = np.array([[1.5, 2.0], [0.25, 0.5]], ml_dtypes.bfloat16)
    output = compare(a, np.array([[1.5, 2.0], [0.75, 0.5]], np.float32))
    assert (output.sum_absolute_difference, output.agreeing) == (0.5, 1)
    assert confusion(output) == {("1", "1"): 1, ("1", "0"): 1}
    assert output.most_different[0].values == {"a": [0.25, 0.5], "b": [0.75, 0.5]}
    output = compare(np.array([2**60]), np.array([2**60 + 1]))
    assert (output.agreeing, confusion(output)) == (0, {(str(2**60), str(2**60 + 1)): 1})


# Classes


def test_class_of_scores_is_the_index_of_the_largest():
    output = compare([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]], [[0.4, 0.6], [0.3, 0.7], [0.2, 0.8]])
    assert confusion(output) == {("1", "1"): 2, ("0", "1"): 1}
    assert output.agreeing == 2


def test_class_of_integers_and_booleans_is_their_value():
    numbers = confusion(compare([7, -1, 7], [7, -1, 8]))
    assert numbers == {("7", "7"): 1, ("-1", "-1"): 1, ("7", "8"): 1}
    booleans = confusion(compare([[True], [False]], [[True], [True]]))
    assert booleans == {("True", "True"): 1, ("False", "True"): 1}
    assert compare(np.arange(1001), np.arange(1001)).confusion is None  # too many


def test_class_of_texts_is_the_text():
    output = compare(texts(b"cat", b"dog", b"\xff"), texts(b"cat", b"cat", b"\xff"))
    assert confusion(output) == {("cat", "cat"): 1, ("dog", "cat"): 1, ("\\xff", "\\xff"): 1}
    assert (output.agreeing, output.values, output.not_finite) == (2, 0, 0)
    assert (output.sum_absolute_difference, output.max_absolute_difference) == (0.0, 0.0)
    assert ranked(output) == [(1, 1.0)]
    assert output.most_different[0].values == {"a": ["dog"], "b": ["cat"]}


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([[1, 2], [3, 4]], [[1, 2], [3, 5]]),
        ([[1, 2], [3, 4]], [[1.0, 2.0], [3.0, 5.0]]),
        ([1, 4], [1.0, 4.5]),
        ([NAN, 4.0], [NAN, 4.5]),
        (texts([b"x", b"y"], [b"x", b"y"]), texts([b"x", b"y"], [b"x", b"z"])),
    ],
)
def test_without_classes_records_agree_whose_values_are_all_equal(a, b):
    output = compare(a, b)
    assert (output.agreeing, output.confusion) == (1, ())
    assert [different.record for different in output.most_different] == [1]


# Which records and outputs are compared


def test_only_records_that_both_have_are_compared():
    a = masked([[1.0], [2.0], [3.0], [4.0]], [True, False, False, False])
    b = masked([[9.0], [9.0], [9.0], [4.0]], [False, True, False, False])
    output = compare(a, b)
    assert (output.records, output.agreeing, output.sum_absolute_difference) == (2, 1, 6.0)
    assert ranked(output) == [(2, 6.0)]
    one_masked = compare(a, np.array([[9.0], [2.0], [3.0], [4.0]]))
    assert (one_masked.records, one_masked.agreeing) == (3, 3)
    output = compare(masked(texts(b"x", None), [False, True]), texts(b"x", b"y"))
    assert (output.records, output.agreeing) == (1, 1)
    numbers = np.array([[1, 2], [3, 4]], ml_dtypes.bfloat16)
    assert compare(masked(numbers, [True, False]), numbers).records == 1


def test_nothing_is_said_of_an_output_without_a_record_in_common():
    a, b = masked([b"", b""], [True, True]), np.array([1.0, 2.0])
    assert compare_pair({"y": a}, {"y": b}) == PairComparison(("a", "b"), {}, {})


def test_outputs_that_cannot_be_compared_say_why():
    two = np.zeros(2)
    pair = compare_pair(
        {"mine": two, "shape": np.zeros((2, 5)), "kind": texts(b"", b""), "c": two * 1j, "y": two},
        {"its": two, "shape": np.zeros((2, 3)), "kind": two, "c": two * 1j, "y": two},
    )
    assert pair.not_compared == {
        "mine": "only 'a' has it",
        "its": "only 'b' has it",
        "shape": "5 values per record of 'a', 3 of 'b'",
        "kind": "text of 'a', numbers of 'b'",
        "c": "complex128 of 'a', complex128 of 'b'",
    }
    assert list(pair.outputs) == ["y"]


def test_values_are_compared_in_row_order_whatever_their_shape():
    assert compare(np.arange(12).reshape(2, 2, 3), np.arange(12).reshape(2, 6)).agreeing == 2


def test_every_pair_of_models_is_compared_in_the_order_given():
    assert compare_batch([b""], {"a": {"y": np.zeros(1)}}, in_one_file, Comparing()) == Comparison()
    outputs = {name: {"y": np.array([value])} for name, value in [("c", 1), ("a", 2), ("b", 4)]}
    pairs = compare_batch([b""], outputs, in_one_file, Comparing()).pairs
    assert [pair.models for pair in pairs] == [("c", "a"), ("c", "b"), ("a", "b")]
    assert [pair.outputs["y"].max_absolute_difference for pair in pairs] == [1.0, 3.0, 2.0]


# The records that differ most


def test_records_that_differ_most_show_their_values():
    output = compare([NAN, INF, 1.0, 2.0], [1.0, -INF, 3.0, 2.0])
    assert output.most_different == (
        DifferentRecord(INF, "file", 0, {}, {"a": ["nan"], "b": [1.0]}),
        DifferentRecord(INF, "file", 1, {}, {"a": ["inf"], "b": ["-inf"]}),
        DifferentRecord(2.0, "file", 2, {}, {"a": [1.0], "b": [3.0]}),
    )


def test_records_that_differ_most_show_their_keys():
    records = [example(id=7, name=[b"n", b"\xff"], weight=NAN), example(id=8), b"\xff"]
    names = ("name", "id", "weight")
    output = compare([1.0, 1.0, 1.0], [3.0, 2.0, 1.5], key_features=names, records=records)
    assert [different.keys for different in output.most_different] == [
        {"name": ["n", "\\xff"], "id": [7], "weight": ["nan"]},
        {"name": [], "id": [8], "weight": []},
        {},
    ]


def test_equal_differences_are_ranked_by_file_and_number():
    places = [("b", 0), ("b", 10), ("a", 10), ("b", 9), ("a", 9)]
    outputs = {"a": {"y": np.zeros(5)}, "b": {"y": np.array([1.0, 1.0, 1.0, 2.0, 1.0])}}
    comparison = compare_batch([b""] * 5, outputs, places.__getitem__, Comparing((), 4))
    different = comparison.pairs[0].outputs["y"].most_different
    assert [(d.file, d.record) for d in different] == [("b", 9), ("a", 9), ("a", 10), ("b", 0)]


@pytest.mark.parametrize("most_different", [0, 1, 3])
def test_no_more_records_and_values_are_kept_than_asked_for(most_different):
    output = compare(np.zeros((9, 20)) + np.arange(9)[:, None], np.zeros((9, 20)), most_different)
    assert ranked(output) == [(8, 8.0), (7, 7.0), (6, 6.0)][:most_different]
    assert output.keeps == most_different
    assert all(len(v) == 16 for d in output.most_different for v in d.values.values())


# Merging

# Halves, so that sums are exact and comparisons can be held equal.
NUMBERS = st.sampled_from([0.0, 0.5, 1.0, -2.0, NAN, INF, -INF])
PREDICTIONS = st.fixed_dictionaries(
    {
        "number": NUMBERS,
        "scores": st.tuples(NUMBERS, NUMBERS, NUMBERS),
        "label": st.integers(0, 2),
        "text": st.sampled_from([b"x", b"y", b"\xff"]),
        "is_missing": st.booleans(),
    }
)
MODELS = ("five", "ten", "best")


def arrays(predictions):
    """Returns the outputs of one model; a prediction that is missing is masked in each."""
    is_missing = np.array([p["is_missing"] for p in predictions], bool)
    number = np.array([p["number"] for p in predictions], np.float32)
    scores = np.array([p["scores"] for p in predictions], np.float32).reshape(-1, 3)
    label = np.array([p["label"] for p in predictions], np.int64)
    text = np.array([p["text"] for p in predictions], object)
    values = {"number": number, "scores": scores, "label": label, "text": text}
    return {name: masked(array, is_missing) for name, array in values.items()}


def compare_rows(rows, start, stop):
    """Compares some of the rows, which are of two files, as one batch."""
    batch = rows[start:stop]
    outputs = {model: arrays([row[i] for row in batch]) for i, model in enumerate(MODELS)}
    outputs["best"]["own"] = np.zeros(len(batch))

    def locate(index):
        row = start + index
        return ("z", row) if row < 5 else ("a", row - 5)

    records = [example(row=start + i) for i in range(len(batch))]
    return compare_batch(records, outputs, locate, Comparing(("row",), 3))


@settings(max_examples=40)
@given(
    st.lists(st.tuples(*[PREDICTIONS] * len(MODELS)), max_size=12),
    st.lists(st.integers(0, 12), max_size=4),
)
def test_batches_merged_in_any_grouping_are_one_batch(tmp_path_factory, rows, cuts):
    ends = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    parts = [compare_rows(rows, start, stop) for start, stop in itertools.pairwise(ends)]
    whole = compare_rows(rows, 0, len(rows))
    assert functools.reduce(Comparison.merge, parts, Comparison()) == whole
    backwards = functools.reduce(lambda rest, part: part.merge(rest), parts[::-1], Comparison())
    assert backwards == whole

    folder = str(tmp_path_factory.mktemp("comparison"))
    whole.write(folder)
    assert Comparison.read(folder) == whole
