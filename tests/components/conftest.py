"""Models, examples and artifacts that the tests of components/ share; none may be changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tfx.types.standard_artifacts import Examples, Model

from tests.components.tfx_helpers import (
    SPLITS,
    artifact,
    examples_of,
    make_outputs,
    save_model,
    write_examples,
)


@pytest.fixture(scope="session")
def model_uri(tmp_path_factory):
    """A model with the signatures `serving_default` (y = 5x), `length` and `count_steps`."""
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def ten_uri(tmp_path_factory):
    """The same with y = 10x."""
    return save_model(tmp_path_factory.mktemp("ten"), factor=10.0)


@pytest.fixture(scope="session")
def pushed_model_uri(model_uri, tmp_path_factory):
    """The model of `model_uri` as Pusher copies it: without a folder for the format."""
    folder = tmp_path_factory.mktemp("pushed") / "1"
    return str(shutil.copytree(Path(model_uri, "Format-Serving"), folder))


@pytest.fixture(scope="session")
def examples_uri(tmp_path_factory):
    """Examples with the splits `train` (x = 0, 1, 2) and `unlabelled` (x = 10, 11)."""
    return write_examples(
        tmp_path_factory.mktemp("examples"),
        train=examples_of(0, 1, 2),
        unlabelled=examples_of(10, 11),
    )


@pytest.fixture(scope="session")
def uris(examples_uri, model_uri, ten_uri):
    """What `Nodes` takes."""
    return {"examples_uri": examples_uri, "five_uri": model_uri, "ten_uri": ten_uri}


@pytest.fixture
def examples(examples_uri):
    return artifact(Examples, examples_uri, SPLITS)


@pytest.fixture
def model(model_uri):
    made = artifact(Model, model_uri)
    made.id = 7
    return made


@pytest.fixture
def inputs(examples, model):
    return {"examples": examples, "model": model}


@pytest.fixture
def outputs(tmp_path):
    return make_outputs(tmp_path / "outputs")
