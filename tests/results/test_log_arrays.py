from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from bulk_inferencer._formats.prediction_log import PredictionLogEncoder
from bulk_inferencer._signatures import CLASSIFY, PREDICT, REGRESS, Signature
from bulk_inferencer.results.log_arrays import LogDecoder
from bulk_inferencer.results.reader import prediction_of
from tests.helpers import calls_of

DTYPES = [
    *("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16"),
    *("uint32", "uint64", "bool", "complex64", ml_dtypes.bfloat16, object),
]
SHAPES = [(), (1,), (3,), (2, 2), (0,)]


def array(dtype, shape):
    """Returns values with the largest and the smallest that there are."""
    size = int(np.prod(shape))
    if dtype is object:
        texts = itertools.cycle([b"", b"text", b"\xff\0", b"text"])
        made = np.empty(size, object)
        made[:] = list(itertools.islice(texts, size))
        return made.reshape(shape)
    kind = np.dtype(dtype)
    if kind.kind in "iu":
        ends = [np.iinfo(kind).min, np.iinfo(kind).max, 1, 0]
    else:
        ends = [0, 1, 1, 0] if kind.kind == "b" else [-1.5, 2.0, np.inf, np.nan]
    return np.resize(np.array(ends, kind), shape)


ONE = (Signature("s", PREDICT),)


def logs_of(records, outputs, signatures=ONE):
    return list(PredictionLogEncoder(signatures, "examples").encode(records, outputs))


def check(logs):
    """Checks that what is decoded together equals what each log holds by itself."""
    found = LogDecoder().decode(logs)
    expected = [
        prediction_of(prediction_log_pb2.PredictionLog.FromString(log)) if log is not None else None
        for log in logs
    ]
    assert found.records == [own and own.record for own in expected]
    values = {}
    for name, parts in found.outputs.items():
        for rows, part in parts:
            assert len(rows) == len(part)
            values |= {(row, name): value for row, value in zip(rows.tolist(), part, strict=True)}
    wanted = {(r, n): v for r, own in enumerate(expected) if own for n, v in own.outputs.items()}
    assert values.keys() == wanted.keys()
    for key, value in wanted.items():
        own = np.asarray(values[key], object if value.dtype == object else None)
        assert (own.dtype, own.shape) == (value.dtype, value.shape)
        if own.dtype == object:
            assert own.tolist() == value.tolist()
        else:  # NaN does not equal itself.
            assert own.tobytes() == value.tobytes()


RECORDS = [b"a" * (length % 7) for length in range(40)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
def test_logs_decoded_together_hold_what_each_holds(dtype, shape):
    outputs = {"y": array(dtype, (len(RECORDS), *shape)), "z": np.arange(len(RECORDS))}
    check(logs_of(RECORDS, outputs))


@pytest.mark.parametrize(
    ("signatures", "outputs"),
    [
        ([Signature("s", REGRESS)], {"outputs": np.ones(40, np.float32)}),
        ([Signature("s", CLASSIFY)], {"scores": np.ones((40, 2), np.float32)}),
        (
            [Signature("a", CLASSIFY), Signature("b", REGRESS)],
            {"a/scores": np.ones((40, 2), np.float32), "b/outputs": np.ones(40, np.float32)},
        ),
    ],
    ids=["regress", "classify", "multi-inference"],
)
def test_logs_of_other_kinds_are_decoded_as_well(signatures, outputs):
    check(logs_of([b""] * 40, outputs, signatures))


def test_rows_without_a_log_or_an_output_and_logs_without_a_record_are_told_apart():
    scores = np.ma.MaskedArray(np.arange(40.0), mask=np.arange(40) % 3 == 0)
    logs = logs_of(RECORDS, {"y": np.ones(40), "stage/y": scores})
    logs[5] = logs[30] = None
    check([*logs, *logs_of(None, {"y": np.zeros((3, 2))})])


def test_logs_that_differ_only_in_names_or_lengths_within_are_not_taken_for_alike():
    one, other, third = (
        logs_of([record], {name: values})[0]
        for record, name, values in (
            (b"ab", "x", np.array([b"abc"], object)),
            (b"ab", "y", np.array([b"abc"], object)),
            (b"abc", "y", np.array([b"ab"], object)),
        )
    )
    assert len(one) == len(other) == len(third)
    check([one, other, third, other, one])


def test_logs_that_other_libraries_wrote_are_decoded():
    """TensorFlow leaves out repeated values, and others do not pack them."""
    logs = []
    for values in ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]):
        log = prediction_log_pb2.PredictionLog()
        outputs = log.predict_log.response.outputs
        outputs["y"].CopyFrom(tf.make_tensor_proto([values]))
        del outputs["y"].float_val[1:]
        outputs["z"].dtype = tf.float32.as_datatype_enum
        outputs["z"].tensor_shape.CopyFrom(tf.TensorShape([1, 3]).as_proto())
        outputs["z"].float_val.append(values[1])
        logs.append(log.SerializeToString())
    check(logs)


def test_logs_that_are_laid_out_alike_cost_few_calls():
    outputs = {"y": np.ones((1000, 8), np.float32), "class": np.array([b"a"] * 1000, object)}
    logs = logs_of([b"record"] * 1000, outputs)
    decoder = LogDecoder()
    decoder.decode(logs)
    python, c = calls_of(lambda: decoder.decode(logs))
    assert (python < 100, c < 4000) == (True, True), (python, c)
