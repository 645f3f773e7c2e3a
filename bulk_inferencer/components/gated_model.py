"""A model among an executor's inputs, with its blessings and the decision of its gate."""

from __future__ import annotations

import dataclasses
import logging
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfx import types
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from bulk_inferencer import _files, _gate
from bulk_inferencer import bulk_inferencer_pb2 as our
from bulk_inferencer._models.predictor import model_label
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer.components import inputs, keys, settings
from bulk_inferencer.errors import GateError, InputError, ModelError

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GatedModel:
    """A model that asks to be used, and what the gate decided about it.

    Attributes:
      name: its name among several models, or empty.
      spec: its settings.
      artifact: the model, None where an endpoint stands in for it.
      blessings: the blessings that arrived.
      decision: whether it may run, by its blessings and its gate policy.
    """

    name: str
    spec: our.ModelSpec
    artifact: types.Artifact | None
    blessings: tuple[types.Artifact, ...]
    decision: _gate.Decision

    @property
    def path(self) -> str:
        """The folder with `saved_model.pb`, empty where an endpoint stands in for it."""
        return _model_path(self.artifact) if self.artifact else ""


def read(
    input_dict: inputs.Artifacts,
    exec_properties: Mapping[str, Any],
    spec: our.ModelSpec,
    name: str = "",
) -> GatedModel:
    """Reads a model and its blessings from an execution's inputs, and decides its gate.

    Raises:
      GateError: the model was not blessed, and its gate policy is `FAIL`.
      InputError: there is no model, or more than one.
    """
    required = settings.names(exec_properties, keys.REQUIRED_BLESSINGS)
    model_keys = [keys.PUSHED_MODEL, keys.MODEL]
    blessing_keys = {kind: kind for kind in (_gate.MODEL_BLESSING, _gate.INFRA_BLESSING)}
    if name:  # Of several models, those that must be blessed are required by their names.
        required = [_gate.MODEL_BLESSING] if name in required else []
        model_keys = [keys.model_key(name)]
        blessing_keys = {_gate.MODEL_BLESSING: keys.blessing_key(name)}
    given = [key for key in model_keys if input_dict.get(key)]
    artifact = None
    if given or not spec.WhichOneof("endpoint"):
        artifact = inputs.single(input_dict, (given or model_keys)[-1])
    blessings = {
        kind: inputs.single(input_dict, key)
        for kind, key in blessing_keys.items()
        if input_dict.get(key)
    }
    decision = _decide(artifact, blessings, required)
    label = f"{model_label(name)}: " if name else ""
    _logger.info("%sThe gate says %s. %s", label, decision.verdict, decision.reason)
    if not decision.is_open and spec.gate_policy == our.FAIL:
        raise GateError(
            f"{label}{decision.reason} Nothing was scored. Set ModelSpec.gate_policy to SKIP "
            f"to let the pipeline go on without results, or to IGNORE to score anyway."
        )
    if not decision.is_open and spec.gate_policy == our.IGNORE:
        decision = dataclasses.replace(decision, is_overruled=True)
    return GatedModel(name, spec, artifact, tuple(blessings.values()), decision)


def decide_together(models: Sequence[GatedModel]) -> _gate.Decision:
    """Returns one decision for all stages of a cascade: that of the least blessed one."""
    if len(models) == 1:
        return models[0].decision
    order = (_gate.NOT_BLESSED, _gate.NO_BLESSING, _gate.BLESSED)
    worst = min((model.decision.verdict for model in models), key=order.index)
    reasons = [f"Stage '{model.name}': {model.decision.reason}" for model in models]
    all_run = all(model.decision.is_open for model in models)
    return _gate.Decision(worst, " ".join(reasons), all_run and worst == _gate.NOT_BLESSED)


def _model_path(model: types.Artifact) -> str:
    """Returns the folder with `saved_model.pb` of a Model or PushedModel.

    A Trainer puts it below the artifact's folder; a Pusher, or whoever imports a SavedModel, into
    that folder itself.
    """
    is_pushed = model.type_name == standard_artifacts.PushedModel.TYPE_NAME
    if is_pushed or _files.exists(posixpath.join(model.uri, "saved_model.pb")):
        return str(model.uri)
    return str(path_utils.serving_model_path(model.uri, path_utils.is_old_model_artifact(model)))


def _decide(
    model: types.Artifact | None,
    blessings: Mapping[str, types.Artifact],
    required: Sequence[str],
) -> _gate.Decision:
    if model is None:
        if required:  # The components refuse this as well, while the pipeline is built.
            raise InputError(
                f"There is no model for the {', '.join(required)} to bless. Give model_export "
                f"as well as the endpoint."
            )
        return _gate.UNASKED
    path = _model_path(model)

    def has_content_of(uri: str) -> bool:
        try:
            other = SavedModel(path_utils.serving_model_path(uri))
            return SavedModel(path).fingerprint() == other.fingerprint()
        except ModelError:
            return False

    candidate = _gate.Candidate(model.id, model.name, model.uri, has_content_of)
    arrived = [_blessing(kind, artifact) for kind, artifact in blessings.items()]
    return _gate.decide(candidate, required, arrived)


def _blessing(kind: str, artifact: types.Artifact) -> _gate.Blessing:
    # Evaluator records the id as an integer, Kubeflow's driver a name as a string.
    model_id = artifact.get_int_custom_property("current_model_id")
    return _gate.Blessing(
        kind,
        artifact.uri,
        _is_blessed(kind, artifact),
        str(model_id or artifact.get_string_custom_property("current_model_id")),
        artifact.get_string_custom_property("current_model"),
    )


def _is_blessed(kind: str, artifact: types.Artifact) -> bool | None:
    """Returns what a blessing says, by its property or else by its marker file."""
    if artifact.has_custom_property("blessed"):
        return bool(artifact.get_int_custom_property("blessed") == 1)
    for is_blessed, marker in zip((True, False), _gate.MARKERS[kind], strict=True):
        if _files.exists(posixpath.join(artifact.uri, marker)):
            return is_blessed
    return None
