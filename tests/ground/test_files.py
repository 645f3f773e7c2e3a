from __future__ import annotations

import pytest

from bulk_inferencer import _files
from tests.helpers import in_bucket, tree


@pytest.fixture(params=["folder", "bucket"])
def root(request, tmp_path):
    """A place on the local filesystem, or in a store that has no folders."""
    return str(tmp_path) if request.param == "folder" else in_bucket(tmp_path)


def write(path, content=b"content"):
    with _files.open_to_write(path) as file:
        file.write(content)


def read(path):
    with _files.open_to_read(path) as file:
        return file.read()


def test_written_or_renamed_file_replaces_an_old_one_and_keeps_its_bytes_whatever_its_name(root):
    write(f"{root}/file.gz", b"a longer content")
    write(f"{root}/file.gz", b"no gzip")
    assert read(f"{root}/file.gz") == b"no gzip"
    write(f"{root}/target", b"old")
    _files.rename(f"{root}/file.gz", f"{root}/target")
    assert read(f"{root}/target") == b"no gzip"
    assert not _files.exists(f"{root}/file.gz")


def test_matching_files_come_with_their_sizes_in_order(root):
    for name, size in (("b.gz", 2), ("a.gz", 1), ("c.txt", 3), ("folder/d.gz", 4)):
        write(f"{root}/{name}", b"x" * size)
    found = _files.matching(f"{root}/*.gz")
    assert list(found.items()) == [(f"{root}/a.gz", 1), (f"{root}/b.gz", 2)]


def test_files_below_a_folder_are_found_at_any_depth(root):
    for name in ("results/a", "results/b/c", "results/.work/d", "results-2/e"):
        write(f"{root}/{name}")
    expected = [f"{root}/results/{name}" for name in (".work/d", "a", "b/c")]
    assert list(_files.files_below(f"{root}/results")) == expected
    assert list(_files.files_below(f"{root}/results/")) == expected


# Beam translates an escaped bracket to a regular expression that Python warns of, needlessly.
@pytest.mark.filterwarnings("ignore:Possible nested set:FutureWarning")
@pytest.mark.parametrize("name", ["a*b", "a?b", "a[1]b", "a[!1]b", "**", "a{b}", "a b", "plain"])
def test_only_the_named_file_or_folder_is_found_and_deleted(root, tmp_path, name):
    for folder in (name, "a1b", "axxb", f"{name}-2"):
        write(f"{root}/{folder}/file")
    assert list(_files.files_below(f"{root}/{name}")) == [f"{root}/{name}/file"]
    _files.delete(f"{root}/{name}/file")
    write(f"{root}/{name}/b/c")
    _files.delete_folder(f"{root}/{name}")
    assert tree(tmp_path) == sorted(["a1b/file", "axxb/file", f"{name}-2/file"])


def test_deleting_what_does_not_exist_is_no_error(root, tmp_path):
    write(f"{root}/file")
    for _ in range(2):
        _files.delete(f"{root}/file")
    _files.delete_folder(f"{root}/none")
    assert tree(tmp_path) == []


def test_folder_is_made_with_its_parents(tmp_path):
    for _ in range(2):
        _files.make_folder(f"{tmp_path}/a/b")
    assert (tmp_path / "a" / "b").is_dir()
