"""What a checkpoint holds at the end of a run."""

from __future__ import annotations

import pytest

from bulk_inferencer import _files
from bulk_inferencer._units import checkpoint
from bulk_inferencer._units.basis import Basis
from bulk_inferencer._units.checkpoint import Unfinished
from bulk_inferencer._units.manifest import Account, Manifest, Shard
from bulk_inferencer._units.manifest_files import add_manifest, read_manifests
from bulk_inferencer._units.run_file import begin_run, is_run_over
from tests.helpers import in_bucket, tree

PLACES = pytest.mark.parametrize("place", [str, in_bucket], ids=["disk", "object store"])


def write(path):
    with _files.open_to_write(path) as file:
        file.write(b"1")


@pytest.fixture
def filled(tmp_path):
    """Fills a checkpoint with two finished units, and with what attempts have left that are not."""

    def fill(place):
        folder = place(f"{tmp_path}/c")
        checkpoint.write_job(folder, Unfinished(Basis({}, {}), ()))
        run_file = begin_run(f"{folder}/units-1")
        for key in "ab":
            path = f"{folder}/files/{key}-shard"
            write(path)
            account = Account((Shard(path, 1, 1, 0),))
            add_manifest(
                f"{folder}/units-1", Manifest("s", 0, (), 1, 0, {}, {"logs": account}, 1.0, key=key)
            )
        for name in ("files/lost", "units-1/stop-1", "units-1/a.progress", "units-0/c.json"):
            write(f"{folder}/{name}")
        write(f"{folder}/.work/claim-000001.json")
        return folder, run_file

    return fill


@PLACES
def test_sweep_leaves_finished_units(filled, tmp_path, place):
    folder, run_file = filled(place)
    units = list(read_manifests(f"{folder}/units-1"))
    checkpoint.sweep(folder, f"{folder}/units-1")
    assert list(read_manifests(f"{folder}/units-1")) == units
    left = [name for name in tree(tmp_path / "c") if not name.startswith("units-1/")]
    assert left == [".work/claim-000001.json", "files/a-shard", "files/b-shard", "job.json"]
    assert len(tree(tmp_path / "c/units-1")) == 2
    assert is_run_over(run_file)


def test_checkpoint_may_be_called_by_another_name_when_it_is_swept(filled, tmp_path, monkeypatch):
    filled(str)
    monkeypatch.chdir(tmp_path)
    checkpoint.sweep("c", "c/units-1")
    assert tree(tmp_path / "c/files") == ["a-shard", "b-shard"]


@PLACES
def test_nobody_can_go_on_from_what_is_being_cleared(filled, tmp_path, place, monkeypatch):
    folder, run_file = filled(place)
    assert checkpoint.is_open(f"{folder}/units-1")
    delete, seen = _files.delete, []

    def spy(path):
        delete(path)
        seen.append((checkpoint.is_open(f"{folder}/units-1"), is_run_over(run_file)))

    monkeypatch.setattr(_files, "delete", spy)
    monkeypatch.setattr(_files, "in_parallel", lambda function, items: list(map(function, items)))
    checkpoint.clear(folder)
    assert seen[:2] == [(False, False), (False, True)]
    assert tree(tmp_path / "c") == [".work/claim-000001.json"]
