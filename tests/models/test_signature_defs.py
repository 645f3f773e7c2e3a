from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from bulk_inferencer._formats.record_format import (
    FORMAT_PROTO,
    FORMAT_TF_EXAMPLE,
    FORMAT_TF_SEQUENCE_EXAMPLE,
    RECORD_FORMATS,
)
from bulk_inferencer._models.predictor import RecordError
from bulk_inferencer._models.signature_defs import Feeds, check_rows, select, signatures
from bulk_inferencer._signatures import CLASSIFY, PREDICT, REGRESS, Signature
from bulk_inferencer.errors import ModelError
from tests.helpers import exactly, example

RECORDS = {"records": tf.TensorSpec([None], tf.string)}
Y = {"y": tf.TensorSpec([None], tf.float32)}


def definition(inputs=RECORDS, outputs=Y, method="predict"):
    """Returns a SignatureDef; inputs and outputs are TensorSpecs or TensorInfos by name."""

    def info(spec):
        if not isinstance(spec, tf.TensorSpec):
            return spec
        dtype, shape = spec.dtype.as_datatype_enum, spec.shape.as_proto()
        return meta_graph_pb2.TensorInfo(name="it", dtype=dtype, tensor_shape=shape)

    return meta_graph_pb2.SignatureDef(
        inputs={name: info(spec) for name, spec in inputs.items()},
        outputs={name: info(spec) for name, spec in outputs.items()},
        method_name=f"tensorflow/serving/{method}",
    )


def choose(record_format=FORMAT_TF_EXAMPLE, names=(), **definitions):
    return select(definitions, names, record_format, "the model", "Model.signatures")


def test_signatures_come_in_the_order_in_which_they_are_named():
    heads = {
        "a": definition(method="classify", outputs={"scores": Y["y"], "classes": Y["y"]}),
        "b": definition(method="regress", outputs={"outputs": Y["y"]}),
        "serving_default": definition(outputs={"z": Y["y"], "y": Y["y"]}),
    }
    assert list(choose(**heads)) == ["serving_default"]
    assert signatures(choose(names=("b", "serving_default", "a"), **heads)) == (
        Signature("b", REGRESS, ("outputs",)),
        Signature("serving_default", PREDICT, ("y", "z")),
        Signature("a", CLASSIFY, ("classes", "scores")),
    )


STRINGS = {"s": tf.TensorSpec(None, tf.string), "n": tf.TensorSpec([None, 3], tf.int64)}
ADVICE = "Export a signature with one string input of shape [None] that parses the records."


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"b": definition(), "a": definition(), "__saved_model_init_op": definition()},
         ("Signature 'serving_default' not found in the model; it has: a, b. Correct "
          "Model.signatures.")),
        ({},
         ("Signature 'serving_default' not found in the model; it has: none. Correct "
          "Model.signatures.")),
        *(({"record_format": record_format, "serving_default": definition(method="classify")},
           (f"The classify signature 'serving_default' takes FORMAT_TF_EXAMPLE records only, not "
            f"{record_format}, since its log holds a tf.Example. Name a predict signature in "
            f"Model.signatures."))
          for record_format in (FORMAT_PROTO, FORMAT_TF_SEQUENCE_EXAMPLE)),
        ({"record_format": FORMAT_PROTO, "serving_default": definition(STRINGS)},
         (f"Signature 'serving_default' takes (n int64[None, 3], s string[...]), which can only be "
          f"parsed from FORMAT_TF_EXAMPLE records, not from FORMAT_PROTO. {ADVICE}")),
        *(({"serving_default": definition({"x": tf.TensorSpec(shape, dtype)})},
           (f"Input 'x' of signature 'serving_default' is {shown}. To be parsed from tf.Examples, "
            f"it needs a dtype that they can hold, and a known shape after the batch dimension. "
            f"{ADVICE}"))
          for shape, dtype, shown in [
              ([None, None], tf.float32, "float32[None, None]"),
              ([], tf.float32, "float32[]"),
              (None, tf.float32, "float32[...]"),
              ([None, 2], tf.complex64, "complex64[None, 2]"),
          ]),
        *(({"serving_default": definition(method=method)},
           (f"The {method} signature 'serving_default' needs an output named {needs}, but has y. "
            f"Rename the output, or export a predict signature."))
          for method, needs in (("classify", "'classes' or 'scores'"), ("regress", "'outputs'"))),
        *(({"serving_default": definition(outputs={"y": meta_graph_pb2.TensorInfo(**{kind: {}})})},
           (f"Output 'y' must be a dense tensor, not {kind}. Return .to_tensor() of a ragged or "
            f"tf.sparse.to_dense() of a sparse tensor from the serving signature."))
          for kind in ("composite_tensor", "coo_sparse")),
        ({"serving_default": definition(outputs={"y": tf.TensorSpec([], tf.float32)})},
         "Output 'y' of signature 'serving_default' is a scalar. Return one row for each record."),
    ],
)  # fmt: skip
def test_signature_that_cannot_be_called_is_named(settings, message):
    with pytest.raises(ModelError, match=exactly(message)):
        choose(**settings)


