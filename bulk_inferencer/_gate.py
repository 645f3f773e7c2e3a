"""The gate: whether a model may run, judged by the blessings that came with it.

This module reads no files. Callers of `decide` have read the artifacts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bulk_inferencer.errors import SettingsError

BLESSED = "blessed"
NOT_BLESSED = "not_blessed"
NO_BLESSING = "no_blessing"
NO_MODEL = "no_model"

MODEL_BLESSING = "model_blessing"
INFRA_BLESSING = "infra_blessing"

# The marker files that Evaluator and InfraValidator write: blessed, not blessed.
MARKERS = {
    MODEL_BLESSING: ("BLESSED", "NOT_BLESSED"),
    INFRA_BLESSING: ("INFRA_BLESSED", "INFRA_NOT_BLESSED"),
}


@dataclass(frozen=True)
class Blessing:
    """What a blessing artifact says.

    Attributes:
      kind: `MODEL_BLESSING` or `INFRA_BLESSING`.
      uri: where it is.
      is_blessed: whether it blesses the model; None if it does not say.
      model: id or, on Kubeflow, name of the blessed model; empty if not recorded.
      model_uri: where the blessed model was; empty if not recorded.
    """

    kind: str
    uri: str
    is_blessed: bool | None = None
    model: str = ""
    model_uri: str = ""


@dataclass(frozen=True)
class Candidate:
    """The model that wants to run: the id, name and URI of its artifact.

    `has_content_of` returns whether the model at another URI has the same files.
    """

    id: int
    name: str
    uri: str
    has_content_of: Callable[[str], bool]


@dataclass(frozen=True)
class Decision:
    """What the gate decided about a model.

    ```python
    Decision("not_blessed", "The model is worse than last week's.")
    ```

    Attributes:
      verdict: `blessed`, `not_blessed`, `no_blessing` or `no_model`.
      reason: why, in a sentence.
      is_overruled: whether the model runs although it is `not_blessed`.

    Raises:
      SettingsError: the verdict is not one of these.
    """

    verdict: str
    reason: str
    is_overruled: bool = False

    def __post_init__(self) -> None:
        verdicts = (BLESSED, NOT_BLESSED, NO_BLESSING, NO_MODEL)
        if self.verdict not in verdicts:
            raise SettingsError(
                f"Decision.verdict must be one of {', '.join(verdicts)}, not {self.verdict!r}."
            )

    @property
    def is_open(self) -> bool:
        """Whether the model runs."""
        if self.verdict == NOT_BLESSED:
            return self.is_overruled
        return self.verdict != NO_MODEL


UNASKED = Decision(NO_BLESSING, "No blessing was asked for.")
ABSENT = Decision(NO_MODEL, "There is no model yet: its channel holds no artifact.")

FROM_WORST = (NO_MODEL, NOT_BLESSED, NO_BLESSING, BLESSED)


def of_all(decisions: Mapping[str, Decision]) -> Decision:
    """Returns what was decided about models together: the verdict of the least blessed one."""
    if len(decisions) == 1:
        return next(iter(decisions.values()))
    worst = min((own.verdict for own in decisions.values()), key=FROM_WORST.index)
    reason = " ".join(f"Model '{model}': {own.reason}" for model, own in decisions.items())
    return Decision(worst, reason, any(own.is_overruled for own in decisions.values()))


def decide(
    candidate: Candidate, required: Sequence[str], blessings: Sequence[Blessing]
) -> Decision:
    """Decides whether a model is blessed, by the blessings that arrived.

    It is `BLESSED` if every kind in `required` arrived and every blessing blesses this model,
    `NO_BLESSING` if none was required and none arrived, and `NOT_BLESSED` otherwise.
    """
    arrived = {blessing.kind for blessing in blessings}
    for kind in required:
        if kind not in arrived:
            reason = f"The required {kind} is missing: its channel holds no artifact."
            return Decision(NOT_BLESSED, reason)
    if not blessings:
        return UNASKED
    reasons = []
    for blessing in blessings:
        source = f"The {blessing.kind} at {blessing.uri}"
        if objection := _objection(candidate, blessing):
            return Decision(NOT_BLESSED, f"{source} {objection}")
        names_model = blessing.model or blessing.model_uri
        which = "the model" if names_model else "a model without recording which one"
        reasons.append(f"{source} blesses {which}.")
    return Decision(BLESSED, " ".join(reasons))


def _objection(candidate: Candidate, blessing: Blessing) -> str:
    """Returns why a blessing does not bless the candidate, or an empty string if it does."""
    if blessing.is_blessed is None:
        return (
            f"does not say whether the model is blessed: it has neither a 'blessed' property nor "
            f"a file {' or '.join(MARKERS[blessing.kind])}. Check the component that wrote it; an "
            f"Evaluator without thresholds validates nothing."
        )
    if not blessing.is_blessed:
        return "says that the model is not blessed."
    if not blessing.model and not blessing.model_uri:
        # InfraValidator records no model; an Evaluator always does, but an Importer may lose it.
        if blessing.kind == INFRA_BLESSING:
            return ""
        return (
            "does not say which model it blesses: it has neither a 'current_model_id' nor a "
            "'current_model' property. Import it with custom_properties={'current_model': <the "
            "model's URI>}."
        )
    if not _is_same_model(candidate, blessing):
        return (
            f"blesses model {blessing.model or 'unknown'} at {blessing.model_uri or 'unknown'}, "
            f"not model {candidate.id} at {candidate.uri}. Use a model and a blessing from the "
            f"same run."
        )
    return ""


def _is_same_model(candidate: Candidate, blessing: Blessing) -> bool:
    if blessing.model and blessing.model in (str(candidate.id), candidate.name):
        return True
    uri = blessing.model_uri
    # Comparing content comes last, since it means reading both models.
    return bool(uri) and (uri == candidate.uri or candidate.has_content_of(uri))
