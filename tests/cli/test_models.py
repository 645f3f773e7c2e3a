"""MODEL on the command line becomes a model."""

from __future__ import annotations

import click
import pytest

from bulk_inferencer import HookedModel, PythonModel, SavedModel, TFServing, VertexEndpoint
from bulk_inferencer.cli.models import model_of
from bulk_inferencer.errors import SettingsError
from tests.helpers import exactly

ENDPOINT = "projects/p/locations/l/endpoints/1"


def made(model, **given):
    return model_of(model, **{"takes_records": None, **given})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("models/five_times", SavedModel("models/five_times")),
        ("gs://bucket/model", SavedModel("gs://bucket/model")),
        ("grpc://host:8500/five", TFServing("host:8500", "five")),
        ("grpc://host:8500/five:3", TFServing("host:8500", "five", version=3)),
        ("grpc://host:8500/five:stable", TFServing("host:8500", "five", version_label="stable")),
        ("grpc://host:8500/five/versions/3", TFServing("host:8500", "five", version=3)),
        ("grpc://host/five/labels/a", TFServing("host", "five", version_label="a")),
        (ENDPOINT, VertexEndpoint(ENDPOINT)),
        (f"vertex://{ENDPOINT}", VertexEndpoint(ENDPOINT)),
        ("package.module:load", PythonModel("package.module:load")),
    ],
)
def test_text_says_what_kind_of_model_it_is(text, expected):
    assert made(text) == expected
    if not isinstance(expected, PythonModel):
        assert made(expected.uri) == expected


def test_folder_with_a_colon_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model:latest").mkdir()
    assert made("model:latest") == SavedModel("model:latest")


def test_options_become_settings():
    assert made("m", signatures=("a",), tags=("t",), takes_records=False) == SavedModel(
        "m", signatures=("a",), tags=("t",), takes_records=False
    )
    assert made("m:f", model_path="p", features=(("a", "b"), ("c",))) == PythonModel(
        "m:f", "p", features=("a", "b", "c")
    )
    assert made(ENDPOINT, credentials="m:client", input_name="b64") == VertexEndpoint(
        ENDPOINT, client="m:client", input_name="b64"
    )
    hooked = made("m", preprocess="m:before", postprocess="m:after")
    assert hooked == HookedModel(SavedModel("m"), "m:before", "m:after")


@pytest.mark.parametrize(
    ("model", "given", "message"),
    [
        ("m", {"model_path": "p"},
         "--model-path has no meaning for m, which is the folder of a SavedModel. Leave it out."),
        ("m:f", {"signatures": ("a",)}, (
            "--signature has no meaning for m:f, which is a function that loads a model. Leave it "
            "out.")),
        ("grpc://host", {}, (
            "grpc://host is no model server. Write grpc://host:port/model, and behind it a version "
            "or a label if need be, as in grpc://host:port/model:3.")),
    ],
)  # fmt: skip
def test_option_of_another_kind_of_model_is_refused(model, given, message):
    with pytest.raises(click.UsageError, match=exactly(message)):
        made(model, **given)


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(SettingsError, match=r"^PythonModel\.takes_records hands over the records"):
        made("m:f", takes_records=True, allow_missing=True)
