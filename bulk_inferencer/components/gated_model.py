"""A model among an executor's inputs, with its blessings and what the gate makes of them."""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tfx import types
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from bulk_inferencer import _files, bulk_inferencer_pb2
from bulk_inferencer._models.names import in_words
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer.components import gate, inputs, settings
from bulk_inferencer.errors import GateError, InputError, ModelError
from bulk_inferencer.results.summary import Summary

_logger = logging.getLogger(__name__)

MODEL = "model"
_BLESSING = "blessing"


def model_key(name: str) -> str:
    """Returns the input of one of several models."""
    return f"{MODEL}_{name}"


def blessing_key(name: str) -> str:
    """Returns the input of the blessing of one of several models."""
    return f"{_BLESSING}_{name}"


@dataclass(frozen=True)
class GatedModel:
    """A model that asks to be used, and what the gate says.

    Attributes:
      name: its name among several models, or empty.
      spec: its settings.
      artifact: the model, None where an endpoint stands in for it.
      blessings: the blessings that arrived.
      decision: whether it may be used.
    """

    name: str
    spec: bulk_inferencer_pb2.ModelSpec
    artifact: types.Artifact | None
    blessings: tuple[types.Artifact, ...]
    decision: gate.Decision

    @property
    def path(self) -> str:
        """The folder with `saved_model.pb`, empty where an endpoint stands in for it."""
        return _model_path(self.artifact) if self.artifact else ""

    def is_let_through(self) -> bool:
        """Returns whether the model is used, by the decision and the policy.

        Raises:
          GateError: it is not, and the policy is `FAIL`.
        """
        which = f" of model '{self.name}'" if self.name else ""
        _logger.info("Gate%s: %s. %s", which, *self.decision)
        if self.decision.gate != gate.NOT_BLESSED:
            return True
        if self.spec.gate_policy == bulk_inferencer_pb2.FAIL:
            where = f"{in_words(self.name)}: " if self.name else ""
            raise GateError(
                f"{where}{self.decision.reason} Nothing was scored; set ModelSpec.gate_policy to "
                f"SKIP to let the pipeline go on, or to IGNORE to score all the same."
            )
        return bool(self.spec.gate_policy == bulk_inferencer_pb2.IGNORE)

    def blocked_summary(self) -> Summary:
        """Returns the summary of a model that is not let through."""
        return Summary({}, *self.decision, settings.model(self.spec, self.path).uri)


def take(
    input_dict: inputs.Artifacts,
    *,
    name: str,
    spec: bulk_inferencer_pb2.ModelSpec,
    model_keys: Sequence[str],
    blessing_keys: Mapping[str, str],
    required: Sequence[str],
) -> GatedModel:
    """Takes a model and its blessings from an execution's inputs.

    Args:
      input_dict: the inputs.
      name: see `GatedModel`.
      spec: see `GatedModel`.
      model_keys: the inputs that the model may be in.
      blessing_keys: the inputs that blessings may be in, by their kinds.
      required: the kinds of blessing that must be there.
    """
    artifact = _model_artifact(input_dict, model_keys, spec)
    blessings = {
        kind: inputs.single(input_dict, key)
        for kind, key in blessing_keys.items()
        if input_dict.get(key)
    }
    decision = _decide(artifact, blessings, required)
    return GatedModel(name, spec, artifact, tuple(blessings.values()), decision)


def take_named(
    input_dict: inputs.Artifacts,
    name: str,
    spec: bulk_inferencer_pb2.ModelSpec,
    required: Sequence[str],
) -> GatedModel:
    """Takes one of several models; `required` names those that must be blessed."""
    return take(
        input_dict,
        name=name,
        spec=spec,
        model_keys=(model_key(name),),
        blessing_keys={gate.MODEL_BLESSING: blessing_key(name)},
        required=[gate.MODEL_BLESSING] if name in required else [],
    )


def decide_together(models: Sequence[GatedModel]) -> gate.Decision:
    """Returns one decision for all stages of a cascade: that of the least blessed one."""
    if len(models) == 1:
        return models[0].decision
    order = (gate.NOT_BLESSED, gate.NO_BLESSING, gate.BLESSED)
    worst = min((model.decision.gate for model in models), key=order.index)
    reasons = [f"Stage '{model.name}': {model.decision.reason}" for model in models]
    return gate.Decision(worst, " ".join(reasons))


def _model_artifact(
    artifacts: inputs.Artifacts, keys: Sequence[str], spec: bulk_inferencer_pb2.ModelSpec
) -> types.Artifact | None:
    """Returns a model, which only an endpoint can do without.

    Args:
      artifacts: those of the execution.
      keys: the channels that it may be in, the last of which is named in an error.
      spec: the model's settings.
    """
    given = [key for key in keys if artifacts.get(key)]
    if not given and spec.WhichOneof("endpoint"):
        return None
    return inputs.single(artifacts, (given or keys)[-1])


def _model_path(model: types.Artifact) -> str:
    """Returns the folder with `saved_model.pb` of a Model or PushedModel.

    A Trainer puts it below the model's own, a Pusher and who imports a SavedModel do not.
    """
    is_pushed = model.type_name == standard_artifacts.PushedModel.TYPE_NAME
    if is_pushed or _files.exists(posixpath.join(model.uri, "saved_model.pb")):
        return str(model.uri)
    return str(path_utils.serving_model_path(model.uri, path_utils.is_old_model_artifact(model)))


def _decide(
    model: types.Artifact | None,
    blessings: Mapping[str, types.Artifact],
    required: Sequence[str],
) -> gate.Decision:
    """Decides whether a model may be used.

    Args:
      model: the model, None where an endpoint stands in for it.
      blessings: those that arrived, by kind.
      required: the kinds that the pipeline's author asked for.

    Raises:
      InputError: there is no model that could be blessed.
    """
    if model is None:
        if required:  # the component refuses that while the pipeline is built
            raise InputError(
                f"Expected a model for the {', '.join(required)} to bless, got none. Give "
                f"model_export beside the endpoint."
            )
        return gate.Decision(gate.NO_BLESSING, "No blessing was asked for.")
    path = _model_path(model)

    def has_content_of(uri: str) -> bool:
        try:
            other = SavedModel(path_utils.serving_model_path(uri))
            return SavedModel(path).fingerprint() == other.fingerprint()
        except ModelError:
            return False

    candidate = gate.Candidate(model.id, model.name, model.uri, has_content_of)
    arrived = [_blessing(kind, artifact) for kind, artifact in blessings.items()]
    return gate.decide(candidate, required, arrived)


def _blessing(kind: str, artifact: types.Artifact) -> gate.Blessing:
    blessed = None
    if artifact.has_custom_property("blessed"):
        blessed = artifact.get_int_custom_property("blessed") == 1
    # Evaluator records the id as an integer, Kubeflow's driver a name as a string.
    model_id = artifact.get_int_custom_property("current_model_id")
    return gate.Blessing(
        kind,
        artifact.uri,
        blessed,
        str(model_id or artifact.get_string_custom_property("current_model_id")),
        artifact.get_string_custom_property("current_model"),
    )
