"""A model with its blessings, as real artifacts: what the gate makes of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tfx.types.standard_artifacts import InfraBlessing, Model, ModelBlessing, PushedModel

from bulk_inferencer import _gate
from bulk_inferencer._gate import BLESSED, NO_BLESSING, NOT_BLESSED
from bulk_inferencer.bulk_inferencer_pb2 import FAIL, IGNORE, SKIP, ModelSpec
from bulk_inferencer.components import gated_model
from bulk_inferencer.errors import GateError, InputError
from tests.components.tfx_helpers import ENDPOINT, artifact, assert_refused


def read(required="", policy=SKIP, spec=None, name="", **artifacts):
    """Reads a model from an execution's inputs, each of which is an artifact."""
    inputs = {key: [artifact] for key, artifact in artifacts.items()}
    properties = {"required_blessings": required}
    return gated_model.read(inputs, properties, spec or ModelSpec(gate_policy=policy), name)


def verdict(**artifacts):
    return read(**artifacts).decision.verdict


@pytest.fixture
def blessing(tmp_path):
    """Makes blessings without a marker file."""

    def make(kind=ModelBlessing, **properties):
        return artifact(kind, tmp_path / "blessing", **properties)

    return make


@pytest.mark.parametrize(
    ("kind", "properties", "marker", "expected"),
    [
        (ModelBlessing, {"blessed": 1}, "NOT_BLESSED", BLESSED),
        (ModelBlessing, {"blessed": 0}, "BLESSED", NOT_BLESSED),
        (ModelBlessing, {}, "BLESSED", BLESSED),
        (ModelBlessing, {}, "NOT_BLESSED", NOT_BLESSED),
        (ModelBlessing, {}, "other", NOT_BLESSED),
        (InfraBlessing, {}, "INFRA_BLESSED", BLESSED),
        (InfraBlessing, {}, "INFRA_NOT_BLESSED", NOT_BLESSED),
        (InfraBlessing, {}, "BLESSED", NOT_BLESSED),
    ],
)
def test_property_decides_or_else_the_marker_file(
    model, blessing, kind, properties, marker, expected
):
    given = blessing(kind, **properties, current_model_id=7, current_model=model.uri)
    Path(given.uri).mkdir()
    Path(given.uri, marker).touch()
    key = "model_blessing" if kind is ModelBlessing else "infra_blessing"
    assert verdict(model=model, **{key: given}) == expected


def test_all_blessings_that_are_required_have_to_arrive(model, blessing):
    assert read(model=model).decision == _gate.UNASKED
    given = {"model": model, "model_blessing": blessing(blessed=1, current_model_id=7)}
    required = "model_blessing,infra_blessing"
    decision = read(**given, required=required).decision
    assert decision.verdict == NOT_BLESSED
    assert "infra_blessing" in decision.reason
    both = {**given, "infra_blessing": blessing(InfraBlessing, blessed=1)}
    assert verdict(**both, required=required) == BLESSED


def test_blessing_of_another_model_closes_the_gate(model, ten_uri, blessing, tmp_path):
    for uri in (ten_uri, str(tmp_path / "gone")):
        given = blessing(blessed=1, current_model_id=6, current_model=uri)
        decision = read(model=model, model_blessing=given).decision
        assert decision.verdict == NOT_BLESSED
        for part in (f"model 7 at {model.uri}", f"model 6 at {uri}"):
            assert part in decision.reason


def test_blessing_of_a_copy_counts_until_its_weights_differ(model, blessing, tmp_path):
    copy = shutil.copytree(model.uri, tmp_path / "copy")
    of_copy = blessing(blessed=1, current_model_id=6, current_model=str(copy))
    assert verdict(model=model, model_blessing=of_copy) == BLESSED
    (weights,) = Path(copy).rglob("variables.data-*")
    changed = bytearray(weights.read_bytes())
    changed[0] ^= 1
    weights.write_bytes(changed)
    assert verdict(model=model, model_blessing=of_copy) == NOT_BLESSED


def test_blessing_of_the_model_that_was_pushed_opens_the_gate(
    model_uri, pushed_model_uri, blessing
):
    pushed = artifact(PushedModel, pushed_model_uri)
    pushed.id = 8
    of_model = blessing(blessed=1, current_model_id=7, current_model=model_uri)
    gated = read(pushed_model=pushed, model_blessing=of_model)
    assert gated.decision.verdict == BLESSED
    assert gated.path == pushed_model_uri


def test_name_in_place_of_an_id_opens_the_gate(model, blessing):
    model.name = "projects/1/artifacts/7"
    named = blessing(blessed=1, current_model_id=model.name)
    assert verdict(model=model, model_blessing=named) == BLESSED


@pytest.mark.parametrize(
    ("blessed", "is_other", "expected"),
    [(1.0, False, BLESSED), (1.0, True, NOT_BLESSED), (0.0, False, NOT_BLESSED)],
)
def test_blessing_decides_on_kubeflow(model, ten_uri, tmp_path, blessed, is_other, expected):
    # There an artifact's id is a hash of its name, but the blessing records the name, and all
    # properties arrive as JSON values.
    model.id = 1234567890123456789
    made = artifact(ModelBlessing, tmp_path)
    made.set_json_value_custom_property("blessed", blessed)
    made.set_json_value_custom_property("current_model_id", "projects/1/artifacts/7")
    made.set_json_value_custom_property("current_model", ten_uri if is_other else model.uri)
    made.set_mlmd_artifact(made.mlmd_artifact)
    assert verdict(model=model, model_blessing=made) == expected


