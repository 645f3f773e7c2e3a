"""BranchInferencer and CascadeInferencer as a pipeline's author calls them. Nothing is run here."""

from __future__ import annotations

import pytest
from google.protobuf import json_format
from tfx import v1 as tfx
from tfx.dsl.compiler import compiler
from tfx.orchestration import data_types
from tfx.proto import bulk_inferrer_pb2
from tfx.types import Channel
from tfx.types.standard_artifacts import (
    Examples,
    InferenceResult,
    Model,
    ModelBlessing,
    PushedModel,
    Schema,
)
from tfx.utils import json_utils

from bulk_inferencer import BranchInferencer, CascadeInferencer, InferenceSummary, ModelComparison
from bulk_inferencer import bulk_inferencer_pb2 as our
from bulk_inferencer.errors import SettingsError
from tests.tfx_helpers import importer

SPLIT = our.Routing(split=our.SplitRouting(weights={"five": 1, "ten": 1}, split_key="user"))
ENDPOINT = our.ModelSpec(
    tf_serving=our.TFServingSpec(address="serving.example.com:8500", model_name="five_times")
)


def channel(kind):
    return Channel(type=kind)


def models():
    return {"five": channel(Model), "ten": channel(PushedModel)}


def branch(**arguments):
    return BranchInferencer(**{"examples": channel(Examples), "models": models(), **arguments})


def stages(**of_five):
    return [our.StageSpec(name="five", **of_five), our.StageSpec(name="ten")]


def cascade(**arguments):
    defaults = {"examples": channel(Examples), "models": models(), "stages": stages()}
    return CascadeInferencer(**{**defaults, **arguments})


def message_of(made, name, kind):
    return json_format.Parse(made.exec_properties[name], kind())


def columns(output="y", name="y5", **fields):
    predict = our.PredictOutput(
        output_columns=[our.PredictOutputCol(output_key=output, output_column=name)]
    )
    return our.OutputColumnsSpec(predict_output=predict, **fields)


def columns_spec(*args, **fields):
    return our.OutputExampleSpec(output_columns_spec=[columns(*args, **fields)])


def assert_refused(make, message, **arguments):
    with pytest.raises(SettingsError) as raised:
        make(**arguments)
    assert str(raised.value) == message


# Channels


def test_each_model_and_blessing_has_an_input_and_each_model_an_output():
    given, blessing = models(), channel(ModelBlessing)
    made = branch(models=given, model_blessings={"five": blessing})
    assert made.inputs["model_five"] is given["five"]
    assert made.inputs["model_ten"] is given["ten"]
    assert made.inputs["blessing_five"] is blessing
    assert {key: out.type for key, out in made.outputs.items()} == {
        "five": InferenceResult,
        "ten": InferenceResult,
        "summary": InferenceSummary,
        "failed_examples": Examples,
        "comparison": ModelComparison,
    }
    assert made.exec_properties["model_names"] == "five,ten"
    assert made.exec_properties["required_blessings"] == "five"


def test_instances_do_not_share_their_channels():
    one, other = branch(), branch(models={"six": channel(Model)})
    assert set(one.inputs) == {"examples", "model_five", "model_ten"}
    assert set(other.inputs) == {"examples", "model_six"}
    assert set(other.outputs) == {"six", "summary", "failed_examples"}


def test_examples_of_several_channels_have_an_input_each():
    for make in (branch, cascade):
        made = make(examples=[channel(Examples), channel(Examples)])
        assert set(made.inputs) == {"examples", "examples_1", "model_five", "model_ten"}


def test_ab_test_has_a_comparison_only_with_outcomes():
    assert "comparison" not in branch(routing=SPLIT).outputs
    outcomes = our.ComparisonSpec(outcomes="outcomes.csv")
    assert "comparison" in branch(routing=SPLIT, comparison_spec=outcomes).outputs


def test_output_examples_are_an_output_where_columns_are_named():
    for make in (branch, cascade):
        assert "output_examples" not in make().outputs
        assert make(output_example_spec=columns_spec()).outputs["output_examples"].type is Examples


def test_cascade_has_the_outputs_of_bulk_inferencer():
    made = cascade(model_blessings={"ten": channel(ModelBlessing)})
    assert set(made.inputs) == {"examples", "model_five", "model_ten", "blessing_ten"}
    assert {key: out.type for key, out in made.outputs.items()} == {
        "inference_result": InferenceResult,
        "summary": InferenceSummary,
        "failed_examples": Examples,
    }


