"""Arguments of the components: what an author may give, and what messages of lower floors name."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from google.protobuf import json_format
from tfx import v1 as tfx
from tfx.proto import bulk_inferrer_pb2 as theirs

from bulk_inferencer import bulk_inferencer_pb2 as our
from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._formats.table_settings import TableSettings
from bulk_inferencer._models.cascade import Stage
from bulk_inferencer._models.python_model import PythonModel
from bulk_inferencer._models.retries import Limits
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer._models.tf_serving import TFServing
from bulk_inferencer._models.vertex import VertexEndpoint
from bulk_inferencer._units.checkpoint import Checkpoint
from bulk_inferencer._units.damaged_files import DamagedFiles
from bulk_inferencer._units.failure_limit import FailureLimit
from bulk_inferencer.components import arguments
from bulk_inferencer.components.arguments import to_message, to_setting
from bulk_inferencer.errors import InputError, ModelError, SettingsError
from bulk_inferencer.job import Outputs
from bulk_inferencer.results.compare import Comparing
from tests.components.tfx_helpers import (
    assert_refused,
    cascade_spec,
    columns_of,
    columns_spec,
    parameter,
)

DATACLASSES = (
    *(BatchBounds, Checkpoint, Comparing, DamagedFiles, FailureLimit, Limits, Outputs),
    *(PythonModel, SavedModel, Stage, TableSettings, TFServing, VertexEndpoint),
)
REGRESS = our.OutputColumnsSpec(
    signature_name="r", regress_output=our.RegressOutput(value_column="value")
)


# From an argument of a component to a message


def test_our_message_is_taken_as_it_is_and_none_is_an_empty_one():
    spec = our.DataSpec(example_splits=["a"])
    assert to_setting("data_spec", spec, our.DataSpec) is spec
    assert to_setting("data_spec", None, our.DataSpec) == our.DataSpec()
    assert to_message("routing", None, our.Routing) == our.Routing()


@pytest.mark.parametrize(
    "ours",
    [
        our.DataSpec(example_splits=["a", "b"]),
        our.ModelSpec(model_signature_name=["s"], tag=["serve", "gpu"]),
        our.OutputExampleSpec(output_columns_spec=[REGRESS, columns_of("p", y5="y")]),
    ],
)
def test_tfxs_own_message_becomes_ours_with_equal_fields(ours):
    peer = getattr(theirs, type(ours).__name__)
    given = json_format.Parse(json_format.MessageToJson(ours), peer())
    assert to_setting("spec", given, type(ours)) == ours


@pytest.mark.parametrize("convert", [to_setting, to_message])
def test_json_becomes_a_message_as_text_and_as_a_dict(convert):
    limit = our.FailureLimit(max_fraction=0)
    expected = our.DataSpec(example_splits=["a"], failure_limit=limit, checkpoint_dir="/c")
    as_dict = {"example_splits": ("a",), "failure_limit": {"max_fraction": 0}}
    as_dict["checkpointDir"] = Path("/c")
    as_text = json_format.MessageToJson(expected)
    for given in (as_dict, as_text, json.dumps(json.loads(as_text))):
        assert convert("spec", given, our.DataSpec) == expected
    for empty in ({}, "{}", ""):
        assert convert("spec", empty, our.DataSpec) == our.DataSpec()


TFXS = "TFX's message of the same name, "


@pytest.mark.parametrize(
    ("kind", "value", "of_tfx", "its_type"),
    [
        (our.DataSpec, theirs.ModelSpec(), TFXS, "a ModelSpec"),
        (our.ModelSpec, ["serving_default"], TFXS, "a list"),
        (our.Routing, our.OutputExampleSpec(), "", "an OutputExampleSpec"),
    ],
)
def test_value_of_another_type_is_refused_with_those_that_are_taken(kind, value, of_tfx, its_type):
    message = (
        f"spec must be a bulk_inferencer_pb2.{kind.__name__}, {of_tfx}or its JSON as text or a "
        f"dict, not {its_type}."
    )
    for convert in (to_setting, to_message):
        assert_refused(message, convert, "spec", value, kind)


def test_what_is_not_known_yet_is_kept_for_the_runner_where_it_can_be():
    of_run = tfx.dsl.placeholders.execution_invocation().pipeline_run_id
    for given in (parameter(), parameter('{"example_splits": ["a"]}'), of_run):
        assert to_setting("data_spec", given, our.DataSpec) is given
        message = (
            f"routing must be known while the pipeline is being built, so it cannot be "
            f"{arguments.a_type(given)}. Give a bulk_inferencer_pb2.Routing."
        )
        assert_refused(message, to_message, "routing", given, our.Routing)


@pytest.mark.parametrize(
    ("default", "message"),
    [
        ("{example", r"^data_spec must be JSON of bulk_inferencer\.DataSpec, but it is '{example"),
        ('{"splits": []}', r'"splits"'),
        ('{"example_splits": ["{{ ds }}"]}', r"^data_spec has '{{' in '{{ ds }}', "),
        ('{"failure_limit": {"max_count": -1}}', r"FailureLimit\.max_count .* -1"),
    ],
)
def test_default_of_a_runtime_parameter_is_checked(default, message):
    with pytest.raises(SettingsError, match=message):
        to_setting("data_spec", parameter(default), our.DataSpec)


@pytest.mark.parametrize("mark", ["{{", "{%", "{#"])
def test_text_that_airflow_would_render_is_refused_wherever_it_stands(mark):
    text = f"serve{mark} ds }}}}"
    message = (
        f"spec has '{mark}' in '{text}', which Airflow would render as a template. Rename what it "
        f"refers to."
    )
    flat = our.ModelSpec(model_signature_name=["fine", text])
    renamed = our.DataSpec(rename={text: "x"})
    for spec in (flat, columns_spec(y=text), our.ModelSpecs(models={"five": flat}), renamed):
        assert_refused(message, to_setting, "spec", spec, type(spec))


# What messages of lower floors are about

TOO_SMALL = our.ModelSpec(batch=our.BatchSpec(max_records=-1))
FROM_BATCH = "BatchBounds.max_records comes from ModelSpec.batch.max_records."


@pytest.mark.parametrize(
    ("spec", "end"),
    [
        (TOO_SMALL, FROM_BATCH),
        (cascade_spec(model_spec=TOO_SMALL), FROM_BATCH),
        (cascade_spec(output_columns_spec=columns_of(y="y")), "from StageSpec.exit_when."),
        (our.DataSpec(failure_limit={"max_count": -1}), "from DataSpec.failure_limit.max_count."),
        (our.ComparisonSpec(most_different=-1), "from ComparisonSpec.most_different."),
        (our.DataSpec(checkpoint_dir="/c", checkpoint_days=-1), "from DataSpec.checkpoint_days."),
        (our.DataSpec(max_damaged_files=-1), "from DataSpec.max_damaged_files."),
        (our.DataSpec(max_record_bytes=-1), "from DataSpec.max_record_bytes."),
        (our.TableSpec(keep=["a", "a"]), "TableSettings.keep comes from TableSpec.keep."),
        (theirs.ModelSpec(tag="serve"), "SavedModel.tags comes from ModelSpec.tag."),
        # Those messages have the names of our own.
        (our.Routing(split={"weights": {"five": 0}}), "a model that should get no records."),
        (cascade_spec(exit_when=[our.ExitWhen()]), "Say which values settle a record."),
    ],
)
def test_lower_floors_check_at_once_and_the_error_names_the_setting(spec, end):
    with pytest.raises(SettingsError) as raised, arguments.naming_settings():
        to_setting("spec", spec, getattr(our, type(spec).__name__))
    assert str(raised.value).endswith(end)


def test_error_names_every_setting_that_it_is_about_and_keeps_its_type():
    with pytest.raises(ModelError) as raised, arguments.naming_settings():
        raise ModelError("SavedModel.tags and SavedModel.signatures do not match.")
    assert str(raised.value) == (
        "SavedModel.tags and SavedModel.signatures do not match. SavedModel.tags comes from "
        "ModelSpec.tag. SavedModel.signatures comes from ModelSpec.model_signature_name."
    )


def test_error_says_what_a_component_has_instead_of_an_input_format():
    message = 'It is a Parquet file. Read it with input_format="parquet".'
    with pytest.raises(InputError) as raised, arguments.naming_settings():
        raise InputError(message)
    assert str(raised.value) == (
        f"{message} The format of Examples comes from their custom property payload_format: "
        f"FORMAT_PARQUET stands for Parquet files, and an ExampleGen converts others."
    )


@pytest.mark.parametrize(
    "message",
    [
        "No saved_model.pb in gs://models/TFServing/7.",
        "Nothing in /models/SavedModel.tags, C:/SavedModel.tags or s3://b/SavedModel.tags/1.",
        "Split 'Limits' has no folder at /x.",
        "Signature 'my SavedModel.tags' or \"Stage.columns\" is not there.",
        "Use MySavedModel.tags, my.SavedModel.tags, SavedModel.tagset or SavedModel.tags.first.",
        "The SavedModel has no such field as SavedModel.speed.",
    ],
)
def test_what_only_looks_like_a_field_is_left_alone(message):
    for error in (ModelError(message), ValueError("SavedModel.tags")):
        with pytest.raises(type(error)) as raised, arguments.naming_settings():
            raise error
        assert raised.value is error


@pytest.mark.parametrize(("field", "setting"), arguments._SETTING_OF_FIELD.items())
def test_fields_and_settings_of_the_table_exist(field, setting):
    owner, name = field.split(".")
    (dataclass,) = [kind for kind in DATACLASSES if kind.__name__ == owner]
    assert name in {field.name for field in dataclasses.fields(dataclass)}
    message, *path = setting.split(".")
    descriptor = our.DESCRIPTOR.message_types_by_name[message]
    for part in path:
        descriptor = descriptor.fields_by_name[part].message_type or descriptor


# From JSON to a message


def test_property_that_is_left_out_is_an_empty_message():
    for properties in ({}, {"data_spec": None}, {"data_spec": ""}):
        assert arguments.parse(properties, "data_spec", our.DataSpec) == our.DataSpec()


def test_json_parses_back_to_every_field_with_names_of_either_style():
    spec = our.ModelSpec(
        model_signature_name=["s"],
        tag=["t"],
        gate_policy=our.IGNORE,
        batch=our.BatchSpec(max_records=7, max_bytes=9),
        import_modules=["m"],
    )
    for keeps_names in (True, False):
        text = json_format.MessageToJson(spec, preserving_proto_field_name=keeps_names)
        assert ("gate_policy" in json.loads(text)) == keeps_names
        assert arguments.parse({"model_spec": text}, "model_spec", our.ModelSpec) == spec


@pytest.mark.parametrize(
    "value",
    [
        *("[]", '"x"', "1", '{"example_splits": 3}', "{", "\0"),
        {"example_splits": "train"},
        {"splits": ["train"]},
        {"failure_limit": our.FailureLimit()},
        {"example_splits": [parameter()]},
    ],
)
def test_what_is_not_json_of_the_message_is_refused(value):
    message = f"data_spec must be JSON of bulk_inferencer.DataSpec, but it is {value!r}: "
    with pytest.raises(SettingsError) as raised:
        arguments.parse({"data_spec": value}, "data_spec", our.DataSpec)
    assert str(raised.value).startswith(message)


def test_placeholder_may_have_become_a_message_or_a_dict():
    expected = our.DataSpec(example_splits=["a"])
    for value in (expected, theirs.DataSpec(example_splits=["a"]), {"example_splits": ["a"]}):
        assert arguments.parse({"data_spec": value}, "data_spec", our.DataSpec) == expected


def test_names_are_joined_by_commas():
    assert arguments.names({"n": "five,ten"}, "n") == ["five", "ten"]
    assert arguments.names({"n": ""}, "n") == arguments.names({}, "n") == []
