"""The gate: first its decision alone, then as the executor takes it from real artifacts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tfx.types.standard_artifacts import Examples, InfraBlessing, Model, ModelBlessing, PushedModel

from bulk_inferencer.bulk_inferencer_pb2 import FAIL, IGNORE, SKIP, ModelSpec
from bulk_inferencer.components.gate import (
    BLESSED,
    INFRA_BLESSING,
    MODEL_BLESSING,
    NO_BLESSING,
    NOT_BLESSED,
    Blessing,
    Candidate,
    decide,
)
from bulk_inferencer.errors import GateError
from bulk_inferencer.results.summary import Summary
from tests.helpers import tree
from tests.tfx_helpers import artifact, execute, five_times, scored

pytest_plugins = ("tests.tfx_fixtures",)


def candidate(has_content_of=lambda uri: False):
    return Candidate(id=7, name="projects/1/models/7", uri="/m/7", has_content_of=has_content_of)


def blessing(uri, blessed=None, kind=MODEL_BLESSING, model="7", model_uri="/m/7"):
    return Blessing(kind, str(uri), blessed, model, model_uri)


# The decision


def test_no_blessing_asked_for_is_no_blessing():
    assert decide(candidate(), [], []) == (NO_BLESSING, "No blessing was asked for.")


def test_property_blesses_without_a_file():
    decision = decide(candidate(), [MODEL_BLESSING], [blessing("/b", True)])

    assert decision == (BLESSED, "The model_blessing at /b blesses the model.")


def test_property_refuses_without_a_file():
    decision = decide(candidate(), [MODEL_BLESSING], [blessing("/b", False)])

    assert decision == (NOT_BLESSED, "The model_blessing at /b says that the model is not blessed.")


@pytest.mark.parametrize(
    ("kind", "blessed_file", "not_blessed_file"),
    [
        (MODEL_BLESSING, "BLESSED", "NOT_BLESSED"),
        (INFRA_BLESSING, "INFRA_BLESSED", "INFRA_NOT_BLESSED"),
    ],
)
def test_file_decides_where_there_is_no_property(tmp_path, kind, blessed_file, not_blessed_file):
    (tmp_path / "yes").mkdir()
    (tmp_path / "yes" / blessed_file).touch()
    (tmp_path / "no").mkdir()
    (tmp_path / "no" / not_blessed_file).touch()

    assert decide(candidate(), [], [blessing(tmp_path / "yes", kind=kind)]).gate == BLESSED
    assert decide(candidate(), [], [blessing(tmp_path / "no", kind=kind)]).gate == NOT_BLESSED


@pytest.mark.parametrize(("blessed", "gate"), [(True, BLESSED), (False, NOT_BLESSED)])
def test_property_goes_before_the_file(tmp_path, blessed, gate):
    (tmp_path / ("NOT_BLESSED" if blessed else "BLESSED")).touch()

    assert decide(candidate(), [], [blessing(tmp_path, blessed)]).gate == gate


def test_marker_of_the_other_kind_does_not_count(tmp_path):
    (tmp_path / "BLESSED").touch()

    assert decide(candidate(), [], [blessing(tmp_path, kind=INFRA_BLESSING)]).gate == NOT_BLESSED


def test_neither_property_nor_file_is_not_blessed_and_says_so(tmp_path):
    decision = decide(candidate(), [MODEL_BLESSING], [blessing(tmp_path)])

    assert decision == (
        NOT_BLESSED,
        (
            f"Expected the model_blessing at {tmp_path} to say whether the model is blessed, got "
            "neither a 'blessed' property nor a file BLESSED or NOT_BLESSED. Give the Evaluator "
            "thresholds: without them it validates nothing."
        ),
    )


def test_other_models_id_is_not_blessed_and_names_both():
    other = blessing("/b", True, model="6", model_uri="/m/6")

    assert decide(candidate(), [MODEL_BLESSING], [other]) == (
        NOT_BLESSED,
        (
            "Expected the model_blessing at /b to bless model 7 at /m/7, got one for model 6 at "
            "/m/6. Take model and blessing from the same run."
        ),
    )


def test_other_models_id_without_its_uri_is_not_blessed_and_says_unknown():
    decision = decide(candidate(), [], [blessing("/b", True, model="6", model_uri="")])

    assert decision.gate == NOT_BLESSED
    assert "got one for model 6 at unknown." in decision.reason


def test_same_content_under_another_uri_is_the_same_model():
    asked = []
    same = candidate(has_content_of=lambda uri: asked.append(uri) or True)
    other = blessing("/b", True, model="6", model_uri="/m/6")

    assert decide(same, [], [other]).gate == BLESSED
    assert asked == ["/m/6"]


def test_uri_alone_is_compared_by_content():
    by_uri = blessing("/b", True, model="", model_uri="/m/6")

    assert decide(candidate(lambda uri: True), [], [by_uri]).gate == BLESSED
    assert decide(candidate(lambda uri: False), [], [by_uri]).gate == NOT_BLESSED


@pytest.mark.parametrize(
    "same",
    [
        blessing("/b", True, model="7", model_uri="/m/6"),
        blessing("/b", True, model="", model_uri="/m/7"),
    ],
)
def test_content_is_not_read_where_id_or_uri_agrees(same):
    def read(uri):
        raise AssertionError("Reading a large model takes minutes.")

    assert decide(candidate(read), [], [same]).gate == BLESSED


def test_name_counts_as_id_as_on_kubeflow():
    named = blessing("/b", True, model="projects/1/models/7", model_uri="")

    assert decide(candidate(), [], [named]).gate == BLESSED


def test_other_models_name_is_not_blessed():
    named = blessing("/b", True, model="projects/1/models/8", model_uri="")

    assert decide(candidate(), [], [named]).gate == NOT_BLESSED


def test_model_blessing_of_no_recorded_model_is_not_blessed_and_says_what_to_do():
    anonymous = blessing("/b", True, model="", model_uri="")

    assert decide(candidate(), [], [anonymous]) == (
        NOT_BLESSED,
        (
            "Expected the model_blessing at /b to say which model it blesses, got neither a "
            "'current_model_id' nor a 'current_model' property. Import it with "
            "custom_properties={'current_model': <the model's URI>}."
        ),
    )


def test_infra_blessing_of_no_recorded_model_blesses_and_says_so():
    anonymous = blessing("/b", True, kind=INFRA_BLESSING, model="", model_uri="")

    assert decide(candidate(), [], [anonymous]) == (
        BLESSED,
        "The infra_blessing at /b blesses a model without recording which one.",
    )


def test_infra_blessing_alone_decides():
    yes = blessing("/i", True, kind=INFRA_BLESSING)
    no = blessing("/i", False, kind=INFRA_BLESSING)

    assert decide(candidate(), [INFRA_BLESSING], [yes]).gate == BLESSED
    assert decide(candidate(), [INFRA_BLESSING], [no]).gate == NOT_BLESSED


@pytest.mark.parametrize(
    ("model_blessed", "infra_blessed", "gate"),
    [
        (True, True, BLESSED),
        (True, False, NOT_BLESSED),
        (False, True, NOT_BLESSED),
        (False, False, NOT_BLESSED),
    ],
)
def test_both_blessings_must_bless(model_blessed, infra_blessed, gate):
    both = [blessing("/b", model_blessed), blessing("/i", infra_blessed, kind=INFRA_BLESSING)]

    assert decide(candidate(), [MODEL_BLESSING, INFRA_BLESSING], both).gate == gate


@pytest.mark.parametrize("kind", [MODEL_BLESSING, INFRA_BLESSING])
def test_required_blessing_that_did_not_arrive_is_not_blessed(kind):
    assert decide(candidate(), [kind], []) == (
        NOT_BLESSED,
        f"Expected a {kind}, got none: its channel holds no artifact.",
    )


def test_one_blessing_does_not_stand_in_for_the_other():
    required = [MODEL_BLESSING, INFRA_BLESSING]

    assert decide(candidate(), required, [blessing("/b", True)]).gate == NOT_BLESSED


# From artifacts, through the executor


@pytest.fixture
def model(model_uri):
    made = artifact(Model, model_uri)
    made.id = 7
    return made


@pytest.fixture
def examples(examples_uri):
    return artifact(Examples, examples_uri, ["unlabelled"])


@pytest.fixture
def inputs(examples, model):
    return {"examples": examples, "model": model}


def gate_of(outputs):
    return outputs.inference_result.get_string_custom_property("gate")


def test_evaluators_blessing_opens_the_gate(outputs, inputs, model_uri, tmp_path):
    blessed = artifact(
        ModelBlessing, tmp_path, blessed=1, current_model_id=7, current_model=model_uri
    )

    execute(outputs, {**inputs, "model_blessing": blessed}, required_blessings="model_blessing")

    assert gate_of(outputs) == BLESSED
    assert scored(outputs.inference_result) == five_times(10, 11)


def test_evaluators_refusal_closes_the_gate(outputs, inputs, model_uri, tmp_path):
    refused = artifact(
        ModelBlessing, tmp_path, blessed=0, current_model_id=7, current_model=model_uri
    )

    execute(outputs, {**inputs, "model_blessing": refused}, required_blessings="model_blessing")

    assert gate_of(outputs) == NOT_BLESSED
    assert tree(outputs.inference_result.uri) == []


def test_blessing_of_another_model_closes_the_gate(
    outputs, inputs, model_uri, other_model_uri, tmp_path
):
    for_other = artifact(
        ModelBlessing, tmp_path, blessed=1, current_model_id=6, current_model=other_model_uri
    )

    execute(outputs, {**inputs, "model_blessing": for_other})

    assert gate_of(outputs) == NOT_BLESSED
    assert Summary.read(outputs.summary.uri).gate_reason == (
        f"Expected the model_blessing at {tmp_path} to bless model 7 at {model_uri}, got one for "
        f"model 6 at {other_model_uri}. Take model and blessing from the same run."
    )


def test_blessing_of_a_model_that_is_gone_closes_the_gate(outputs, inputs, tmp_path):
    for_gone = artifact(
        ModelBlessing, tmp_path, blessed=1, current_model_id=6, current_model=str(tmp_path / "gone")
    )

    execute(outputs, {**inputs, "model_blessing": for_gone})

    assert gate_of(outputs) == NOT_BLESSED


def test_blessing_of_a_copy_opens_the_gate(outputs, inputs, model_uri, tmp_path):
    copy = shutil.copytree(model_uri, tmp_path / "copy")
    for_copy = artifact(
        ModelBlessing, tmp_path, blessed=1, current_model_id=6, current_model=str(copy)
    )

    execute(outputs, {**inputs, "model_blessing": for_copy})

    assert gate_of(outputs) == BLESSED


def test_blessing_of_a_copy_with_other_weights_closes_the_gate(
    outputs, inputs, model_uri, tmp_path
):
    copy = shutil.copytree(model_uri, tmp_path / "copy")
    (weights,) = Path(copy).rglob("variables.data-*")
    changed = bytearray(weights.read_bytes())
    changed[0] ^= 1
    weights.write_bytes(changed)
    for_copy = artifact(
        ModelBlessing, tmp_path, blessed=1, current_model_id=6, current_model=str(copy)
    )

    execute(outputs, {**inputs, "model_blessing": for_copy})

    assert gate_of(outputs) == NOT_BLESSED


def test_blessing_of_the_model_that_was_pushed_opens_the_gate(
    outputs, examples, model_uri, pushed_model_uri, tmp_path
):
    pushed = artifact(PushedModel, pushed_model_uri)
    pushed.id = 8
    for_model = artifact(
        ModelBlessing, tmp_path, blessed=1, current_model_id=7, current_model=model_uri
    )

    execute(outputs, {"examples": examples, "pushed_model": pushed, "model_blessing": for_model})

    assert gate_of(outputs) == BLESSED
    assert scored(outputs.inference_result) == five_times(10, 11)


def kubeflow_blessing(uri, **json_values):
    """Returns a blessing as Kubeflow's entrypoint reads it: all its properties are JSON values."""
    made = artifact(ModelBlessing, uri)
    for name, value in json_values.items():
        made.set_json_value_custom_property(name, value)
    made.set_mlmd_artifact(made.mlmd_artifact)
    return made


