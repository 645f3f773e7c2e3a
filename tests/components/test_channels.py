"""What the components have in common, as a pipeline's author calls them. Nothing is run here."""

from __future__ import annotations

import inspect
import json
import re

import pytest
from google.protobuf import json_format
from tfx import v1 as tfx
from tfx.orchestration.data_types import RuntimeParameter
from tfx.types.standard_artifacts import (
    Examples,
    InferenceResult,
    Model,
    ModelBlessing,
    Schema,
)
from tfx.utils import import_utils, json_utils

import bulk_inferencer
from bulk_inferencer import PredictionTable
from bulk_inferencer import bulk_inferencer_pb2 as our
from bulk_inferencer.errors import SettingsError
from tests.components.tfx_helpers import (
    ENDPOINT,
    assert_refused,
    branch,
    bulk,
    cascade,
    channel,
    columns_spec,
    message_of,
    models,
    parameter,
    stages,
    types_of,
)

COMPONENTS = pytest.mark.parametrize("make", [bulk, branch, cascade])
BLESSINGS = {"five": channel(ModelBlessing)}
FIVE_IS_SERVED = {
    branch: {"models": {"ten": channel(Model)}, "model_specs": {"five": ENDPOINT}},
    cascade: {"models": {"ten": channel(Model)}, "stages": stages(model_spec=ENDPOINT)},
}


@COMPONENTS
def test_each_channel_of_examples_has_an_input_of_its_own(make):
    for as_sequence in (list, tuple):
        channels = as_sequence(channel(Examples) for _ in range(3))
        inputs = make(examples=channels).inputs
        assert tuple(inputs[k] for k in ("examples", "examples_1", "examples_2")) == tuple(channels)
    assert make(examples=channels[:1]).inputs["examples"] is channels[0]


def test_instances_do_not_share_their_channels():
    bulk(examples=[channel(Examples), channel(Examples)])
    assert "examples_1" not in bulk().spec.INPUTS
    branch()
    other = branch(models={"six": channel(Model)})
    assert set(other.inputs) == {"examples", "model_six"}
    assert set(other.outputs) == {"six", "summary", "failed_examples"}


@COMPONENTS
def test_every_channel_may_be_empty_so_that_the_executor_can_say_what_that_means(make):
    blessings = {"model_blessings": BLESSINGS} if make is not bulk else {}
    spec = make(examples=[channel(Examples), channel(Examples)], **blessings).spec
    assert "examples_1" in spec.INPUTS
    assert all(map(spec.is_allow_empty_input, spec.INPUTS))


@pytest.mark.parametrize("make", [branch, cascade])
def test_model_behind_an_endpoint_needs_no_channel(make):
    made = make(**FIVE_IS_SERVED[make])
    assert set(made.inputs) == {"examples", "model_ten"}
    assert isinstance(made.spec.exec_properties["run_id"], RuntimeParameter)
    assert "run_id" not in make().spec.exec_properties


OF_EXAMPLES = (
    "examples must be a channel of Examples, not {}. Take it from an ExampleGen, Transform, "
    "Importer or Resolver."
)
OF_MODEL = (
    "{} must be a channel of Model or PushedModel, not {}. Take it from a Trainer, Pusher, "
    "Importer or Resolver."
)
OF_BLESSING = (
    "model_blessings['five'] must be a channel of ModelBlessing, not Model. Take it from an "
    "Evaluator, Importer or Resolver."
)
BY_NAME = "{} must be a dict keyed by model name, such as {{'five': ...}}, not a list."
SAME_NAMES = "Use the same names everywhere"
UNKNOWN = f"{{}} has an entry for '{{}}', but the models are {{}}. {SAME_NAMES}."
NO_CHANNEL = (
    f"models has no channel for '{{}}', only for {{}}. {SAME_NAMES}; only a model with an endpoint "
    f"needs no channel."
)
BLESSES_NOTHING = (
    "model_blessings has an entry for 'five', but models has none. Give the model that the "
    "blessing is for, as well as the endpoint."
)


