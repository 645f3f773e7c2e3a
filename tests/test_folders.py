from __future__ import annotations

import logging
import re

import pytest

from bulk_inferencer import _files
from bulk_inferencer._units.folders import (
    all_or_nothing,
    delete_work_folders,
    existing_sizes,
    make_folders,
)
from bulk_inferencer._units.outputs import Outputs
from bulk_inferencer.errors import SettingsError
from tests.helpers import tree


@pytest.fixture
def outputs(tmp_path):
    """Outputs of two models."""
    return Outputs(
        inference_result={"a": f"{tmp_path}/a", "b": f"{tmp_path}/b"},
        summary=f"{tmp_path}/summary",
        failed_examples=f"{tmp_path}/failed_examples",
        comparison=f"{tmp_path}/comparison",
    )


ALL = ["a", "b", "comparison", "failed_examples", "summary"]


def write(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def write_and_raise(error, folder, *names):
    write(folder, *names)
    raise error


@pytest.mark.parametrize("name", ALL)
def test_folder_of_any_kind_that_is_not_empty_is_refused(tmp_path, outputs, name):
    write(tmp_path, f"{name}/file")
    message = (
        f"Expected an empty folder to write to, got 1 files in {tmp_path}/{name}, such as "
        f"{tmp_path}/{name}/file. Choose another folder: results are never overwritten. Where "
        f"there is no summary.json, they are of a run that was killed, or that is not over, and "
        f"once it is, the folder can be emptied."
    )
    with pytest.raises(SettingsError, match=f"^{re.escape(message)}$"), all_or_nothing(outputs):
        pytest.fail("It went on.")
    assert tree(tmp_path) == [f"{name}/file"]


def test_all_folders_are_kept_where_nothing_is_raised(tmp_path, outputs):
    names = [f"{name}/file" for name in ALL]
    with all_or_nothing(outputs):
        write(tmp_path, *names)
    assert tree(tmp_path) == names


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()], ids=["error", "break"])
def test_all_folders_are_empty_after_an_error(tmp_path, outputs, error):
    with pytest.raises(type(error)), all_or_nothing(outputs):
        write_and_raise(error, tmp_path, *[f"{name}/deep/file" for name in ALL])
    assert sorted(path.name for path in tmp_path.rglob("*")) == ALL


def test_folder_that_cannot_be_emptied_is_told_and_the_others_are(
    tmp_path, outputs, monkeypatch, caplog
):
    delete_folder = _files.delete_folder

    def delete(folder):
        if folder.endswith("/a"):
            raise OSError("read-only")
        delete_folder(folder)

    monkeypatch.setattr(_files, "delete_folder", delete)
    with (
        caplog.at_level(logging.ERROR),
        pytest.raises(ValueError, match=r"^the first error$"),
        all_or_nothing(outputs),
    ):
        write_and_raise(ValueError("the first error"), tmp_path, *[f"{n}/file" for n in ALL])
    assert tree(tmp_path) == ["a/file"]
    assert caplog.messages == [f"Could not empty {tmp_path}/a: delete what is in it."]


def test_folders_are_those_that_units_write_to(tmp_path, outputs):
    make_folders(outputs, ["train", "eval"])
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    splits = ["failed_examples/Split-eval", "failed_examples/Split-train"]
    assert found == sorted([*ALL, *(f"{name}/.work" for name in ALL), *splits])
    delete_work_folders(outputs)
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")) == sorted(
        [*ALL, *splits]
    )


def test_sizes_are_of_what_units_committed_and_not_of_attempts(tmp_path, outputs):
    committed = ["a/1", "b/1", "summary/.work/failures-s", "failed_examples/Split-s/1"]
    write(tmp_path, *committed, "a/.work/attempt", "summary/.work/manifests", "comparison/.work/x")
    assert existing_sizes(outputs) == {f"{tmp_path}/{name}": len(name) for name in committed}