def test_blessing_opens_the_gate_on_kubeflow(outputs, inputs, model, model_uri, tmp_path):
    # There an artifact's id is a hash of its name, but the blessing records the name.
    model.id = 1234567890123456789
    blessed = kubeflow_blessing(
        tmp_path, blessed=1.0, current_model_id="projects/1/artifacts/7", current_model=model_uri
    )

    execute(outputs, {**inputs, "model_blessing": blessed})

    assert gate_of(outputs) == BLESSED


def test_blessing_of_another_model_closes_the_gate_on_kubeflow(
    outputs, inputs, other_model_uri, tmp_path
):
    for_other = kubeflow_blessing(
        tmp_path,
        blessed=1.0,
        current_model_id="projects/1/artifacts/6",
        current_model=other_model_uri,
    )

    execute(outputs, {**inputs, "model_blessing": for_other})

    assert gate_of(outputs) == NOT_BLESSED


def test_refusal_closes_the_gate_on_kubeflow(outputs, inputs, model_uri, tmp_path):
    refused = kubeflow_blessing(tmp_path, blessed=0.0, current_model=model_uri)

    execute(outputs, {**inputs, "model_blessing": refused})

    assert gate_of(outputs) == NOT_BLESSED


def test_name_in_place_of_an_id_opens_the_gate(outputs, inputs, model, tmp_path):
    model.name = "projects/1/artifacts/7"
    named = artifact(ModelBlessing, tmp_path, blessed=1, current_model_id=model.name)

    execute(outputs, {**inputs, "model_blessing": named})

    assert gate_of(outputs) == BLESSED