def test_model_behind_an_endpoint_needs_no_channel():
    made = branch(models={"ten": channel(Model)}, model_specs={"five": ENDPOINT})
    assert set(made.inputs) == {"examples", "model_ten"}
    assert {"five", "ten"} <= set(made.outputs)
    assert isinstance(made.spec.exec_properties["run_id"], data_types.RuntimeParameter)
    made = cascade(models={"ten": channel(Model)}, stages=stages(model_spec=ENDPOINT))
    assert set(made.inputs) == {"examples", "model_ten"}
    assert isinstance(made.spec.exec_properties["run_id"], data_types.RuntimeParameter)
    assert "run_id" not in branch().spec.exec_properties


# Settings


def test_settings_are_carried_as_json():
    comparison_spec = our.ComparisonSpec(key_features=["x"], most_different=3)
    made = branch(
        routing=SPLIT,
        data_spec=our.DataSpec(example_splits=["a"]),
        model_specs={"ten": our.ModelSpec(model_signature_name=["sum"])},
        comparison_spec=comparison_spec,
    )
    assert message_of(made, "routing", our.Routing) == SPLIT
    assert message_of(made, "data_spec", our.DataSpec).example_splits == ["a"]
    assert message_of(made, "comparison_spec", our.ComparisonSpec) == comparison_spec
    specs = message_of(made, "model_specs", our.ModelSpecs).models
    assert {name: list(spec.model_signature_name) for name, spec in specs.items()} == {
        "five": [],
        "ten": ["sum"],
    }


def test_stages_are_carried_in_their_order():
    given = [our.StageSpec(name="ten"), our.StageSpec(name="five")]
    made = cascade(stages=given)
    assert list(message_of(made, "cascade_spec", our.CascadeSpec).stages) == given


def test_tfxs_messages_are_accepted():
    theirs = bulk_inferrer_pb2.ModelSpec(model_signature_name=["sum"])
    made = branch(model_specs={"five": theirs}, data_spec=bulk_inferrer_pb2.DataSpec())
    spec = message_of(made, "model_specs", our.ModelSpecs).models["five"]
    assert spec.model_signature_name == ["sum"]


@pytest.mark.parametrize("make", [branch, cascade])
def test_data_spec_may_be_a_runtime_parameter(make):
    parameter = data_types.RuntimeParameter(name="data", ptype=str)
    assert make(data_spec=parameter).spec.exec_properties["data_spec"] is parameter


# Names


@pytest.mark.parametrize("name", ["Five", "5", "_five", "fünf", "five-times", "", "five times"])
def test_name_that_cannot_stand_in_a_channel_is_refused(name):
    message = (
        f"Expected the name of a model to be lower-case letters, digits and underscores, and to "
        f"begin with a letter, got {name!r}. Rename it."
    )
    assert_refused(branch, message, models={name: channel(Model)})


@pytest.mark.parametrize(
    "name",
    ["summary", "examples", "comparison", "inference_result", "failed_examples", "routing",
     "output_examples", "prediction_table", "model", "pushed_model", "required_blessings",
     "run_id", "names", "specs", "self", "model_five", "blessing_five", "examples_1", "data_spec",
     "model_specs"],
)  # fmt: skip
def test_name_of_a_channel_or_setting_is_refused(name):
    message = (
        f"Expected the name of a model to be none of the component's own, got '{name}'; these "
        f"are: examples, model, pushed_model, inference_result, summary, failed_examples, "
        f"output_examples, comparison, prediction_table, names, specs, self, routing, "
        f"required_blessings, run_id, what begins with blessing_, examples_, model_, and what ends "
        f"with _spec, _specs. Rename the model."
    )
    assert_refused(branch, message, models={name: channel(Model)})


def test_every_channel_and_setting_of_the_components_is_reserved():
    for made in (branch(output_example_spec=columns_spec()), cascade()):
        keys = {*made.spec.INPUTS, *made.spec.OUTPUTS, *made.spec.PARAMETERS} - {"five", "ten"}
        for key in keys:
            with pytest.raises(SettingsError, match=r"^Expected the name of a model to be none of"):
                branch(models={key: channel(Model)})


# What is refused


@pytest.mark.parametrize("make", [branch, cascade])
@pytest.mark.parametrize("argument", ["models", "model_blessings"])
def test_models_have_to_be_named(make, argument):
    message = f"Expected {argument} by the models' names, got list. Name them: {{'five': ...}}."
    assert_refused(make, message, **{argument: [channel(Model)]})


def test_settings_of_models_have_to_be_named():
    message = "Expected model_specs by the models' names, got ModelSpec. Name them: {'five': ...}."
    assert_refused(branch, message, model_specs=our.ModelSpec())


def test_stages_have_to_be_a_list():
    message = (
        "Expected a list of bulk_inferencer_pb2.StageSpec as stages, got StageSpec. Put the stages "
        "into a list, in their order."
    )
    assert_refused(cascade, message, stages=our.StageSpec(name="five"))


