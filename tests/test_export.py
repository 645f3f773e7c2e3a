"""Serving signatures made by `serving.export`: what they compute, loaded in both ways."""

from __future__ import annotations

import re

import apache_beam as beam
import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from bulk_inferencer import serving
from bulk_inferencer._models.predictor import FORMAT_TF_EXAMPLE
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer.errors import SettingsError
from tests.helpers import FLOAT, example, linear_keras, tree

pytestmark = pytest.mark.slow

COLUMN = tf.io.FixedLenFeature([1], tf.float32)
WORD = tf.io.FixedLenFeature([1], tf.string)
X = [example(x=x) for x in (0.0, 1.0, -2.5)]
FIVE_X = [[0.0], [5.0], [-12.5]]

both_keras = pytest.mark.parametrize("library", [keras, tf_keras], ids=lambda k: k.__name__)


def outputs_of(path, records, signature="serving_default"):
    """Returns the outputs, which are the same from a TF1 session as from our predictor.

    A TF1 session is what TFX's own BulkInferrer, tfx_bsl and Model Analysis load models into.
    """
    model = SavedModel(path, (signature,))
    (found,) = model.check(FORMAT_TF_EXAMPLE)
    outputs = model.load(FORMAT_TF_EXAMPLE).predict(records)
    assert found.outputs == tuple(outputs)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], path)
        definition = meta_graph.signature_def[signature]
        fetches = {name: output.name for name, output in definition.outputs.items()}
        fed = session.run(fetches, {definition.inputs["examples"].name: records})
    assert {name: values.tolist() for name, values in fed.items()} == lists(outputs)
    return lists(outputs)


def lists(outputs):
    return {name: values.tolist() for name, values in outputs.items()}


# Keras models


@both_keras
@pytest.mark.parametrize("shape", [[1], []], ids=["column", "scalar"])
def test_model_with_one_input_gets_the_tensor(tmp_path, library, shape):
    path = serving.export(
        linear_keras(library), tmp_path / "model", {"x": tf.io.FixedLenFeature(shape, tf.float32)}
    )
    assert path == str(tmp_path / "model")
    assert outputs_of(path, X) == {"outputs": FIVE_X}


@both_keras
def test_model_with_one_named_input_gets_the_dict(tmp_path, library):
    inputs = {"x": library.Input((1,), name="x")}
    model = library.Model(inputs, library.layers.Rescaling(5.0)(inputs["x"]))
    path = serving.export(model, tmp_path, {"x": COLUMN}, output_name="y")
    assert outputs_of(path, X) == {"y": FIVE_X}


@both_keras
def test_model_with_several_named_inputs_and_outputs_gets_and_gives_them_by_name(tmp_path, library):
    # In another order than that of their names.
    inputs = {name: library.Input((1,), name=name) for name in ("b", "a")}
    difference = library.layers.Subtract()([inputs["b"], inputs["a"]])
    outputs = {"difference": difference, "ten_a": library.layers.Rescaling(10.0)(inputs["a"])}
    model = library.Model(inputs, outputs)
    path = serving.export(model, tmp_path, {"a": COLUMN, "b": COLUMN})
    records = [example(a=1.0, b=3.0), example(a=2.0, b=7.0)]
    assert outputs_of(path, records) == {
        "difference": [[2.0], [5.0]],
        "ten_a": [[10.0], [20.0]],
    }


@both_keras
def test_model_with_lists_of_inputs_and_outputs_gets_its_inputs_by_name(tmp_path, library):
    b, a = (library.Input((1,), name=name) for name in ("b", "a"))
    outputs = [library.layers.Subtract()([b, a]), library.layers.Rescaling(10.0)(a)]
    model = library.Model([b, a], outputs)
    path = serving.export(model, tmp_path, {"a": COLUMN, "b": COLUMN}, output_name="y")
    records = [example(a=1.0, b=3.0), example(a=2.0, b=7.0)]
    assert outputs_of(path, records) == {"y_0": [[2.0], [5.0]], "y_1": [[10.0], [20.0]]}


@both_keras
def test_preprocessing_layers_keep_their_tables(tmp_path, library):
    word = library.Input((1,), name="word", dtype="string")
    lookup = library.layers.StringLookup(vocabulary=["low", "high"])
    embedding = library.layers.Embedding(
        3, 1, embeddings_initializer=library.initializers.Constant(5.0)
    )
    index = lookup(word)
    model = library.Model(word, {"index": index, "embedded": embedding(index)})
    path = serving.export(model, tmp_path, {"word": WORD})
    records = [example(word=word) for word in ("high", "low", "never seen")]
    assert outputs_of(path, records) == {
        "index": [[2], [1], [0]],
        "embedded": [[[5.0]]] * 3,
    }