@pytest.mark.parametrize(
    ("makes", "arguments", "message"),
    [
        *(
            ([bulk, branch, cascade], {"examples": given}, OF_EXAMPLES.format(got))
            for given, got in [
                (channel(Model), "Model"),
                (None, "NoneType"),
                ([channel(Examples), channel(Schema)], "Schema"),
                ([channel(Examples), "/data"], "str"),
            ]
        ),
        (
            [bulk, branch, cascade],
            {"examples": []},
            "examples is an empty list. Give at least one channel of Examples.",
        ),
        ([bulk], {"model_export": channel(Schema)}, OF_MODEL.format("model_export", "Schema")),
        ([bulk], {"model": "/models/7"}, OF_MODEL.format("model_export", "str")),
        (
            [branch, cascade],
            {"models": {**models(), "five": Model()}},
            OF_MODEL.format("models['five']", "Model"),
        ),
        ([branch, cascade], {"models": [channel(Model)]}, BY_NAME.format("models")),
        ([branch, cascade], {"model_blessings": [1]}, BY_NAME.format("model_blessings")),
        ([branch], {"model_specs": [1]}, BY_NAME.format("model_specs")),
        ([branch, cascade], {"model_blessings": {"five": channel(Model)}}, OF_BLESSING),
        (
            [branch, cascade],
            {"model_blessings": {"six": channel(ModelBlessing)}},
            UNKNOWN.format("model_blessings", "six", "five, ten"),
        ),
        ([cascade], {"stages": stages()[:1]}, UNKNOWN.format("models", "ten", "five")),
        ([cascade], {"models": {"five": channel(Model)}}, NO_CHANNEL.format("ten", "five")),
        (
            [branch],
            {"model_specs": {"six": our.ModelSpec()}},
            NO_CHANNEL.format("six", "five, ten"),
        ),
        *(
            ([make], {**arguments, "model_blessings": BLESSINGS}, BLESSES_NOTHING)
            for make, arguments in FIVE_IS_SERVED.items()
        ),
    ],
)
def test_channel_of_another_type_or_without_a_model_is_refused(makes, arguments, message):
    for make in makes:
        assert_refused(message, make, **arguments)


def test_name_that_cannot_stand_in_a_channel_is_refused():
    with pytest.raises(SettingsError, match="'five-times'"):
        branch(models={"five-times": channel(Model)})
    message = (
        "A model cannot be named 'comparison': the component has names of its own, which are "
        "examples, model, pushed_model, inference_result, summary, failed_examples, "
        "output_examples, comparison, prediction_table, prediction_blessing, routing, "
        "expectations, engine, required_blessings, run_id, names, specs, self, and those that "
        "begin with baseline_, blessing_, examples_, model_, prediction_blessing_ or end with "
        "_spec, _specs. Rename the model."
    )
    assert_refused(message, branch, models={"comparison": channel(Model)})


def test_every_channel_and_setting_of_the_components_is_reserved():
    reserved = {"self", "examples_1", "blessing_five", "data_specs"}
    optional = {"output_example_spec": columns_spec(y5="y"), "table_spec": {}}
    judged = {"expectations": {"five": {}}, "baselines": {"five": channel(InferenceResult)}}
    # A baseline without a model's name is no channel of a component whose outputs are models'.
    for made in (branch(**optional, **judged), cascade()):
        reserved |= {*made.spec.INPUTS, *made.spec.OUTPUTS, *made.spec.PARAMETERS}
        # The input of a model must not have the name of one of them either.
        reserved |= {
            key.removeprefix(prefix)
            for key in {*made.spec.PARAMETERS, *made.spec.OUTPUTS}
            for prefix in ("model_", "blessing_")
        }
    for name in reserved - {"five", "ten", "baseline"}:
        with pytest.raises(SettingsError, match=rf"^A model cannot be named '{name}'"):
            branch(models={name: channel(Model)})


@COMPONENTS
def test_output_examples_are_an_output_only_where_columns_are_named(make):
    made = make(output_example_spec=columns_spec(y5="y"))
    assert made.outputs["output_examples"].type is Examples
    assert message_of(made, "output_example_spec", our.OutputExampleSpec) == columns_spec(y5="y")
    assert "output_examples" not in make().outputs
    assert "output_example_spec" not in make().exec_properties
    with pytest.raises(SettingsError, match=r"^OutputExampleSpec\.output_columns_spec has no col"):
        make(output_example_spec=our.OutputExampleSpec())


@COMPONENTS
def test_table_is_an_output_only_where_it_is_asked_for(make):
    for given in (our.TableSpec(), {}, parameter()):
        made = make(table_spec=given)
        assert made.outputs["prediction_table"].type is PredictionTable
    assert message_of(make(table_spec={"keep": ["id"]}), "table_spec", our.TableSpec).keep == ["id"]
    assert "prediction_table" not in make().outputs
    assert "table_spec" not in make().exec_properties


@COMPONENTS
def test_predictions_need_a_place(make):
    no_logs = our.DataSpec(prediction_logs=False)
    message = (
        "DataSpec.prediction_logs is false and there is no table_spec, so the predictions would be "
        "lost. Give a table_spec, or leave out prediction_logs."
    )
    assert_refused(message, make, data_spec=no_logs)
    assert "prediction_table" in make(data_spec=no_logs, table_spec={}).outputs


