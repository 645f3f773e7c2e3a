"""What `compare.py` says of batches, and that batches may be cut and merged in any way."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulk_inferencer.errors import SettingsError
from bulk_inferencer.results.compare import (
    Comparing,
    Comparison,
    DifferentRecord,
    OutputComparison,
    PairComparison,
    compare_batch,
)
from bulk_inferencer.results.outcomes import Outcome
from tests import helpers

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


def compare(a, b, **settings):
    """Returns the comparison of two arrays, which are the output `y` of the models `a` and `b`."""
    pair = compare_pair({"y": np.asanyarray(a)}, {"y": np.asanyarray(b)}, **settings)
    assert not pair.not_compared
    return pair.outputs["y"]


def ranked(output):
    return [(different.record, different.difference) for different in output.most_different]


# Numbers


def test_numbers_of_two_models():
    output = compare(np.array([1, 2, 3, 4], np.float32), np.array([1, 2.5, 3, 0], np.float32))
    assert (output.records, output.values, output.not_finite) == (4, 4, 0)
    assert (output.sum_absolute_difference, output.max_absolute_difference) == (4.5, 4.0)
    assert output.mean_absolute_difference == 4.5 / 4
    assert (output.agreeing, output.agreement) == (2, 0.5)
    assert output.confusion == {}
    assert output.most_different == (
        DifferentRecord(4.0, "file", 3, {}, {"a": [4.0], "b": [0.0]}),
        DifferentRecord(0.5, "file", 1, {}, {"a": [2.0], "b": [2.5]}),
    )


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


def test_nan_and_infinity_that_both_have_are_no_difference():
    output = compare([NAN, INF, -INF, 1.0], [NAN, INF, -INF, 1.0])
    assert (output.values, output.not_finite, output.agreeing) == (4, 0, 4)
    assert (output.sum_absolute_difference, output.max_absolute_difference) == (0.0, 0.0)
    assert output.most_different == ()


def test_nan_and_infinity_of_one_model_are_counted_and_left_out():
    output = compare([NAN, INF, INF, 1.0], [1.0, -INF, 2.0, 3.0])
    assert (output.values, output.not_finite, output.agreeing) == (1, 3, 0)
    assert (output.mean_absolute_difference, output.max_absolute_difference) == (2.0, 2.0)
    assert ranked(output) == [(0, INF), (1, INF), (2, INF), (3, 2.0)]
    assert output.most_different[0].values == {"a": ["nan"], "b": [1.0]}
    assert output.most_different[1].values == {"a": ["inf"], "b": ["-inf"]}


def test_difference_beyond_float64_is_not_finite():
    output = compare([1e308], [-1e308])
    assert (output.values, output.not_finite) == (0, 1)
    assert math.isnan(output.mean_absolute_difference)


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "bool", "int8", "uint8", "int64", "uint64"]
)
def test_every_number_dtype_is_compared(dtype):
    output = compare(np.array([1, 0, 1], dtype), np.array([1, 1, 0], dtype))
    assert (output.sum_absolute_difference, output.agreeing) == (2.0, 1)


def test_bfloat16_is_compared_with_other_floats():
    a = np.array([[1.5, 2.0], [0.25, 0.5]], ml_dtypes.bfloat16)
    output = compare(a, np.array([[1.5, 2.0], [0.75, 0.5]], np.float32))
    assert (output.sum_absolute_difference, output.agreeing) == (0.5, 1)
    assert output.confusion == {("1", "1"): 1, ("1", "0"): 1}
    assert output.most_different[0].values == {"a": [0.25, 0.5], "b": [0.75, 0.5]}


def test_large_integers_agree_exactly():
    output = compare(np.array([2**60]), np.array([2**60 + 1]))
    assert output.agreeing == 0
    assert output.confusion == {(str(2**60), str(2**60 + 1)): 1}


def test_arrays_of_no_values_per_record_agree():
    output = compare(np.zeros((2, 0)), np.zeros((2, 0)))
    assert (output.records, output.values, output.agreeing) == (2, 0, 2)


# Classes


def test_class_of_scores_is_the_index_of_the_largest():
    output = compare([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]], [[0.4, 0.6], [0.3, 0.7], [0.2, 0.8]])
    assert output.confusion == {("1", "1"): 2, ("0", "1"): 1}
    assert (output.agreeing, output.agreement) == (2, 2 / 3)


def test_class_of_integers_and_booleans_is_their_value():
    assert compare([7, -1, 7], [7, -1, 8]).confusion == {
        ("7", "7"): 1,
        ("-1", "-1"): 1,
        ("7", "8"): 1,
    }
    assert compare([[True], [False]], [[True], [True]]).confusion == {
        ("True", "True"): 1,
        ("False", "True"): 1,
    }


def test_class_of_texts_is_the_text():
    output = compare(texts(b"cat", b"dog", b"\xff", b"cat"), texts(b"cat", b"cat", b"\xff", b"dog"))
    assert output.confusion == {
        ("cat", "cat"): 1,
        ("dog", "cat"): 1,
        ("\\xff", "\\xff"): 1,
        ("cat", "dog"): 1,
    }
    assert (output.agreeing, output.values, output.not_finite) == (2, 0, 0)
    assert math.isnan(output.mean_absolute_difference)
    assert output.max_absolute_difference == 0.0
    assert ranked(output) == [(1, 1.0), (3, 1.0)]
    assert output.most_different[0].values == {"a": ["dog"], "b": ["cat"]}


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([[1, 2], [3, 4]], [[1, 2], [3, 5]]),
        ([[1, 2], [3, 4]], [[1.0, 2.0], [3.0, 5.0]]),
        ([1, 4], [1.0, 4.5]),
        (texts([b"x", b"y"], [b"x", b"y"]), texts([b"x", b"y"], [b"x", b"z"])),
    ],
)
def test_without_classes_records_agree_whose_values_are_all_equal(a, b):
    output = compare(a, b)
    assert (output.agreeing, output.confusion) == (1, {})
    assert [different.record for different in output.most_different] == [1]


def test_confusion_is_given_up_beyond_1000_pairs_of_classes():
    thousand = np.arange(1000)
    assert len(compare(thousand, thousand).confusion) == 1000
    assert compare(np.arange(1001), np.arange(1001)).confusion is None
    merged = compare(thousand, thousand).merge(compare(thousand + 1, thousand + 1))
    assert merged.confusion is None
    assert merged.agreeing == 2000
    assert merged.merge(compare([1], [1])).confusion is None
    assert compare([1], [1]).merge(merged).confusion is None


def test_confusion_is_given_up_for_a_class_of_more_than_256_bytes():
    assert compare(texts(b"x" * 256), texts(b"y")).confusion == {("x" * 256, "y"): 1}
    assert compare(texts(b"x" * 257), texts(b"y")).confusion is None
    assert compare(texts("ä".encode() * 129), texts(b"y")).confusion is None


# Which records and outputs are compared


def test_only_records_that_both_have_are_compared():
    a = masked([[1.0], [2.0], [3.0], [4.0]], [True, False, False, False])
    b = masked([[9.0], [9.0], [9.0], [4.0]], [False, True, False, False])
    output = compare(a, b)
    assert (output.records, output.agreeing, output.sum_absolute_difference) == (2, 1, 6.0)
    assert ranked(output) == [(2, 6.0)]
    one_masked = compare(a, np.array([[9.0], [2.0], [3.0], [4.0]]))
    assert (one_masked.records, one_masked.agreeing) == (3, 3)


def test_masked_texts_and_bfloat16_are_compared():
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
    outputs = {name: {"y": np.array([value])} for name, value in [("c", 1), ("a", 2), ("b", 4)]}
    pairs = compare_batch([b""], outputs, in_one_file, Comparing()).pairs
    assert [pair.models for pair in pairs] == [("c", "a"), ("c", "b"), ("a", "b")]
    assert [pair.outputs["y"].max_absolute_difference for pair in pairs] == [1.0, 3.0, 2.0]


def test_one_model_makes_no_pair():
    assert compare_batch([b""], {"a": {"y": np.zeros(1)}}, in_one_file, Comparing()) == Comparison()


# The records that differ most


def test_records_that_differ_most_show_their_keys():
    records = [
        helpers.example(id=7, name=[b"n", b"\xff"], weight=NAN),
        helpers.example(id=8),
        b"\xff",
    ]
    names = ("name", "id", "weight")
    output = compare([1.0, 1.0, 1.0], [3.0, 2.0, 1.5], key_features=names, records=records)
    assert [different.keys for different in output.most_different] == [
        {"name": ["n", "\\xff"], "id": [7], "weight": ["nan"]},
        {"name": [], "id": [8], "weight": []},
        {},
    ]


def test_at_most_16_values_are_shown():
    (different,) = compare(np.zeros((1, 20)), np.ones((1, 20))).most_different
    assert different.values == {"a": [0.0] * 16, "b": [1.0] * 16}


def test_equal_differences_are_ranked_by_file_and_number():
    places = [("b", 0), ("b", 10), ("a", 10), ("b", 9), ("a", 9)]
    outputs = {"a": {"y": np.zeros(5)}, "b": {"y": np.array([1.0, 1.0, 1.0, 2.0, 1.0])}}
    comparison = compare_batch([b""] * 5, outputs, places.__getitem__, Comparing((), 4))
    different = comparison.pairs[0].outputs["y"].most_different
    assert [(d.file, d.record) for d in different] == [("b", 9), ("a", 9), ("a", 10), ("b", 0)]


@pytest.mark.parametrize("most_different", [0, 1, 3])
def test_no_more_records_are_kept_than_asked_for(most_different):
    output = compare(np.arange(9.0), np.zeros(9), most_different=most_different)
    expected = [(8, 8.0), (7, 7.0), (6, 6.0)][:most_different]
    assert ranked(output) == expected
    assert len(output.merge(output).most_different) == most_different


def test_error_for_a_negative_number_of_records():
    with pytest.raises(SettingsError) as error:
        Comparing(most_different=-1)
    assert str(error.value) == (
        "Expected ComparisonSpec.most_different to be at least 0, got -1. Set it to how many "
        "records to show; 0 shows none."
    )


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
ROWS = st.lists(st.tuples(*[PREDICTIONS] * len(MODELS)), max_size=12)


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

    records = [helpers.example(row=start + i) for i in range(len(batch))]
    return compare_batch(records, outputs, locate, Comparing(("row",), 3))


@given(ROWS, st.lists(st.integers(0, 12)))
def test_merged_batches_are_one_batch(rows, cuts):
    ends = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    merged = Comparison()
    for start, stop in itertools.pairwise(ends):
        merged = merged.merge(compare_rows(rows, start, stop))
    assert merged == compare_rows(rows, 0, len(rows))


@given(ROWS, st.integers(0, 12), st.integers(0, 12))
def test_merging_is_associative(rows, cut, other_cut):
    first, second = sorted((cut, other_cut))
    ends = [0, min(first, len(rows)), min(second, len(rows)), len(rows)]
    a, b, c = (compare_rows(rows, start, stop) for start, stop in itertools.pairwise(ends))
    assert a.merge(b).merge(c) == a.merge(b.merge(c))


@given(ROWS)
def test_nothing_is_neutral(rows):
    comparison = compare_rows(rows, 0, len(rows))
    assert Comparison().merge(comparison) == comparison
    assert comparison.merge(Comparison()) == comparison


def test_merging_changes_nothing_that_it_is_given():
    comparison = Comparison((compare_pair({"y": np.zeros(2)}, {"y": np.ones(2)}),))
    before = comparison.to_json()
    assert comparison.merge(comparison).to_json() != before
    assert comparison.to_json() == before


def test_pairs_outputs_and_outcomes_of_both_are_merged():
    y, z = compare([1], [1]), compare([1], [2])
    x = Outcome(1, 1.0, NAN, NAN)
    some = Comparison((PairComparison(("a", "b"), {"y": y}, {"v": "why"}),), {"a": x})
    others = Comparison(
        (
            PairComparison(("a", "c"), {"y": y}, {}),
            PairComparison(("a", "b"), {"y": z, "z": z}, {"w": "why not"}),
        ),
        {"b": x},
    )
    assert some.merge(others) == Comparison(
        (
            PairComparison(("a", "b"), {"y": y.merge(z), "z": z}, {"v": "why", "w": "why not"}),
            PairComparison(("a", "c"), {"y": y}, {}),
        ),
        {"a": x, "b": x},
    )


def test_what_is_kept_is_bounded():
    rows = np.arange(1500)
    output = compare(rows, rows[::-1].copy())
    for start in range(1, 20):
        output = output.merge(compare(rows + start, rows[::-1] + start))
    assert output.records == 20 * 1500
    assert output.confusion is None
    assert len(output.most_different) == 10


def test_share_of_no_records_is_not_a_number():
    nothing = OutputComparison(0, 0, 0, 0, 0.0, 0.0, {}, (), 10)
    assert math.isnan(nothing.agreement)
    assert math.isnan(nothing.mean_absolute_difference)


# JSON


def strictly(text):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_json_holds_everything():
    labels = texts(b"cat", b"dog", b"dog")
    a = {"label": labels, "y": np.array([1.0, NAN, 3.0])}
    b = {"label": labels[::-1], "y": np.array([1.0, 2.0, 5.0]), "z": np.zeros(3)}
    records = [helpers.example(id=i) for i in range(3)]
    pair = compare_pair(a, b, most_different=1, key_features=("id",), records=records)
    outcomes = {"a": Outcome(2, 1.0, -INF, INF), "b": Outcome(0, NAN, NAN, NAN)}
    assert strictly(Comparison((pair,), outcomes).to_json()) == {
        "pairs": [
            {
                "models": ["a", "b"],
                "outputs": {
                    "label": {
                        "records": 3,
                        "agreeing": 1,
                        "agreement": 1 / 3,
                        "values": 0,
                        "not_finite": 0,
                        "sum_absolute_difference": 0.0,
                        "mean_absolute_difference": "nan",
                        "max_absolute_difference": 0.0,
                        "confusion": [
                            {"classes": {"a": "cat", "b": "dog"}, "records": 1},
                            {"classes": {"a": "dog", "b": "cat"}, "records": 1},
                            {"classes": {"a": "dog", "b": "dog"}, "records": 1},
                        ],
                        "most_different": [
                            {
                                "difference": 1.0,
                                "file": "file",
                                "record": 0,
                                "keys": {"id": [0]},
                                "values": {"a": ["cat"], "b": ["dog"]},
                            }
                        ],
                        "keeps": 1,
                    },
                    "y": {
                        "records": 3,
                        "agreeing": 1,
                        "agreement": 1 / 3,
                        "values": 2,
                        "not_finite": 1,
                        "sum_absolute_difference": 2.0,
                        "mean_absolute_difference": 1.0,
                        "max_absolute_difference": 2.0,
                        "confusion": [],
                        "most_different": [
                            {
                                "difference": "inf",
                                "file": "file",
                                "record": 1,
                                "keys": {"id": [1]},
                                "values": {"a": ["nan"], "b": [2.0]},
                            }
                        ],
                        "keeps": 1,
                    },
                },
                "not_compared": {"z": "only 'b' has it"},
            }
        ],
        "outcomes": {
            "a": {"count": 2, "mean": 1.0, "low": "-inf", "high": "inf"},
            "b": {"count": 0, "mean": "nan", "low": "nan", "high": "nan"},
        },
    }


NUMBER = st.floats(allow_nan=False)
READABLE = st.dictionaries(
    st.text(), st.lists(st.text() | st.integers() | st.booleans() | st.floats(-9, 9))
)


@st.composite
def any_comparison(draw):
    different = st.builds(DifferentRecord, NUMBER, st.text(), st.integers(), READABLE, READABLE)
    output = st.builds(
        OutputComparison,
        sum_absolute_difference=NUMBER,
        max_absolute_difference=NUMBER,
        confusion=st.none()
        | st.dictionaries(st.tuples(st.text(), st.text()), st.integers(1), max_size=3),
        most_different=st.lists(different, max_size=2).map(tuple),
    )
    pair = st.builds(
        PairComparison,
        models=st.lists(st.text(), min_size=2, max_size=2, unique=True).map(tuple),
        outputs=st.dictionaries(st.text(), output, max_size=2),
        not_compared=st.dictionaries(st.text(), st.text(), max_size=2),
    )
    number = NUMBER | st.just(NAN)
    outcome = st.builds(Outcome, st.integers(0), number, number, number)
    pairs = tuple(draw(st.lists(pair, max_size=2)))
    return Comparison(pairs, draw(st.dictionaries(st.text(), outcome, max_size=2)))


@given(any_comparison())
def test_comparison_survives_strict_json(comparison):
    strictly(comparison.to_json())
    assert Comparison.from_json(comparison.to_json()) == comparison


@given(ROWS)
def test_comparison_of_a_batch_survives_strict_json(rows):
    comparison = compare_rows(rows, 0, len(rows))
    strictly(comparison.to_json())
    assert Comparison.from_json(comparison.to_json()) == comparison


def test_classes_given_up_survive_json():
    output = dataclasses.replace(compare([1], [1]), confusion=None)
    comparison = Comparison((PairComparison(("a", "b"), {"y": output}, {}),))
    assert json.loads(comparison.to_json())["pairs"][0]["outputs"]["y"]["confusion"] is None
    assert Comparison.from_json(comparison.to_json()) == comparison


def test_model_may_be_named_records():
    output = compare([1, 1], [1, 2])
    comparison = Comparison((PairComparison(("records", "classes"), {"y": output}, {}),))
    assert Comparison.from_json(comparison.to_json()) == comparison


def test_comparison_is_written_and_read_as_one_file(tmp_path):
    comparison = Comparison((compare_pair({"y": np.zeros(2)}, {"y": np.ones(2)}),))
    comparison.write(str(tmp_path))
    assert [file.name for file in tmp_path.iterdir()] == ["comparison.json"]
    assert Comparison.read(str(tmp_path)) == comparison
