from __future__ import annotations

import pytest
import tensorflow as tf

from bulk_inferencer._formats.record_format import FORMAT_TF_EXAMPLE
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer.errors import ModelError
from tests.helpers import exactly, example, save_functions

RECORDS = [example(x=[1.0, 2.0], n=1), example(x=[4], n=2), example(x=[5.0, 6.0, 7.0], n=3)]
SUMS = [3.0, 4.0, 18.0]
RAGGED = tf.RaggedTensorSpec([None, None], tf.float32)
SPARSE = tf.SparseTensorSpec([None, None], tf.float32)


def sums(x, n):
    total = tf.sparse.reduce_sum(x, 1) if isinstance(x, tf.SparseTensor) else tf.reduce_sum(x, 1)
    return {"y": tf.ensure_shape(total, [None]), "n": n}


def save_tf1(path, make_placeholder):
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        inputs = {"x": make_placeholder(v1), "n": v1.placeholder(tf.int64, [None])}
        infos = [
            {name: v1.saved_model.build_tensor_info(tensor) for name, tensor in tensors.items()}
            for tensors in (inputs, sums(**inputs))
        ]
        signature = v1.saved_model.build_signature_def(*infos, "tensorflow/serving/predict")
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()
    return str(path)


def in_session(path, tags):
    session = tf.compat.v1.Session(graph=tf.Graph())
    tf.compat.v1.saved_model.loader.load(session, tags, path)
    return session


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    n = tf.TensorSpec([None], tf.int64)
    return {
        "ragged": save_functions(folder / "r", serving_default=(sums, {"x": RAGGED, "n": n})),
        "sparse": save_functions(folder / "s", serving_default=(sums, {"x": SPARSE, "n": n})),
        "ragged of TF1": save_tf1(folder / "r1", lambda v1: v1.ragged.placeholder(tf.float32, 1)),
        "sparse of TF1": save_tf1(
            folder / "s1", lambda v1: v1.sparse_placeholder(tf.float32, [None, None])
        ),
        "sparse of TF1 with a known width": save_tf1(
            folder / "s3", lambda v1: v1.sparse_placeholder(tf.float32, [None, 3])
        ),
    }


@pytest.mark.parametrize("load", [None, in_session], ids=["function", "session"])
@pytest.mark.parametrize("kind", ["ragged", "sparse", "ragged of TF1", "sparse of TF1"])
def test_ragged_and_sparse_inputs_get_as_many_values_as_a_record_has(models, kind, load):
    predictor = SavedModel(models[kind], load_override_fn=load).load(FORMAT_TF_EXAMPLE)
    outputs = predictor.predict([*RECORDS, example(n=4)]).outputs
    assert {name: values.tolist() for name, values in outputs.items()} == {
        "y": [*SUMS, 0.0],
        "n": [1, 2, 3, 4],
    }


def test_sparse_input_of_a_known_width_gets_values_by_their_place(models):
    model = SavedModel(models["sparse of TF1 with a known width"])
    records = [example(x=[1.0, 0.0, 2.0], n=1), example(x=[0, 4, 0], n=2)]
    assert model.load(FORMAT_TF_EXAMPLE).predict(records).outputs["y"].tolist() == [3.0, 4.0]


def test_ragged_and_sparse_inputs_of_more_dimensions_are_refused_by_name(tmp_path):
    advice = "Export a signature with one string input of shape [None] that parses the records."
    two = tf.RaggedTensorSpec([None, None, None], tf.float32)
    for i, (spec, shown) in enumerate(
        {
            two: "ragged 2 times, with values of float32[None]",
            tf.RaggedTensorSpec([None, None, 2], tf.float32, ragged_rank=1): (
                "ragged, with values of float32[None, 2]"
            ),
        }.items()
    ):
        serve = (lambda x: {"y": x.flat_values}, {"x": spec})
        path = save_functions(tmp_path / str(i), serving_default=serve)
        message = (
            f"Input 'x' of signature 'serving_default' is {shown}. That cannot be made from "
            f"features. {advice}"
        )
        with pytest.raises(ModelError, match=exactly(message)):
            SavedModel(path).check(FORMAT_TF_EXAMPLE)


def test_tensors_of_a_nested_input_are_not_mistaken_for_parts_of_one(tmp_path):
    spec = tf.TensorSpec([None, 1], tf.float32)

    def serve(inputs):
        return {"y": inputs["a"] - inputs["b"]}

    function = tf.function(serve).get_concrete_function({"a": spec, "b": spec})
    tf.saved_model.save(tf.Module(), str(tmp_path), {"serving_default": function})
    predictor = SavedModel(tmp_path).load(FORMAT_TF_EXAMPLE)
    outputs = predictor.predict([example(inputs=5.0, inputs_1=2.0)]).outputs
    assert outputs["y"].tolist() == [[3.0]]
