"""The models that transforms take, and what tfx_bsl's `InferenceSpecType` says of batches."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from typing import Any

from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._models.predictor import Model, check_is_model
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer.errors import EndpointError, SettingsError

_logger = logging.getLogger(__name__)

SIZES = ("min_batch_size", "max_batch_size")


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
        # As for tfx_bsl, a string input takes the record, even if it is named like a feature.
        spec = SavedModel(
            given.model_path, tuple(given.signature_name), tuple(given.tag), takes_records=True
        )
    check_is_model(spec)
    if load_override_fn is None:
        return spec
    if not isinstance(spec, SavedModel):
        raise SettingsError(
            f"load_override_fn loads SavedModels only, but the model is {spec!r}. Leave it out."
        )
    return dataclasses.replace(spec, load_override_fn=load_override_fn)


def check_model(model: Model, record_format: str) -> None:
    """Checks a model before the run; a server that does not answer yet is only a warning.

    Raises:
      BulkInferencerError: see `Model.check`.
    """
    try:
        model.check(record_format)
    except EndpointError as error:
        _logger.warning("Could not check %s before the run: %s", model.uri, error)


def batch_parameters_of(spec: Any) -> dict[str, Any]:
    """Returns those of a spec's `batch_parameters` that are set, by name; none for a model.

    Raises:
      SettingsError: they contradict each other.
    """
    if not _is_inference_spec_type(spec):
        return {}
    given = {field.name: value for field, value in spec.batch_parameters.ListFields()}
    smallest, largest = (given.get(name, 0) for name in SIZES)
    if 0 < largest < smallest:
        raise SettingsError(
            f"batch_parameters.min_batch_size ({smallest}) is larger than max_batch_size "
            f"({largest}). Lower it."
        )
    return given


def bounds_of(specs: Sequence[Any]) -> BatchBounds:
    """Returns the tightest of the specs' batch parameters, where zero means the default.

    Raises:
      SettingsError: the parameters of a spec contradict each other.
    """
    given = [batch_parameters_of(spec) for spec in specs]
    if others := sorted({name for parameters in given for name in parameters} - {*SIZES}):
        _logger.warning(
            "RunInference does not use %s of batch_parameters: calls of the model grow as long as "
            "that pays. CreateModelHandler hands them to Beam's own RunInference, which does.",
            ", ".join(others),
        )
    return bounds_from(given)


def bounds_from(given: Sequence[dict[str, Any]]) -> BatchBounds:
    """Returns the tightest bounds of several `batch_parameters`."""
    default = BatchBounds()
    first = min((p["min_batch_size"] for p in given if "min_batch_size" in p), default=0)
    most = max(default.max_records, first)
    return BatchBounds(
        max_records=min(
            (p["max_batch_size"] for p in given if "max_batch_size" in p), default=most
        ),
        first_records=first or default.first_records,
    )


def _is_inference_spec_type(spec: Any) -> bool:
    # By its name, since tfx_bsl need not be installed.
    descriptor = getattr(spec, "DESCRIPTOR", None)
    return getattr(descriptor, "name", None) == "InferenceSpecType"
