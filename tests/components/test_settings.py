"""Settings: from the protos that TFX carries to the dataclasses that everything else takes."""

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
from bulk_inferencer._formats.example import Column
from bulk_inferencer._models.cascade import CascadeModel, ExitWhen, Stage
from bulk_inferencer._models.retries import Limits
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer._models.tf_serving import TFServing
from bulk_inferencer._models.vertex import VertexEndpoint
from bulk_inferencer._units.checkpoint import Checkpoint
from bulk_inferencer._units.damaged_files import DamagedFiles
from bulk_inferencer._units.failure_limit import FailureLimit
from bulk_inferencer._units.routing import SplitRouting
from bulk_inferencer.components import settings
from bulk_inferencer.components.settings import to_message, to_setting
from bulk_inferencer.errors import ModelError, SettingsError
from bulk_inferencer.job import Outputs
from bulk_inferencer.results.compare import Comparing
from tests.components.tfx_helpers import assert_refused, columns_of, columns_spec, parameter

VERTEX = "projects/p/locations/l/endpoints/1"
DATACLASSES = (
    *(BatchBounds, Checkpoint, Comparing, DamagedFiles, FailureLimit, Limits, Outputs),
    *(SavedModel, Stage, TFServing, VertexEndpoint),
)


def classify(name="", **columns):
    output = our.ClassifyOutput(**columns)
    return our.OutputColumnsSpec(signature_name=name, classify_output=output)


def regress(column, name=""):
    output = our.RegressOutput(value_column=column)
    return our.OutputColumnsSpec(signature_name=name, regress_output=output)


CLASSIFY = classify("c", label_column="l", score_column="s")
REGRESS = regress("value", "r")

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
        our.OutputExampleSpec(output_columns_spec=[CLASSIFY, REGRESS, columns_of("p", y5="y")]),
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
            f"{settings.a_type(given)}. Give a bulk_inferencer_pb2.Routing."
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
    for spec in (flat, columns_spec(y=text), our.ModelSpecs(models={"five": flat})):
        assert_refused(message, to_setting, "spec", spec, type(spec))


# What messages of lower floors are about

TOO_SMALL = our.ModelSpec(batch=our.BatchSpec(max_records=-1))
FROM_BATCH = "BatchBounds.max_records comes from ModelSpec.batch.max_records."


def cascade_spec(**of_five):
    return our.CascadeSpec(stages=[our.StageSpec(name="five", **of_five)])


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
        (theirs.ModelSpec(tag="serve"), "SavedModel.tags comes from ModelSpec.tag."),
        # Those messages have the names of our own.
        (our.Routing(split={"weights": {"five": 0}}), "a model that should get no records."),
        (cascade_spec(exit_when=[our.ExitWhen()]), "Say which values settle a record."),
    ],
)
def test_lower_floors_check_at_once_and_the_error_names_the_setting(spec, end):
    with pytest.raises(SettingsError) as raised, settings.naming_settings():
        to_setting("spec", spec, getattr(our, type(spec).__name__))
    assert str(raised.value).endswith(end)


def test_error_names_every_setting_that_it_is_about_and_keeps_its_type():
    with pytest.raises(ModelError) as raised, settings.naming_settings():
        raise ModelError("SavedModel.tags and SavedModel.signatures do not match.")
    assert str(raised.value) == (
        "SavedModel.tags and SavedModel.signatures do not match. SavedModel.tags comes from "
        "ModelSpec.tag. SavedModel.signatures comes from ModelSpec.model_signature_name."
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
        with pytest.raises(type(error)) as raised, settings.naming_settings():
            raise error
        assert raised.value is error


@pytest.mark.parametrize(("field", "setting"), settings._SETTING_OF_FIELD.items())
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
        assert settings.parse(properties, "data_spec", our.DataSpec) == our.DataSpec()


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
        assert settings.parse({"model_spec": text}, "model_spec", our.ModelSpec) == spec


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
        settings.parse({"data_spec": value}, "data_spec", our.DataSpec)
    assert str(raised.value).startswith(message)


def test_placeholder_may_have_become_a_message_or_a_dict():
    expected = our.DataSpec(example_splits=["a"])
    for value in (expected, theirs.DataSpec(example_splits=["a"]), {"example_splits": ["a"]}):
        assert settings.parse({"data_spec": value}, "data_spec", our.DataSpec) == expected


def test_names_are_joined_by_commas():
    assert settings.names({"n": "five,ten"}, "n") == ["five", "ten"]
    assert settings.names({"n": ""}, "n") == settings.names({}, "n") == []


# From messages to dataclasses


def served(signatures=(), takes_records=None, **fields):
    spec = our.TFServingSpec(address="host:8500", model_name="m", **fields)
    return our.ModelSpec(
        model_signature_name=signatures, takes_records=takes_records, tf_serving=spec
    )


def on_vertex(signatures=(), **fields):
    spec = our.VertexEndpointSpec(name=VERTEX, **fields)
    return our.ModelSpec(model_signature_name=signatures, vertex_endpoint=spec)


OF_SERVER = {"version_label": "stable", "credentials": "grpc:ssl_channel_credentials"}
OPTIONS = {"number": -1, "text": "t"}
CHANNEL_OPTIONS = [our.ChannelOption(**{"name": name, name: OPTIONS[name]}) for name in OPTIONS]
OF_ENDPOINT = {"input_name": "x", "raw": True, "client": "module:client"}
LIMITS = {"request_seconds": 1, "total_seconds": 2}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (our.ModelSpec(), SavedModel("/m")),
        (
            our.ModelSpec(model_signature_name=["a", "b"], tag=["t"], import_modules=["text"]),
            SavedModel("/m", signatures=("a", "b"), tags=("t",), import_modules=("text",)),
        ),
        (our.ModelSpec(takes_records=False), SavedModel("/m", takes_records=False)),
        (served(), TFServing("host:8500", "m")),
        (served(version=0), TFServing("host:8500", "m", version=0)),
        (served(takes_records=False), TFServing("host:8500", "m", takes_records=False)),
        (
            served(["a", "b"], channel_options=CHANNEL_OPTIONS, limits=LIMITS, **OF_SERVER),
            TFServing(
                "host:8500",
                "m",
                signatures=("a", "b"),
                channel_options=tuple(OPTIONS.items()),
                limits=Limits(1, 2),
                **OF_SERVER,
            ),
        ),
        (on_vertex(), VertexEndpoint(VERTEX)),
        (
            on_vertex(["s"], limits=LIMITS, **OF_ENDPOINT),
            VertexEndpoint(VERTEX, signature="s", limits=Limits(1, 2), **OF_ENDPOINT),
        ),
    ],
)
def test_model_spec_gives_a_model_with_all_settings(spec, expected):
    assert settings.model(spec, "/m") == expected


