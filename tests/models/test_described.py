"""What models say of themselves."""

from __future__ import annotations

import pytest
import tensorflow as tf

from bulk_inferencer import HookedModel, PythonModel, SavedModel, TFServing, VertexEndpoint
from bulk_inferencer._models.described import InputDescription, describe
from bulk_inferencer.errors import ModelError
from tests.helpers import RECORDS, save_functions, save_linear
from tests.models.model_server import NAME, ModelServer


def load(path):
    """Is named in tests below."""


def takes(description):
    (signature,) = description.signatures
    return [name for name, reason in signature.takes.items() if not reason]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """One signature of tensors, one of records, and one of a string that may be either."""
    vector = tf.TensorSpec([None, 2], tf.float32, name="v")
    text = tf.TensorSpec([None], tf.string, name="text")

    def lengths(**inputs):
        return {"n": tf.strings.length(next(iter(inputs.values())))}

    return save_functions(
        tmp_path_factory.mktemp("described") / "model",
        serving_default=(lambda v: {"y": v}, {"v": vector}),
        records=(lengths, {"examples": RECORDS}),
        either=(lengths, {"text": text}),
    )


def test_saved_model_tells_inputs_and_outputs_of_each_signature(model):
    found = describe(SavedModel(model))
    assert (found.kind, found.uri) == ("SavedModel", model)
    by_name = {own.name: own for own in found.signatures}
    own = by_name["serving_default"]
    assert own.inputs == (InputDescription("v", "float32[None, 2]", "feature"),)
    assert own.outputs == {"y": "float32[None, 2]"}
    assert by_name["records"].inputs[0].takes == "record"
    assert by_name["either"].inputs[0].takes == "record or feature"
    assert by_name["either"].outputs == {"n": "int32[None]"}


def test_signature_says_which_inputs_it_takes(model):
    of_tensors = describe(SavedModel(model, signatures=("serving_default",)))
    assert takes(of_tensors) == ["tables", "tf.Examples"]
    reason = of_tensors.signatures[0].takes["whole files and other bytes"]
    assert reason.startswith("Signature 'serving_default' takes (v float32[None, 2]), but ")
    of_records = describe(SavedModel(model, signatures=("records",)))
    assert takes(of_records) == ["tables", "tf.Examples", "whole files and other bytes"]


def test_signature_that_parses_tf_examples_takes_no_other_bytes(tmp_path):
    found = describe(SavedModel(save_linear(tmp_path)))
    assert found.signatures[0].parses == {"x": "float32[]"}
    assert takes(found) == ["tables", "tf.Examples"]


def test_signature_that_is_not_there_is_named(model):
    with pytest.raises(ModelError, match=r"^Signature 'x' not found in .*; it has: either, "):
        describe(SavedModel(model, signatures=("x",)))


def test_server_tells_the_same_even_without_a_default_signature(tmp_path):
    path = save_functions(tmp_path, only=(lambda v: {"y": v}, {"v": tf.TensorSpec([None])}))
    server = ModelServer(path)
    server.start()
    try:
        found = describe(TFServing(f"localhost:{server.port}", NAME))
    finally:
        server.stop()
    assert found.kind == "TensorFlow Serving"
    assert found.signatures == describe(SavedModel(path)).signatures


def test_python_model_tells_where_its_function_is():
    found = describe(PythonModel("tests.models.test_described:load", features=("a", "b")))
    assert takes(found) == ["tables", "tf.Examples"]
    assert found.notes[0].startswith("Loaded by tests.models.test_described.load from ")
    assert found.notes[1] == "It gets the features or columns a, b."
    whole = describe(PythonModel("tests.models.test_described:load", takes_records=True))
    assert takes(whole) == ["tables", "tf.Examples", "whole files and other bytes"]


def test_endpoint_takes_records_only_under_a_name():
    name = "projects/p/locations/l/endpoints/1"
    assert takes(describe(VertexEndpoint(name))) == ["tables", "tf.Examples"]
    found = describe(VertexEndpoint(name, input_name="b64"))
    assert found.signatures[0].inputs == (InputDescription("b64", "base64", "record"),)
    assert len(takes(found)) == 3


def test_postprocess_decides_about_the_outputs(model):
    own = SavedModel(model, signatures=("serving_default",))
    found = describe(HookedModel(own, postprocess="tests.models.test_described:takes"))
    assert found.signatures[0].outputs == {}
    assert "which decides about the outputs." in found.notes[-1]
