from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from bulk_inferencer import serving
from bulk_inferencer._formats.record_format import FORMAT_TF_EXAMPLE
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer.errors import SettingsError
from tests.helpers import exactly, example, linear_keras, tree

COLUMN = tf.io.FixedLenFeature([1], tf.float32)
WORD = tf.io.FixedLenFeature([1], tf.string)
X = [example(x=x) for x in (0.0, 1.0, -2.5)]
FIVE_X = [[0.0], [5.0], [-12.5]]

# TensorFlow takes ten seconds to compile tf_keras with AutoGraph.
SLOW = pytest.mark.slow
both_keras = pytest.mark.parametrize(
    "library", [keras, pytest.param(tf_keras, marks=SLOW)], ids=["keras", "tf_keras"]
)


def outputs_of(path, records, signature="serving_default"):
    """Returns the outputs, which are the same from a TF1 session as from our predictor.

    TFX's own BulkInferrer, tfx_bsl and Model Analysis load models into TF1 sessions.
    """
    model = SavedModel(path, (signature,))
    (found,) = model.check(FORMAT_TF_EXAMPLE)
    outputs = model.load(FORMAT_TF_EXAMPLE).predict(records).outputs
    assert found.outputs == tuple(outputs)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], path)
        definition = meta_graph.signature_def[signature]
        fetches = {name: output.name for name, output in definition.outputs.items()}
        fed = session.run(fetches, {definition.inputs["examples"].name: records})
    lists = {name: values.tolist() for name, values in outputs.items()}
    assert {name: values.tolist() for name, values in fed.items()} == lists
    return lists


@both_keras
def test_model_with_one_input_gets_the_tensor(tmp_path, library):
    model = linear_keras(library)
    for shape in ([1], []):
        folder, spec = tmp_path / str(len(shape)), {"x": tf.io.FixedLenFeature(shape, tf.float32)}
        path = serving.export(model, folder, spec)
        assert path == str(folder)
        assert outputs_of(path, X) == {"outputs": FIVE_X}


@both_keras
def test_model_that_names_its_inputs_or_has_several_gets_them_by_name(tmp_path, library):
    # In another order than that of their names.
    inputs = {name: library.Input((1,), name=name) for name in ("b", "x")}
    difference = library.layers.Subtract()([inputs["b"], inputs["x"]])
    five_x = library.layers.Rescaling(5.0)(inputs["x"])
    one = library.Model({"x": inputs["x"]}, five_x)
    by_name = library.Model(inputs, {"difference": difference, "five_x": five_x})
    in_lists = library.Model(list(inputs.values()), [difference, five_x])
    path = serving.export(one, tmp_path / "one", {"x": COLUMN}, output_name="y")
    assert outputs_of(path, X) == {"y": FIVE_X}
    records = [example(x=1.0, b=3.0), example(x=2.0, b=7.0)]
    for model, (first, second) in ((by_name, ("difference", "five_x")), (in_lists, ("y_0", "y_1"))):
        spec = {"x": COLUMN, "b": COLUMN}
        path = serving.export(model, tmp_path / first, spec, output_name="y")
        assert outputs_of(path, records) == {first: [[2.0], [5.0]], second: [[5.0], [10.0]]}


@both_keras
def test_preprocessing_layers_keep_their_tables(tmp_path, library):
    word = library.Input((1,), name="word", dtype="string")
    index = library.layers.StringLookup(vocabulary=["low", "high"])(word)
    path = serving.export(library.Model(word, index), tmp_path, {"word": WORD})
    assert outputs_of(path, WORDS) == {"outputs": [[1], [2], [0]]}


def test_keras_model_that_was_trained_is_saved_once_and_without_its_optimizer(tmp_path):
    model = linear_keras(keras)
    model.compile("adam", "mse")
    model.fit(np.ones((4, 1)), np.full((4, 1), 5.0), verbose=0)
    path = serving.export(model, tmp_path / "model", {"x": COLUMN})
    tf.saved_model.save(model, str(tmp_path / "whole"))
    own, whole = (
        sum(file.stat().st_size for file in (tmp_path / folder).rglob("*.*"))
        for folder in ("model", "whole")
    )
    assert own < whole
    saved = tf.train.load_checkpoint(f"{path}/variables/variables").get_variable_to_shape_map()
    assert not [name for name in saved if "optimizer" in name]


@both_keras
def test_model_of_a_class_of_its_own_gets_the_tensor_or_with_dict_the_features(tmp_path, library):
    class Five(library.Model):
        def call(self, inputs):
            return 5.0 * (inputs["x"] if isinstance(inputs, dict) else inputs)

    model = Five()
    model(tf.zeros([1, 1]))
    for transform in (None, dict):
        folder = tmp_path / str(transform)
        path = serving.export(model, folder, {"x": COLUMN}, transform=transform)
        assert outputs_of(path, X) == {"outputs": FIVE_X}


def test_function_keeps_the_variables_that_it_uses_and_gets_several_features_by_name(tmp_path):
    weight = tf.Variable(4.0)
    times = tf.function(lambda x: weight * x)
    model = linear_keras(keras)
    weight.assign_add(1.0)

    def several(features):
        return {"y": times(features["x"]), "also_y": model(features["x"]), "z": features["z"]}

    path = serving.export(times, tmp_path / "tf.function", {"x": COLUMN})
    assert outputs_of(path, X) == {"outputs": FIVE_X}
    path = serving.export(several, tmp_path / "plain", {"x": COLUMN, "z": WORD})
    outputs = outputs_of(path, [example(x=1.0, z="a")])
    assert outputs == {"y": [[5.0]], "also_y": [[5.0]], "z": [[b"a"]]}