def test_keras_model_that_was_trained_is_saved_once_and_without_its_optimizer(tmp_path):
    model = linear_keras(keras)
    model.compile("adam", "mse")
    model.fit(np.ones((4, 1)), np.full((4, 1), 5.0), verbose=0)
    path = serving.export(model, tmp_path / "model", {"x": COLUMN})
    size = sum((tmp_path / "model" / name).stat().st_size for name in tree(path))
    whole = str(tmp_path / "whole")
    tf.saved_model.save(model, whole)
    assert size < sum((tmp_path / "whole" / name).stat().st_size for name in tree(whole))
    saved = tf.train.load_checkpoint(f"{path}/variables/variables").get_variable_to_shape_map()
    assert not [name for name in saved if "optimizer" in name]


@both_keras
def test_model_of_a_class_of_its_own_gets_the_tensor_or_with_dict_the_features(tmp_path, library):
    class Five(library.Model):
        def __init__(self):
            super().__init__()
            self.five = library.layers.Rescaling(5.0)

        def call(self, inputs):
            return self.five(inputs["x"] if isinstance(inputs, dict) else inputs)

    model = Five()
    model(tf.zeros([1, 1]))
    path = serving.export(model, tmp_path / "tensor", {"x": COLUMN})
    assert outputs_of(path, X) == {"outputs": FIVE_X}
    path = serving.export(model, tmp_path / "features", {"x": COLUMN}, transform=dict)
    assert outputs_of(path, X) == {"outputs": FIVE_X}


# Other models


def test_function_keeps_the_variables_that_it_uses(tmp_path):
    weight = tf.Variable(4.0)
    times = tf.function(lambda x: weight * x)
    weight.assign_add(1.0)
    path = serving.export(times, tmp_path, {"x": COLUMN})
    assert outputs_of(path, X) == {"outputs": FIVE_X}


def test_plain_function_gets_several_features_by_name(tmp_path):
    weight = tf.Variable(5.0)
    model = linear_keras(keras)

    def difference(features):
        return {"y": weight * features["x"], "also_y": model(features["x"]), "z": features["z"]}

    path = serving.export(difference, tmp_path, {"x": COLUMN, "z": WORD})
    records = [example(x=x, z=str(x)) for x in (0.0, 1.0, -2.5)]
    assert outputs_of(path, records) == {
        "y": FIVE_X,
        "also_y": FIVE_X,
        "z": [[b"0.0"], [b"1.0"], [b"-2.5"]],
    }


class Lookup(tf.Module):
    """A module with a variable and a table."""

    def __init__(self):
        super().__init__()
        self.weight = tf.Variable(5.0)
        words = tf.lookup.KeyValueTensorInitializer(["low", "high"], [1.0, 2.0])
        self.table = tf.lookup.StaticHashTable(words, 0.0)

    def __call__(self, word):
        return self.weight * self.table.lookup(word)


WORDS = [example(word=word) for word in ("low", "high", "never seen")]
FIVE_WORDS = [[5.0], [10.0], [0.0]]


def test_module_keeps_its_tables(tmp_path):
    path = serving.export(Lookup(), tmp_path, {"word": WORD})
    assert outputs_of(path, WORDS) == {"outputs": FIVE_WORDS}


def test_signature_gets_its_name(tmp_path):
    path = serving.export(Lookup(), tmp_path, {"word": WORD}, signature_name="score")
    assert list(tf.saved_model.load(path).signatures) == ["score"]
    assert outputs_of(path, WORDS, "score") == {"outputs": FIVE_WORDS}


def test_signature_of_a_keras_model_gets_its_name(tmp_path):
    path = serving.export(linear_keras(keras), tmp_path, {"x": COLUMN}, signature_name="score")
    assert outputs_of(path, X, "score") == {"outputs": FIVE_X}


# Features of other kinds


@pytest.mark.parametrize(
    ("feature", "mean"),
    [
        (tf.io.VarLenFeature(tf.float32), lambda x: tf.sparse.reduce_sum(x, 1)),
        (tf.io.RaggedFeature(tf.float32), lambda x: tf.reduce_sum(x, 1)),
        (
            tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True),
            lambda x: tf.reduce_sum(x, 1),
        ),
    ],
    ids=["sparse", "ragged", "padded"],
)
def test_features_of_any_length_come_as_the_tensors_that_tensorflow_parses(tmp_path, feature, mean):
    path = serving.export(mean, tmp_path, {"x": feature}, output_name="sum")
    records = [example(x=[1.0, 2.0]), example(), example(x=[4.0])]
    assert outputs_of(path, records) == {"sum": [3.0, 0.0, 4.0]}