def test_several_signatures_of_a_vertex_endpoint_are_refused():
    message = (
        f"{VERTEX} can only be called with one signature, but ModelSpec.model_signature_name has "
        f"a, b. Keep one of them."
    )
    assert_refused(message, to_setting, "model_spec", on_vertex(["a", "b"]), our.ModelSpec)


def test_cascade_spec_gives_stages_with_columns_and_exits():
    five = our.StageSpec(
        name="five",
        model_spec=our.ModelSpec(model_signature_name=["a", "b"]),
        output_columns_spec=columns_of("a", x="y"),
        exit_when=[our.ExitWhen(output_key="b/y", at_least=0, at_most=2)],
    )
    spec = our.CascadeSpec(stages=[five, our.StageSpec(name="ten")])

    model = SavedModel("/five", signatures=("a", "b"))
    exits = (ExitWhen("b/y", at_least=0, at_most=2),)
    stages = (Stage("five", model, (Column("a/y", "x"),), exits), Stage("ten", SavedModel("/ten")))
    assert settings.cascade(spec, {"five": "/five", "ten": "/ten"}) == CascadeModel(stages)


def test_bounds_are_the_tightest_of_all_models_and_zero_is_the_default():
    some = our.ModelSpec(batch=our.BatchSpec(max_records=7, max_bytes=9, first_records=5))
    other = our.ModelSpec(batch=our.BatchSpec(max_records=0, max_bytes=8, first_records=6))
    data = our.DataSpec(max_record_bytes=6)
    assert settings.batch_bounds(our.DataSpec(), our.ModelSpec()) == BatchBounds()
    expected = BatchBounds(7, max_bytes=9, first_records=5, max_record_bytes=6)
    assert settings.batch_bounds(data, some) == expected
    expected = dataclasses.replace(expected, max_bytes=8)
    assert settings.batch_bounds(data, some, other) == expected


def test_zero_is_a_value_of_what_has_another_default():
    none = our.DataSpec(failure_limit=our.FailureLimit(max_count=0, max_fraction=0))
    assert settings.failure_limit(our.DataSpec()) == FailureLimit()
    assert settings.failure_limit(none) == FailureLimit(max_count=0, max_fraction=0)
    assert settings.comparing(our.ComparisonSpec()) == Comparing()
    spec = our.ComparisonSpec(key_features=["id"], most_different=0)
    assert settings.comparing(spec) == Comparing(("id",), 0)


def test_routing_is_none_without_a_split():
    split = our.SplitRouting(weights={"five": 9, "ten": 1}, split_key="user", salt="1")
    assert settings.routing(our.Routing()) is None
    expected = SplitRouting({"five": 9, "ten": 1}, "user", "1")
    assert settings.routing(our.Routing(split=split)) == expected


@pytest.mark.parametrize(
    ("kind", "field", "choices", "otherwise"),
    [
        (our.DataSpec, "compression", "GZIP (0), NONE (1)", "for gzip."),
        (our.DataSpec, "damaged_files", "FAIL (0), SKIP (1)", "to fail on damaged files."),
        (
            *(our.ModelSpec, "gate_policy", "SKIP (0), FAIL (1), IGNORE (2)"),
            "to skip a model that is not blessed.",
        ),
    ],
)
def test_choice_that_does_not_exist_is_refused(kind, field, choices, otherwise):
    message = f"{kind.__name__}.{field} must be one of {choices}, not 7. Leave it out {otherwise}"
    assert_refused(message, to_setting, "spec", kind(**{field: 7}), kind)


