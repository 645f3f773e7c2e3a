"""Exports models with a signature that parses tf.Examples."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from bulk_inferencer._models.signature_defs import DEFAULT_SIGNATURE
from bulk_inferencer.errors import SettingsError

_INPUT = "examples"
_UNNAMED_OUTPUT = "outputs"


def export(
    model: Callable[..., Any],
    path: str | os.PathLike[str],
    feature_spec: Mapping[str, Any],
    *,
    transform: Callable[[dict[str, Any]], Any] | None = None,
    output_name: str = _UNNAMED_OUTPUT,
    signature_name: str = DEFAULT_SIGNATURE,
) -> str:
    """Saves a model with a signature from serialized tf.Examples [batch] to its outputs.

    Args:
      model: a Keras 3 or tf_keras model, a tf.function, or anything else that can be called with
        tensors. It gets the dict of parsed features, or the tensor alone where there is one
        feature and the model does not name its inputs.
      path: a folder that is empty or does not exist.
      feature_spec: the features to parse, for `tf.io.parse_example`: `FixedLenFeature`,
        `VarLenFeature` (gives a sparse tensor) or `RaggedFeature`, by name.
      transform: what turns the dict of parsed features into the model's input, such as the layer
        that TensorFlow Transform returns, or a function; `dict` leaves it as it is.
      output_name: the name of the output where the model returns one tensor. From a model that
        returns a dict, its keys are the names; from one that returns a list, the names are
        `<output_name>_0` and so on.
      signature_name: the signature's name.

    Returns:
      The path, as a string.

    Raises:
      SettingsError: the folder is not empty, or the model cannot be called.
    """
    import tensorflow as tf

    folder = os.fspath(path)
    if tf.io.gfile.isdir(folder) and tf.io.gfile.listdir(folder):
        raise SettingsError(
            f"Expected a folder that is empty or does not exist to export to, got {folder}. "
            f"Choose another one: models are never overwritten."
        )
    if not callable(model):
        raise SettingsError(
            f"Expected a model that can be called, got {type(model).__name__}. Give the model "
            f"itself, such as a Keras model or a tf.function."
        )
    takes_tensor = transform is None and _takes_one_tensor(model, feature_spec)

    def serve(examples: Any) -> dict[str, Any]:
        features = tf.io.parse_example(examples, dict(feature_spec))
        inputs: Any = next(iter(features.values())) if takes_tensor else features
        return _named(model(transform(inputs) if transform else inputs), output_name)

    signature = [tf.TensorSpec([None], tf.string, name=_INPUT)]
    if _is_keras_3(model):
        _export_keras_3(model, transform, serve, signature, folder, signature_name)
    else:
        _export_module(model, transform, serve, signature, folder, signature_name)
    return folder


def _export_keras_3(
    model: Any,
    transform: Any,
    serve: Callable[[Any], Any],
    signature: list[Any],
    folder: str,
    signature_name: str,
) -> None:
    """Saves through Keras' own archive, whose models TF1 sessions can load as well."""
    import keras

    archive = keras.export.ExportArchive()
    archive.track(model)
    if hasattr(transform, "_trackable_children"):  # not a plain function
        archive.track(transform)
    archive.add_endpoint(signature_name, serve, input_signature=signature)
    archive.write_out(folder, verbose=False)


def _export_module(
    model: Any,
    transform: Any,
    serve: Callable[[Any], Any],
    signature: list[Any],
    folder: str,
    signature_name: str,
) -> None:
    import tensorflow as tf

    function = tf.function(serve, input_signature=signature)
    concrete = function.get_concrete_function()
    module = tf.Module()
    module.model, module.transform = model, transform
    # A plain function does not own the variables that it uses; what is saved has to.
    module.captured = list(concrete.graph.variables)
    tf.saved_model.save(module, folder, {signature_name: concrete})


def _is_keras_3(model: Any) -> bool:
    import keras

    return keras.__version__.startswith("3.") and isinstance(model, keras.Model)


def _takes_one_tensor(model: Any, feature_spec: Mapping[str, Any]) -> bool:
    inputs = getattr(model, "input", None)
    has_named_inputs = isinstance(inputs, dict)
    return len(feature_spec) == 1 and not has_named_inputs


def _named(outputs: Any, output_name: str) -> dict[str, Any]:
    if isinstance(outputs, Mapping):
        return dict(outputs)
    if isinstance(outputs, (list, tuple)):
        return {f"{output_name}_{i}": output for i, output in enumerate(outputs)}
    return {output_name: outputs}
