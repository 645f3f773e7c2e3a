"""Exports models with a signature that parses tf.Examples."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from bulk_inferencer import _files
from bulk_inferencer._models.predictor import shown
from bulk_inferencer._models.signature_defs import DEFAULT_SIGNATURE
from bulk_inferencer.errors import SettingsError


def export(
    model: Callable[..., Any],
    path: str | os.PathLike[str],
    feature_spec: Mapping[str, Any],
    *,
    transform: Callable[[dict[str, Any]], Any] | None = None,
    output_name: str = "outputs",
    signature_name: str = DEFAULT_SIGNATURE,
) -> str:
    """Saves a model with a signature that takes serialized tf.Examples, of shape [batch].

    ```python
    serving.export(model, "models/five_times", {"x": tf.io.FixedLenFeature([1], tf.float32)})
    ```

    Args:
      model: a Keras 3 or tf_keras model, a tf.function, or anything else that can be called with
        tensors. It gets the dict of parsed features, or the tensor alone if there is one feature
        and the model does not name its inputs.
      path: a folder that is empty or does not exist; a leading `~` is the home folder.
      feature_spec: the features to parse, for `tf.io.parse_example`: `FixedLenFeature`,
        `VarLenFeature` (gives a sparse tensor) or `RaggedFeature`, by name.
      transform: turns the dict of parsed features into the model's input, such as the layer that
        TensorFlow Transform returns, or a function; `dict` leaves it as it is.
      output_name: the name of the output if the model returns one tensor. If it returns a dict, its
        keys are the names; if it returns a list, the names are `<output_name>_0` and so on.
      signature_name: the signature's name.

    Returns:
      The path, as a string.

    Raises:
      SettingsError: the folder is not empty, or the model cannot be called.
    """
    import keras
    import tensorflow as tf

    folder = _files.as_path("The path of serving.export", path)
    if tf.io.gfile.isdir(folder) and tf.io.gfile.listdir(folder):
        raise SettingsError(
            f"Cannot export to {folder}, which is not empty, since models are never overwritten. "
            f"Choose an empty or a new folder."
        )
    if not callable(model):
        raise SettingsError(
            f"{shown(model)} is not a model, since it cannot be called. Pass the model itself, "
            f"such as a Keras model or a tf.function."
        )
    has_named_inputs = isinstance(getattr(model, "input", None), dict)
    takes_tensor = transform is None and len(feature_spec) == 1 and not has_named_inputs

    def serve(examples: Any) -> dict[str, Any]:
        features = tf.io.parse_example(examples, dict(feature_spec))
        inputs: Any = next(iter(features.values())) if takes_tensor else features
        return _named(model(transform(inputs) if transform else inputs), output_name)

    specs = [tf.TensorSpec([None], tf.string, name="examples")]
    if keras.__version__.startswith("3.") and isinstance(model, keras.Model):
        archive = keras.export.ExportArchive()  # TF1 sessions can load its models, too
        archive.track(model)
        if hasattr(transform, "_trackable_children"):  # unlike a plain function
            archive.track(transform)
        archive.add_endpoint(signature_name, serve, input_signature=specs)
        archive.write_out(folder, verbose=False)
        return folder
    concrete = tf.function(serve, input_signature=specs).get_concrete_function()
    module = tf.Module()
    module.model, module.transform = model, transform
    # A plain function does not own the variables that it uses, but what is saved has to.
    module.captured = list(concrete.graph.variables)
    tf.saved_model.save(module, folder, {signature_name: concrete})
    return folder


def _named(outputs: Any, output_name: str) -> dict[str, Any]:
    if isinstance(outputs, Mapping):
        return dict(outputs)
    if isinstance(outputs, (list, tuple)):
        return {f"{output_name}_{i}": output for i, output in enumerate(outputs)}
    return {output_name: outputs}
