"""PredictionLogs are compared with the official protos, and with those of tfx_bsl's RunInference.

Messages are compared as deterministic bytes after parsing, so that NaN equals itself.
"""

from __future__ import annotations

import string

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tensorflow_serving.apis import prediction_log_pb2
from tfx_bsl.public.beam import RunInference
from tfx_bsl.public.proto.model_spec_pb2 import InferenceSpecType

from bulk_inferencer._formats.prediction_log import PredictionLogEncoder
from bulk_inferencer._formats.record_format import FORMAT_TF_EXAMPLE
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer._signatures import CLASSIFY, PREDICT, REGRESS, Signature
from bulk_inferencer.errors import ModelError
from bulk_inferencer.results.reader import record_of
from tests.beam.helpers import run_together
from tests.helpers import FLOAT, RECORDS, exactly, example, parsed_log, save_functions

ONE = [Signature("serving_default", PREDICT)]
CLASSIFY_ONE = [Signature("classes_and_scores", CLASSIFY)]
REGRESS_ONE = [Signature("regress", REGRESS)]
HEADS = [Signature("a", CLASSIFY), Signature("b", REGRESS), Signature("c", CLASSIFY)]

DTYPES = [
    *("float16", "float32", "float64", "bfloat16", "complex64", "complex128", "bool"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
]
shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)
names = st.text(string.ascii_letters + string.digits + "_/:äß", min_size=1, max_size=200)


def encode(signatures, records, outputs, input_name="examples"):
    """Returns parsed PredictionLogs."""
    encoder = PredictionLogEncoder(signatures, input_name)
    return [parsed_log(log) for log in encoder.encode(records, outputs)]


def assert_equal(logs, expected):
    assert as_bytes(logs) == as_bytes(expected)


def as_bytes(logs):
    return [log.SerializeToString(deterministic=True) for log in logs]


def numbers(dtype, shape):
    """Values of a dtype, with NaNs, infinities and extremes among them."""
    if dtype == "bfloat16":
        return hnp.arrays("uint16", shape).map(lambda bits: bits.view(ml_dtypes.bfloat16))
    return hnp.arrays(dtype, shape)


def texts(shape):
    values = hnp.arrays(object, shape, elements=st.binary(max_size=20), fill=st.nothing())
    return values.map(np.array)


@st.composite
def batches(draw):
    """Draws records and outputs of any dtypes."""
    records = draw(st.lists(st.binary(max_size=300), min_size=1, max_size=4))
    outputs = {}
    for name in draw(st.lists(names, min_size=1, max_size=4, unique=True)):
        dtype, shape = draw(st.sampled_from([*DTYPES, "string"])), (len(records), *draw(shapes))
        outputs[name] = draw(texts(shape) if dtype == "string" else numbers(dtype, shape))
    return records, outputs


def predict_logs(records, outputs):
    """Returns the logs as one fills the official protos, with TensorFlow's own tensor protos."""
    logs = []
    for i, record in enumerate(records):
        log = prediction_log_pb2.PredictionLog()
        request, response = log.predict_log.request, log.predict_log.response
        request.inputs["examples"].CopyFrom(tf.make_tensor_proto([record]))
        request.model_spec.signature_name = "serving_default"
        response.model_spec.signature_name = "serving_default"
        for name, values in outputs.items():
            row = values[i : i + 1]
            dtype = tf.string if row.dtype == object else row.dtype
            response.outputs[name].CopyFrom(tf.make_tensor_proto(row, dtype, row.shape))
        logs.append(log)
    return logs


@settings(max_examples=100)
@given(batches())
def test_predict_logs_equal_the_official_protos(batch):
    records, outputs = batch
    assert_equal(encode(ONE, records, outputs), predict_logs(records, outputs))


