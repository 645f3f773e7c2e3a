"""A model among an executor's inputs, with its blessings and the decision of its gate."""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfx import types
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from bulk_inferencer import _files, _gate, _markers
from bulk_inferencer import bulk_inferencer_pb2 as our
from bulk_inferencer._models import model_files
from bulk_inferencer._models.predictor import model_label
from bulk_inferencer.components import arguments, inputs, keys, model_settings
from bulk_inferencer.errors import GateError


@dataclass(frozen=True)
class GatedModel:
    """A model that asks to be used, and what the gate decided about it.

    Attributes:
      name: its name among several models, or empty.
      spec: its settings.
      artifact: the model, None where an endpoint stands in for it or there is none yet.
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
        """The folder with the model's files, empty where there is no artifact."""
        return _model_path(self.artifact) if self.artifact else ""


def read(
    input_dict: inputs.Artifacts,
    exec_properties: Mapping[str, Any],
    spec: our.ModelSpec,
    name: str = "",
) -> GatedModel:
    """Reads a model and its blessings from an execution's inputs, and decides its gate.

    Raises:
      GateError: the model was not blessed, or there is none yet, and its gate policy is `FAIL`.
      InputError: there is more than one model.
    """
    required = arguments.names(exec_properties, keys.REQUIRED_BLESSINGS)
    model_keys = [keys.PUSHED_MODEL, keys.MODEL]
    blessing_keys = {kind: kind for kind in (_gate.MODEL_BLESSING, _gate.INFRA_BLESSING)}
    if name:  # Of several models, those that must be blessed are required by their names.
        required = [_gate.MODEL_BLESSING] if name in required else []
        model_keys = [keys.model_key(name)]
        blessing_keys = {_gate.MODEL_BLESSING: keys.blessing_key(name)}
    given = [key for key in model_keys if input_dict.get(key)]
    artifact = inputs.single(input_dict, given[-1]) if given else None
    blessings = {
        kind: inputs.single(input_dict, key)
        for kind, key in blessing_keys.items()
        if input_dict.get(key)
    }
    if artifact is None and (required or not spec.WhichOneof("endpoint")):
        decision = _gate.ABSENT
    else:
        decision = _decide(artifact, blessings, required)
    policy = model_settings.gate_policy(spec)
    if not decision.is_open and policy != "SKIP":
        decision = _overruled(decision, policy, f"{model_label(name)}: " if name else "")
    return GatedModel(name, spec, artifact, tuple(blessings.values()), decision)


def _overruled(decision: _gate.Decision, policy: str, label: str) -> _gate.Decision:
    is_absent = decision.verdict == _gate.NO_MODEL
    if policy == "IGNORE" and not is_absent:
        return dataclasses.replace(decision, is_overruled=True)
    otherwise = "run what makes the model first" if is_absent else "to IGNORE to score anyway"
    raise GateError(
        f"{label}{decision.reason} Nothing was scored. Set ModelSpec.gate_policy to SKIP to let "
        f"the pipeline go on without results, or {otherwise}."
    )


def decide_together(models: Sequence[GatedModel]) -> _gate.Decision:
    """Returns one decision for all stages of a cascade: that of the least blessed one."""
    if len(models) == 1:
        return models[0].decision
    worst = min((model.decision.verdict for model in models), key=_gate.FROM_WORST.index)
    reasons = [f"Stage '{model.name}': {model.decision.reason}" for model in models]
    all_run = all(model.decision.is_open for model in models)
    return _gate.Decision(worst, " ".join(reasons), all_run and worst == _gate.NOT_BLESSED)


def _model_path(model: types.Artifact) -> str:
    """Returns the folder with the files of a Model or PushedModel."""
    if model.type_name == standard_artifacts.PushedModel.TYPE_NAME:
        return str(model.uri)
    return _folder_in(model.uri, path_utils.is_old_model_artifact(model))


def _folder_in(uri: str, is_old: bool = False) -> str:
    """Returns the folder with the files of a model.

    A Trainer puts them below the artifact's folder; a Pusher, or whoever imports a model, into that
    folder itself.
    """
    if _files.exists(posixpath.join(uri, "saved_model.pb")):
        return str(uri)
    trained = str(path_utils.serving_model_path(uri, is_old))
    # Models of Python have files of any name.
    return trained if _files.files_below(trained) or not _files.files_below(uri) else str(uri)


def _decide(
    model: types.Artifact | None,
    blessings: Mapping[str, types.Artifact],
    required: Sequence[str],
) -> _gate.Decision:
    if model is None:
        return _gate.UNASKED
    path = _model_path(model)

    def has_content_of(uri: str) -> bool:
        other = _folder_in(uri)
        if not _files.files_below(path) or not _files.files_below(other):
            return False
        return model_files.fingerprint(path) == model_files.fingerprint(other)

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
    return _markers.marked(kind, artifact.uri)
