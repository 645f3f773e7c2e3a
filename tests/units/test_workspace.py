"""What the folders of a run may hold before it, and what is left in them after an error."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager

import pytest

from bulk_inferencer import _files
from bulk_inferencer._units import checkpoint
from bulk_inferencer._units.basis import Basis
from bulk_inferencer._units.checkpoint import Checkpoint, Unfinished
from bulk_inferencer._units.claim import claimed
from bulk_inferencer._units.workspace import tidy, workspace
from bulk_inferencer.errors import SettingsError
from tests.helpers import exactly, in_bucket, tree

NAMES = ["a", "failed_examples", "summary"]
SHARD = "prediction_logs-s-00000-of-00001.gz"
BASIS = Basis({"the model": "12"}, {})


@pytest.fixture
def root(tmp_path):
    """A folder whose name is a pattern elsewhere."""
    return tmp_path / "run[1]*"


def write(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


@contextmanager
def space_in(root, place=str, basis=None):
    folders = [place(f"{root}/{name}") for name in NAMES]
    with workspace(folders, folders[-1], basis) as space:
        yield space


def write_and_raise(root, error, place=str):
    with space_in(root, place):
        write(root, f"a/{SHARD}", "summary/summary.json", "a/.work/deep/attempt")
        write(root, "failed_examples/Split-s/failed_examples-00000-of-00001.gz")
        raise error


def test_folder_that_is_not_empty_is_refused_and_left_as_it_is(root):
    write(root, "summary/b", "summary/a/1")
    message = (
        f"The folder {root}/summary is not empty: it holds 2 files, such as {root}/summary/a/1. "
        f"Choose another folder: results are never overwritten. There is no summary.json in "
        f"{root}/summary, so they may be from a run that was killed. If nobody needs them, delete "
        f"them."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        write_and_raise(root, ValueError("It went on."))
    assert tree(root) == ["summary/a/1", "summary/b"]


def test_finished_results_of_another_job_are_named_as_such(root):
    write(root, "summary/summary.json")
    ending = (
        "They are the finished results of another job: of other inputs or another model, or with "
        "other settings, as those of a trial."
    )
    with pytest.raises(SettingsError, match=f"{ending}$"), space_in(root):
        pass


@pytest.mark.parametrize(("place", "left"), [(str, NAMES), (in_bucket, [])], ids=["disk", "bucket"])
def test_folders_are_left_empty_after_an_error(root, place, left):
    with pytest.raises(KeyboardInterrupt):
        write_and_raise(root, KeyboardInterrupt(), place)
    assert tree(root) == []
    assert not left or sorted(path.name for path in root.rglob("*")) == left


def test_folder_stays_what_it_was_after_an_error(root, tmp_path):
    (root / "summary").mkdir(parents=True)
    (root / "summary").chmod(0o2770)
    (tmp_path / "elsewhere").mkdir()
    (root / "a").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeyboardInterrupt):
        write_and_raise(root, KeyboardInterrupt())
    assert (root / "summary").stat().st_mode & 0o7777 == 0o2770
    assert (root / "a").is_symlink()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_what_somebody_else_put_there_in_the_meantime_stays(root):
    def fail():
        with space_in(root):
            write(root, "a/notes.txt", f"a/{SHARD}")
            raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        fail()
    assert tree(root) == ["a/notes.txt"]


def test_folder_that_cannot_be_emptied_is_logged_beside_the_error(root, monkeypatch, caplog):
    def delete(path):
        raise OSError("read-only")

    def fail():
        with space_in(root):
            write(root, f"a/{SHARD}")
            monkeypatch.setattr(_files, "delete", delete)
            raise ValueError("the first error")

    with caplog.at_level(logging.ERROR), pytest.raises(ValueError, match=r"^the first error$"):
        fail()
    folders = ", ".join(f"{root}/{name}" for name in NAMES)
    assert f"Could not empty {folders}. Delete what is in there." in caplog.messages


@pytest.mark.parametrize("basis", [None, BASIS], ids=["unknown", "known"])
def test_work_that_a_killed_run_left_unfinished_is_cleared_at_the_end(root, basis):
    write(root, "a/.work/attempt", "summary/.work/units-1/x.json.part")
    with space_in(root, basis=basis) as space:
        assert space.finished() == []
        assert os.path.isdir(space.manifests_folder)
        write(root, f"a/{SHARD}")
    assert tree(root) == [f"a/{SHARD}"]
    assert list(root.rglob(".work")) == []


def test_run_that_lost_its_folders_leaves_what_is_in_them_alone(root):
    def lose():
        with space_in(root):
            for name in NAMES:
                for claim in (root / name / ".work").glob("claim-*"):
                    claim.unlink()
            write(root, f"a/{SHARD}", "summary/summary.json")  # of the run that took over
            raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        lose()
    assert [path for path in tree(root) if ".work" not in path] == [
        f"a/{SHARD}", "summary/summary.json",
    ]  # fmt: skip


def kill(root, basis, name="a"):
    """Leaves what a run leaves that is killed in its commit."""
    folders = (f"{root}/{name}", f"{root}/failed_examples", f"{root}/summary")
    checkpoint.write_job(f"{root}/summary/.work", Unfinished(basis, folders))
    write(root, f"{name}/{SHARD}", f"summary/.work/units-{basis.digest[:16]}/1.json")


def test_results_outside_of_an_unfinished_run_are_never_cleared(root):
    kill(root, BASIS, "other")
    write(root, f"a/{SHARD}")
    with pytest.raises(SettingsError, match="/a is not empty"), space_in(root, basis=BASIS):
        pass
    assert f"a/{SHARD}" in tree(root)


@pytest.mark.parametrize("basis", [None, Basis({"the model": "13"}, {})], ids=["unknown", "other"])
def test_unfinished_units_are_not_cleared_for_a_job_that_cannot_use_them(root, basis):
    kill(root, BASIS)
    before = tree(root)
    differs = "the model" if basis else "this one cannot be compared"
    message = rf"but not of this job\. Different: {differs}\. Nothing was scored"
    with pytest.raises(SettingsError, match=message), space_in(root, basis=basis):
        pass
    assert tree(root) == before


def test_units_that_wait_in_the_outputs_are_not_cleared_for_a_checkpoint(root, tmp_path):
    kill(root, BASIS)
    before = tree(root)
    folders = [f"{root}/{name}" for name in NAMES]
    setting = Checkpoint(f"{tmp_path}/checkpoints")
    with (
        pytest.raises(SettingsError, match=r"Different: it had no checkpoint\."),
        workspace(folders, folders[-1], BASIS, setting),
    ):
        pass
    assert tree(root) == before
    with workspace(folders, folders[-1], BASIS, setting, restart=True):
        pass
    assert tree(root) == []


def test_results_of_a_run_that_was_killed_after_its_commit_stay(root):
    kill(root, BASIS)
    write(root, "summary/summary.json")
    with pytest.raises(SettingsError, match="/a is not empty"), space_in(root, basis=BASIS):
        pass
    assert f"a/{SHARD}" in tree(root)
    tidy([f"{root}/{name}" for name in NAMES])
    assert tree(root) == [f"a/{SHARD}", "summary/summary.json"]


def test_only_old_checkpoints_of_ours_are_deleted(tmp_path):
    digest = BASIS.digest[:32]
    names = [digest, "nightly", "0" * 32]
    for name in names:
        checkpoint.write_job(f"{tmp_path}/{name}", Unfinished(BASIS, ()))
        os.utime(tmp_path / name / "job.json", (0, 1))
    (tmp_path / names[2] / "job.json").write_text("{}")
    os.utime(tmp_path / names[2] / "job.json", (0, 1))
    with claimed([f"{tmp_path}/{digest}"]):
        checkpoint.delete_old(str(tmp_path), 1)
        assert (tmp_path / digest).exists()
    checkpoint.delete_old(str(tmp_path), None)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    checkpoint.delete_old(str(tmp_path), 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])
