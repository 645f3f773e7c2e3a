"""The component as a pipeline's author calls it. Nothing is run here."""

from __future__ import annotations

import pytest
from google.protobuf import json_format
from tfx import v1 as tfx
from tfx.dsl.compiler import compiler
from tfx.proto import bulk_inferrer_pb2
from tfx.types import Channel, channel_utils
from tfx.types.standard_artifacts import (
    Examples,
    InferenceResult,
    InfraBlessing,
    Model,
    ModelBlessing,
    PushedModel,
    Schema,
)
from tfx.utils import import_utils, json_utils

import bulk_inferencer
from bulk_inferencer import BulkInferencer, InferenceSummary
from bulk_inferencer import bulk_inferencer_pb2 as our
from bulk_inferencer.components.executor import Executor
from bulk_inferencer.errors import SettingsError
from tests.tfx_helpers import importer

pytest_plugins = ("tests.tfx_fixtures",)


def channel(kind):
    return Channel(type=kind)


def component(**arguments):
    """Returns a BulkInferencer with channels of examples and model, unless they are given."""
    if "examples" not in arguments:
        arguments["examples"] = channel(Examples)
    if "model" not in arguments and "model_export" not in arguments:
        arguments["model_export"] = channel(Model)
    return BulkInferencer(**arguments)


def message_of(made, name, kind):
    """Returns the message in an execution property of a component."""
    return json_format.Parse(made.exec_properties[name], kind())


def columns_spec(output="y", **fields):
    column = our.PredictOutputCol(output_key=output, output_column="y5")
    predict = our.PredictOutput(output_columns=[column])
    return our.OutputExampleSpec(
        output_columns_spec=[our.OutputColumnsSpec(predict_output=predict, **fields)]
    )


# Inputs


def test_call_of_the_readme():
    examples, model, blessing = channel(Examples), channel(Model), channel(ModelBlessing)

    made = BulkInferencer(
        examples=examples,
        model_export=model,
        model_blessing=blessing,
        data_spec=our.DataSpec(example_splits=["unlabelled"]),
        model_spec=our.ModelSpec(),
    )

    assert dict(made.inputs) == {"examples": examples, "model": model, "model_blessing": blessing}


def test_arguments_may_be_positional_in_the_order_of_the_slide():
    examples, model, blessing = channel(Examples), channel(Model), channel(ModelBlessing)

    made = BulkInferencer(examples, model, blessing, our.DataSpec(example_splits=["a"]))

    assert dict(made.inputs) == {"examples": examples, "model": model, "model_blessing": blessing}
    assert message_of(made, "data_spec", our.DataSpec).example_splits == ["a"]


def test_model_is_another_name_of_model_export():
    model = channel(Model)

    assert component(model=model).inputs["model"] is model


def test_both_names_of_the_model_are_refused():
    with pytest.raises(SettingsError) as raised:
        component(model=channel(Model), model_export=channel(Model))

    assert str(raised.value) == (
        "Expected model_export or its other name, model, got both. Give one of them."
    )


def test_no_model_is_refused():
    with pytest.raises(SettingsError) as raised:
        BulkInferencer(examples=channel(Examples))

    assert str(raised.value) == (
        "Expected model_export or its other name, model, got neither. Give one of them; only with "
        "an endpoint in ModelSpec, and without a blessing, can it be left out."
    )


def test_pushed_model_has_an_input_of_its_own():
    pushed = channel(PushedModel)

    made = component(model_export=pushed)

    assert made.inputs["pushed_model"] is pushed
    assert "model" not in made.inputs


@pytest.mark.parametrize("name", ["model_export", "model"])
@pytest.mark.parametrize(
    ("model", "got"),
    [(Channel(type=Examples), "Examples"), ("/models/7", "str"), (Model(), "Model")],
)
def test_other_type_of_model_is_refused(name, model, got):
    with pytest.raises(SettingsError) as raised:
        component(**{name: model})

    assert str(raised.value) == (
        f"Expected a channel of Model or PushedModel as model_export, got {got}. Take it from a "
        "Trainer, Pusher, Importer or Resolver."
    )


@pytest.mark.parametrize(
    ("examples", "got"),
    [
        (Channel(type=Model), "Model"),
        (None, "NoneType"),
        ("/data", "str"),
        ([Channel(type=Examples), Channel(type=Schema)], "Schema"),
        ([Channel(type=Examples), "/data"], "str"),
    ],
)
def test_other_type_of_examples_is_refused(examples, got):
    with pytest.raises(SettingsError) as raised:
        component(examples=examples)

    assert str(raised.value) == (
        f"Expected channels of Examples as examples, got {got}. Take them from an ExampleGen, "
        "Transform, Importer or Resolver."
    )


def test_empty_list_of_examples_is_refused():
    with pytest.raises(SettingsError) as raised:
        component(examples=[])

    assert str(raised.value) == ("Expected at least one channel as examples, got an empty list.")


