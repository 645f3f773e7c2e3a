from __future__ import annotations

import contextlib
import errno
import os
import resource
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from apache_beam.io.filesystem import BeamIOError
from google.api_core.exceptions import Forbidden, NotFound

from bulk_inferencer import _files
from bulk_inferencer.errors import OutputError, SettingsError
from tests.helpers import Bucket, exactly, in_bucket, tree


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
    assert [(path, file.bytes) for path, file in found.items()] == [
        (f"{root}/a.gz", 1),
        (f"{root}/b.gz", 2),
    ]
    assert {path: _files.stored(path) for path in found} == found
    assert _files.stored(f"{root}/*.gz") is _files.stored(f"{root}/folder") is None


class Cloud(Bucket):
    @classmethod
    def scheme(cls):
        return "cloud"

    def open(self, path, *args, **kwargs):
        raise (
            NotFound("404 GET https://storage.googleapis.com") if "gone" in path else Forbidden("")
        )


def test_what_a_cloud_does_not_find_is_a_file_that_is_not_there():
    message = r"^\[Errno 2\] No such file or directory: 'cloud://bucket/gone'$"
    with pytest.raises(FileNotFoundError, match=message):
        _files.open_to_read("cloud://bucket/gone")
    with pytest.raises(Forbidden):
        _files.open_to_read("cloud://bucket/mine")


def test_time_of_the_last_change_is_known(tmp_path):
    write(f"{tmp_path}/a")
    os.utime(tmp_path / "a", (0, 1e9))
    assert _files.matching(f"{tmp_path}/*") == {f"{tmp_path}/a": (7, 1e9)}


def test_what_is_no_file_has_no_size(tmp_path):
    os.symlink(tmp_path / "none", tmp_path / "link")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    found = _files.matching(f"{tmp_path}/*")
    assert {path.rpartition("/")[2]: file.bytes for path, file in found.items()} == {
        "link": _files.NO_FILE,
        "pipe": _files.NO_FILE,
    }
    assert _files.stored(f"{tmp_path}/link") == (_files.NO_FILE, 0)


def test_files_behind_a_link_are_not_below_a_folder(tmp_path):
    """What a run deletes is its own."""
    write(f"{tmp_path}/away/a")
    os.symlink(tmp_path / "away", tmp_path / "link")
    assert list(_files.files_below(f"{tmp_path}/link")) == [f"{tmp_path}/link/a"]
    assert list(_files.files_below(str(tmp_path))) == [f"{tmp_path}/away/a"]


def test_spellings_of_one_file_have_one_identity(tmp_path, monkeypatch):
    write(f"{tmp_path}/a/b")
    os.symlink(tmp_path / "a", tmp_path / "link")
    os.symlink("b", tmp_path / "a/other")
    monkeypatch.chdir(tmp_path)
    spellings = ["a/b", "a//b", "./a/b", "a/../a/b", "link/b", "a/other", f"{tmp_path}/a/b"]
    found = _files.identities([*spellings, "a/c", "link"])
    assert [found[path] for path in spellings] == [f"{tmp_path}/a/b"] * len(spellings)
    assert (found["a/c"], found["link"]) == (f"{tmp_path}/a/c", f"{tmp_path}/a")


def test_spellings_are_files_of_their_own_in_a_store_without_folders():
    paths = ["s3://b/a", "s3://b//a", "s3://b/./a", "bucket://tmp/a//b"]
    assert _files.identities(paths) == {path: path for path in paths}
    hdfs = _files.identities(["hdfs://a/b", "hdfs://a//b", "hdfs://a/./b"])
    assert set(hdfs.values()) == {"hdfs://a/b"}


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


# Disks that do not take what is written


@contextmanager
def full_disk(size):
    """Files of this process stop at `size` bytes, as on a disk that is full.

    Not in a fixture: pytest's own output may go into a file.
    """
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("function", [write, _files.create, _files.replace])
def test_full_disk_names_the_file_and_leaves_no_half_of_it(tmp_path, function):
    path = f"{tmp_path}/file"
    with pytest.raises(OutputError) as raised, full_disk(1 << 20):
        function(path, bytes(2 << 20))
    start, _, end = str(raised.value).partition(": ")
    assert start.startswith(f"Cannot write {path}")
    assert end == ("File too large. Make room there, or choose another folder, and run again.")
    if function is not write:
        assert tree(tmp_path) == []


