"""What says which model: tfx_bsl's message becomes ours here, and nowhere else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from bulk_inferencer._models.batching import BatchBounds
from bulk_inferencer._models.predictor import Model, check_is_model
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer.errors import SettingsError


def model_of(spec: Any, load_override_fn: Callable[[str, list[str]], Any] | None) -> Model:
    """Returns the model that a spec describes.

    Args:
      spec: a model of ours, or tfx_bsl's `InferenceSpecType`.
      load_override_fn: see `SavedModel.load_override_fn`.

    Raises:
      SettingsError: the spec is of another kind or not consistent.
    """
    kind = spec.WhichOneof("type") if _is_inference_spec_type(spec) else None
    if kind == "saved_model_spec":
        given = spec.saved_model_spec
        spec = SavedModel(given.model_path, tuple(given.signature_name), tuple(given.tag))
    elif kind == "ai_platform_prediction_model_spec":
        raise SettingsError(
            "Expected a saved_model_spec, got an ai_platform_prediction_model_spec: that service "
            "has been shut down. Use VertexEndpoint or TFServing."
        )
    check_is_model(spec)
    if kind is None and not all(hasattr(spec, name) for name in ("check", "load", "uri")):
        got = f"{type(spec).__name__} {spec}".strip()
        raise SettingsError(
            f"Expected SavedModel, TFServing, VertexEndpoint or an InferenceSpecType with a "
            f"saved_model_spec, got {got}."
        )
    if load_override_fn is None:
        return spec
    if not isinstance(spec, SavedModel):
        raise SettingsError(
            f"Expected a SavedModel for load_override_fn, got {type(spec).__name__}. Leave it out."
        )
    return dataclasses.replace(spec, load_override_fn=load_override_fn)


def _is_inference_spec_type(spec: Any) -> bool:
    descriptor = getattr(spec, "DESCRIPTOR", None)
    return getattr(descriptor, "name", None) == "InferenceSpecType"


def bounds_of(specs: Sequence[Any]) -> BatchBounds:
    """Returns the tightest of the specs' batch parameters, where zero stands for the default.

    Raises:
      SettingsError: a spec contradicts itself.
    """
    given = [s.batch_parameters for s in specs if _is_inference_spec_type(s)]
    for parameters in given:
        if 0 < parameters.max_batch_size < parameters.min_batch_size:
            raise SettingsError(
                f"Expected min_batch_size to be at most max_batch_size in batch_parameters, got "
                f"{parameters.min_batch_size} and {parameters.max_batch_size}."
            )
    bounds = {
        "max_records": [p.max_batch_size for p in given if p.max_batch_size],
        "first_records": [p.min_batch_size for p in given if p.min_batch_size],
    }
    return BatchBounds(**{name: min(sizes) for name, sizes in bounds.items() if sizes})