def test_output_without_a_row_for_each_record_is_named():
    for shape in ((2, 7), ()):
        message = (
            f"Output 'y' has shape {shape} for a batch of 3. Return one row for each record from "
            f"the signature."
        )
        with pytest.raises(ModelError, match=exactly(message)):
            check_rows("y", np.zeros(shape), 3)
    check_rows("y", np.zeros((3, 0)), 3)


def test_inputs_on_which_signatures_disagree_are_named():
    message = (
        r"^Signatures disagree on input 'x': it is FixedLenFeature\(.*float32.*\) in one, but "
        r"FixedLenFeature\(.*int64.*\) in 'b'\. Score them in separate runs\.$"
    )
    a, b = (definition({"x": tf.TensorSpec([None], dtype)}) for dtype in (tf.float32, tf.int64))
    with pytest.raises(ModelError, match=message):
        choose(names=("a", "b"), a=a, b=b)


@pytest.mark.parametrize("record_format", RECORD_FORMATS)
@pytest.mark.parametrize("shape", [[None], None], ids=["vector", "unknown rank"])
def test_records_of_any_format_go_to_the_only_input_if_it_takes_strings(shape, record_format):
    spec = {"data": tf.TensorSpec(shape, tf.string)}
    feeds = Feeds(choose(record_format, serving_default=definition(spec)))
    assert feeds.input_name == "data"
    batch = [b"", b"\0\0", b"\xff" * 300]
    ((records,),) = (fed.values() for fed in feeds(batch))
    assert records.numpy().tolist() == batch


def test_features_are_parsed_once_for_all_signatures_that_take_them():
    inputs = {
        "scalar": tf.TensorSpec([None], tf.float32),
        "matrix": tf.TensorSpec([None, 2, 2], tf.float32),
        "text": tf.TensorSpec([None, 1], tf.string),
    }
    some = {name: inputs[name] for name in ("scalar", "text")}
    heads = {"a": definition(inputs), "b": definition(), "c": definition(some)}
    feeds = Feeds(choose(names=tuple(heads), **heads))
    record = example(scalar=1.5, matrix=[1.0, 2.0, 3.0, 4.0], text="ä", other=7)
    a, b, c = ({n: t.numpy()[0] for n, t in fed.items()} for fed in feeds([record]))
    assert feeds.input_name == "examples"
    assert (a["scalar"], a["matrix"].tolist()) == (1.5, [[1, 2], [3, 4]])
    assert b == {"records": record}
    assert c == {"scalar": 1.5, "text": ["ä".encode()]}


def test_features_are_cast_to_the_dtype_of_the_input():
    floats = ("float16", "bfloat16", "float32", "float64")
    integers = ("bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
    inputs = {name: tf.TensorSpec([None], name) for name in (*floats, *integers)}
    record = example(**dict.fromkeys(floats, 1.0), **dict.fromkeys(integers, 1))
    (fed,) = Feeds(choose(serving_default=definition(inputs)))([record])
    assert {name: tensor.dtype.name for name, tensor in fed.items()} == {n: n for n in inputs}
    assert {float(tensor[0]) for tensor in fed.values()} == {1.0}


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "uint64"])
def test_integer_that_its_input_cannot_hold_is_refused(dtype):
    inputs = {"n": tf.TensorSpec([None, 2], dtype), **RECORDS}
    feeds = Feeds(choose(serving_default=definition(inputs)))
    lowest, highest = int(np.iinfo(dtype).min), min(int(np.iinfo(dtype).max), 2**63 - 1)
    (fed,) = feeds([example(n=[lowest, highest], records="")])
    assert fed["n"].numpy().tolist() == [[lowest, highest]]
    for bad in [lowest - 1, highest + 1][: 1 if dtype == "uint64" else 2]:
        message = f"OverflowError: input 'n' takes {dtype}, got {bad}"
        with pytest.raises(RecordError, match=exactly(message)):
            feeds([example(n=[0, 1], records=""), example(n=[0, bad], records="")])
