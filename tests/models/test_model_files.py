from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from bulk_inferencer._models import model_files
from bulk_inferencer._models.cascade import CascadeModel, Stage
from bulk_inferencer._models.hooks import HookedModel
from bulk_inferencer._models.predictor import check_unchanged, files_of
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer._models.tf_serving import TFServing
from bulk_inferencer.errors import ModelError
from tests.helpers import exactly, in_bucket
from tests.models.fakes import Model, length


@pytest.fixture
def folder(tmp_path, tf1_model):
    return Path(shutil.copytree(tf1_model, tmp_path / "copy"))


def save_large(folder):
    """Makes a file of weights that is too large to be read whole."""
    path = folder / "weights"
    np.zeros(1 << 19, np.float32).tofile(path)
    return path


def change_vocabulary(folder):
    (folder / "assets" / "vocabulary.txt").write_text("large\nbig\n")


def add_file(folder):
    (folder / "assets" / "new").touch()


def rename_file(folder):
    (folder / "assets" / "vocabulary.txt").rename(folder / "assets" / "v")


def change_weights(folder):
    """As a deployment does: another file takes the place, with a time of its own."""
    np.ones(1 << 19, np.float32).tofile(folder / "new")
    os.utime(folder / "new", (1, 1))
    (folder / "new").rename(folder / "weights")


CHANGES = [change_vocabulary, add_file, rename_file, change_weights]


@pytest.mark.parametrize("change", CHANGES)
def test_fingerprint_and_stamp_change_with_the_files(folder, tf1_model, change):
    save_large(folder)
    for digest in (model_files.fingerprint, model_files.stamp):
        before = digest(str(folder))
        assert re.fullmatch("[0-9a-f]{64}", before)
        assert digest(f"{folder}/") == before
    assert model_files.fingerprint(in_bucket(folder)) == model_files.fingerprint(str(folder))
    before = model_files.fingerprint(str(folder)), model_files.stamp(str(folder))
    change(folder)
    assert model_files.fingerprint(str(folder)) != before[0]
    assert model_files.stamp(str(folder)) != before[1]


def test_fingerprint_stays_with_the_copies(folder, tf1_model):
    assert SavedModel(tf1_model).fingerprint() == SavedModel(folder).fingerprint()


def test_stamp_tells_files_of_equal_size_and_time_apart_if_they_are_small(folder):
    before = model_files.stamp(str(folder))
    index = folder / "variables" / "variables.index"
    times, content = os.stat(index), index.read_bytes()
    index.write_bytes(content[::-1])
    os.utime(index, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert model_files.stamp(str(folder)) != before


def test_stamp_does_not_read_large_files(folder, monkeypatch):
    large = save_large(folder)
    opened = []
    open_to_read = model_files._files.open_to_read
    monkeypatch.setattr(
        model_files._files, "open_to_read", lambda path: opened.append(path) or open_to_read(path)
    )
    model_files.stamp(str(folder))
    assert opened
    assert str(large) not in opened


@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: model,
        lambda model: HookedModel(model, preprocess=list),
        lambda model: CascadeModel([Stage("a", Model(length)), Stage("b", model)]),
    ],
    ids=["model", "hooks", "cascade"],
)
def test_model_that_changes_after_its_fingerprint_was_taken_is_noticed(folder, wrap):
    model = wrap(SavedModel(folder))
    before = files_of(model)
    check_unchanged(model, before)
    (folder / "saved_model.pb").touch()  # newer, but the same
    check_unchanged(model, before)
    change_vocabulary(folder)
    message = (
        f"The files of {model.uri} have changed since the run began, so that what was loaded is "
        f"not the model whose fingerprint the results would carry. Nothing was committed. Run "
        f"again, and let a new model have a folder of its own."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        check_unchanged(model, before)


def test_model_without_files_does_not_change():
    for model in (TFServing("localhost:1", "m", version=3), Model(length)):
        before = files_of(model)
        assert before.stamp == ""
        check_unchanged(model, before._replace(fingerprint="another"))