@pytest.mark.parametrize(
    ("name", "expected"), [("model_blessing", "ModelBlessing"), ("infra_blessing", "InfraBlessing")]
)
def test_other_type_of_blessing_is_refused_by_tfx(name, expected):
    with pytest.raises(TypeError, match=rf"{name} should be a Channel of type .*{expected}.*Model"):
        component(**{name: channel(Model)})


@pytest.mark.parametrize("as_sequence", [list, tuple])
def test_sequence_of_channels_has_an_input_each(as_sequence):
    channels = [channel(Examples) for _ in range(3)]

    made = component(examples=as_sequence(channels))

    found = {key: value for key, value in made.inputs.items() if key.startswith("examples")}
    assert found == dict(zip(["examples", "examples_1", "examples_2"], channels, strict=True))


def test_list_of_one_channel_is_that_channel():
    examples = channel(Examples)

    assert component(examples=[examples]).inputs["examples"] is examples


def test_channels_of_one_component_leave_the_next_one_alone():
    component(examples=[channel(Examples), channel(Examples)])

    assert [key for key in component().spec.INPUTS if key.startswith("examples")] == ["examples"]


def test_union_of_channels_is_one_input():
    sources = [importer(name, Examples, "/e", ["a"]).outputs["result"] for name in ("a", "b")]
    union = channel_utils.union(sources)

    assert component(examples=union).inputs["examples"] is union


@pytest.mark.parametrize(
    ("blessings", "required"),
    [
        ({}, ""),
        ({"model_blessing": ModelBlessing}, "model_blessing"),
        ({"infra_blessing": InfraBlessing}, "infra_blessing"),
        (
            {"model_blessing": ModelBlessing, "infra_blessing": InfraBlessing},
            "model_blessing,infra_blessing",
        ),
    ],
)
def test_blessings_that_are_given_are_required(blessings, required):
    made = component(**{name: channel(kind) for name, kind in blessings.items()})

    assert made.exec_properties["required_blessings"] == required
    assert blessings.keys() <= made.inputs.keys()


def test_blessing_may_be_empty_but_model_and_examples_may_not():
    spec = component(
        model_blessing=channel(ModelBlessing), infra_blessing=channel(InfraBlessing)
    ).spec

    assert {key: spec.is_allow_empty_input(key) for key in spec.INPUTS} == {
        "examples": False,
        "model": False,
        "pushed_model": False,
        "model_blessing": True,
        "infra_blessing": True,
    }


# Outputs


def test_outputs_and_their_types():
    types = {key: output.type for key, output in component().outputs.items()}

    assert types == {
        "inference_result": InferenceResult,
        "summary": InferenceSummary,
        "failed_examples": Examples,
    }


def test_output_examples_come_with_their_spec_only():
    made = component(output_example_spec=columns_spec())

    assert made.outputs["output_examples"].type is Examples
    assert message_of(made, "output_example_spec", our.OutputExampleSpec) == columns_spec()
    assert "output_examples" not in component().outputs
    assert "output_example_spec" not in component().exec_properties


# Settings


def test_settings_are_json_of_our_messages():
    data_spec = our.DataSpec(
        example_splits=["a"], failure_limit=our.FailureLimit(max_count=3, max_fraction=0.5)
    )
    model_spec = our.ModelSpec(
        model_signature_name=["s"],
        tag=["t"],
        gate_policy=our.IGNORE,
        batch=our.BatchSpec(max_records=7, max_bytes=9),
        import_modules=["m"],
    )

    made = component(data_spec=data_spec, model_spec=model_spec)

    assert {type(value) for value in made.exec_properties.values()} == {str}
    assert message_of(made, "data_spec", our.DataSpec) == data_spec
    assert message_of(made, "model_spec", our.ModelSpec) == model_spec


def test_settings_that_are_left_out_are_defaults():
    made = component()

    assert message_of(made, "data_spec", our.DataSpec) == our.DataSpec()
    assert message_of(made, "model_spec", our.ModelSpec) == our.ModelSpec()


def test_tfxs_own_messages_give_the_same_as_ours():
    column = bulk_inferrer_pb2.PredictOutputCol(output_key="y", output_column="y5")
    theirs = component(
        data_spec=bulk_inferrer_pb2.DataSpec(example_splits=["a"]),
        model_spec=bulk_inferrer_pb2.ModelSpec(model_signature_name=["s"], tag=["serve"]),
        output_example_spec=bulk_inferrer_pb2.OutputExampleSpec(
            output_columns_spec=[
                bulk_inferrer_pb2.OutputColumnsSpec(
                    predict_output=bulk_inferrer_pb2.PredictOutput(output_columns=[column])
                )
            ]
        ),
    )
    ours = component(
        data_spec=our.DataSpec(example_splits=["a"]),
        model_spec=our.ModelSpec(model_signature_name=["s"], tag=["serve"]),
        output_example_spec=columns_spec(),
    )

    assert theirs.exec_properties == ours.exec_properties
    assert theirs.outputs.keys() == ours.outputs.keys()


@pytest.mark.parametrize("name", ["data_spec", "model_spec", "output_example_spec"])
def test_other_type_of_setting_is_refused_by_name(name):
    with pytest.raises(SettingsError, match=rf" as {name}, got dict\.$"):
        component(**{name: {"example_splits": ["a"]}})