def test_feature_with_a_default_may_be_missing(tmp_path):
    spec = {"x": tf.io.FixedLenFeature([], tf.float32, default_value=7.0)}
    path = serving.export(lambda x: {"x": tf.identity(x)}, tmp_path, spec)
    assert outputs_of(path, [example(x=1.0), example()]) == {"x": [1.0, 7.0]}


# Transforms before the model

MODELS = {
    "keras": lambda: linear_keras(keras),
    "tf_keras": lambda: linear_keras(tf_keras),
    "function": lambda: lambda x: 5.0 * x,
}
models = pytest.mark.parametrize("make_model", MODELS.values(), ids=MODELS)


def add_features(features):
    return features["x"] + features["more"]


class LookUpWord(tf.Module):
    """Like the layer of TensorFlow Transform: takes the dict of features."""

    def __init__(self):
        super().__init__()
        self.lookup = Lookup()

    def __call__(self, features):
        return self.lookup(features["word"]) / 5.0


@models
@pytest.mark.parametrize("wrap", [lambda f: f, tf.function], ids=["plain", "tf.function"])
def test_function_may_come_before_the_model(tmp_path, make_model, wrap):
    spec = {"x": COLUMN, "more": COLUMN}
    path = serving.export(make_model(), tmp_path, spec, transform=wrap(add_features))
    assert outputs_of(path, [example(x=1.0, more=2.0)]) == {"outputs": [[15.0]]}


@models
def test_module_with_tables_may_come_before_the_model(tmp_path, make_model):
    path = serving.export(make_model(), tmp_path, {"word": WORD}, transform=LookUpWord())
    assert outputs_of(path, WORDS) == {"outputs": FIVE_WORDS}


@pytest.mark.slow
def test_layer_of_tensorflow_transform_may_come_before_the_model(tmp_path):
    import tensorflow_transform as tft
    import tensorflow_transform.beam as tft_beam
    from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

    spec = {"x": FLOAT, "word": tf.io.FixedLenFeature([], tf.string)}

    def preprocessing_fn(inputs):
        return {
            "x_scaled": tft.scale_to_0_1(inputs["x"]),
            "word_id": tft.compute_and_apply_vocabulary(inputs["word"]),
        }

    data = [{"x": 0.0, "word": "a"}, {"x": 4.0, "word": "b"}, {"x": 2.0, "word": "a"}]
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(spec))
    with beam.Pipeline(FnApiRunner()) as pipeline, tft_beam.Context(str(tmp_path / "temporary")):
        dataset = (pipeline | beam.Create(data), metadata)
        transform_fn = dataset | tft_beam.AnalyzeDataset(preprocessing_fn)
        _ = transform_fn | tft_beam.WriteTransformFn(str(tmp_path / "transform"))
    layer = tft.TFTransformOutput(str(tmp_path / "transform")).transform_features_layer()
    inputs = {
        "x_scaled": keras.Input((), name="x_scaled"),
        "word_id": keras.Input((), name="word_id", dtype="int64"),
    }
    word = keras.ops.cast(inputs["word_id"], "float32")
    model = keras.Model(inputs, keras.layers.Add()([inputs["x_scaled"], word]))
    path = serving.export(model, tmp_path / "model", spec, transform=layer)
    records = [example(x=1.0, word="a"), example(x=4.0, word="b"), example(x=8.0, word="c")]
    assert outputs_of(path, records) == {"outputs": [0.25, 2.0, 1.0]}


# Errors


def test_folder_that_is_not_empty_is_refused_and_stays_as_it_is(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    message = (
        f"Expected a folder that is empty or does not exist to export to, got {tmp_path}. Choose "
        f"another one: models are never overwritten."
    )
    with pytest.raises(SettingsError, match=f"^{re.escape(message)}$"):
        serving.export(linear_keras(keras), tmp_path, {"x": COLUMN})
    assert tree(tmp_path) == ["notes.txt"]


@pytest.mark.parametrize(("model", "got"), [("models/7", "str"), (None, "NoneType")])
def test_model_that_cannot_be_called_is_refused(tmp_path, model, got):
    message = (
        f"Expected a model that can be called, got {got}. Give the model itself, such as a Keras "
        f"model or a tf.function."
    )
    with pytest.raises(SettingsError, match=f"^{re.escape(message)}$"):
        serving.export(model, tmp_path / "model", {"x": COLUMN})
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "Argument `features` cannot be None or falsy"),
        ({"x": tf.float32}, "Unsupported DType <dtype: 'float32'> for key 'x'"),
    ],
    ids=["empty", "dtype"],
)
def test_features_that_tensorflow_cannot_parse_are_refused_by_tensorflow(tmp_path, spec, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        serving.export(Lookup(), tmp_path / "model", spec)
    assert not (tmp_path / "model").exists()
