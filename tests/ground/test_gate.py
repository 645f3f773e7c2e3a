"""What the gate decides. How the components read blessings: see components/test_gated_model.py."""

from __future__ import annotations

import dataclasses

import pytest

from bulk_inferencer._gate import (
    ABSENT,
    BLESSED,
    INFRA_BLESSING,
    MODEL_BLESSING,
    NO_BLESSING,
    NOT_BLESSED,
    UNASKED,
    Blessing,
    Candidate,
    Decision,
    decide,
)
from bulk_inferencer.errors import SettingsError
from tests.helpers import exactly

NAME = "projects/1/models/7"


def candidate(has_content_of=lambda uri: False):
    return Candidate(id=7, name=NAME, uri="/m/7", has_content_of=has_content_of)


def blessing(is_blessed=True, kind=MODEL_BLESSING, model="7", model_uri="/m/7"):
    return Blessing(kind, "/b", is_blessed, model, model_uri)


def verdict(*blessings, required=(), has_content_of=lambda uri: False):
    return decide(candidate(has_content_of), required, blessings).verdict


def test_nothing_required_and_nothing_arrived_is_no_blessing():
    unasked = Decision(NO_BLESSING, "No blessing was asked for.")
    assert decide(candidate(), [], []) == UNASKED == unasked


def test_gate_is_open_unless_the_model_is_not_blessed_and_nobody_overrules():
    assert UNASKED.is_open
    assert Decision(BLESSED, "").is_open
    assert not Decision(NOT_BLESSED, "").is_open
    assert Decision(NOT_BLESSED, "", is_overruled=True).is_open
    assert not ABSENT.is_open
    assert not dataclasses.replace(ABSENT, is_overruled=True).is_open


def test_unknown_verdict_is_refused():
    message = (
        "Decision.verdict must be one of blessed, not_blessed, no_blessing, no_model, not "
        "'BLESSED'."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        Decision("BLESSED", "")


ANOTHER = (
    "blesses model 6 at {}, not model 7 at /m/7. Use a model and a blessing from the same run."
)
SILENT = (
    "does not say whether the model is blessed: it has neither a 'blessed' property nor a file "
    "{}BLESSED or {}NOT_BLESSED. Check the component that wrote it; an Evaluator without "
    "thresholds validates nothing."
)
ANONYMOUS = (
    "does not say which model it blesses: it has neither a 'current_model_id' nor a "
    "'current_model' property. Import it with custom_properties={'current_model': <the model's "
    "URI>}."
)


@pytest.mark.parametrize(
    ("arrived", "expected", "reason"),
    [
        (blessing(), BLESSED, "blesses the model."),
        (blessing(False), NOT_BLESSED, "says that the model is not blessed."),
        (blessing(None), NOT_BLESSED, SILENT.format("", "")),
        (blessing(None, INFRA_BLESSING), NOT_BLESSED, SILENT.format("INFRA_", "INFRA_")),
        (blessing(model="6", model_uri="/m/6"), NOT_BLESSED, ANOTHER.format("/m/6")),
        (blessing(model="6", model_uri=""), NOT_BLESSED, ANOTHER.format("unknown")),
        (blessing(model="", model_uri=""), NOT_BLESSED, ANONYMOUS),
        # InfraValidator never records the model.
        (blessing(True, INFRA_BLESSING, model="", model_uri=""), BLESSED,
         "blesses a model without recording which one."),
    ],
)  # fmt: skip
def test_one_blessing_decides_with_a_reason(arrived, expected, reason):
    decision = Decision(expected, f"The {arrived.kind} at /b {reason}")
    assert decide(candidate(), [], [arrived]) == decision
    assert decide(candidate(), [arrived.kind], [arrived]) == decision


def test_model_is_known_by_the_name_that_kubeflow_gives_it():
    assert verdict(blessing(model=NAME, model_uri="")) == BLESSED
    assert verdict(blessing(model="projects/1/models/8", model_uri="")) == NOT_BLESSED


@pytest.mark.parametrize("model", ["6", ""])
@pytest.mark.parametrize(("is_same", "expected"), [(True, BLESSED), (False, NOT_BLESSED)])
def test_model_at_another_uri_is_compared_by_content(model, is_same, expected):
    asked = []
    other = blessing(model=model, model_uri="/m/6")
    assert verdict(other, has_content_of=lambda uri: asked.append(uri) or is_same) == expected
    assert asked == ["/m/6"]


def test_content_is_not_read_if_id_or_uri_agrees():
    def read(uri):
        raise AssertionError("Reading a large model takes minutes.")

    assert verdict(blessing(model="7", model_uri="/m/6"), has_content_of=read) == BLESSED
    assert verdict(blessing(model="", model_uri="/m/7"), has_content_of=read) == BLESSED


BOTH = [MODEL_BLESSING, INFRA_BLESSING]


def test_all_blessings_must_bless():
    decision = decide(candidate(), BOTH, [blessing(), blessing(True, INFRA_BLESSING)])
    reasons = "The model_blessing at /b blesses the model. The infra_blessing at /b blesses the"
    assert decision == Decision(BLESSED, f"{reasons} model.")
    for model, infra in ((True, False), (False, True), (False, False)):
        found = verdict(blessing(model), blessing(infra, INFRA_BLESSING), required=BOTH)
        assert found == NOT_BLESSED


@pytest.mark.parametrize("kind", BOTH)
def test_required_blessing_that_did_not_arrive_is_not_blessed(kind):
    reason = f"The required {kind} is missing: its channel holds no artifact."
    assert decide(candidate(), [kind], []) == Decision(NOT_BLESSED, reason)
    (other,) = set(BOTH) - {kind}  # which does not stand in for it
    assert verdict(blessing(kind=other), required=BOTH) == NOT_BLESSED
