"""The blessing that a model gets from its own predictions: what is asked, and what is answered."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

from tfx import types

from bulk_inferencer import _files, _gate
from bulk_inferencer import bulk_inferencer_pb2 as our
from bulk_inferencer.components import arguments, inputs, keys, kubeflow_names, settings
from bulk_inferencer.components.gated_model import GatedModel
from bulk_inferencer.results.expectations import Expectations
from bulk_inferencer.results.summary import BranchSummary


def expectations_of_one(exec_properties: Mapping[str, Any]) -> Expectations | None:
    """Returns what is expected of the only model of an execution; None if nothing is."""
    if exec_properties.get(keys.EXPECTATIONS) is None:
        return None
    spec = arguments.parse(exec_properties, keys.EXPECTATIONS, our.Expectations)
    return settings.expectations(spec)


def expectations_of_several(exec_properties: Mapping[str, Any]) -> dict[str, Expectations]:
    """Returns what is expected of models by their names, of those of which something is."""
    spec = arguments.parse(exec_properties, keys.EXPECTATIONS, our.ModelExpectations)
    return {name: settings.expectations(own) for name, own in spec.models.items()}


def baseline(artifacts: inputs.Artifacts, name: str = "") -> str:
    """Returns the folder of the earlier results of a model; empty if there are none yet.

    Raises:
      InputError: there are several.
    """
    key = keys.baseline_key(name)
    return str(inputs.single(artifacts, key).uri) if artifacts.get(key) else ""


def bless(
    output_dict: inputs.Artifacts, models: Sequence[GatedModel], summary: BranchSummary
) -> None:
    """Writes the blessings of the models that made predictions, as TFX's Evaluator writes its own.

    A model is blessed if something was predicted, all of it is as expected, and its own gate had
    let it through. The stages of a cascade are blessed together, or not at all.
    """
    is_blessed = bool(summary.meets_expectations and summary.total.predictions_written)
    for model in models:
        if artifacts := output_dict.get(keys.prediction_blessing_key(model.name)):
            _write(artifacts[0], model.artifact, is_blessed)


def _write(blessing: types.Artifact, model: types.Artifact | None, is_blessed: bool) -> None:
    if model is not None:
        blessing.set_string_custom_property("current_model", model.uri)
        # What Kubeflow calls it, where that is known: ids are made up there.
        if name := kubeflow_names.name_of(model.uri):
            blessing.set_string_custom_property("current_model_id", name)
        else:
            blessing.set_int_custom_property("current_model_id", model.id)
    if_blessed, if_not = _gate.MARKERS[_gate.MODEL_BLESSING]
    _files.make_folder(blessing.uri)
    _files.replace(posixpath.join(blessing.uri, if_blessed if is_blessed else if_not), b"")
    blessing.set_int_custom_property("blessed", int(is_blessed))
