"""What something is that was given as a model and is none, and what to do about it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from typing import Any

from bulk_inferencer import _files

_EXPORT = "save it with bulk_inferencer.serving.export(model, folder, feature_spec)"
_CHECK = "Check the path. In TFX, the Trainer has to export the model to fn_args.serving_model_dir."
# What any library's model can be scored with.
_LOAD_PYTHON = "Use PythonModel(load_model, path): load_model(path) returns a function that scores"
_LOAD_KERAS = (
    "Load it with keras.models.load_model, and save it with model.export(folder), or for "
    "tf.Examples with bulk_inferencer.serving.export(model, folder, feature_spec). Or "
    f"u{_LOAD_PYTHON[1:]}"
)
_SAVE_PYTHON = f"Workers load a model of their own: save it to a file. {_LOAD_PYTHON}"
_ONLY_WEIGHTS = f"Build the model, load them into it, {_EXPORT}"
# By how a file's name ends; the first that fits counts.
_KINDS_OF_FILES = {
    r"\.weights\.h5": ("only the weights of a Keras model", _ONLY_WEIGHTS),
    r"\.keras": ("a Keras file", _LOAD_KERAS),
    r"\.(h5|hdf5)": ("a file of Keras", _LOAD_KERAS),
    r"\.tflite": (
        "a model of TensorFlow Lite",
        f"Take the model that it was made from and {_EXPORT}",
    ),
    r"\.onnx": ("an ONNX model", _LOAD_PYTHON),
    r"\.(pt|pth|pt2|safetensors)|pytorch_model\.bin": ("a model of PyTorch", _LOAD_PYTHON),
    r"\.(pkl|pickle|joblib)": ("a pickled object", _LOAD_PYTHON),
    r"\.(zip|tar|tgz|tar\.gz)": ("an archive", "Unpack it, and name the folder"),
    r"(\.index|\.meta|\.data-\d{5}-of-\d{5}|(^|/)checkpoint)": (
        "a checkpoint of TensorFlow, which holds weights without a signature",
        _ONLY_WEIGHTS,
    ),
    r"\.pb": ("a graph without variables and signatures", f"Load it, and {_EXPORT}"),
}
_KINDS_OF_OBJECTS = {
    "keras": "a Keras model in memory",
    "tf_keras": "a Keras model in memory",
    "tensorflow": "an object of TensorFlow in memory",
    "torch": "a model of PyTorch",
    "sklearn": "a model of scikit-learn",
    "xgboost": "a model of XGBoost",
    "lightgbm": "a model of LightGBM",
}
_MOST_LISTED = 5


def about_object(value: Any) -> str:
    """Returns what an object in memory is, and what to do; empty if it is nothing that we know."""
    own = value if isinstance(value, type) else type(value)
    for library in (kind.__module__.partition(".")[0] for kind in own.__mro__):
        if library in ("keras", "tf_keras", "tensorflow"):
            return (
                f"{_KINDS_OF_OBJECTS[library]}, which workers cannot get. {_sentence(_EXPORT)}, "
                f"and use SavedModel(folder). Or save it to a file, and u{_LOAD_PYTHON[1:]}"
            )
        if library in _KINDS_OF_OBJECTS:
            return f"{_KINDS_OF_OBJECTS[library]}. {_SAVE_PYTHON}"
    return ""


def about_path(path: str) -> str:
    """Returns what a path without `saved_model.pb` is, and what to do."""
    if not path:
        return "The path of the model is empty text. Name the folder that holds saved_model.pb."
    path = path.rstrip("/") or path
    name = posixpath.basename(path)
    if name in ("saved_model.pb", "saved_model.pbtxt"):
        return f"{path} is a file of a model. Name its folder: {posixpath.dirname(path)}."
    if kind := _kind_of_file(name):
        return f"{path} is {kind[0]}, not the folder of a SavedModel. {kind[1]}."
    if _files.is_local(path) and not _files.exists(path):
        return f"There is no folder {path}. {_CHECK}"
    start = f"No saved_model.pb in {path}"
    pattern = _files.literal(path)
    models = [f for n in ("pb", "pbtxt") for f in _files.matching(f"{pattern}/*/saved_model.{n}")]
    if folders := sorted({posixpath.dirname(model) for model in models}, key=_numerically):
        return f"{start}, but {_where_else(folders)}"
    if _files.matching(f"{pattern}/variables/*"):
        return f"{start}, although it has a folder of variables. Copy the model again, as a whole."
    names = [posixpath.basename(file) for file in _files.matching(f"{pattern}/*")]
    for name in sorted(names):
        if kind := _kind_of_file(name):
            return f"{start}. It holds {name}, which is {kind[0]}. {kind[1]}."
    if not names:
        return f"{start}. {_CHECK}"
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return f"{start}. It holds {', '.join(sorted(names)[:_MOST_LISTED])}{more}. {_CHECK}"


def _kind_of_file(name: str) -> tuple[str, str] | None:
    return next((k for end, k in _KINDS_OF_FILES.items() if re.search(f"({end})$", name)), None)


def _where_else(folders: Sequence[str]) -> str:
    if len(folders) == 1:
        return f"there is one in {folders[0]}. Name that folder."
    names = [posixpath.basename(folder) for folder in folders]
    return (
        f"there is one in each of its subfolders {', '.join(names[-_MOST_LISTED:])}. Name one of "
        f"them, such as {folders[-1]}."
    )


def _numerically(folder: str) -> tuple[int, str]:
    name = posixpath.basename(folder)
    return (int(name) if name.isdecimal() else -1, name)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
