"""Settings: from the protos that TFX carries to the dataclasses that everything else takes."""

from __future__ import annotations

import dataclasses
import json

import pytest
from google.protobuf import json_format
from tfx.proto import bulk_inferrer_pb2 as theirs

from bulk_inferencer import bulk_inferencer_pb2 as our
from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._formats.example import Column
from bulk_inferencer._models.cascade import CascadeModel, ExitWhen, Stage
from bulk_inferencer._models.retries import Limits
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer._models.tf_serving import TFServing
from bulk_inferencer._models.vertex import VertexEndpoint
from bulk_inferencer._units.failure_limit import FailureLimit
from bulk_inferencer._units.routing import SplitRouting
from bulk_inferencer.components import settings
from bulk_inferencer.errors import InputError, ModelError, SettingsError
from bulk_inferencer.job import Outputs
from bulk_inferencer.results.compare import Comparing
from tests.components.tfx_helpers import assert_refused, columns_of, columns_spec, parameter

ENDPOINT = "projects/p/locations/l/endpoints/1"
DATACLASSES = (
    *(BatchBounds, Comparing, FailureLimit, Limits, Outputs),
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


def columns(*entries, signatures=()):
    spec = our.OutputExampleSpec(output_columns_spec=entries)
    return settings.columns(spec, our.ModelSpec(model_signature_name=signatures))


def test_our_message_is_taken_as_it_is_and_none_is_an_empty_one():
    spec = our.DataSpec(example_splits=["a"])
    assert settings.to_setting("data_spec", spec, our.DataSpec) is spec
    assert settings.to_setting("data_spec", None, our.DataSpec) == our.DataSpec()
    assert settings.to_message("routing", None, our.Routing) == our.Routing()


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
    assert settings.to_setting("spec", given, type(ours)) == ours


@pytest.mark.parametrize(
    "value", ["{}", {"example_splits": []}, our.ModelSpec(), theirs.ModelSpec()]
)
def test_value_of_another_type_is_refused(value):
    message = f"data_spec must be a bulk_inferencer_pb2.DataSpec, not a {type(value).__name__}."
    assert_refused(message, settings.to_setting, "data_spec", value, our.DataSpec)


def test_runtime_parameter_is_kept_for_the_runner_where_it_can_be():
    for default in (None, '{"example_splits": ["a"]}'):
        given = parameter(default)
        assert settings.to_setting("data_spec", given, our.DataSpec) is given
    message = "routing must be a bulk_inferencer_pb2.Routing, not a RuntimeParameter."
    assert_refused(message, settings.to_message, "routing", parameter(), our.Routing)


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
        settings.to_setting("data_spec", parameter(default), our.DataSpec)


@pytest.mark.parametrize("mark", ["{{", "{%", "{#"])
def test_text_that_airflow_would_render_is_refused_wherever_it_stands(mark):
    text = f"serve{mark} ds }}}}"
    message = (
        f"spec has '{mark}' in '{text}', which Airflow would render as a template. Rename what it "
        f"refers to."
    )
    flat = our.ModelSpec(model_signature_name=["fine", text])
    for spec in (flat, columns_spec(y=text), our.ModelSpecs(models={"five": flat})):
        assert_refused(message, settings.to_setting, "spec", spec, type(spec))


NEGATIVE = our.FailureLimit(max_count=-1)
TOO_SMALL = our.ModelSpec(batch=our.BatchSpec(max_records=-1))
LAST = our.StageSpec(name="five", output_columns_spec=columns_of(y5="y"))
SPLIT = our.SplitRouting(weights={"five": 0})


@pytest.mark.parametrize(
    ("spec", "end"),
    [
        (TOO_SMALL, "BatchBounds comes from ModelSpec.batch."),
        (our.DataSpec(failure_limit=NEGATIVE), "FailureLimit comes from DataSpec.failure_limit."),
        (our.ComparisonSpec(most_different=-1), "comes from ComparisonSpec.most_different."),
        (our.CascadeSpec(stages=[LAST]), "Stage.exit_when comes from StageSpec.exit_when."),
        (
            our.CascadeSpec(stages=[our.StageSpec(name="five", model_spec=TOO_SMALL)]),
            "BatchBounds comes from ModelSpec.batch.",
        ),
        (our.Routing(split=SPLIT), ""),
        (
            our.ModelSpec(tf_serving=our.TFServingSpec(address="localhost:1")),
            "TFServing comes from ModelSpec.tf_serving.",
        ),
    ],
)
def test_lower_floors_check_at_once_and_the_error_names_the_setting(spec, end):
    with pytest.raises(SettingsError) as raised, settings.naming_settings():
        settings.to_setting("spec", spec, type(spec))
    assert str(raised.value).endswith(end)


def test_error_names_every_setting_that_it_is_about_and_keeps_its_type():
    with pytest.raises(ModelError) as raised, settings.naming_settings():
        raise ModelError("SavedModel.tags and SavedModel.signatures do not match.")
    assert str(raised.value) == (
        "SavedModel.tags and SavedModel.signatures do not match. SavedModel.signatures comes from "
        "ModelSpec.model_signature_name. SavedModel.tags comes from ModelSpec.tag."
    )


def test_other_errors_pass_as_they_are():
    for error in (InputError("No file, and MySavedModel.tagset."), ValueError("SavedModel.tags")):
        with pytest.raises(type(error)) as raised, settings.naming_settings():
            raise error
        assert raised.value is error


@pytest.mark.parametrize(("field", "setting"), settings._SETTING_OF_FIELD.items())
def test_fields_and_settings_of_the_table_exist(field, setting):
    owner, _, name = field.partition(".")
    (dataclass,) = [kind for kind in DATACLASSES if kind.__name__ == owner]
    assert not name or name in {field.name for field in dataclasses.fields(dataclass)}
    message, *path = setting.split(".")
    descriptor = our.DESCRIPTOR.message_types_by_name[message]
    for part in path:
        descriptor = descriptor.fields_by_name[part].message_type or descriptor


@pytest.mark.parametrize("properties", [{}, {"data_spec": None}, {"data_spec": ""}])
def test_property_that_is_left_out_is_an_empty_message(properties):
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


@pytest.mark.parametrize("text", ["[]", '"x"', "1", '{"example_splits": 3}', "{", "\0"])
def test_what_is_not_json_of_the_message_is_refused(text):
    message = f"data_spec must be JSON of bulk_inferencer.DataSpec, but it is {text!r}: "
    with pytest.raises(SettingsError) as raised:
        settings.parse({"data_spec": text}, "data_spec", our.DataSpec)
    assert str(raised.value).startswith(message)


def test_names_are_joined_by_commas():
    assert settings.names({"n": "five,ten"}, "n") == ["five", "ten"]
    assert settings.names({"n": ""}, "n") == settings.names({}, "n") == []


LIMITS = our.RequestLimits(request_seconds=1, total_seconds=2)
OPTIONS = [our.ChannelOption(name="number", number=-1), our.ChannelOption(name="text", text="t")]


def served(signatures=(), **fields):
    spec = our.TFServingSpec(address="host:8500", model_name="m", **fields)
    return our.ModelSpec(model_signature_name=signatures, tf_serving=spec)


def on_vertex(signatures=(), **fields):
    spec = our.VertexEndpointSpec(name=ENDPOINT, **fields)
    return our.ModelSpec(model_signature_name=signatures, vertex_endpoint=spec)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (our.ModelSpec(), SavedModel("/m")),
        (
            our.ModelSpec(model_signature_name=["a", "b"], tag=["t"], import_modules=["text"]),
            SavedModel("/m", signatures=("a", "b"), tags=("t",), import_modules=("text",)),
        ),
        (served(), TFServing("host:8500", "m")),
        (served(version=0), TFServing("host:8500", "m", version=0)),
        (
            served(
                ["a", "b"],
                version_label="stable",
                credentials="grpc:ssl_channel_credentials",
                channel_options=OPTIONS,
                limits=LIMITS,
            ),
            TFServing(
                "host:8500",
                "m",
                version_label="stable",
                signatures=("a", "b"),
                credentials="grpc:ssl_channel_credentials",
                channel_options=(("number", -1), ("text", "t")),
                limits=Limits(1, 2),
            ),
        ),
        (on_vertex(), VertexEndpoint(ENDPOINT)),
        (
            on_vertex(["s"], input_name="x", raw=True, client="module:client", limits=LIMITS),
            VertexEndpoint(
                ENDPOINT,
                input_name="x",
                signature="s",
                raw=True,
                client="module:client",
                limits=Limits(1, 2),
            ),
        ),
    ],
)
def test_model_spec_gives_a_model_with_all_settings(spec, expected):
    assert settings.model(spec, "/m") == expected