def test_infra_validators_refusal_outweighs_the_evaluators_blessing(outputs, inputs, tmp_path):
    blessed = artifact(ModelBlessing, tmp_path, blessed=1, current_model_id=7)
    refused = artifact(InfraBlessing, tmp_path, blessed=0)

    execute(outputs, {**inputs, "model_blessing": blessed, "infra_blessing": refused})

    assert gate_of(outputs) == NOT_BLESSED
    assert Summary.read(outputs.summary.uri).gate_reason == (
        f"The infra_blessing at {tmp_path} says that the model is not blessed."
    )


def test_both_blessings_open_the_gate(outputs, inputs, tmp_path):
    blessed = artifact(ModelBlessing, tmp_path, blessed=1, current_model_id=7)
    infra = artifact(InfraBlessing, tmp_path, blessed=1)

    execute(
        outputs,
        {**inputs, "model_blessing": blessed, "infra_blessing": infra},
        required_blessings="model_blessing,infra_blessing",
    )

    assert gate_of(outputs) == BLESSED


def test_skip_leaves_empty_outputs_that_say_so(outputs, inputs):
    execute(
        outputs,
        inputs,
        required_blessings="model_blessing",
        model_spec=ModelSpec(gate_policy=SKIP),
    )

    summary = Summary.read(outputs.summary.uri)
    assert gate_of(outputs) == NOT_BLESSED
    assert (summary.gate, summary.gate_reason) == (
        NOT_BLESSED,
        "Expected a model_blessing, got none: its channel holds no artifact.",
    )
    assert summary.total.examples_read == 0
    assert tree(outputs.summary.uri) == ["summary.json"]
    assert tree(outputs.inference_result.uri) == []
    assert tree(outputs.failed_examples.uri) == []
    assert outputs.failed_examples.split_names == "[]"


