"""BranchInferencer as a pipeline's author calls it; see test_channels.py for what all share."""

from __future__ import annotations

import pytest
from google.protobuf import json_format
from tfx.proto import bulk_inferrer_pb2 as theirs
from tfx.types.standard_artifacts import Examples, InferenceResult, Model, ModelBlessing

from bulk_inferencer import InferenceSummary, ModelComparison
from bulk_inferencer import bulk_inferencer_pb2 as our
from bulk_inferencer.errors import SettingsError
from tests.components.tfx_helpers import (
    branch,
    channel,
    columns_spec,
    message_of,
    models,
    types_of,
)

WEIGHTS = {"five": 1, "ten": 1}
SPLIT = our.Routing(split={"weights": WEIGHTS, "split_key": "user"})
CALLED_TWICE = our.ModelSpec(model_signature_name=["a", "b"])
Y_OF_A = columns_spec("a", y="y")
OUTCOMES = our.ComparisonSpec(outcomes="outcomes.csv")


def test_each_model_and_blessing_has_an_input_and_each_model_an_output():
    given, blessing = models(), channel(ModelBlessing)

    made = branch(models=given, model_blessings={"five": blessing})

    assert made.inputs["model_five"] is given["five"]
    assert made.inputs["model_ten"] is given["ten"]
    assert made.inputs["blessing_five"] is blessing
    assert types_of(made.outputs) == {
        "five": InferenceResult,
        "ten": InferenceResult,
        "summary": InferenceSummary,
        "failed_examples": Examples,
        "comparison": ModelComparison,
    }
    assert made.exec_properties["model_names"] == "five,ten"
    assert made.exec_properties["required_blessings"] == "five"


def test_models_are_compared_where_there_are_several_or_outcomes_of_an_ab_test():
    assert "comparison" not in branch(routing=SPLIT).outputs
    assert "comparison" in branch(routing=SPLIT, comparison_spec=OUTCOMES).outputs
    assert "comparison" not in branch(models={"five": channel(Model)}).outputs


def test_settings_are_carried_as_json():
    comparison_spec = our.ComparisonSpec(key_features=["x"], most_different=3)
    sum_of_tfx = theirs.ModelSpec(model_signature_name=["sum"])
    made = branch(routing=SPLIT, model_specs={"ten": sum_of_tfx}, comparison_spec=comparison_spec)
    assert message_of(made, "routing", our.Routing) == SPLIT
    assert message_of(made, "comparison_spec", our.ComparisonSpec) == comparison_spec
    specs = message_of(made, "model_specs", our.ModelSpecs).models
    assert specs["five"] == our.ModelSpec()
    assert specs["ten"] == our.ModelSpec(model_signature_name=["sum"])
    as_dicts = branch(
        routing=json_format.MessageToDict(SPLIT),
        model_specs={"ten": json_format.MessageToJson(sum_of_tfx)},
        comparison_spec=json_format.MessageToJson(comparison_spec),
    )
    assert as_dicts.exec_properties == made.exec_properties


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"models": {}}, r"^models is empty\. Give at least one model\.$"),
        ({"routing": our.Routing(split={"weights": {"five": 1}})}, "weights.* five, ten"),
        ({"comparison_spec": OUTCOMES}, "split_key"),
        (
            {"comparison_spec": OUTCOMES, "routing": our.Routing(split={"weights": WEIGHTS})},
            "split_key",
        ),
        ({"routing": SPLIT, "output_example_spec": columns_spec(variant="y")}, "'variant'"),
        (
            {"model_specs": {"five": CALLED_TWICE}, "output_example_spec": Y_OF_A},
            "name is 'a', but",
        ),
    ],
)
def test_settings_that_contradict_one_another_are_refused_at_construction(arguments, message):
    with pytest.raises(SettingsError, match=message):
        branch(**arguments)