def test_copy_on_a_full_disk_names_the_copy(tmp_path):
    write(f"{tmp_path}/source")
    os.truncate(tmp_path / "source", 1 << 20)
    message = f"^Cannot write {tmp_path}/copy: File too large"
    with pytest.raises(OutputError, match=message), full_disk(1000):
        _files.copy(f"{tmp_path}/source", f"{tmp_path}/copy")


def test_place_that_takes_no_file_is_named(tmp_path):
    write(f"{tmp_path}/file")
    advice = "Choose a folder that this process can write to."
    for name, number in (("file/x", errno.ENOTDIR), ("x" * 300, errno.ENAMETOOLONG)):
        path = f"{tmp_path}/{name}"
        message = f"Cannot write {path}: {os.strerror(number)}. {advice}"
        with pytest.raises(OutputError, match=exactly(message)):
            _files.rename(f"{tmp_path}/file", path)
    message = f"Cannot write {tmp_path}/file/x: {os.strerror(errno.ENOTDIR)}. {advice}"
    for function in (_files.make_folder, lambda path: _files.create(path + "/y", b"")):
        with pytest.raises(OutputError, match=exactly(message)):
            function(f"{tmp_path}/file/x")


def test_other_errors_of_writing_may_pass_and_stay_as_they_are(tmp_path):
    with pytest.raises(FileNotFoundError), _files.named("file"):
        raise FileNotFoundError
    with pytest.raises(OSError, match="nothing there"):
        _files.move(f"{tmp_path}/nothing there", f"{tmp_path}/x")


def test_path_may_be_a_path_object_and_begin_with_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert _files.as_path("Outputs.summary", tmp_path / "a") == f"{tmp_path}/a"
    assert _files.as_path("Outputs.summary", "~/a/*") == f"{tmp_path}/a/*"
    assert _files.as_path("Outputs.summary", "gs://bucket/~a") == "gs://bucket/~a"


def test_file_url_is_the_path_that_it_stands_for(tmp_path):
    path = tmp_path / "a b%c"
    assert _files.as_path("F.path", path.as_uri()) == str(path)
    assert _files.as_path("F.path", "file://localhost/a/*") == "/a/*"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (7, "F.path must be a path, as text or pathlib.Path, not 7 of type int."),
        (b"a", "F.path must be a path, as text or pathlib.Path, not b'a' of type bytes."),
        ("a\nb", "F.path holds a control character, such as a line break: 'a\\nb'. Remove it."),
        (
            "file:///a%0Ab",
            "F.path holds a control character, such as a line break: '/a\\nb'. Remove it.",
        ),
        ("a\udcff", "F.path is no name in UTF-8: 'a\\udcff'. Rename it."),
        ("a\0b", "F.path holds a control character, such as a line break: 'a\\x00b'. Remove it."),
    ],
)
def test_what_is_no_path_is_refused(path, message):
    with pytest.raises(SettingsError, match=exactly(message)):
        _files.as_path("F.path", path)


def test_file_can_be_made_only_once_on_a_disk(tmp_path):
    _files.create(f"{tmp_path}/new/file", b"1")
    with pytest.raises(FileExistsError):
        _files.create(f"{tmp_path}/new/file", b"2")
    assert read(f"{tmp_path}/new/file") == b"1"
    _files.replace(f"{tmp_path}/new/file", b"3")
    assert read(f"{tmp_path}/new/file") == b"3"
    assert tree(tmp_path) == ["new/file"]


def test_of_many_who_make_a_file_at_once_one_makes_it_whole(tmp_path):
    contents = [bytes([i]) * (1 << 20) for i in range(8)]

    def make(content):
        with contextlib.suppress(FileExistsError):
            _files.create(f"{tmp_path}/file", content)
            return content

    with ThreadPoolExecutor(8) as pool:
        made = [content for content in pool.map(make, contents) if content]
    assert made == [read(f"{tmp_path}/file")]
    assert tree(tmp_path) == ["file"]


