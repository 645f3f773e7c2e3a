"""Blessings that models get from their predictions: how they are asked for, and what is written."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2
from tfx.types.standard_artifacts import InferenceResult, Model, ModelBlessing

from bulk_inferencer import Expectations, OutputExpectations, reports
from bulk_inferencer import bulk_inferencer_pb2 as our
from bulk_inferencer._gate import BLESSED, NO_MODEL, NOT_BLESSED, Decision
from bulk_inferencer.components import (
    gated_model,
    kubeflow_entrypoint,
    kubeflow_names,
    prediction_gate,
    settings,
)
from bulk_inferencer.components.executor import Executor
from bulk_inferencer.components.gated_model import GatedModel
from bulk_inferencer.results.checks import Check
from bulk_inferencer.results.summary import BranchSummary, Counts
from tests.components.tfx_helpers import (
    ENDPOINT,
    UNLABELLED,
    artifact,
    assert_refused,
    branch,
    bulk,
    cascade,
    channel,
    custom_properties,
    five_times,
    make_outputs,
    message_of,
    parameter,
    scored,
    stages,
    types_of,
)
from tests.helpers import tree

RESULTS = channel(InferenceResult)
Y = {"outputs": {"y": {"maximum": 55}}}
NEAR = {"outputs": {"y": {"max_drift": 0.1}}}
DRIFT_NEEDS = (
    "OutputExpectations.max_drift needs earlier results to compare with. Give {}, a channel of "
    "InferenceResult, for example of a Resolver; it may be empty at first."
)
NO_ARTIFACT = (
    "expectations are given, but no model that could be blessed for meeting them: what an endpoint "
    "serves is no artifact. Give the model as well as the endpoint, or leave out expectations."
)

# How they are asked for


def blessings(component):
    return [key for key, kind in types_of(component.outputs).items() if kind is ModelBlessing]


def test_there_is_a_blessing_for_each_model_of_which_something_is_expected():
    for make in (bulk, branch, cascade):
        assert blessings(make()) == []
        assert "expectations" not in make().exec_properties
    assert blessings(bulk(expectations={})) == ["prediction_blessing"]
    assert blessings(branch(expectations={"ten": Y})) == ["prediction_blessing_ten"]
    both = ["prediction_blessing_five", "prediction_blessing_ten"]
    assert blessings(cascade(expectations=Y)) == both
    served = {"models": {"ten": channel(Model)}, "stages": stages(model_spec=ENDPOINT)}
    assert blessings(cascade(expectations=Y, **served)) == ["prediction_blessing_ten"]


def test_earlier_results_are_an_input_which_may_be_empty():
    for made, key in (
        (bulk(expectations=NEAR, baseline=RESULTS), "baseline"),
        (cascade(baseline=RESULTS), "baseline"),
        (branch(expectations={"ten": NEAR}, baselines={"ten": RESULTS}), "baseline_ten"),
    ):
        assert made.inputs[key] is RESULTS
        assert made.spec.is_allow_empty_input(key)


QUANTILES = {0.5: (1.0, math.inf), 0.9: (-math.inf, 9.0)}
SHARES = {"cat": (0.0, 0.5), "dog": (0.25, 1.0)}
MEANT = Expectations(
    outputs={"y": OutputExpectations(minimum=0, quantiles=QUANTILES, class_shares=SHARES)},
    max_failed_fraction=0,
    min_records=3,
)
AS_DICT = {
    "max_failed_fraction": 0,
    "min_records": 3,
    "outputs": {
        "y": {
            "minimum": 0,
            "quantiles": {0.5: (1, None), 0.9: {"at_most": 9}},
            "class_shares": {"cat": [0, 0.5], "dog": [0.25, None]},
        }
    },
}
AS_MESSAGE = our.Expectations(
    max_failed_fraction=0,
    min_records=3,
    outputs={
        "y": our.OutputExpectations(
            minimum=0,
            quantiles={"0.5": our.Bounds(at_least=1), "0.9": our.Bounds(at_most=9)},
            class_shares={
                "cat": our.Bounds(at_least=0, at_most=0.5),
                "dog": our.Bounds(at_least=0.25),
            },
        )
    },
)


@pytest.mark.parametrize(
    "given",
    [MEANT, AS_DICT, json.dumps(AS_DICT), AS_MESSAGE, json_format.MessageToJson(AS_MESSAGE)],
    ids=["dataclass", "dict", "JSON", "message", "JSON of the message"],
)
def test_expectations_are_the_same_however_they_are_written(given):
    spec = message_of(bulk(expectations=given), "expectations", our.Expectations)
    assert settings.expectations(spec) == MEANT
    made = branch(expectations={"ten": given}).exec_properties
    assert prediction_gate.expectations_of_several(made) == {"ten": MEANT}


def test_expectations_may_be_known_only_when_the_pipeline_runs():
    made = bulk(expectations=parameter(json.dumps(AS_DICT)))
    assert blessings(made) == ["prediction_blessing"]
    properties = {"expectations": made.exec_properties["expectations"].default}
    assert prediction_gate.expectations_of_one(properties) == MEANT
    assert prediction_gate.expectations_of_one({}) is None


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (bulk, {"model_export": None, "model_spec": ENDPOINT, "expectations": Y}, NO_ARTIFACT),
        (
            branch,
            {
                "models": {"ten": channel(Model)},
                "model_specs": {"five": ENDPOINT},
                "expectations": {"five": Y},
            },
            (
                "expectations has an entry for 'five', but models has none: what an endpoint "
                "serves is no artifact that could be blessed. Give the model as well as the "
                "endpoint, or leave out what is expected of it."
            ),
        ),
        (
            branch,
            {"expectations": {"tne": Y}},
            (
                "expectations has an entry for 'tne', but the models are five, ten. Did you mean "
                "'ten'? Use the same names everywhere."
            ),
        ),
        (
            branch,
            {"baselines": {"six": RESULTS}},
            (
                "baselines has an entry for 'six', but the models are five, ten. Use the same "
                "names everywhere."
            ),
        ),
        (
            branch,
            {"expectations": Expectations()},
            (
                "expectations must be a dict keyed by model name, such as {'five': ...}, not an "
                "Expectations."
            ),
        ),
        (bulk, {"expectations": NEAR}, DRIFT_NEEDS.format("baseline")),
        (branch, {"expectations": {"ten": NEAR}}, DRIFT_NEEDS.format("baselines['ten']")),
        (
            bulk,
            {"baseline": channel(Model)},
            (
                "baseline must be a channel of InferenceResult, not Model. Take it from a "
                "Resolver, an Importer or another inferencer."
            ),
        ),
        (
            cascade,
            {"expectations": {"baseline_model": "five", "outputs": {"y": {"min_agreement": 1}}}},
            (
                "Expectations.baseline_model is 'five', but there are no models side by side. "
                "Leave it out, or use a BranchInferencer."
            ),
        ),
        (
            bulk,
            {"expectations": {"outputs": {"y": {"minimum": 2, "maximum": 1}}}},
            (
                "Output 'y': OutputExpectations.minimum is at least 2, but "
                "OutputExpectations.maximum is at most 1, so no predictions can meet both. Change "
                "one of them."
            ),
        ),
    ],
)
def test_expectations_that_cannot_work_are_refused_while_the_pipeline_is_built(
    make, arguments, message
):
    assert_refused(message, make, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"expectations": {"ten": {"outputs": {"y": {"minimun": 1}}}}}, 'no field named "minimun"'),
        ({"expectations": {"ten": "{"}}, r"^expectations\['ten'\] must be JSON of bulk_inferencer"),
        (
            {
                "routing": our.Routing(split={"weights": {"five": 1, "ten": 1}}),
                "expectations": {
                    "ten": {"baseline_model": "five", "outputs": {"y": {"min_agreement": 1}}}
                },
            },
            "in an A/B test no record goes to both models",
        ),
    ],
)
def test_mistakes_in_what_is_expected_of_several_are_found_early(arguments, message):
    with pytest.raises(ValueError, match=message):
        branch(**arguments)


# What is written

MET, UNMET = Check("y", "there", "there", True), Check("y", "there", "missing", False)
LET_THROUGH = Decision(BLESSED, "The Evaluator blessed it.")
OVERRULED = Decision(NOT_BLESSED, "The Evaluator did not.", is_overruled=True)
SOME = {"all": Counts(1, 1)}


@pytest.mark.parametrize(
    ("summary", "blessed"),
    [
        (BranchSummary(SOME, LET_THROUGH, "", checks=(MET,)), 1),
        (BranchSummary(SOME, LET_THROUGH, "", checks=(MET, UNMET)), 0),
        (BranchSummary(SOME, LET_THROUGH, ""), 0),
        (BranchSummary({"all": Counts(1, 0, 1)}, LET_THROUGH, "", checks=(MET,)), 0),
        (BranchSummary(SOME, OVERRULED, "", checks=(MET,)), 0),
        (BranchSummary({}, Decision(NO_MODEL, "None yet."), "", checks=(UNMET,)), 0),
    ],
    ids=["met", "unmet", "nothing expected", "nothing predicted", "overruled", "no model"],
)
def test_blessing_is_like_that_of_the_evaluator(summary, blessed, model, tmp_path):
    given = GatedModel("", our.ModelSpec(), model, (), summary.gate)
    blessing = artifact(ModelBlessing, tmp_path / "new" / "blessing")

    prediction_gate.bless({"prediction_blessing": [blessing]}, [given], summary)

    assert custom_properties(blessing.mlmd_artifact) == {
        "blessed": blessed,
        "current_model": model.uri,
        "current_model_id": 7,
    }
    assert tree(blessing.uri) == ["BLESSED" if blessed else "NOT_BLESSED"]
    # Our own gate takes it.
    read = gated_model.read({"model": [model], "model_blessing": [blessing]}, {}, our.ModelSpec())
    assert read.decision.verdict == ("blessed" if blessed else "not_blessed")


def test_blessing_without_a_model_names_none(tmp_path):
    absent = GatedModel("five", our.ModelSpec(), None, (), Decision(NO_MODEL, "None yet."))
    blessing = artifact(ModelBlessing, tmp_path)
    summary = BranchSummary({}, absent.decision, "", checks=(UNMET,))
    prediction_gate.bless({"prediction_blessing_five": [blessing]}, [absent], summary)
    assert custom_properties(blessing.mlmd_artifact) == {"blessed": 0}


def test_blessing_on_kubeflow_has_the_models_name_there(model, tmp_path, monkeypatch):
    monkeypatch.setattr(kubeflow_names, "_name_of_uri", {})
    execution = pipeline_spec_pb2.ExecutorInput()
    name = "projects/1/locations/l/metadataStores/default/artifacts/9"
    of_model = pipeline_spec_pb2.ArtifactTypeSchema(schema_title="tfx.Model")
    execution.inputs.artifacts["model"].artifacts.add(uri=model.uri, name=name, type=of_model)
    given = json_format.MessageToJson(execution)
    kubeflow_entrypoint.restore_arguments(["--json_serialized_invocation_args", given])

    blessing = artifact(ModelBlessing, tmp_path)
    summary = BranchSummary(SOME, LET_THROUGH, "", checks=(MET,))
    models = [GatedModel("", our.ModelSpec(), model, (), LET_THROUGH)]
    prediction_gate.bless({"prediction_blessing": [blessing]}, models, summary)

    assert custom_properties(blessing.mlmd_artifact)["current_model_id"] == name


# The executor


def execute(folder, inputs, **properties):
    """Calls the executor; returns the outputs and the blessing."""
    outputs, blessing = make_outputs(folder), artifact(ModelBlessing, folder / "blessing")
    output_dict = {
        **{key: [made] for key, made in outputs._asdict().items()},
        "prediction_blessing": [blessing],
    }
    for key in ("output_examples", "prediction_table"):
        del output_dict[key]
    properties = {"data_spec": json_format.MessageToJson(UNLABELLED), **properties}
    Executor().Do({key: [value] for key, value in inputs.items()}, output_dict, properties)
    return outputs, custom_properties(blessing.mlmd_artifact)["blessed"]


def test_executor_judges_and_leaves_a_report_and_statistics(inputs, tmp_path):
    first, blessed = execute(tmp_path / "first", inputs, expectations=json.dumps(Y))
    assert blessed == 1
    added = {"report.html", "statistics.json", "stats.tfrecord"}
    assert added <= set(tree(first.summary.uri))

    given = {**inputs, "baseline": first.inference_result}
    near = json.dumps({"outputs": {"y": {"max_drift": 0, "maximum": 54}}})
    second, blessed = execute(tmp_path / "second", given, expectations=near)
    assert blessed == 0
    checks = json.loads(Path(second.summary.uri, "summary.json").read_text())["checks"]
    assert [(check["found"], check["is_met"]) for check in checks[1:]] == [
        ("55", False),
        ("0", True),
    ]


def test_report_is_left_out_on_request_and_never_a_reason_to_lose_results(
    inputs, tmp_path, monkeypatch, caplog
):
    spec = our.DataSpec(example_splits=["unlabelled"], report=False)
    without, _ = execute(tmp_path / "off", inputs, data_spec=json_format.MessageToJson(spec))
    assert "report.html" not in tree(without.summary.uri)

    def fail(*_args, **_named):
        raise RuntimeError("no fonts")

    monkeypatch.setattr(reports, "write", fail)
    failed, _ = execute(tmp_path / "failed", inputs)
    assert scored(failed.inference_result) == five_times(10, 11)
    path = f"{failed.summary.uri}/report.html"
    assert (
        f"The results are complete, but their report {path} could not be written. Set "
        f"DataSpec.report to false to do without it."
    ) in caplog.messages
    assert "no fonts" in caplog.text
