"""Where the files of models are."""

from __future__ import annotations

import itertools

from bulk_inferencer._models.cascade import CascadeModel
from bulk_inferencer._models.hooks import HookedModel
from bulk_inferencer._models.predictor import Model
from bulk_inferencer._models.python_model import PythonModel
from bulk_inferencer._models.saved_model import SavedModel


def paths_of(model: Model) -> list[str]:
    """Returns the files and folders that workers load a model from.

    Models behind an endpoint have none, and those of a user's own class are not known here.
    """
    if isinstance(model, CascadeModel):
        return list(itertools.chain.from_iterable(paths_of(stage.model) for stage in model.stages))
    if isinstance(model, HookedModel):
        return paths_of(model.model)
    if isinstance(model, (PythonModel, SavedModel)):
        return [model.path] if model.path else []
    return []