def test_several_signatures_of_a_vertex_endpoint_are_refused():
    message = (
        f"{ENDPOINT} can only be called with one signature, but ModelSpec.model_signature_name has "
        f"a, b. Keep one of them."
    )
    spec = on_vertex(["a", "b"])
    assert_refused(message, settings.to_setting, "model_spec", spec, our.ModelSpec)


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
    assert settings.batch_bounds(our.ModelSpec()) == BatchBounds()
    assert settings.batch_bounds(some) == BatchBounds(7, max_bytes=9, first_records=5)
    assert settings.batch_bounds(some, other) == BatchBounds(7, max_bytes=8, first_records=5)


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


def test_compression_is_named_and_an_unknown_one_refused():
    assert settings.compression(our.DataSpec()) == "GZIP"
    assert settings.compression(our.DataSpec(compression=our.NONE)) == "NONE"
    message = (
        "DataSpec.compression must be one of GZIP (0), NONE (1), not 7. Leave it out for gzip."
    )
    assert_refused(message, settings.to_setting, "d", our.DataSpec(compression=7), our.DataSpec)


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


NOT_CALLED = (
    "OutputColumnsSpec.signature_name is '{}', but the model is called with {}. Name one of these, "
    "or add it to ModelSpec.model_signature_name."
)
NO_COLUMNS = (
    "OutputExampleSpec.output_columns_spec has no columns. Name the outputs that become features, "
    "or leave out output_example_spec."
)
INCOMPLETE = "A column of OutputExampleSpec has the output '{}' and the name '{}'. It needs both."
NAMED_TWICE = (
    "OutputExampleSpec has several columns named 'value', for the outputs y, outputs. Give each of "
    "them a name of its own."
)


@pytest.mark.parametrize(
    ("entries", "signatures", "message"),
    [
        ([columns_of("other", y5="y")], [], NOT_CALLED.format("other", "serving_default")),
        ([columns_of("other", y5="y")], ["a"], NOT_CALLED.format("other", "a")),
        ([columns_of("other", y5="y")], ["a", "b"], NOT_CALLED.format("other", "a, b")),
        ([columns_of(y5="y")], ["a", "b"], NOT_CALLED.format("", "a, b")),
        ([], [], NO_COLUMNS),
        ([our.OutputColumnsSpec()], [], NO_COLUMNS),
        ([columns_of()], [], NO_COLUMNS),
        ([classify()], [], NO_COLUMNS),
        ([columns_of(**{"": "y"})], [], INCOMPLETE.format("y", "")),
        ([columns_of(y5="")], [], INCOMPLETE.format("", "y5")),
        ([regress("")], [], INCOMPLETE.format("outputs", "")),
        ([columns_of(value="y"), regress("value")], [], NAMED_TWICE),
    ],
)
def test_columns_that_cannot_be_are_refused(entries, signatures, message):
    assert_refused(message, columns, *entries, signatures=signatures)


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
