"""BulkInferencer as a pipeline's author calls it; see test_channels.py for what all share."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import json_format
from tfx import v1 as tfx
from tfx.proto import bulk_inferrer_pb2 as theirs
from tfx.types.standard_artifacts import (
    Examples,
    InferenceResult,
    InfraBlessing,
    Model,
    ModelBlessing,
    PushedModel,
)

from bulk_inferencer import BulkInferencer, InferenceSummary
from bulk_inferencer import bulk_inferencer_pb2 as our
from bulk_inferencer.errors import SettingsError
from tests.components.tfx_helpers import (
    ENDPOINT,
    assert_refused,
    bulk,
    channel,
    columns_spec,
    message_of,
    parameter,
    types_of,
)

MODEL_IS_MISSING = (
    "model_export is missing. Give it, or model, its other name. It can only be left out with an "
    "endpoint in ModelSpec and without a blessing."
)


@pytest.mark.parametrize("is_positional", [False, True])
def test_call_of_the_readme(is_positional):
    arguments = {
        "examples": channel(Examples),
        "model_export": channel(Model),
        "model_blessing": channel(ModelBlessing),
        "data_spec": our.DataSpec(example_splits=["unlabelled"]),
        "model_spec": our.ModelSpec(),
    }

    made = BulkInferencer(*arguments.values()) if is_positional else BulkInferencer(**arguments)

    assert dict(made.inputs) == {
        "examples": arguments["examples"],
        "model": arguments["model_export"],
        "model_blessing": arguments["model_blessing"],
    }
    assert message_of(made, "data_spec", our.DataSpec) == arguments["data_spec"]
    assert types_of(made.outputs) == {
        "inference_result": InferenceResult,
        "summary": InferenceSummary,
        "failed_examples": Examples,
    }


def test_model_has_two_names_and_an_input_for_its_type():
    model = channel(Model)
    assert bulk(model=model).inputs["model"] is model
    pushed = bulk(model=channel(PushedModel)).inputs
    assert {"pushed_model"} == pushed.keys() - {"examples"}
    message = "model_export and model are two names of one argument. Give only one of them."
    assert_refused(message, bulk, model=model, model_export=model)
    assert_refused(MODEL_IS_MISSING, BulkInferencer, examples=channel(Examples))


def test_model_may_be_left_out_with_an_endpoint_but_not_where_it_is_to_be_blessed():
    examples, blessing = channel(Examples), channel(ModelBlessing)
    assert "model" not in BulkInferencer(examples, model_spec=ENDPOINT).inputs
    given = {"examples": examples, "model_spec": ENDPOINT, "model_blessing": blessing}
    assert_refused(MODEL_IS_MISSING, BulkInferencer, **given)
    made = BulkInferencer(**given, model_export=channel(Model))
    assert {"model", "model_blessing"} <= set(made.inputs)


def test_blessings_that_are_given_are_required():
    kinds = {"model_blessing": ModelBlessing, "infra_blessing": InfraBlessing}
    for names in ([], ["model_blessing"], ["infra_blessing"], list(kinds)):
        made = bulk(**{name: channel(kinds[name]) for name in names})
        assert made.exec_properties["required_blessings"] == ",".join(names)
        assert set(names) <= made.inputs.keys()


def test_blessing_of_another_type_is_refused_by_tfx():
    for name in ("model_blessing", "infra_blessing"):
        with pytest.raises(TypeError, match=f"{name} should be a Channel of type "):
            bulk(**{name: channel(Model)})


COLUMN = theirs.PredictOutputCol(output_key="y", output_column="y5")
COLUMNS = theirs.OutputColumnsSpec(predict_output={"output_columns": [COLUMN]})
SPECS_OF_TFX = {
    "data_spec": tfx.proto.DataSpec(example_splits=["a"]),
    "model_spec": tfx.proto.ModelSpec(model_signature_name=["s"], tag=["serve"]),
    "output_example_spec": theirs.OutputExampleSpec(output_columns_spec=[COLUMNS]),
}


@pytest.mark.parametrize("is_positional", [False, True])
@pytest.mark.parametrize("convert", [None, json_format.MessageToDict, json_format.MessageToJson])
def test_call_of_tfxs_component_means_the_same(convert, is_positional):
    channels = {"examples": Examples, "model": Model, "model_blessing": ModelBlessing}
    specs = {n: convert(spec) if convert else spec for n, spec in SPECS_OF_TFX.items()}
    given = {**{name: channel(kind) for name, kind in channels.items()}, **specs}

    made, of_tfx = (
        component(*given.values()) if is_positional else component(**given)
        for component in (BulkInferencer, tfx.components.BulkInferrer)
    )

    assert dict(made.inputs) == dict(of_tfx.inputs)
    for name, spec in SPECS_OF_TFX.items():
        kind = getattr(our, type(spec).__name__)
        assert message_of(made, name, kind) == message_of(of_tfx, name, kind) != kind()


def test_all_settings_may_be_runtime_parameters():
    names = ("data_spec", "model_spec", "output_example_spec")
    given = {name: parameter(name=name) for name in names}
    made = bulk(**given)
    assert {name: made.exec_properties[name] for name in names} == given
    assert made.outputs["output_examples"].type is Examples
    # What is not known yet is not checked.
    y_of_b = columns_spec("b", y5="y")
    assert bulk(model_spec=parameter(), output_example_spec=y_of_b)
    with pytest.raises(SettingsError, match=r"^OutputColumnsSpec\.signature_name is 'b', but "):
        bulk(model_spec=our.ModelSpec(), output_example_spec=y_of_b)


def test_hooks_come_from_a_file_or_a_module(monkeypatch):
    message = "module_file and module_path are both given: a.py and b. Give only one of them."
    assert_refused(message, bulk, module_file="a.py", module_path="b")
    assert bulk(module_path="b").exec_properties["module_path"] == "b"
    monkeypatch.setenv("UNSUPPORTED_DO_NOT_PACKAGE_USER_MODULES", "1")
    for file in ("a.py", Path("a.py")):
        assert bulk(module_file=file).exec_properties["module_file"] == "a.py"
    for name in ("module_file", "module_path"):
        with pytest.raises(SettingsError, match=rf"^{name} has '{{{{' in "):
            bulk(**{name: "{{ ds }}.py"})