@pytest.mark.parametrize("shape", [(), (1,), (3,), (0,), (2, 2), (2, 0, 1), (1, 1, 1)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_rank_equals_the_official_protos(dtype, shape):
    size = np.dtype(dtype).itemsize * int(np.prod(shape))
    bits = np.arange(2 * size).astype(np.uint8) & (1 if dtype == "bool" else 63)
    records, outputs = [b"a", b"b"], {"y": bits.view(dtype).reshape(2, *shape)}
    assert_equal(encode(ONE, records, outputs), predict_logs(records, outputs))


@settings(max_examples=50)
@given(st.lists(st.integers(0, 70_000), min_size=1, max_size=4))
def test_records_of_any_length_are_carried_whole(lengths):
    records = [bytes(i % 251 for i in range(length)) for length in lengths]
    outputs = {"y": np.arange(len(records), dtype=np.float32)}
    assert_equal(encode(ONE, records, outputs), predict_logs(records, outputs))


SIGNATURES = [ONE, CLASSIFY_ONE, REGRESS_ONE, HEADS[:2]]


@pytest.mark.parametrize("signatures", SIGNATURES, ids=["predict", "classify", "regress", "multi"])
def test_log_without_its_record_is_the_same_but_for_that(signatures):
    score, value = np.float32([[0.5], [0.25]]), np.float32([1, 2])
    outputs = {
        "predict": {"y": np.ma.MaskedArray(value, [0, 1]), "z": value},
        "classify": {"scores": score},
        "regress": {"outputs": value},
    }.get(signatures[0].method, {})
    if len(signatures) > 1:
        outputs = {"a/scores": score, "b/outputs": value}
    records = [example(x=1.0), example(x=2.0, text="t")]
    whole, without = encode(signatures, records, outputs), encode(signatures, None, outputs)
    for log in whole:
        request = getattr(log, log.WhichOneof("log_type")).request
        request.ClearField("inputs" if log.HasField("predict_log") else "input")
    assert_equal(without, whole)
    assert [record_of(log) for log in without] == [None, None]


def test_log_names_the_input_and_the_signatures_in_their_order():
    signatures = [Signature("b", PREDICT), Signature("a", CLASSIFY)]
    outputs = {"b/y": np.ones(1), "a/scores": np.ones((1, 2))}
    (log,) = encode(signatures, [b"record"], outputs, "a name")
    assert list(log.predict_log.request.inputs) == ["a name"]
    assert log.predict_log.request.model_spec.signature_name == "b,a"
    assert log.predict_log.response.model_spec.signature_name == "b,a"
    assert sorted(log.predict_log.response.outputs) == ["a/scores", "b/y"]


def log_of(kind, record):
    """Returns a log with its request, and the response in it."""
    log = prediction_log_pb2.PredictionLog()
    own = getattr(log, kind)
    own.request.input.example_list.examples.add().ParseFromString(record)
    return log, own.response


@settings(max_examples=50)
@given(st.data())
@pytest.mark.parametrize("given_outputs", [("classes", "scores"), ("classes",), ("scores",)])
def test_classify_logs_equal_the_official_protos(given_outputs, data):
    records = data.draw(st.lists(st.builds(example, x=st.floats(width=32)), min_size=1, max_size=4))
    shape = (len(records), data.draw(st.integers(0, 4)))
    labels = data.draw(hnp.arrays(object, shape, elements=st.text(max_size=200)))
    scores = data.draw(hnp.arrays("float32", shape))
    classes = np.array([text.encode() for text in labels.flat], object).reshape(shape)
    outputs = {"classes": classes, "scores": scores}
    expected = []
    for i, record in enumerate(records):
        log, response = log_of("classify_log", record)
        classifications = response.result.classifications.add()
        for k in range(shape[1]):
            member = classifications.classes.add()
            if "classes" in given_outputs:
                member.label = labels[i, k]
            if "scores" in given_outputs:
                member.score = scores[i, k]
        expected.append(log)
    logs = encode(CLASSIFY_ONE, records, {name: outputs[name] for name in given_outputs})
    assert_equal(logs, expected)


@settings(max_examples=30)
@given(hnp.arrays("float32", st.integers(1, 5)))
@pytest.mark.parametrize("per_record", [(), (1,)])
def test_regress_logs_equal_the_official_protos(per_record, values):
    records = [example(x=float(i)) for i in range(len(values))]
    expected = []
    for record, value in zip(records, values, strict=True):
        log, response = log_of("regress_log", record)
        response.result.regressions.add().value = value
        expected.append(log)
    outputs = {"outputs": values.reshape(len(values), *per_record)}
    assert_equal(encode(REGRESS_ONE, records, outputs), expected)


def test_multi_inference_log_holds_a_result_per_signature_in_their_order():
    outputs = {
        "c/scores": np.array([[0.5]], np.float32),
        "b/outputs": np.array([5], np.float32),
        "a/classes": np.array([[b"x", b"y"]], object),
    }
    expected, response = log_of("multi_inference_log", example(x=1.0))
    for name in ("a", "b", "c"):
        response.results.add().model_spec.signature_name = name
    a, b, c = response.results
    classes = a.classification_result.classifications.add().classes
    classes.add().label = "x"
    classes.add().label = "y"
    b.regression_result.regressions.add().value = 5
    c.classification_result.classifications.add().classes.add().score = 0.5
    assert_equal(encode(HEADS, [example(x=1.0)], outputs), [expected])


MUST_BE = {
    "scores": "float32 of shape [batch, classes]",
    "classes": "strings of shape [batch, classes]",
    "outputs": "float32 of shape [batch] or [batch, 1]",
}


@pytest.mark.parametrize(
    ("name", "values", "got"),
    [
        ("scores", np.ones((2, 2)), "float64 of shape (2, 2)"),
        ("scores", np.ones(2, np.float32), "float32 of shape (2,)"),
        ("classes", np.ones((2, 2), np.int64), "int64 of shape (2, 2)"),
        ("classes", np.array([b"a"] * 2, object), "strings of shape (2,)"),
        ("outputs", np.ones((2, 2), np.float32), "float32 of shape (2, 2)"),
        ("outputs", np.ones((2, 1, 1), np.float32), "float32 of shape (2, 1, 1)"),
        ("outputs", np.ones((2, 0), np.float32), "float32 of shape (2, 0)"),
        ("outputs", np.ones(2, np.int32), "int32 of shape (2,)"),
        ("outputs", np.array([b"1"] * 2, object), "strings of shape (2,)"),
    ],
)
def test_output_of_another_dtype_or_shape_is_named(name, values, got):
    message = (
        f"Output '{name}' must be {MUST_BE[name]}, not {got}. Correct the signature, or export it "
        f"as a predict signature."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        encode(REGRESS_ONE if name == "outputs" else CLASSIFY_ONE, [b"", b""], {name: values})


@pytest.mark.parametrize(
    ("signatures", "outputs", "message"),
    [
        (ONE, {"y": np.ones(1, ml_dtypes.float8_e5m2)},
         ("Output 'y' has dtype float8_e5m2; a PredictionLog can carry bfloat16, bool, complex128, "
          "complex64, float16, float32, float64, int16, int32, int64, int8, uint16, uint32, "
          "uint64, uint8 and strings. Cast it in the serving signature.")),
        (CLASSIFY_ONE, {"classes": np.array([[b"\xff"]], object)},
         (r"Output 'classes' of a classify signature must be UTF-8 text, not b'\xff'. Return text "
          r"labels, or use a predict signature.")),
        (CLASSIFY_ONE, {"classes": np.full((1, 2), b"a", object), "scores": np.float32([[1]])},
         ("Outputs 'classes' and 'scores' of a classify signature must have the same shape, but "
          "have (1, 2) and (1, 1). Correct the signature.")),
    ],
    ids=["dtype", "bytes", "shapes"],
)  # fmt: skip
def test_outputs_that_a_log_cannot_carry_are_named(signatures, outputs, message):
    with pytest.raises(ModelError, match=exactly(message)):
        encode(signatures, [b""], outputs)


# tfx_bsl


@pytest.fixture(scope="module")
def every_output(tmp_path_factory):
    """A tf.Module whose outputs have every dtype and ranks 0 to 3 per record.

    One text per record and complex numbers are missing: tfx_bsl fails on the former, and the
    parsed x has no cast to the latter.
    """
    dtypes = [tf.as_dtype(name) for name in DTYPES if not name.startswith("complex")]

    def serve(examples):
        x = tf.io.parse_example(examples, {"x": FLOAT})["x"]
        outputs = {f"is_{dtype.name}": tf.cast(x, dtype) for dtype in dtypes}
        outputs["vector"] = tf.stack([x, 2 * x], 1)
        outputs["texts"] = tf.strings.as_string(outputs["vector"])
        outputs["matrix"] = x[:, None, None] * tf.constant([[1.0, 2, 3], [4, 5, 6]])
        outputs["cube"] = tf.reshape(outputs["matrix"], [-1, 1, 3, 2])
        outputs["nothing"] = tf.zeros([tf.size(x), 0])
        return outputs

    folder = tmp_path_factory.mktemp("every_output")
    return save_functions(folder, serving_default=(serve, {"examples": RECORDS}))


CASES = [
    ("linear_model", ()),
    ("every_output", ()),
    ("tf1_model", ("predict",)),
    ("tf1_model", ()),
    ("tf1_model", ("scores_only",)),
    ("tf1_model", ("classes_only",)),
    ("tf1_model", ("regress",)),
    ("tf1_model", ("regress_column",)),
    ("tf1_model", ("serving_default", "regress")),
    ("tf1_model", ("regress", "scores_only")),
]
INPUTS = [example(x=x, other=["text"]) for x in (0.0, 1.0, 2.5, 100.0)]


@pytest.fixture(scope="module")
def logs_of_tfx_bsl(linear_model, every_output, tf1_model):
    """The logs of all cases, by their numbers."""
    paths = {"linear_model": linear_model, "every_output": every_output, "tf1_model": tf1_model}
    specs = (
        InferenceSpecType(saved_model_spec={"model_path": paths[model], "signature_name": names})
        for model, names in CASES
    )
    return run_together({str(i): (RunInference(spec), INPUTS) for i, spec in enumerate(specs)})


@pytest.mark.slow
@pytest.mark.parametrize(("case", "model", "signatures"), [(i, *c) for i, c in enumerate(CASES)])
def test_logs_equal_those_of_tfx_bsl(request, logs_of_tfx_bsl, case, model, signatures):
    model = SavedModel(request.getfixturevalue(model), signatures)
    predictor = model.load(FORMAT_TF_EXAMPLE)
    encoder = PredictionLogEncoder(predictor.signatures, predictor.input_name)
    ours = map(parsed_log, encoder.encode(INPUTS, predictor.predict(INPUTS).outputs))
    assert sorted(as_bytes(ours)) == sorted(as_bytes(logs_of_tfx_bsl[str(case)]))


def test_log_is_that_of_a_record_with_the_outputs_that_it_has():
    z, text = np.ma.array([1, 2, 3], mask=[0, 1, 1]), np.ma.masked_all((3, 2), object)
    text[1] = [b"a", b"b"]
    logs = encode(ONE, [b"0", b"1", b"2"], {"z": z, "text": text})
    assert_equal(logs[:1], predict_logs([b"0"], {"z": np.array([1])}))
    assert_equal(logs[1:2], predict_logs([b"1"], {"text": np.array([[b"a", b"b"]], object)}))
    assert_equal(logs[2:], predict_logs([b"2"], {}))