def test_no_input_of_a_model_is_a_property_or_channel_of_the_component():
    for made in (branch(output_example_spec=columns_spec()), cascade()):
        for key in {*made.spec.PARAMETERS, *made.spec.OUTPUTS} - {"five", "ten"}:
            for prefix in ("model_", "blessing_"):
                if key.startswith(prefix):
                    with pytest.raises(SettingsError, match=r"^Expected the name of a model to be"):
                        branch(models={key.removeprefix(prefix): channel(Model)})


def test_column_of_the_name_of_the_variant_is_refused():
    message = (
        "Expected no column 'variant' in OutputExampleSpec, since the name of the model stands in "
        "that feature. Choose another name."
    )
    spec = columns_spec("y", "variant")
    assert_refused(branch, message, routing=SPLIT, output_example_spec=spec)


def test_at_least_one_model_is_needed():
    message = "Expected at least one model in models, got none. Name the models."
    assert_refused(branch, message, models={})
    message = "Expected at least one stage, got none. Name the models in order."
    assert_refused(cascade, message, models={}, stages=[])


@pytest.mark.parametrize(
    ("given", "got"), [(Channel(type=Schema), "Schema"), ("model", "str"), (None, "NoneType")]
)
def test_model_of_another_type_is_refused(given, got):
    message = (
        f"Expected a channel of Model or PushedModel as models['five'], got {got}. Take it from a "
        f"Trainer, Pusher, Importer or Resolver."
    )
    assert_refused(branch, message, models={"five": given})


def test_blessing_of_another_type_is_refused():
    message = (
        "Expected a channel of ModelBlessing as model_blessings['five'], got Model. Take it from "
        "an Evaluator, Importer or Resolver."
    )
    assert_refused(branch, message, model_blessings={"five": channel(Model)})


def test_blessing_of_no_model_is_refused():
    message = (
        "Expected the names in model_blessings to be among five, ten, got 'six'. Use the same "
        "names everywhere."
    )
    for make in (branch, cascade):
        assert_refused(make, message, model_blessings={"six": channel(ModelBlessing)})


def test_blessing_of_an_endpoint_without_a_model_is_refused():
    message = (
        "Expected a channel for model 'five' in models, for its blessing to bless, got none. Give "
        "it beside the endpoint."
    )
    assert_refused(
        branch,
        message,
        models={"ten": channel(Model)},
        model_specs={"five": ENDPOINT},
        model_blessings={"five": channel(ModelBlessing)},
    )


def test_settings_of_no_model_are_refused():
    message = (
        "Expected the names in model_specs to be among five, ten, got 'six'. Use the same names "
        "everywhere; only a model with an endpoint needs no channel in models."
    )
    assert_refused(branch, message, model_specs={"six": our.ModelSpec()})


def test_stage_without_a_model_and_model_without_a_stage_are_refused():
    message = (
        "Expected a channel for model 'ten' in models, got them for five. Give one; only an "
        "endpoint in its ModelSpec can stand in for it."
    )
    assert_refused(cascade, message, models={"five": channel(Model)})
    message = (
        "Expected the names in models to be among five, got 'ten'. Use the same names everywhere."
    )
    assert_refused(cascade, message, stages=[our.StageSpec(name="five")])


def test_message_of_another_type_is_refused():
    message = (
        "Expected bulk_inferencer_pb2.Routing as routing, got ModelSpec. A runtime parameter "
        "cannot say it either: it has to be known while the pipeline is being built."
    )
    assert_refused(branch, message, routing=our.ModelSpec())
    message = (
        "Expected bulk_inferencer_pb2.StageSpec as stages, got str. A runtime parameter cannot say "
        "it either: it has to be known while the pipeline is being built."
    )
    assert_refused(cascade, message, stages=["five"])


def test_weights_have_to_be_of_the_models():
    message = (
        "Expected weights of SplitRouting for the models five, ten, got them for five. Use the "
        "same names."
    )
    routing = our.Routing(split=our.SplitRouting(weights={"five": 1}))
    assert_refused(branch, message, routing=routing)


def test_weight_has_to_be_positive():
    message = (
        "Expected a positive number as weight of model 'five', got 0.0. Leave out a model that is "
        "to get no records."
    )
    routing = our.Routing(split=our.SplitRouting(weights={"five": 0, "ten": 1}))
    assert_refused(branch, message, routing=routing)