def test_file_can_be_made_only_once_where_there_are_no_hard_links(tmp_path, monkeypatch):
    def link(source, target):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)
    _files.create(f"{tmp_path}/file", b"1")
    with pytest.raises(FileExistsError):
        _files.create(f"{tmp_path}/file", b"2")
    assert read(f"{tmp_path}/file") == b"1"
    assert tree(tmp_path) == ["file"]


def test_file_can_be_made_only_once_where_no_file_is_renamed_over_another(tmp_path, monkeypatch):
    """As on HDFS."""
    rename = Bucket.rename

    def rename_once(self, sources, targets):
        if any(map(self.exists, targets)):
            raise BeamIOError("Rename operation failed")
        rename(self, sources, targets)

    monkeypatch.setattr(Bucket, "rename", rename_once)
    monkeypatch.setattr(_files, "_EXCLUSIVE", ("", "bucket"))
    folder = in_bucket(tmp_path)
    _files.create(f"{folder}/file", b"1")
    with pytest.raises(FileExistsError):
        _files.create(f"{folder}/file", b"2")
    assert read(f"{folder}/file") == b"1"
    assert tree(tmp_path) == ["file"]


def test_file_may_be_deleted_by_somebody_else_at_the_same_time(tmp_path, monkeypatch):
    path = in_bucket(f"{tmp_path}/file")
    write(path)
    delete = Bucket.delete

    def late(self, paths):
        delete(self, paths)
        raise BeamIOError("Delete operation failed")

    monkeypatch.setattr(Bucket, "delete", late)
    _files.delete(path)
    for gone in (path, f"{tmp_path}/file", f"{tmp_path}/file/x"):
        _files.delete(gone)
    monkeypatch.setattr(Bucket, "delete", lambda self, paths: late(self, []))
    write(path)
    with pytest.raises(BeamIOError):
        _files.delete(path)


def test_folder_that_goes_while_a_file_is_opened_is_made_again(tmp_path, monkeypatch):
    makedirs, calls = os.makedirs, []

    def make_and_lose(folder, exist_ok):
        makedirs(folder, exist_ok=exist_ok)
        calls.append(folder)
        if len(calls) == 1:
            os.rmdir(folder)

    monkeypatch.setattr(os, "makedirs", make_and_lose)
    write(f"{tmp_path}/folder/file")
    assert tree(tmp_path) == ["folder/file"]


@pytest.mark.parametrize("place", [str, in_bucket], ids=["same filesystem", "another one"])
def test_file_can_be_copied_and_moved_within_and_between_filesystems(tmp_path, place):
    write(f"{tmp_path}/a", b"1")
    _files.copy(f"{tmp_path}/a", place(f"{tmp_path}/b"))
    assert (read(f"{tmp_path}/a"), read(f"{tmp_path}/b")) == (b"1", b"1")
    _files.move(f"{tmp_path}/a", place(f"{tmp_path}/c"))
    assert (tree(tmp_path), read(f"{tmp_path}/c")) == (["b", "c"], b"1")


def test_empty_folders_are_deleted_and_others_stay(tmp_path):
    for name in ("a/b/c", "a/d"):
        (tmp_path / name).mkdir(parents=True)
    write(f"{tmp_path}/a/d/file")
    _files.delete_empty_folder(f"{tmp_path}/a")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "a", "a/d", "a/d/file",
    ]  # fmt: skip


def test_some_items_are_each_handled_at_once_and_very_many_are_handed_over_some_at_a_time(
    monkeypatch,
):
    handed_over = []

    class Pool(ThreadPoolExecutor):
        def submit(self, *args):
            handed_over.append(args)
            return super().submit(*args)

    monkeypatch.setattr(_files, "ThreadPoolExecutor", Pool)
    together = threading.Barrier(_files._THREADS)  # which none passes alone
    assert _files.in_parallel(lambda i: (together.wait(60), i)[1], range(16)) == [*range(16)]
    handed_over.clear()
    assert _files.in_parallel(str, range(100_000)) == [*map(str, range(100_000))]
    assert len(handed_over) < 1100


@pytest.mark.parametrize("name", ["", "folder/", "link/", "file/"])
def test_identity_of_a_path_is_where_its_links_lead(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("folder")
    path = f"{tmp_path}/{name}"
    assert _files.identities([path]) == {path: os.path.realpath(path)}
