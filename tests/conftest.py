"""Models that several tests score with: each is built once, and none may be changed."""

from __future__ import annotations

import hypothesis
import keras
import pytest
import tf_keras

from tests import helpers

pytest_plugins = ["tests.browser"]

# Times vary with whatever else the machine does. Examples are the same each time, so that a change
# fails for what it breaks; `--hypothesis-profile search` looks for new ones.
hypothesis.settings.register_profile("tests", deadline=None, derandomize=True)
hypothesis.settings.register_profile("search", deadline=None)
hypothesis.settings.load_profile("tests")


@pytest.fixture(scope="session")
def linear_model(tmp_path_factory):
    """A tf.Module: y = 5 x."""
    return helpers.save_linear(tmp_path_factory.mktemp("linear") / "model")


@pytest.fixture(scope="session")
def tf1_model(tmp_path_factory):
    """A TF1 SavedModel with classify, regress and predict signatures."""
    folder = tmp_path_factory.mktemp("tf1")
    return helpers.save_tf1(folder / "model", folder / "vocabulary.txt")


@pytest.fixture(scope="session")
def keras_model(tmp_path_factory):
    """A Keras 3 model saved with tf.saved_model.save: y = 5 x."""
    path = tmp_path_factory.mktemp("keras") / "model"
    return helpers.save_with_signature(helpers.linear_keras(keras), path)


@pytest.fixture(scope="session")
def keras_export(tmp_path_factory):
    """A Keras 3 model saved with model.export: its signature takes x itself."""
    path = str(tmp_path_factory.mktemp("keras") / "export")
    helpers.linear_keras(keras).export(path, verbose=False)
    return path


@pytest.fixture(scope="session")
def tf_keras_model(tmp_path_factory):
    """A tf_keras model: y = 5 x."""
    path = tmp_path_factory.mktemp("tf_keras") / "model"
    return helpers.save_with_signature(helpers.linear_keras(tf_keras), path)