def test_choices_are_named():
    assert settings.compression(our.DataSpec()) == "GZIP"
    assert settings.compression(our.DataSpec(compression=our.NONE)) == "NONE"
    assert settings.gate_policy(our.ModelSpec(gate_policy=our.IGNORE)) == "IGNORE"


def test_damaged_files_fail_the_run_unless_they_are_skipped():
    assert settings.damaged_files(our.DataSpec()) == DamagedFiles()
    skip = our.DataSpec(damaged_files=our.DataSpec.SKIP, max_damaged_files=0)
    assert settings.damaged_files(skip) == DamagedFiles(skip=True, max_count=0)


def test_checkpoint_needs_a_folder():
    assert settings.checkpoint(our.DataSpec()) is None
    assert settings.checkpoint(our.DataSpec(checkpoint_dir="/c")) == Checkpoint("/c")
    kept = our.DataSpec(checkpoint_dir="/c", keep_checkpoint=True, checkpoint_days=0)
    assert settings.checkpoint(kept) == Checkpoint("/c", keep=True, max_age_days=0)
    for name, value in (("keep_checkpoint", True), ("checkpoint_days", 0)):
        message = (
            f"DataSpec.{name} needs a folder for the checkpoint. Name one in "
            f"DataSpec.checkpoint_dir."
        )
        assert_refused(message, to_setting, "d", our.DataSpec(**{name: value}), our.DataSpec)


def test_splits_that_are_the_letters_of_one_name_are_refused():
    with pytest.raises(SettingsError, match=r"^DataSpec\.example_splits has .* Write \['train'\]"):
        to_setting("data_spec", theirs.DataSpec(example_splits="train"), our.DataSpec)


# Columns of output examples


def columns(*entries, signatures=()):
    spec = our.OutputExampleSpec(output_columns_spec=entries)
    return settings.columns(spec, our.ModelSpec(model_signature_name=signatures))


@pytest.mark.parametrize(
    ("entries", "signatures", "expected"),
    [
        ([columns_of(y5="y", s="scores")], [], [("y", "y5"), ("scores", "s")]),
        ([columns_of("serving_default", y5="y")], [], [("y", "y5")]),
        ([columns_of("a", y5="y")], ["a"], [("y", "y5")]),
        ([columns_of(y5="y")], ["a"], [("y", "y5")]),
        ([classify("c", label_column="l")], ["c"], [("classes", "l")]),
        ([classify(score_column="s")], [], [("scores", "s")]),
        ([REGRESS], ["r"], [("outputs", "value")]),
        (
            [CLASSIFY, columns_of("p", y5="y")],
            ["c", "p"],
            [("c/classes", "l"), ("c/scores", "s"), ("p/y", "y5")],
        ),
    ],
)
def test_columns_come_from_the_outputs_of_their_signature(entries, signatures, expected):
    found = columns(*entries, signatures=signatures)
    assert found == tuple(Column(*pair) for pair in expected)


@pytest.mark.parametrize(
    ("name", "signatures", "called"),
    [("other", [], "serving_default"), ("other", ["a", "b"], "a, b"), ("", ["a", "b"], "a, b")],
)
def test_columns_of_a_signature_that_is_not_called_are_refused(name, signatures, called):
    message = (
        f"OutputColumnsSpec.signature_name is '{name}', but the model is called with {called}. "
        f"Name one of these, or add it to ModelSpec.model_signature_name."
    )
    assert_refused(message, columns, columns_of(name, y5="y"), signatures=signatures)


def test_columns_are_needed_and_blamed_on_the_spec_that_they_are_from():
    message = (
        "{}.output_columns_spec has no columns. Name the outputs that become features, or leave "
        "out the whole spec."
    )
    for entries in ([], [our.OutputColumnsSpec()], [columns_of()], [classify()]):
        assert_refused(message.format("OutputExampleSpec"), columns, *entries)
    spec = cascade_spec(output_columns_spec=columns_of())
    assert_refused(message.format("StageSpec"), settings.cascade, spec, {})
    with pytest.raises(SettingsError, match=r" in OutputExampleSpec\.output_columns_spec needs "):
        columns(regress(""))


def test_columns_of_several_models_have_to_come_from_the_same_outputs():
    spec = columns_spec("sum", y5="y")
    both = our.ModelSpec(model_signature_name=["sum", "product"])
    one = our.ModelSpec(model_signature_name=["sum"])
    message = (
        "The columns of OutputExampleSpec must come from the same outputs of all models, but they "
        "are sum/y of one and y of another. Call one signature of each model, or several of each."
    )
    assert settings.columns(spec, both, both) == (Column("sum/y", "y5"),)
    assert_refused(message, settings.columns, spec, both, one)
