"""The gate: whether a model may be used, judged by the blessings that came with it."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bulk_inferencer import _files

BLESSED = "blessed"
NOT_BLESSED = "not_blessed"
NO_BLESSING = "no_blessing"

MODEL_BLESSING = "model_blessing"
INFRA_BLESSING = "infra_blessing"

# The marker files that Evaluator and InfraValidator write: blessed, not blessed.
_MARKERS = {
    MODEL_BLESSING: ("BLESSED", "NOT_BLESSED"),
    INFRA_BLESSING: ("INFRA_BLESSED", "INFRA_NOT_BLESSED"),
}


@dataclass(frozen=True)
class Blessing:
    """What a blessing artifact says.

    Attributes:
      kind: `MODEL_BLESSING` or `INFRA_BLESSING`.
      uri: where it is.
      blessed: its `blessed` property, None if it has none.
      model: id or, on Kubeflow, name of the model that it was given to; empty if not recorded.
      model_uri: where that model was; empty if not recorded.
    """

    kind: str
    uri: str
    blessed: bool | None = None
    model: str = ""
    model_uri: str = ""


@dataclass(frozen=True)
class Candidate:
    """The model that asks to be used.

    Attributes:
      id: its artifact id.
      name: its artifact name.
      uri: where it is.
      has_content_of: whether the model at another URI has the same files.
    """

    id: int
    name: str
    uri: str
    has_content_of: Callable[[str], bool]


class Decision(NamedTuple):
    """What the gate decided.

    Attributes:
      gate: `BLESSED`, `NOT_BLESSED` or `NO_BLESSING`.
      reason: why, in a sentence.
    """

    gate: str
    reason: str


def decide(
    candidate: Candidate, required: Sequence[str], blessings: Sequence[Blessing]
) -> Decision:
    """Decides whether the model is blessed.

    Args:
      candidate: the model.
      required: the kinds of blessing that the pipeline's author asked for.
      blessings: the blessings that arrived.

    Returns:
      `BLESSED` if every required kind arrived and every blessing blesses this model,
      `NO_BLESSING` if none was asked for and none arrived, `NOT_BLESSED` otherwise.
    """
    arrived = [blessing.kind for blessing in blessings]
    for kind in required:
        if kind not in arrived:
            return Decision(
                NOT_BLESSED,
                f"Expected a {kind}, got none: its channel holds no artifact.",
            )
    if not blessings:
        return Decision(NO_BLESSING, "No blessing was asked for.")
    reasons = []
    for blessing in blessings:
        decision = _decide_one(candidate, blessing)
        if decision.gate == NOT_BLESSED:
            return decision
        reasons.append(decision.reason)
    return Decision(BLESSED, " ".join(reasons))


def _decide_one(candidate: Candidate, blessing: Blessing) -> Decision:
    kind, uri = blessing.kind, blessing.uri
    blessed_marker, not_blessed_marker = _MARKERS[kind]
    blessed = blessing.blessed
    if blessed is None and _files.exists(posixpath.join(uri, blessed_marker)):
        blessed = True
    if blessed is None and _files.exists(posixpath.join(uri, not_blessed_marker)):
        blessed = False
    if blessed is None:
        return Decision(
            NOT_BLESSED,
            f"Expected the {kind} at {uri} to say whether the model is blessed, got neither a "
            f"'blessed' property nor a file {blessed_marker} or {not_blessed_marker}. Give the "
            f"Evaluator thresholds: without them it validates nothing.",
        )
    if not blessed:
        return Decision(NOT_BLESSED, f"The {kind} at {uri} says that the model is not blessed.")
    if not blessing.model and not blessing.model_uri:
        # InfraValidator records no model; an Evaluator always does, but an Importer may lose it.
        if kind == INFRA_BLESSING:
            return Decision(
                BLESSED, f"The {kind} at {uri} blesses a model without recording which one."
            )
        return Decision(
            NOT_BLESSED,
            f"Expected the {kind} at {uri} to say which model it blesses, got neither a "
            f"'current_model_id' nor a 'current_model' property. Import it with "
            f"custom_properties={{'current_model': <the model's URI>}}.",
        )
    if not _is_same_model(candidate, blessing):
        return Decision(
            NOT_BLESSED,
            f"Expected the {kind} at {uri} to bless model {candidate.id} at {candidate.uri}, got "
            f"one for model {blessing.model or 'unknown'} at {blessing.model_uri or 'unknown'}. "
            f"Take model and blessing from the same run.",
        )
    return Decision(BLESSED, f"The {kind} at {uri} blesses the model.")


def _is_same_model(candidate: Candidate, blessing: Blessing) -> bool:
    """Compares what is cheap to compare first: content means reading both models."""
    if blessing.model and blessing.model in (str(candidate.id), candidate.name):
        return True
    if not blessing.model_uri:
        return False
    return blessing.model_uri == candidate.uri or candidate.has_content_of(blessing.model_uri)
