"""Turns tfx_bsl's `InferenceSpecType` into a model and bounds of batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._models.predictor import Model, check_is_model
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer.errors import SettingsError


def model_of(spec: Any, load_override_fn: Callable[[str, list[str]], Any] | None = None) -> Model:
    """Returns the model that an `InferenceSpecType` describes; a model stays as it is.

    Raises:
      SettingsError: the spec describes no SavedModel, the value is neither a spec nor a model, or
        `load_override_fn` is given for a model that is not a `SavedModel`.
    """
    if _is_inference_spec_type(spec):
        kind = spec.WhichOneof("type")
        if kind != "saved_model_spec":
            raise SettingsError(
                f"An InferenceSpecType needs a saved_model_spec, but this one has "
                f"{kind or 'nothing'}. For a model behind a server, use TFServing or "
                f"VertexEndpoint; AI Platform Prediction has been shut down."
            )
        given = spec.saved_model_spec
        spec = SavedModel(given.model_path, tuple(given.signature_name), tuple(given.tag))
    check_is_model(spec)
    if load_override_fn is None:
        return spec
    if not isinstance(spec, SavedModel):
        raise SettingsError(
            f"load_override_fn loads SavedModels only, but the model is {spec!r}. Leave it out."
        )
    return dataclasses.replace(spec, load_override_fn=load_override_fn)


def bounds_of(specs: Sequence[Any]) -> BatchBounds:
    """Returns the tightest of the specs' batch parameters, where zero means the default.

    Raises:
      SettingsError: the parameters of a spec contradict each other.
    """
    given = [spec.batch_parameters for spec in specs if _is_inference_spec_type(spec)]
    for parameters in given:
        if 0 < parameters.max_batch_size < parameters.min_batch_size:
            raise SettingsError(
                f"batch_parameters.min_batch_size ({parameters.min_batch_size}) is larger than "
                f"max_batch_size ({parameters.max_batch_size}). Lower it."
            )
    default = BatchBounds()
    largest = [p.max_batch_size for p in given if p.max_batch_size]
    first = [p.min_batch_size for p in given if p.min_batch_size]
    return BatchBounds(
        max_records=min(largest, default=default.max_records),
        first_records=min(first, default=default.first_records),
    )


def _is_inference_spec_type(spec: Any) -> bool:
    # By its name, since tfx_bsl need not be installed.
    descriptor = getattr(spec, "DESCRIPTOR", None)
    return getattr(descriptor, "name", None) == "InferenceSpecType"
