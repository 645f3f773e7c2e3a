from __future__ import annotations

from pathlib import Path

import keras
import pytest
import tensorflow as tf
import tf_keras

from bulk_inferencer._models.predictor import check_is_model
from bulk_inferencer._models.recognition import about_path
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer.errors import ModelError, SettingsError
from tests.helpers import exactly, in_bucket, linear_keras

EXPORT = "save it with bulk_inferencer.serving.export(model, folder, feature_spec)"
PYTHON = "Use PythonModel(load_model, path): load_model(path) returns a function that scores."
FROM_MEMORY = (
    f"which workers cannot get. S{EXPORT[1:]}, and use SavedModel(folder). Or save it to a file, "
    f"and u{PYTHON[1:]}"
)
LOAD = (
    "Load it with keras.models.load_model, and save it with model.export(folder), or for "
    "tf.Examples with bulk_inferencer.serving.export(model, folder, feature_spec). Or "
    f"u{PYTHON[1:]}"
)
SAVE = "Workers load a model of their own: save it to a file."
WEIGHTS = f"Build the model, load them into it, {EXPORT}."
CHECKPOINT = f"a checkpoint of TensorFlow, which holds weights without a signature. {WEIGHTS}"
CHECK = "Check the path. In TFX, the Trainer has to export the model to fn_args.serving_model_dir."


class Estimator:
    """Looks like a model of another library."""


Estimator.__module__ = "sklearn.linear_model"


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: linear_keras(keras), f"a Keras model in memory, {FROM_MEMORY}"),
        (lambda: linear_keras(tf_keras), f"a Keras model in memory, {FROM_MEMORY}"),
        (tf.Module, f"an object of TensorFlow in memory, {FROM_MEMORY}"),
        (Estimator, f"a model of scikit-learn. {SAVE} {PYTHON}"),
    ],
    ids=["keras", "tf_keras", "tf.Module", "sklearn"],
)
def test_model_in_memory_is_recognised(make, what):
    model = make()
    shown = " ".join(repr(model).split())
    with pytest.raises(SettingsError, match=exactly(f"{shown} is not a model, but {what}")):
        check_is_model(model)
    message = f"SavedModel.path must be a path. {shown} is {what}"
    with pytest.raises(SettingsError, match=exactly(message)):
        SavedModel(model)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["1/saved_model.pb"], ", but there is one in {}/1. Name that folder."),
        (["10/saved_model.pb", "9/saved_model.pb", "9/x"],
         (", but there is one in each of its subfolders 9, 10. Name one of them, such as {}/10.")),
        (["Format-Serving/saved_model.pbtxt"],
         ", but there is one in {}/Format-Serving. Name that folder."),
        (["variables/variables.index"],
         ", although it has a folder of variables. Copy the model again, as a whole."),
        (["checkpoint", "model.ckpt-1.index"], f". It holds checkpoint, which is {CHECKPOINT}"),
        (["model.ckpt-1.data-00000-of-00001"],
         f". It holds model.ckpt-1.data-00000-of-00001, which is {CHECKPOINT}"),
        (["config.json", "model.weights.h5"],
         f". It holds model.weights.h5, which is only the weights of a Keras model. {WEIGHTS}"),
        (["m.keras", "a.txt"], f". It holds m.keras, which is a Keras file. {LOAD}"),
        (["pytorch_model.bin"],
         f". It holds pytorch_model.bin, which is a model of PyTorch. {PYTHON}"),
        ([f"{i}.txt" for i in range(7)],
         f". It holds 0.txt, 1.txt, 2.txt, 3.txt, 4.txt and 2 more. {CHECK}"),
        ([], f". {CHECK}"),
    ],
)  # fmt: skip
def test_folder_that_is_no_model_is_recognised_by_what_it_holds(tmp_path, files, expected):
    folder = tmp_path / "m[1]"  # looks like a pattern
    folder.mkdir()
    for name in files:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    for path in (str(folder), in_bucket(folder)):
        assert about_path(f"{path}/") == f"No saved_model.pb in {path}{expected.format(path)}"


def test_folder_that_is_not_there_is_named(tmp_path):
    assert about_path(f"{tmp_path}/a/") == (
        f"There is no folder {tmp_path}/a. Check the path. In TFX, the Trainer has to export the "
        f"model to fn_args.serving_model_dir."
    )


def test_empty_path_is_named():
    message = "The path of the model is empty text. Name the folder that holds saved_model.pb."
    with pytest.raises(ModelError, match=exactly(message)):
        SavedModel("").fingerprint()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.keras", f"a Keras file, not the folder of a SavedModel. {LOAD}"),
        ("a.h5", f"a file of Keras, not the folder of a SavedModel. {LOAD}"),
        ("a.weights.h5",
         f"only the weights of a Keras model, not the folder of a SavedModel. {WEIGHTS}"),
        ("a.tflite",
         (f"a model of TensorFlow Lite, not the folder of a SavedModel. Take the model that it was "
          f"made from and {EXPORT}.")),
        ("a.onnx", f"an ONNX model, not the folder of a SavedModel. {PYTHON}"),
        ("a.pt", f"a model of PyTorch, not the folder of a SavedModel. {PYTHON}"),
        ("a.pkl", f"a pickled object, not the folder of a SavedModel. {PYTHON}"),
        ("a.tar.gz", "an archive, not the folder of a SavedModel. Unpack it, and name the folder."),
        ("frozen.pb",
         (f"a graph without variables and signatures, not the folder of a SavedModel. Load it, and "
          f"{EXPORT}.")),
        ("saved_model.pb", "a file of a model. Name its folder: {}."),
    ],
)  # fmt: skip
def test_file_is_recognised_by_its_name(tmp_path, name, expected):
    path = tmp_path / name
    path.touch()
    message = f"{path} is {expected.format(tmp_path)}"
    for call in (SavedModel.fingerprint, lambda model: model.check("FORMAT_TF_EXAMPLE")):
        with pytest.raises(ModelError, match=exactly(message)):
            call(SavedModel(path))


def test_path_may_be_a_pathlib_path_or_begin_with_the_home_folder(
    tmp_path, monkeypatch, linear_model
):
    monkeypatch.setenv("HOME", str(Path(linear_model).parent))
    expected = SavedModel(linear_model)
    for path in (Path(linear_model), Path("~/model"), "~/model"):
        assert SavedModel(path) == expected
    assert SavedModel("~/model/").fingerprint() == expected.fingerprint()
