"""Models that a function of the user's loads: `load_override_fn`, as tfx_bsl has it."""

from __future__ import annotations

import re
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from bulk_inferencer._models.predictor import FORMAT_TF_EXAMPLE, RecordError
from bulk_inferencer.beam import RunInference, SavedModel
from bulk_inferencer.errors import ModelError
from tests.beam_helpers import outputs_of, y_of
from tests.helpers import RECORDS, edit_saved_model, exactly, example, save_functions

X = [example(x=x) for x in (0.0, 1.0, -2.5)]


def in_session(path, tags):
    """Loads a model as tfx_bsl does."""
    session = tf.compat.v1.Session(graph=tf.Graph())
    tf.compat.v1.saved_model.loader.load(session, tags, path)
    return session


def predictor(path, load, *signatures):
    return SavedModel(path, signatures, load_override_fn=load).load(FORMAT_TF_EXAMPLE)


def test_function_gets_the_path_and_the_tags(linear_model):
    calls = []

    def load(path, tags):
        calls.append((path, tags))
        return tf.saved_model.load(path, tags)

    assert predictor(linear_model, load).predict(X)["y"].tolist() == [[0.0], [5.0], [-12.5]]
    SavedModel(linear_model, tags=("serve",), load_override_fn=load).load(FORMAT_TF_EXAMPLE)
    assert calls == [(linear_model, ["serve"])] * 2


def test_function_is_not_called_where_the_pipeline_is_built(linear_model):
    def load(path, tags):
        raise AssertionError("called")

    assert SavedModel(linear_model, load_override_fn=load).check(FORMAT_TF_EXAMPLE)


def test_object_with_signatures_of_its_own_is_scored(linear_model):
    def load(path, tags):
        serve = lambda examples: {"y": np.full(len(examples), 7.0)}  # noqa: E731
        return types.SimpleNamespace(signatures={"serving_default": serve})

    assert predictor(linear_model, load).predict(X)["y"].tolist() == [7.0, 7.0, 7.0]


# TF1 sessions


@pytest.mark.parametrize(
    "signatures",
    [(), ("predict",), ("regress",), ("scores_only",), ("serving_default", "regress", "predict")],
    ids=str,
)
def test_model_in_a_session_gives_what_it_gives_without(tf1_model, signatures):
    own = SavedModel(tf1_model, signatures).load(FORMAT_TF_EXAMPLE)
    loaded = predictor(tf1_model, in_session, *signatures)
    assert loaded.signatures == own.signatures
    expected, outputs = own.predict(X), loaded.predict(X)
    assert list(outputs) == list(expected)
    for name, values in expected.items():
        assert outputs[name].dtype == values.dtype
        assert outputs[name].tolist() == values.tolist()


def test_typed_inputs_of_a_model_in_a_session_are_parsed(tmp_path):
    inputs = {"x": tf.TensorSpec([None], tf.float32), "n": tf.TensorSpec([None, 2], tf.int32)}
    path = save_functions(
        tmp_path, serving_default=(lambda x, n: {"y": x + tf.cast(n[:, 1], tf.float32)}, inputs)
    )
    records = [example(x=1.0, n=[10, 20]), example(x=2.0, n=[30, 40])]
    assert predictor(path, in_session).predict(records)["y"].tolist() == [21.0, 42.0]


def test_bad_record_is_an_error_of_that_record_in_a_session_too(tf1_model):
    loaded = predictor(tf1_model, in_session, "predict")
    with pytest.raises(RecordError, match=r"^InvalidArgumentError: .*[Pp]ars"):
        loaded.predict([X[0], b"no tf.Example"])
    assert loaded.predict([X[1]])["y"].tolist() == [5.0]


def test_scalar_output_of_a_model_in_a_session_is_named(tmp_path):
    def forget_shape(proto):
        output = proto.meta_graphs[0].signature_def["serving_default"].outputs["all"]
        output.tensor_shape.Clear()
        output.tensor_shape.unknown_rank = True

    def serve(records):
        return {"all": tf.strings.reduce_join(records)}

    path = save_functions(tmp_path, serving_default=(serve, {"records": RECORDS}))
    edit_saved_model(path, forget_shape)
    message = (
        "Expected output 'all' to have the batch size 3 as its first dimension, got shape (). "
        "Return one row per record from the signature."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        predictor(path, in_session).predict(X)


# In a pipeline


@pytest.mark.parametrize("load", [in_session, lambda path, tags: tf.saved_model.load(path, tags)])
def test_transform_loads_its_model_with_the_function(linear_model, load):
    transform = RunInference(SavedModel(linear_model), load_override_fn=load)
    outputs = outputs_of(transform, X)
    assert sorted(map(y_of, outputs)) == [-12.5, 0.0, 5.0]


def test_transform_passes_on_what_the_function_raises(linear_model):
    def load(path, tags):
        raise OSError(f"no {tags} here")

    transform = RunInference(SavedModel(linear_model), load_override_fn=load)
    message = f"Could not load {linear_model}: no ['serve'] here"
    with pytest.raises(ModelError, match=re.escape(message)):
        outputs_of(transform, X)


# What cannot be called


def test_something_else_is_refused(linear_model):
    message = (
        f"Expected load_override_fn to return an object with signatures, as tf.saved_model.load "
        f"does, or a TF1 session, got str for {linear_model}. Return one of them."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        predictor(linear_model, lambda path, tags: path)


def test_object_that_lacks_a_signature_is_refused(tf1_model):
    def load(path, tags):
        return types.SimpleNamespace(signatures={"predict": print})

    message = (
        f"Expected load_override_fn to return an object with the signatures predict, regress of "
        f"{tf1_model}, got one without regress. Return what tf.saved_model.load does."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        predictor(tf1_model, load, "predict", "regress")


def test_function_is_called_again_with_the_library_of_a_missing_op(
    tmp_path, monkeypatch, linear_model
):
    (tmp_path / "struct2tensor.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "struct2tensor", raising=False)
    model = tf.saved_model.load(linear_model)

    def load(path, tags):
        if "struct2tensor" not in sys.modules:
            raise ValueError("Op type not registered 'DecodeProtoSparseV4' in binary")
        return model

    try:
        assert predictor(linear_model, load).predict(X)["y"].tolist() == [[0.0], [5.0], [-12.5]]
    finally:
        sys.modules.pop("struct2tensor", None)
