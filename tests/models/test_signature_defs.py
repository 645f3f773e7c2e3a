from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from bulk_inferencer._formats.record_format import (
    FORMAT_PROTO,
    FORMAT_TF_EXAMPLE,
    FORMAT_TF_SEQUENCE_EXAMPLE,
)
from bulk_inferencer._models.signature_defs import check_rows, select, signatures
from bulk_inferencer._signatures import CLASSIFY, PREDICT, REGRESS, OutputType, Signature
from bulk_inferencer.errors import ModelError
from tests.helpers import exactly
from tests.models.definitions import Y, definition


def choose(record_format=FORMAT_TF_EXAMPLE, names=(), **definitions):
    return select(definitions, names, record_format, "the model", "Model.signatures")


def test_signatures_come_in_the_order_in_which_they_are_named():
    heads = {
        "a": definition(method="classify", outputs={"scores": Y["y"], "classes": Y["y"]}),
        "b": definition(method="regress", outputs={"outputs": Y["y"]}),
        "serving_default": definition(outputs={"z": Y["y"], "y": Y["y"]}),
    }
    assert list(choose(**heads)) == ["serving_default"]
    number = OutputType("float32", ())
    assert signatures(choose(names=("b", "serving_default", "a"), **heads)) == (
        Signature("b", REGRESS, ("outputs",), types=(number,)),
        Signature("serving_default", PREDICT, ("y", "z"), types=(number, number)),
        Signature("a", CLASSIFY, ("classes", "scores"), types=(number, number)),
    )


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (tf.TensorSpec([None, 3, None], tf.int64), OutputType("int64", (3, None))),
        (tf.TensorSpec([8, 1], tf.string), OutputType("string", (1,))),
        (tf.TensorSpec(None, tf.bfloat16), OutputType("bfloat16", None)),
    ],
)
def test_type_of_an_output_is_that_of_its_rows(spec, expected):
    ((found,),) = [s.types for s in signatures({"s": definition(outputs={"y": spec})})]
    assert found == expected


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