class Lookup(tf.Module):
    """Has a variable and a table; takes a word or, as the layer of Transform, a dict with one."""

    def __init__(self):
        super().__init__()
        self.weight = tf.Variable(5.0)
        words = tf.lookup.KeyValueTensorInitializer(["low", "high"], [1.0, 2.0])
        self.table = tf.lookup.StaticHashTable(words, 0.0)

    def __call__(self, word):
        word = word["word"] if isinstance(word, dict) else word
        return self.weight * self.table.lookup(word)


WORDS = [example(word=word) for word in ("low", "high", "never seen")]


def test_module_keeps_its_tables_and_the_signature_gets_its_name(tmp_path):
    path = serving.export(Lookup(), tmp_path / "module", {"word": WORD}, signature_name="score")
    assert list(tf.saved_model.load(path).signatures) == ["score"]
    assert outputs_of(path, WORDS, "score") == {"outputs": [[5.0], [10.0], [0.0]]}
    model = linear_keras(keras)
    path = serving.export(model, tmp_path / "keras", {"x": COLUMN}, signature_name="score")
    assert outputs_of(path, X, "score") == {"outputs": FIVE_X}


def test_features_come_as_tensorflow_parses_them(tmp_path):
    records = [example(x=[1.0, 2.0]), example(), example(x=[4.0])]
    for feature, total in [
        (tf.io.VarLenFeature(tf.float32), tf.sparse.reduce_sum),
        (tf.io.RaggedFeature(tf.float32), tf.reduce_sum),
        (tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True), tf.reduce_sum),
    ]:
        folder = tmp_path / type(feature).__name__
        path = serving.export(lambda x, total=total: total(x, 1), folder, {"x": feature})
        assert outputs_of(path, records) == {"outputs": [3.0, 0.0, 4.0]}
    spec = {"x": tf.io.FixedLenFeature([], tf.float32, default_value=7.0)}
    path = serving.export(tf.identity, tmp_path / "default", spec)
    assert outputs_of(path, [example(x=1.0), example()]) == {"outputs": [1.0, 7.0]}


@pytest.mark.parametrize("library", [None, keras, pytest.param(tf_keras, marks=SLOW)])
def test_function_or_module_with_tables_may_come_before_the_model(tmp_path, library):
    def add(features):
        return features["x"] + features["more"]

    model = linear_keras(library) if library else lambda x: 5.0 * x
    spec = {"x": COLUMN, "more": COLUMN}
    for i, transform in enumerate([add, tf.function(add)]):
        path = serving.export(model, tmp_path / str(i), spec, transform=transform)
        assert outputs_of(path, [example(x=1.0, more=2.0)]) == {"outputs": [[15.0]]}
    path = serving.export(model, tmp_path / "m", {"word": WORD}, transform=Lookup())
    assert outputs_of(path, WORDS) == {"outputs": [[25.0], [50.0], [0.0]]}


@SLOW
def test_layer_of_tensorflow_transform_may_come_before_the_model(tmp_path):
    import tensorflow_transform as tft
    import tensorflow_transform.beam as tft_beam
    from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

    spec = {"word": tf.io.FixedLenFeature([], tf.string)}
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(spec))
    dataset = ([{"word": word} for word in "aba"], metadata)
    with tft_beam.Context(str(tmp_path / "temporary")):
        transform_fn = dataset | tft_beam.AnalyzeDataset(
            lambda inputs: {"id": tft.compute_and_apply_vocabulary(inputs["word"])}
        )
        _ = transform_fn | tft_beam.WriteTransformFn(str(tmp_path / "transform"))
    layer = tft.TFTransformOutput(str(tmp_path / "transform")).transform_features_layer()
    ids = keras.Input((), name="id", dtype="int64")
    model = keras.Model({"id": ids}, keras.layers.Rescaling(5.0)(ids))
    path = serving.export(model, tmp_path / "model", spec, transform=layer)
    assert outputs_of(path, [example(word=word) for word in "abc"]) == {"outputs": [0, 5, -5]}


def test_folder_that_is_not_empty_is_refused_and_stays_as_it_is(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    message = (
        f"Cannot export to {tmp_path}, which is not empty, since models are never overwritten. "
        f"Choose an empty or a new folder."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        serving.export(linear_keras(keras), tmp_path, {"x": COLUMN})
    assert tree(tmp_path) == ["notes.txt"]


def test_folder_may_be_below_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    path = serving.export(linear_keras(keras), "~/model", {"x": COLUMN})
    assert path == f"{tmp_path}/model"
    assert outputs_of(path, X) == {"outputs": FIVE_X}


def test_model_or_features_that_cannot_be_exported_leave_no_folder(tmp_path):
    message = (
        "'models/7' is not a model, since it cannot be called. Pass the model itself, such as a "
        "Keras model or a tf.function."
    )
    for model, spec, error, reason in [
        ("models/7", {"x": COLUMN}, SettingsError, exactly(message)),
        (Lookup(), {}, ValueError, "Argument `features` cannot be None or falsy"),
        (Lookup(), {"x": tf.float32}, ValueError, "Unsupported DType <dtype: 'float32'> for key"),
    ]:
        with pytest.raises(error, match=reason):
            serving.export(model, tmp_path / "model", spec)
    assert not (tmp_path / "model").exists()
