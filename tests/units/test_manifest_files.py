"""That a unit has one manifest that counts, whoever else has tried it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import google_crc32c
import pytest

from bulk_inferencer import _files
from bulk_inferencer._units.manifest import Account, Manifest, Shard
from bulk_inferencer._units.manifest_files import (
    add_manifest,
    delete_manifests,
    find_manifest,
    has_rivals,
    read_manifests,
    remove_manifest,
)
from tests.helpers import in_bucket, tree

PLACES = pytest.mark.parametrize("place", [str, in_bucket], ids=["disk", "object store"])


@pytest.fixture
def attempt(tmp_path):
    """Makes the manifest of an attempt, with its one shard."""

    def make(name, place=str, key="k"):
        path = place(f"{tmp_path}/files/{name}")
        with _files.open_to_write(path) as file:
            file.write(name.encode())
        shard = Shard(path, 1, len(name), google_crc32c.value(name.encode()))
        return Manifest("s", 0, (), 1, 0, {}, {"logs": Account((shard,))}, 1.5, key=key)

    return make


@PLACES
def test_first_attempt_to_finish_counts(tmp_path, attempt, place):
    folder = place(f"{tmp_path}/units")
    first, second = attempt("1", place), attempt("2", place)
    assert find_manifest(folder, "k") is None
    assert add_manifest(folder, first) == first
    assert add_manifest(folder, second) == find_manifest(folder, "k") == first
    assert list(read_manifests(folder)) == [first]
    assert not has_rivals(folder, first)
    assert has_rivals(folder, second)
    remove_manifest(folder, second)
    assert find_manifest(folder, "k") == first
    remove_manifest(folder, first)
    assert tree(tmp_path / "units") == []


def test_of_attempts_that_finish_at_once_one_counts(tmp_path, attempt):
    folder = f"{tmp_path}/units"
    attempts = [attempt(str(i)) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda own: add_manifest(folder, own), attempts))
    assert counts == [find_manifest(folder, "k")] * 8
    assert tree(tmp_path / "units") == ["k.json"]


def test_of_two_manifests_in_an_object_store_one_counts(tmp_path, attempt, monkeypatch):
    folder = in_bucket(f"{tmp_path}/units")
    attempts = [attempt(name, in_bucket) for name in "12"]
    with monkeypatch.context() as patch:
        # Both have looked before the other one has written.
        patch.setattr(_files, "matching", lambda pattern: {})
        assert [add_manifest(folder, own) for own in attempts] == attempts
    (counts,) = read_manifests(folder)
    assert counts in attempts
    assert counts == find_manifest(folder, "k")
    assert all(has_rivals(folder, own) for own in attempts)
    delete_manifests(folder, ["k"])
    assert tree(tmp_path / "units") == []


@PLACES
@pytest.mark.parametrize("what", ["files", "empty", "format"])
def test_manifest_that_is_of_no_use_is_in_nobodys_way(tmp_path, attempt, place, what):
    folder = place(f"{tmp_path}/units")
    first, second = attempt("1", place), attempt("2", place)
    add_manifest(folder, first)
    (name,) = tree(tmp_path / "units")
    path = tmp_path / "units" / name
    if what == "files":
        _files.delete(first.shards[0].path)
    else:
        old = json.dumps({**json.loads(path.read_text()), "format_version": 0})
        path.write_text("" if what == "empty" else old)
    assert find_manifest(folder, "k") is None
    assert add_manifest(folder, second) == second
    assert find_manifest(folder, "k") == second


@PLACES
def test_manifests_of_some_units_are_deleted(tmp_path, attempt, place):
    folder = place(f"{tmp_path}/units")
    one, other = attempt("1", place, "k"), attempt("2", place, "kk")
    for manifest in (one, other):
        add_manifest(folder, manifest)
    delete_manifests(folder, ["k", "none"])
    assert list(read_manifests(folder)) == [other]
    assert list(read_manifests(folder, ["k", "kk"])) == [other]
    assert add_manifest(folder, replace(one, seconds=2)) == replace(one, seconds=2)
    assert list(read_manifests(folder, ["kk", "k"])) == [other, replace(one, seconds=2)]