def test_outcomes_need_an_ab_test_with_a_key():
    outcomes = our.ComparisonSpec(outcomes="outcomes.csv")
    message = (
        "Expected Routing.split beside ComparisonSpec.outcomes, got none: only where each record "
        "goes to one model do outcomes tell the models apart."
    )
    assert_refused(branch, message, comparison_spec=outcomes)
    message = (
        "Expected a split_key to find the outcomes of outcomes.csv by, got none. Name the feature "
        "that holds the key in SplitRouting.split_key."
    )
    routing = our.Routing(split=our.SplitRouting(weights={"five": 1, "ten": 1}))
    assert_refused(branch, message, routing=routing, comparison_spec=outcomes)


def test_number_of_records_to_keep_is_checked():
    message = (
        "Expected ComparisonSpec.most_different to be at least 0, got -1. Set it to how many "
        "records to show; 0 shows none."
    )
    assert_refused(branch, message, comparison_spec=our.ComparisonSpec(most_different=-1))


def test_columns_have_to_come_from_the_same_outputs_of_all_models():
    message = (
        "Expected the columns of OutputExampleSpec to come from the same outputs of all models, "
        "got sum/y and y. Call as many signatures of each model."
    )
    specs = {
        "five": our.ModelSpec(model_signature_name=["sum", "product"]),
        "ten": our.ModelSpec(model_signature_name=["sum"]),
    }
    assert_refused(
        branch,
        message,
        model_specs=specs,
        output_example_spec=columns_spec(signature_name="sum"),
    )


def test_exits_are_checked():
    message = (
        "Expected at_least, at_most or both for the exit on output 'y', got neither. Say which "
        "values settle a record."
    )
    assert_refused(cascade, message, stages=stages(exit_when=[our.ExitWhen(output_key="y")]))
    message = (
        "Expected at_least to be no larger than at_most for the exit on output 'y', got 2.0 and "
        "1.0. For two ranges, give two exits."
    )
    exit_when = our.ExitWhen(output_key="y", at_least=2, at_most=1)
    assert_refused(cascade, message, stages=stages(exit_when=[exit_when]))


def test_last_stage_can_have_no_exit():
    message = (
        "Expected the last stage, 'ten', without columns and exits, since no stage follows it. "
        "Leave them out, or add a stage."
    )
    last = our.StageSpec(name="ten", output_columns_spec=columns())
    assert_refused(cascade, message, stages=[our.StageSpec(name="five"), last])


def test_bounds_of_a_stage_are_checked():
    message = (
        "Expected a bound of at least 1, got -1 in BatchSpec.max_records. Leave it out for the "
        "default."
    )
    spec = our.ModelSpec(batch=our.BatchSpec(max_records=-1))
    assert_refused(cascade, message, stages=stages(model_spec=spec))
    assert_refused(branch, message, model_specs={"five": spec})


@pytest.mark.parametrize(
    ("make", "arguments", "name"),
    [
        (branch, {"comparison_spec": our.ComparisonSpec(outcomes="{{ds}}")}, "comparison_spec"),
        (
            branch,
            {"model_specs": {"five": our.ModelSpec(tag=["{{ds}}"])}},
            "model_specs['five']",
        ),
        (cascade, {"stages": stages(output_columns_spec=columns("{{ds}}"))}, "stages"),
    ],
)
def test_marks_that_airflow_would_render_are_refused(make, arguments, name):
    message = (
        f"Expected no template mark in {name}, got '{{{{' in '{{{{ds}}}}': Airflow would render "
        f"it. Rename what it names."
    )
    assert_refused(make, message, **arguments)


# TFX's own ways to carry a component


@pytest.mark.parametrize("make", [branch, cascade])
def test_component_survives_tfxs_json(make):
    made = make(examples=[channel(Examples), channel(Examples)])
    found = json_utils.loads(json_utils.dumps(made))
    assert dict(found.exec_properties) == dict(made.exec_properties)
    assert set(found.inputs) == set(made.inputs)
    assert set(found.outputs) == set(made.outputs)


def test_pipeline_compiles_to_tfxs_intermediate_representation():
    examples = importer("examples", Examples, "in", ["all"])
    nodes = {name: importer(name, Model, name) for name in ("five", "ten")}
    channels = {name: node.outputs["result"] for name, node in nodes.items()}
    made = [
        branch(examples=examples.outputs["result"], models=channels),
        cascade(examples=examples.outputs["result"], models=channels),
    ]
    pipeline = tfx.dsl.Pipeline("name", "root", components=[examples, *nodes.values(), *made])
    compiled = compiler.Compiler().compile(pipeline)
    by_id = {node.pipeline_node.node_info.id: node.pipeline_node for node in compiled.nodes}
    assert set(by_id["BranchInferencer"].outputs.outputs) == {
        "five",
        "ten",
        "summary",
        "failed_examples",
        "comparison",
    }
    assert set(by_id["CascadeInferencer"].inputs.inputs) == {"examples", "model_five", "model_ten"}
