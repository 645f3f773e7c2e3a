"""New models for a running pipeline, as Beam's `ModelMetadata` names them."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from apache_beam.pvalue import EmptySideInput

from bulk_inferencer._models.hooks import HookedModel
from bulk_inferencer._models.predictor import Model
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer.errors import SettingsError

# What Beam's `WatchFilePattern` can watch of a SavedModel: it sees files, not folders.
_FILES = ("/saved_model.pb", "/saved_model.pbtxt")


def updated(model: Model, path: str) -> Model:
    """Returns a model with the SavedModel at `path` in place of its own; "" stands for its own.

    `path` is a folder, or the `saved_model.pb` in it.

    Raises:
      SettingsError: the model is not a SavedModel, with hooks or without.
    """
    if isinstance(model, HookedModel):
        return dataclasses.replace(model, model=updated(model.model, path))
    if not isinstance(model, SavedModel):
        raise SettingsError(
            f"Only a SavedModel can be replaced while the pipeline runs, not {model!r}. A model "
            f"server loads new versions itself."
        )
    for name in _FILES:
        path = path.removesuffix(name)
    return dataclasses.replace(model, path=path) if path else model


def path_of(metadata: Any) -> str:
    """Returns the path that a `ModelMetadata` names; "" for an empty side input.

    Raises:
      SettingsError: it is something else.
    """
    if isinstance(metadata, EmptySideInput):
        return ""
    path = getattr(metadata, "model_id", None)
    if not isinstance(path, (str, os.PathLike)):
        raise SettingsError(
            f"model_metadata_pcoll must hold Beam's ModelMetadata, whose model_id is the path of a "
            f"SavedModel, not {metadata!r}. Map its elements to ModelMetadata(path, name)."
        )
    return os.fspath(path)
