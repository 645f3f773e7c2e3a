"""`inspect` on the command line."""

from __future__ import annotations

import json

import pytest
import tensorflow as tf

from tests.helpers import save_functions, save_linear


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    inputs = {
        "x": tf.TensorSpec([None], tf.float32, name="x"),
        "pair": tf.TensorSpec([None, 2], tf.float32, name="pair"),
    }
    path = tmp_path_factory.mktemp("tensors") / "model"
    return save_functions(path, serving_default=(lambda x, pair: {"y": x + pair[:, 0]}, inputs))


def test_model_shows_its_signatures_and_what_it_takes(here, call, model):
    code, out, err = call("inspect", model)
    assert (code, err) == (0, f"Inspecting {model}.\n")
    assert out.splitlines()[:9] == [
        f"SavedModel {model}",
        "",
        "Signature serving_default (predict)",
        "input  type              takes",
        "pair   float32[None, 2]  the feature or column of its name",
        "x      float32[None]     the feature or column of its name",
        "output  type",
        "y       float32[None]",
        "Takes tables and tf.Examples.",
    ]
    assert out.splitlines()[9:] == ["Not whole files and other bytes; --json says why."]


def test_inputs_that_fit_are_scored(here, call, model):
    code, out, _ = call(
        "inspect", model, "data.parquet", "--columns", "x", "--columns", "pair=x,id"
    )
    assert code == 0
    assert "The first 64 records fit." in out.splitlines()
    assert "\nNot " not in out


def test_inputs_that_do_not_fit_have_a_cure_and_an_exit_code(here, call, model):
    code, out, _ = call("inspect", model, "data.parquet")
    assert code == 1
    verdict, cure = out.splitlines()[-2:]
    assert verdict == "The records do not fit."
    assert cure == (
        f"The model in {model} wants the columns pair, x, but the inputs have the columns id, x, "
        f"name. There is no pair. Say which column it is, for example with --rename id=pair."
    )


def test_records_that_fail_are_counted(here, call):
    code, out, _ = call("inspect", "own_models:picky", "data.parquet")
    assert (code, out.splitlines()[-2:]) == (
        1,
        ["10 of the first 64 records do not fit:", "  10  ValueError: x is too small"],
    )


def test_feature_that_a_model_parses_and_no_record_has_is_named(here, call, tmp_path_factory):
    path = save_linear(tmp_path_factory.mktemp("linear") / "model")
    code, out, _ = call("inspect", path, "data.parquet", "--columns", "id")
    assert code == 1
    assert out.splitlines()[-3].startswith("64 of the first 64 records do not fit:")
    assert out.splitlines()[-1] == (
        "The model parses x, but no column has that name. If a column is meant, say which: "
        "--rename id=x."
    )


def test_script_gets_one_document(here, call):
    code, out, _ = call("inspect", "own_models:talkative", "data.parquet", "--json")
    document = json.loads(out)
    assert code == 0
    assert document["model"]["uri"] == "python:own_models:talkative"
    assert document["model"]["signatures"][0]["takes"]["tables"] == ""
    assert document["inputs"] == {
        "fits": True,
        "input_format": "parquet",
        "files": 1,
        "bytes": (here / "data.parquet").stat().st_size,
        "columns": {"id": "int64", "x": "float", "name": "string"},
        "unused": [],
        "missing": [],
        "records": 64,
        "outputs": {"y": "float32[None]"},
        "failures": {},
        "problem": "",
    }


def test_what_the_users_modules_print_is_not_among_the_json(here, call_json):
    (here / "printing.py").write_text("print('hello')\nfrom own_models import talkative\n")
    document = call_json("inspect", "printing:talkative", "data.parquet", "--json")
    assert document["inputs"]["fits"]
    assert "Add --takes-records." in str(document["model"]["signatures"][0]["takes"])
