"""Which features signatures parse."""

from __future__ import annotations

import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from bulk_inferencer._models.parsed_features import parsed_features
from tests.helpers import FLOAT, RECORDS, save_functions, save_tf1

SPEC = {
    "x": tf.io.FixedLenFeature([], tf.float32),
    "pair": tf.io.FixedLenFeature([2], tf.int64, [0, 0]),
    "words": tf.io.VarLenFeature(tf.string),
    "steps": tf.io.RaggedFeature(tf.float32),
}
EXPECTED = {
    "pair": "int64[2]",
    "steps": "float32[None]",
    "words": "string[None]",
    "x": "float32[]",
}


def parsed(path, signature="serving_default"):
    content = (path / "saved_model.pb").read_bytes()
    (graph,) = saved_model_pb2.SavedModel.FromString(content).meta_graphs
    return parsed_features(graph, graph.signature_def[signature])


def at_once(examples):
    return {"y": tf.io.parse_example(examples, SPEC)["x"]}


def one_by_one(examples):
    def x_of(record):
        return tf.io.parse_single_example(record, {n: SPEC[n] for n in ("x", "pair", "words")})["x"]

    return {"y": tf.map_fn(x_of, examples, fn_output_signature=tf.float32)}


def no_examples(examples):
    return {"y": tf.strings.length(examples)}


@pytest.mark.parametrize(
    ("serve", "expected"),
    [
        (at_once, EXPECTED),
        (one_by_one, {name: own for name, own in EXPECTED.items() if name != "steps"}),
        (no_examples, {}),
    ],
)
def test_signature_tells_what_it_parses(tmp_path, serve, expected):
    # As if it were nested in a layer.
    inner = tf.function(serve, autograph=False)
    save_functions(
        tmp_path, serving_default=(lambda examples: inner(examples), {"examples": RECORDS})
    )
    assert parsed(tmp_path) == expected


def test_signatures_of_one_model_tell_their_own(tmp_path):
    def other(examples):
        return {"y": tf.io.parse_example(examples, {"z": FLOAT})["z"]}

    inputs = {"examples": RECORDS}
    save_functions(tmp_path, serving_default=(at_once, inputs), other=(other, inputs))
    assert parsed(tmp_path, "other") == {"z": "float32[]"}
    assert parsed(tmp_path) == EXPECTED


def test_graph_of_tf1_tells_it_too(tmp_path):
    save_tf1(tmp_path / "model", tmp_path / "vocabulary")
    assert parsed(tmp_path / "model", "predict") == {"x": "float32[]"}