@pytest.mark.parametrize(
    ("name", "json"),
    [
        ("data_spec", '{"example_splits": ["a"]}'),
        ("model_spec", '{"gate_policy": "FAIL"}'),
        ("output_example_spec", json_format.MessageToJson(columns_spec(), indent=None)),
    ],
)
def test_runtime_parameter_is_left_for_the_runner(name, json):
    parameter = tfx.dsl.experimental.RuntimeParameter("settings", ptype=str, default=json)

    assert component(**{name: parameter}).exec_properties[name] is parameter


def test_runtime_parameter_of_output_example_spec_gives_output_examples():
    parameter = tfx.dsl.experimental.RuntimeParameter("settings", ptype=str)

    assert "output_examples" in component(output_example_spec=parameter).outputs


@pytest.mark.parametrize("name", ["data_spec", "model_spec", "output_example_spec"])
def test_runtime_parameter_with_broken_json_is_refused_at_construction(name):
    parameter = tfx.dsl.experimental.RuntimeParameter("settings", ptype=str, default="{oops")

    with pytest.raises(SettingsError, match=rf"^Expected JSON of .* as {name}, got '{{oops': "):
        component(**{name: parameter})


@pytest.mark.parametrize("mark", ["{{", "{%", "{#"])
@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("data_spec", lambda text: our.DataSpec(example_splits=[text])),
        ("model_spec", lambda text: our.ModelSpec(import_modules=[text])),
        ("output_example_spec", columns_spec),
    ],
)
def test_template_mark_is_refused_at_construction(name, spec, mark):
    with pytest.raises(SettingsError) as raised:
        component(**{name: spec(f"a{mark}b")})

    assert str(raised.value) == (
        f"Expected no template mark in {name}, got '{mark}' in 'a{mark}b': Airflow would render "
        "it. Rename what it names."
    )


def test_columns_of_a_signature_that_is_not_called_are_refused_at_construction():
    with pytest.raises(SettingsError, match=r"signature_name to be one of a, got 'b'\."):
        component(
            model_spec=our.ModelSpec(model_signature_name=["a"]),
            output_example_spec=columns_spec(signature_name="b"),
        )


def test_output_example_spec_without_columns_is_refused_at_construction():
    with pytest.raises(SettingsError, match="at least one column"):
        component(output_example_spec=our.OutputExampleSpec())


def test_columns_are_not_checked_against_a_model_spec_that_is_not_known_yet():
    parameter = tfx.dsl.experimental.RuntimeParameter("settings", ptype=str)

    made = component(model_spec=parameter, output_example_spec=columns_spec(signature_name="b"))

    assert "output_examples" in made.outputs


# How orchestrators see it


def test_executor_is_found_by_its_class_path():
    encoded = BulkInferencer.EXECUTOR_SPEC.encode()
    path = encoded.python_executor_spec.class_path

    assert import_utils.import_class_by_path(path) is Executor


def test_summary_type_is_found_as_package_and_class():
    package, name = InferenceSummary.TYPE_NAME.split(".")

    assert package == bulk_inferencer.__name__
    assert getattr(bulk_inferencer, name) is InferenceSummary


@pytest.mark.parametrize("count", [1, 2])
def test_component_survives_tfxs_json(count):
    made = component(
        examples=[channel(Examples) for _ in range(count)],
        model_blessing=channel(ModelBlessing),
        model_spec=our.ModelSpec(gate_policy=our.FAIL),
        output_example_spec=columns_spec(),
    ).with_id("inferencer")

    read = json_utils.loads(json_utils.dumps(made))

    assert isinstance(read, BulkInferencer)
    assert read.id == "inferencer"
    assert read.exec_properties == made.exec_properties
    assert {k: c.type for k, c in read.inputs.items()} == {
        k: c.type for k, c in made.inputs.items()
    }
    assert {k: c.type for k, c in read.outputs.items()} == {
        k: c.type for k, c in made.outputs.items()
    }
    assert read.executor_spec.executor_class is Executor


def test_pipeline_compiles_to_strings_and_types(local_pipeline):
    sources = [importer(name, Examples, "/e", ["a"]) for name in ("first", "second")]
    model = importer("model", Model, "/m")
    made = BulkInferencer(
        examples=[source.outputs["result"] for source in sources],
        model_export=model.outputs["result"],
        data_spec=our.DataSpec(example_splits=["a"]),
    )

    compiled = compiler.Compiler().compile(local_pipeline.of(*sources, model, made))

    (node,) = (
        n.pipeline_node for n in compiled.nodes if n.pipeline_node.node_info.id == "BulkInferencer"
    )
    assert set(node.inputs.inputs) == {"examples", "examples_1", "model"}
    parameters = {k: v.field_value.string_value for k, v in node.parameters.parameters.items()}
    assert parameters == made.exec_properties
    summary_type = node.outputs.outputs["summary"].artifact_spec.type
    assert summary_type.name == "bulk_inferencer.InferenceSummary"
