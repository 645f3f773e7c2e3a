from __future__ import annotations

import base64
import math

import numpy as np
import pyarrow as pa
import pytest

from bulk_inferencer._formats.rows import Rows
from bulk_inferencer._models.json_instances import check_numbers, instance, instances, outputs
from bulk_inferencer._models.predictor import RecordError
from bulk_inferencer.errors import EndpointError
from tests.helpers import exactly, example


def b64(value):
    return {"b64": base64.b64encode(value).decode()}


def test_features_become_an_instance():
    record = example(x=0.5, n=-4, words=["ä", b"\xff\0"], ns=[1, 2], none=[], word="a")
    assert instance(record) == {
        "x": 0.5,
        "n": -4,
        "words": [b64("ä".encode()), b64(b"\xff\0")],
        "ns": [1, 2],
        "none": [],
        "word": b64(b"a"),
    }


def test_rows_of_a_table_become_instances_without_tf_examples():
    rows = Rows(
        pa.table(
            {
                "x": [0.1, None],  # which float32 does not have
                "n": pa.array([-4, 2**40]),
                "text": ["ä", None],
                "data": [b"\xff\0", b""],
                "ns": [[1, 2], [3]],
                "none": [[], [0.5, 1.5]],
            }
        )
    )
    first = {"x": 0.1, "n": -4, "text": "ä", "data": b64(b"\xff\0"), "ns": [1, 2], "none": []}
    second = {"x": None, "n": 2**40, "text": None, "data": b64(b""), "ns": [3], "none": [0.5, 1.5]}
    assert instances(rows) == [first, second]
    assert rows._examples is None
    assert instances(rows[:1], "data") == [{"data": b64(rows[0])}]


def test_record_that_is_no_example_goes_to_a_named_input_only():
    assert instance(b"bad", "data") == {"data": b64(b"bad")}
    with pytest.raises(RecordError, match=r"^DecodeError: not a tf.Example: "):
        instance(b"bad")


@pytest.mark.parametrize("value", [2**53 + 1, -(2**53) - 1, math.inf, -math.inf, math.nan])
def test_number_that_json_cannot_hold_is_an_error_of_that_record(value):
    message = f"ValueError: feature 'n' is {value}, which JSON's numbers cannot hold"
    for values in (value, [1, value]):
        with pytest.raises(RecordError, match=exactly(message)):
            check_numbers({"x": 1.0, "n": values})
    check_numbers({"n": [2**53, -(2**53), 0.1], "text": b64(b"NaN"), "none": []})


@pytest.mark.parametrize(
    ("predictions", "name", "dtype", "values"),
    [
        ([1, 2.5], "outputs", np.float64, [1.0, 2.5]),
        ([[[1, 2]], [[3, 4]]], "outputs", np.float64, [[[1.0, 2.0]], [[3.0, 4.0]]]),
        ([[], []], "outputs", np.float64, [[], []]),
        ([{"y": [1]}, {"y": [2]}], "y", np.float64, [[1.0], [2.0]]),
        (["a", "ä\0"], "outputs", object, [b"a", "ä\0".encode()]),
        ([["a", "b"], ["c", ""]], "outputs", object, [[b"a", b"b"], [b"c", b""]]),
        ([b64(b"\xff\0"), b64(b"")], "outputs", object, [b"\xff\0", b""]),
        ([{"y": [b64(b"\0")]}, {"y": ["b"]}], "y", object, [[b"\0"], [b"b"]]),
        ([True, False], "outputs", np.bool_, [True, False]),
    ],
    ids=["scalars", "lists", "nothing", "objects", "text", "texts", "bytes", "both", "booleans"],
)
def test_predictions_become_arrays(predictions, name, dtype, values):
    ((found_name, found),) = outputs(predictions, "there").items()
    assert (found_name, found.dtype) == (name, dtype)
    assert found.tolist() == values


def test_outputs_are_in_the_order_of_their_names_and_null_becomes_nan():
    found = outputs([{"b": [1, None], "a": "x"}, {"a": "y", "b": [2, 3]}], "there")
    assert list(found) == ["a", "b"]
    assert found["a"].tolist() == [b"x", b"y"]
    np.testing.assert_array_equal(found["b"], [[1, math.nan], [2, 3]])


SHAPE = (
    "Output 'outputs' from there has rows of different shapes in one batch. Pad them to one length."
)
KIND = (
    "Output 'outputs' from there holds {}, but can only hold one of numbers, strings and booleans. "
    "Return each kind under a name of its own."
)
NAMES = (
    "Predictions of one batch from there have different outputs: one has a, b, another a, c. "
    "Return the same outputs for each instance."
)


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ([[1.0], [1.0, 2.0]], SHAPE),
        ([["a"], ["b", "c"]], SHAPE),
        ([1.0, [2.0]], SHAPE),
        ([[[1], [2]], [[1, 2]]], SHAPE),
        (["NaN", 1.0], KIND.format("numbers and strings")),
        ([["a", True], ["b", False]], KIND.format("booleans and strings")),
        ([{"outputs": {"z": 1}}, {"outputs": {"z": 2}}], KIND.format("objects")),
        ([{"a": 1, "b": 2}, {"a": 1, "c": 2}], NAMES),
    ],
)
def test_predictions_that_are_no_arrays_are_refused(predictions, message):
    with pytest.raises(EndpointError, match=exactly(message)):
        outputs(predictions, "there")