def test_skip_reads_no_examples(outputs, inputs, tmp_path):
    gone = artifact(Examples, tmp_path / "gone", ["unlabelled"])

    execute(outputs, {**inputs, "examples": gone}, required_blessings="model_blessing")

    assert gate_of(outputs) == NOT_BLESSED


def test_fail_raises_with_the_reason_and_the_cure(outputs, inputs, tmp_path):
    refused = artifact(ModelBlessing, tmp_path, blessed=0, current_model_id=7)

    with pytest.raises(GateError) as raised:
        execute(
            outputs, {**inputs, "model_blessing": refused}, model_spec=ModelSpec(gate_policy=FAIL)
        )

    assert str(raised.value) == (
        f"The model_blessing at {tmp_path} says that the model is not blessed. Nothing was "
        "scored; set ModelSpec.gate_policy to SKIP to let the pipeline go on, or to IGNORE to "
        "score all the same."
    )
    assert [tree(made.uri) for made in outputs if made] == [[], [], []]


def test_ignore_scores_and_records_that_the_model_was_not_blessed(outputs, inputs, tmp_path):
    refused = artifact(ModelBlessing, tmp_path, blessed=0, current_model_id=7)

    execute(
        outputs, {**inputs, "model_blessing": refused}, model_spec=ModelSpec(gate_policy=IGNORE)
    )

    assert gate_of(outputs) == NOT_BLESSED
    assert Summary.read(outputs.summary.uri).gate == NOT_BLESSED
    assert scored(outputs.inference_result) == five_times(10, 11)


@pytest.mark.parametrize("policy", [SKIP, FAIL, IGNORE])
def test_policy_does_not_matter_without_a_blessing_asked_for(outputs, inputs, policy):
    execute(outputs, inputs, model_spec=ModelSpec(gate_policy=policy))

    assert gate_of(outputs) == NO_BLESSING
    assert scored(outputs.inference_result) == five_times(10, 11)
