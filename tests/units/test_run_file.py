from __future__ import annotations

import pytest

from bulk_inferencer import _files
from bulk_inferencer._units.run_file import begin_run, end_runs, is_run_over, write_for_run
from tests.helpers import in_bucket, tree


@pytest.mark.parametrize("place", [str, in_bucket], ids=["disk", "object store"])
def test_run_goes_on_for_as_long_as_its_file_is_there(tmp_path, place):
    first, second = (begin_run(place(f"{tmp_path}/units")) for _ in range(2))
    assert not is_run_over(first)
    _files.delete(first)
    assert is_run_over(first)
    assert not is_run_over(second)
    end_runs(place(tmp_path))
    assert is_run_over(second)
    assert tree(tmp_path) == []


@pytest.mark.parametrize("place", [str, in_bucket], ids=["disk", "object store"])
def test_file_that_goes_with_a_run_leaves_nothing_after_it(tmp_path, place, monkeypatch):
    folder = place(f"{tmp_path}/.work/units")
    run_file = begin_run(folder)
    path = f"{folder}/a"
    assert write_for_run(path, b"1", run_file)
    assert write_for_run(path, b"2", run_file)
    assert (tmp_path / ".work/units/a").read_bytes() == b"2"
    replace = _files.replace

    def end_and_replace(path, content):
        for name in tree(tmp_path):
            (tmp_path / name).unlink()
        _files.delete_empty_folder(f"{tmp_path}/.work")
        replace(path, content)

    monkeypatch.setattr(_files, "replace", end_and_replace)
    assert not write_for_run(path, b"3", run_file)
    assert tree(tmp_path) == []
    assert place is in_bucket or not list(tmp_path.iterdir())
    assert not write_for_run(path, b"4", run_file)
    assert tree(tmp_path) == []


def test_without_a_file_a_run_is_never_over():
    assert not is_run_over("")
