"""Settings: from the protos that TFX carries to the dataclasses that everything else takes."""

from __future__ import annotations

import dataclasses
import json

import pytest
from tfx.proto import bulk_inferrer_pb2 as theirs

from bulk_inferencer import bulk_inferencer_pb2 as our
from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._formats.example import Column
from bulk_inferencer._formats.table_settings import TableSettings
from bulk_inferencer._models.cascade import CascadeModel, ExitWhen, Stage
from bulk_inferencer._models.python_model import PythonModel
from bulk_inferencer._models.retries import Limits
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer._models.tf_serving import TFServing
from bulk_inferencer._models.vertex import VertexEndpoint
from bulk_inferencer._units.checkpoint import Checkpoint
from bulk_inferencer._units.damaged_files import DamagedFiles
from bulk_inferencer._units.failure_limit import FailureLimit
from bulk_inferencer._units.routing import SplitRouting
from bulk_inferencer.components import model_settings, settings
from bulk_inferencer.components.arguments import to_setting
from bulk_inferencer.errors import SettingsError
from bulk_inferencer.results.compare import Comparing
from tests.components.tfx_helpers import assert_refused, cascade_spec, columns_of, columns_spec

VERTEX = "projects/p/locations/l/endpoints/1"


def classify(name="", **columns):
    output = our.ClassifyOutput(**columns)
    return our.OutputColumnsSpec(signature_name=name, classify_output=output)


def regress(column, name=""):
    output = our.RegressOutput(value_column=column)
    return our.OutputColumnsSpec(signature_name=name, regress_output=output)


CLASSIFY = classify("c", label_column="l", score_column="s")
REGRESS = regress("value", "r")

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
    assert model_settings.model(spec, "/m") == expected


def test_model_of_python_takes_no_setting_of_other_models():
    for given in ({}, {"takes_records": True}, {"features": ("x", "z"), "allow_missing": True}):
        spec = our.ModelSpec(**given, gate_policy=our.FAIL)
        expected = PythonModel(json.loads, "/m", **given)
        assert model_settings.python_model(spec, json.loads, "/m") == expected
    message = (
        "The module defines load_model, so ModelSpec.{} has no meaning: it is for SavedModels and "
        "endpoints. Leave it out, or remove load_model."
    )
    for field, spec in (("tag", our.ModelSpec(tag=["gpu"])), ("tf_serving", served())):
        assert_refused(message.format(field), model_settings.python_model, spec, json.loads, "/m")


def test_settings_of_a_model_of_python_are_refused_without_one():
    model_settings.check_needs_no_module(our.ModelSpec(takes_records=True))
    message = (
        "ModelSpec.features is for a model that load_model loads, but there is no load_model. "
        "Define it in a module and name that in module_file or module_path, or leave out "
        "ModelSpec.features."
    )
    assert_refused(message, model_settings.check_needs_no_module, our.ModelSpec(features=["x"]))


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
    assert model_settings.cascade(spec, {"five": "/five", "ten": "/ten"}) == CascadeModel(stages)


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
        (our.TableSpec, "format", "PARQUET (0), CSV (1), JSON_LINES (2)", "for Parquet."),
    ],
)
def test_choice_that_does_not_exist_is_refused(kind, field, choices, otherwise):
    message = f"{kind.__name__}.{field} must be one of {choices}, not 7. Leave it out {otherwise}"
    assert_refused(message, to_setting, "spec", kind(**{field: 7}), kind)


def test_choices_are_named():
    assert settings.compression(our.DataSpec()) == "GZIP"
    assert settings.compression(our.DataSpec(compression=our.NONE)) == "NONE"
    assert model_settings.gate_policy(our.ModelSpec(gate_policy=our.IGNORE)) == "IGNORE"


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


# Tables


def vectors(**columns):
    return {name: our.ColumnList(columns=own) for name, own in columns.items()}


@pytest.mark.parametrize(
    ("spec", "columns", "rename"),
    [
        (our.DataSpec(), (), {}),
        (our.DataSpec(rename={"a": "x"}), (), {"a": "x"}),
        (our.DataSpec(columns=["a", "b"], rename={"a": "x"}), ("a", "b"), {"a": "x"}),
        (our.DataSpec(vectors=vectors(v=["b", "a"])), {"v": ("b", "a")}, {}),
        (
            our.DataSpec(columns=["a", "b"], rename={"a": "x"}, vectors=vectors(v=["c"])),
            {"x": "a", "b": "b", "v": ("c",)},
            {},
        ),
    ],
)
def test_columns_that_the_model_sees_are_named_renamed_and_joined(spec, columns, rename):
    assert settings.view(spec) == {"columns": columns, "rename": rename}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"rename": {"a": "x"}, "vectors": vectors(v=["b"])},
            (
                "DataSpec.rename names the column 'a', but with DataSpec.vectors, the model sees "
                "only the columns that are named. Add it to DataSpec.columns."
            ),
        ),
        (
            {"columns": ["a"], "rename": {"a": "v"}, "vectors": vectors(v=["b"])},
            (
                "DataSpec.vectors makes an input 'v', and the column 'a' has the same name for the "
                "model. Rename the column in DataSpec.rename."
            ),
        ),
        (
            {"vectors": vectors(v=[])},
            "DataSpec.vectors['v'] names no column. Name those that become the vector.",
        ),
        (
            {"columns": ["a"], "rename": {"b": "x"}},
            "rename names the column 'b', which columns leaves out. Add it to columns.",
        ),
    ],
)
def test_columns_that_contradict_each_other_are_refused(spec, message):
    assert_refused(message, to_setting, "data_spec", our.DataSpec(**spec), our.DataSpec)


def test_table_keeps_all_scalars_or_those_that_are_named_or_none():
    assert settings.table(our.TableSpec()) == TableSettings()
    spec = our.TableSpec(format="JSON_LINES", keep=["id"], binary_columns=["image"])
    expected = TableSettings(format="json_lines", keep=("id",), binary=("image",))
    assert settings.table(spec) == expected
    assert settings.table(our.TableSpec(keep_none=True)) == TableSettings(keep=())
    both = our.TableSpec(keep=["id", "x"], keep_none=True)
    message = "TableSpec.keep_none is true, but TableSpec.keep names id, x. Leave out one of them."
    assert_refused(message, to_setting, "table_spec", both, our.TableSpec)


def test_what_is_not_said_of_logs_is_left_to_the_lower_floors():
    assert settings.logs(our.DataSpec()) == {}
    given = {"prediction_logs": True, "records_in_logs": False}
    assert settings.logs(our.DataSpec(**given)) == given


# Columns of output examples


def columns(*entries, signatures=()):
    spec = our.OutputExampleSpec(output_columns_spec=entries)
    return model_settings.columns(spec, our.ModelSpec(model_signature_name=signatures))


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
    assert_refused(message.format("StageSpec"), model_settings.cascade, spec, {})
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
    assert model_settings.columns(spec, both, both) == (Column("sum/y", "y5"),)
    assert_refused(message, model_settings.columns, spec, both, one)