@pytest.mark.parametrize(
    ("name", "label", "suffix"), [("", "", ""), ("ten", "Model 'ten': ", "_ten")]
)
def test_policy_to_fail_raises_with_the_reason_and_the_cure(model, blessing, name, label, suffix):
    refusal = blessing(blessed=0)
    given = {"model" + suffix: model, "blessing_ten" if name else "model_blessing": refusal}
    message = (
        f"{label}The model_blessing at {refusal.uri} says that the model is not blessed. Nothing "
        f"was scored. Set ModelSpec.gate_policy to SKIP to let the pipeline go on without results, "
        f"or to IGNORE to score anyway."
    )
    assert_refused(message, read, **given, name=name, policy=FAIL, error=GateError)


def test_policy_matters_only_for_a_model_that_is_not_blessed(model, blessing):
    for policy, is_open in ((SKIP, False), (IGNORE, True)):
        decision = read(model=model, model_blessing=blessing(blessed=0), policy=policy).decision
        assert (decision.verdict, decision.is_open) == (NOT_BLESSED, is_open)
    for policy in (SKIP, FAIL, IGNORE):
        assert read(model=model, policy=policy).decision == _gate.UNASKED


def test_model_among_several_has_its_own_blessing(model, blessing):
    given = {"model_five": model, "model_ten": model, "required": "ten", "name": "ten"}
    assert verdict(**given) == NOT_BLESSED
    assert verdict(**{**given, "name": "five"}) == NO_BLESSING
    gated = read(**given, blessing_ten=blessing(blessed=1, current_model_id=7))
    assert (gated.name, gated.decision.verdict, len(gated.blessings)) == ("ten", BLESSED, 1)


@pytest.mark.parametrize(
    ("of_five", "of_ten", "verdict", "is_overruled"),
    [
        ((1, SKIP), (1, SKIP), BLESSED, False),
        ((1, SKIP), (None, SKIP), NO_BLESSING, False),
        ((None, SKIP), (0, SKIP), NOT_BLESSED, False),
        ((0, IGNORE), (0, SKIP), NOT_BLESSED, False),
        ((0, IGNORE), (1, SKIP), NOT_BLESSED, True),
        # A policy that nothing depends on overrules nothing.
        ((1, IGNORE), (1, IGNORE), BLESSED, False),
        ((1, IGNORE), (None, IGNORE), NO_BLESSING, False),
    ],
)
def test_cascade_is_blessed_as_its_least_blessed_stage(
    model, blessing, of_five, of_ten, verdict, is_overruled
):
    stages = []
    for name, (blessed, policy) in (("five", of_five), ("ten", of_ten)):
        artifacts = {f"model_{name}": model}
        if blessed is not None:
            artifacts[f"blessing_{name}"] = blessing(blessed=blessed, current_model_id=7)
        stages.append(read(**artifacts, name=name, policy=policy))
    decision = gated_model.decide_together(stages)
    five, ten = (stage.decision for stage in stages)
    reason = f"Stage 'five': {five.reason} Stage 'ten': {ten.reason}"
    assert decision == _gate.Decision(verdict, reason, is_overruled)
    assert gated_model.decide_together(stages[:1]) == five


def test_model_is_needed_unless_an_endpoint_stands_in_for_it(model, blessing):
    assert read(spec=ENDPOINT).artifact is None
    assert read(spec=ENDPOINT).path == ""
    beside = read(spec=ENDPOINT, model=model, model_blessing=blessing(blessed=0))
    assert (beside.artifact, beside.decision.verdict) == (model, NOT_BLESSED)
    # A blessing needs a model to bless.
    assert read(spec=ENDPOINT, required="model_blessing").decision == _gate.ABSENT


def test_model_that_is_not_there_yet_closes_the_gate_or_fails_by_the_policy():
    gated = read(required="model_blessing")
    assert (gated.decision, gated.path) == (_gate.ABSENT, "")
    message = (
        "Model 'ten': There is no model yet: its channel holds no artifact. Nothing was scored. "
        "Set ModelSpec.gate_policy to SKIP to let the pipeline go on without results, or run what "
        "makes the model first."
    )
    for policy in (FAIL, IGNORE):
        assert_refused(message, read, name="ten", policy=policy, error=GateError)


def test_there_can_only_be_one_model(model):
    with pytest.raises(InputError, match=r"^model must be one artifact, but there are 2\."):
        gated_model.read({"model": [model, model]}, {}, ModelSpec())


def test_files_of_a_model_are_found_where_a_trainer_or_whoever_imports_it_puts_them(
    model_uri, pushed_model_uri, tmp_path
):
    assert read(model=artifact(Model, model_uri)).path == f"{model_uri}/Format-Serving"
    assert read(model=artifact(Model, pushed_model_uri)).path == pushed_model_uri
    # Models of Python have files of other names.
    imported, trained = tmp_path / "imported", tmp_path / "trained" / "Format-Serving"
    for folder in (imported, trained):
        folder.mkdir(parents=True)
        (folder / "model.joblib").write_text("the model")
    assert read(model=artifact(Model, imported)).path == str(imported)
    assert read(model=artifact(Model, trained.parent)).path == str(trained)
    nothing = artifact(Model, tmp_path / "nothing")
    assert read(model=nothing).path == f"{tmp_path}/nothing/Format-Serving"


def test_blessing_of_a_copy_counts_for_a_model_of_python_too(blessing, tmp_path):
    for name, content in (("own", "5x"), ("copy/Format-Serving", "5x"), ("other", "10x")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "model.joblib").write_text(content)
    own = artifact(Model, tmp_path / "own")
    (tmp_path / "empty").mkdir()
    for name, expected in (("copy", BLESSED), ("other", NOT_BLESSED), ("empty", NOT_BLESSED)):
        given = blessing(blessed=1, current_model_id=6, current_model=str(tmp_path / name))
        assert verdict(model=own, model_blessing=given) == expected