@COMPONENTS
def test_settings_are_json_of_ours_or_a_parameter_that_is_left_for_the_runner(make):
    spec = our.DataSpec(example_splits=["a"], failure_limit=our.FailureLimit(max_fraction=0.5))
    made = make(data_spec=spec)
    assert {type(value) for value in made.exec_properties.values()} == {str}
    assert message_of(made, "data_spec", our.DataSpec) == spec
    assert message_of(make(), "data_spec", our.DataSpec) == our.DataSpec()
    given = parameter('{"example_splits": ["a"]}')
    assert make(data_spec=given).exec_properties["data_spec"] is given
    as_dict = {"example_splits": ["a"], "failure_limit": {"max_fraction": 0.5}}
    for same in (as_dict, json.dumps(as_dict)):
        assert message_of(make(data_spec=same), "data_spec", our.DataSpec) == spec
    given = tfx.dsl.placeholders.execution_invocation().pipeline_run_id
    assert make(data_spec=given).exec_properties["data_spec"] is given


MARKED = our.ModelSpec(tag=["{{ds}}"])
TOO_SMALL = our.ModelSpec(batch=our.BatchSpec(max_records=-1))
FROM_BATCH = r" BatchBounds\.max_records comes from ModelSpec\.batch\.max_records\.$"


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (bulk, {"model_spec": parameter("{oops")}, "^model_spec must"),
        (bulk, {"model_spec": TOO_SMALL}, FROM_BATCH),
        (branch, {"routing": our.ModelSpec()}, "^routing must"),
        (
            branch,
            {"comparison_spec": our.ComparisonSpec(outcomes="{{ds}}")},
            "^comparison_spec has",
        ),
        (branch, {"model_specs": {"five": MARKED}}, r"^model_specs\['five'\] has"),
        (branch, {"model_specs": {"five": TOO_SMALL}}, FROM_BATCH),
        (branch, {"output_example_spec": parameter()}, "^output_example_spec must be known while"),
        (cascade, {"stages": ["five"]}, "^stages must"),
        (cascade, {"stages": stages(model_spec=MARKED)}, "^stages has"),
        (cascade, {"stages": stages(model_spec=TOO_SMALL)}, FROM_BATCH),
    ],
)
def test_mistake_in_a_setting_is_found_while_the_pipeline_is_built(make, arguments, message):
    with pytest.raises(SettingsError, match=message):
        make(**arguments)


@COMPONENTS
def test_component_shows_its_arguments_and_names_its_executor(make):
    component = type(make())
    signature = inspect.signature(component)
    documented = re.findall(r"^          (\w+): ", component.__init__.__doc__, re.MULTILINE)
    assert [*signature.parameters, "SettingsError"] == documented
    # The path that pipelines record.
    executor = {bulk: "Executor", branch: "BranchExecutor", cascade: "CascadeExecutor"}[make]
    path = component.EXECUTOR_SPEC.encode().python_executor_spec.class_path
    assert path == f"bulk_inferencer.components.executor.{executor}"
    assert import_utils.import_class_by_path(path) is component.EXECUTOR_SPEC.executor_class


@pytest.mark.parametrize("name", ["InferenceSummary", "ModelComparison", "PredictionTable"])
def test_artifact_type_is_found_as_package_and_class(name):
    found = getattr(bulk_inferencer, name)
    assert f"bulk_inferencer.{name}" == found.TYPE_NAME
    assert import_utils.import_class_by_path(found.TYPE_NAME) is found


@pytest.mark.parametrize("count", [1, 2])
@COMPONENTS
def test_component_survives_tfxs_json(make, count):
    examples = [channel(Examples) for _ in range(count)]
    optional = {"output_example_spec": columns_spec(y5="y"), "table_spec": {}}
    optional["expectations"] = (
        {"five": {"min_records": 2}} if make is branch else {"min_records": 2}
    )
    optional["engine"] = {"ray": {"num_gpus": 1}}
    made = make(examples=examples, **optional).with_id("mine")
    read = json_utils.loads(json_utils.dumps(made))
    assert (type(read), read.id) == (type(made), "mine")
    assert dict(read.exec_properties) == dict(made.exec_properties)
    assert types_of(read.inputs) == types_of(made.inputs)
    assert types_of(read.outputs) == types_of(made.outputs)
    assert read.executor_spec.executor_class is made.executor_spec.executor_class


@pytest.mark.parametrize(
    ("spec", "has_run_id"),
    [
        (our.ModelSpec(), False),
        (ENDPOINT, True),
        (parameter(), True),
        (tfx.dsl.placeholders.execution_invocation().pipeline_run_id, True),
        (parameter("{}"), True),
        (parameter(json_format.MessageToJson(ENDPOINT)), True),
    ],
    ids=["none", "endpoint", "unknown", "placeholder", "default without", "default with"],
)
def test_run_is_part_of_what_is_cached_where_there_may_be_an_endpoint(spec, has_run_id):
    assert ("run_id" in bulk(model_spec=spec).exec_properties) == has_run_id
