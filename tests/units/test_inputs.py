"""Which files a run takes in, and which it refuses or leaves out."""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path

import pytest

from bulk_inferencer import _files
from bulk_inferencer._formats.input_format import InputFile
from bulk_inferencer._units import inputs
from bulk_inferencer._units.inputs import check_apart, list_files
from bulk_inferencer.errors import InputError, SettingsError
from tests.helpers import Bucket, exactly, in_bucket


@pytest.fixture(params=["folder", "bucket"])
def root(request, tmp_path):
    """A place on the local filesystem, or in a store that has no folders."""
    return str(tmp_path) if request.param == "folder" else in_bucket(tmp_path)


def write(root, *names):
    for name in names:
        with _files.open_to_write(f"{root}/{name}") as file:
            file.write(b"1")


def listed(root, *patterns, **settings):
    files = list_files("s", [f"{root}/{pattern}" for pattern in patterns], **settings)
    return [file.path.removeprefix(f"{root}/") for file in files]


def assert_refused(message, root, *patterns, **settings):
    with pytest.raises(InputError, match=exactly(message)):
        listed(root, *patterns, **settings)


def test_files_of_all_patterns_are_listed_with_size_and_time_in_order(tmp_path):
    for name, content in (("b/2.gz", "22"), ("a/1.gz", "1"), ("a/3.txt", "")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
        os.utime(tmp_path / name, (5, 6))
    found = list_files("s", [f"{tmp_path}/b/", f"{tmp_path}/a/*.gz"])
    assert found == [InputFile(f"{tmp_path}/a/1.gz", 1, 6), InputFile(f"{tmp_path}/b/2.gz", 2, 6)]


@pytest.mark.parametrize("name", ["data [red]", "what?", "a*b"])
def test_folder_may_have_the_name_of_a_pattern(tmp_path, name):
    root = str(tmp_path)
    write(root, f"{name}/1.gz")
    assert listed(root, name) == listed(root, f"{name}/") == [f"{name}/1.gz"]
    with pytest.raises(SettingsError, match=r"^The output folder "):
        check_apart({"s": [f"{root}/{name}"]}, [f"{root}/{name}/out"])


def test_name_that_no_message_or_manifest_can_hold_is_refused(tmp_path):
    (tmp_path / "a\udcff").touch()
    message = rf"The name '{tmp_path}/a\udcff' of a file of split 's' is not UTF-8. Rename it."
    assert_refused(message, str(tmp_path), "*")


def test_empty_path_does_not_mean_the_root():
    with pytest.raises(InputError, match=r"^A path of split 's' is empty text\. "):
        list_files("s", [""])


# Nothing there

CORRECT = "Correct the path, leave it out, or set allow_empty_splits if there may be none."


def test_each_path_or_pattern_that_matches_nothing_is_named_beside_one_that_does(root):
    write(root, "a.gz")
    names = ["none/*", "none.gz", "*.none", "[n]one", "*/none"]
    first = ", ".join(f"{root}/{name}" for name in names[:3])
    for missing in names:
        message = f"There are no files for split 's' at {root}/{missing}. {CORRECT}"
        assert_refused(message, root, "a.gz", missing)
    message = f"There are no files for split 's' at {first} and 2 others. {CORRECT}"
    assert_refused(message, root, *names, "a.gz")
    assert listed(root, *names, "a.gz", allow_none=True) == ["a.gz"]
    assert listed(root, *names, allow_none=True) == []


def test_split_that_lists_nothing_is_refused(root):
    assert_refused("Split 's' lists no files. Name some, or set allow_empty_splits.", root)


def test_folder_stands_for_all_files_below_it_that_are_not_hidden(root):
    write(root, "a/b.gz", "a/c/d.gz", "a/_e", "a/.work/f", "ab")
    assert listed(root, "a") == listed(root, "a/") == ["a/b.gz", "a/c/d.gz"]


def test_what_is_no_file_is_named_unless_it_is_hidden(tmp_path):
    write(tmp_path, "a.gz")
    os.symlink("none", tmp_path / ".#a.gz")
    assert listed(tmp_path, "*") == ["a.gz"]
    os.mkfifo(tmp_path / "pipe")
    os.symlink("none", tmp_path / "link")
    for name in ("link", "pipe"):
        message = (
            f"{tmp_path}/{name} of split 's' is not a regular file: it is a broken link, a "
            f"pipe or a device. Put the file there, or leave it out."
        )
        assert_refused(message, tmp_path, name)
        assert_refused(message, tmp_path, f"{name[:3]}*", allow_none=True)


def test_folder_that_cannot_be_read_is_named(tmp_path):
    os.symlink(tmp_path / "loop", tmp_path / "loop")
    message = (
        f"Cannot list {tmp_path}/loop/*: [Errno 40] Too many levels of symbolic links: "
        f"'{tmp_path}/loop/*'. Check that it exists and that you may read it."
    )
    assert_refused(message, tmp_path, "loop/*")


# Twice there


def test_file_that_is_matched_twice_is_named(root):
    write(root, "a.gz")
    message = (
        f"Two patterns of split 's' match {root}/a.gz, so it would be scored twice. Remove one of "
        f"them: {root}/*, {root}/a.*."
    )
    assert_refused(message, root, "*", "a.*")


@pytest.mark.parametrize("other", ["/./a.gz", "//a.gz", "/../in/a.gz", "/link.gz", "-link/*.gz"])
def test_both_spellings_of_a_file_that_is_listed_twice_are_named(tmp_path, monkeypatch, other):
    monkeypatch.chdir(tmp_path)
    write("in", "a.gz")
    os.symlink("a.gz", "in/link.gz")
    os.symlink("in", "in-link")
    first, other = "in/a.gz", f"{tmp_path}/in{other}"
    message = (
        f"{first} and {other.replace('*', 'a')} are the same file, so it would be scored twice. "
        f"Leave out one of them in split 's': {first}, {other}."
    )
    with pytest.raises(InputError, match=exactly(message)):
        list_files("s", [first, other])


def test_link_beside_its_file_is_the_same_file(tmp_path):
    write(tmp_path, "a.gz")
    os.symlink("a.gz", tmp_path / "latest.gz")
    message = (
        f"{tmp_path}/a.gz and {tmp_path}/latest.gz are the same file, so it would be scored twice. "
        f"Leave out one of them in split 's': {tmp_path}/*."
    )
    assert_refused(message, tmp_path, "*")


# Names


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["*"], ["a"]),
        (["**"], ["a", "in/b"]),
        (["*/*"], ["in/b"]),
        (["_SUCCESS", "a"], ["_SUCCESS", "a"]),
        (["_*", ".?DS*"], ["_SUCCESS"]),
        ([".D[S]*"], [".DS_Store"]),
        (["_temporary/*"], ["_temporary/c"]),
        (["_temporary/**"], ["_temporary/c"]),
        (["**/.d.crc"], ["in/.d.crc"]),
        (["_**"], ["_SUCCESS", "_temporary/c"]),
    ],
)
def test_hidden_names_are_left_out_unless_they_are_named(root, patterns, expected):
    hidden = ["_SUCCESS", ".DS_Store", "in/.d.crc", "_temporary/c", "_temporary/.e"]
    write(root, "a", "in/b", *hidden)
    assert listed(root, *patterns, allow_none=True) == expected


def test_hidden_files_are_counted_and_named_where_nothing_else_is_there(root, caplog):
    write(root, "_SUCCESS", ".DS_Store", "in/a")
    message = (
        f"There are no files for split 's' at {root}/*. Files were skipped because their names "
        f"begin with '.' or '_': 2. Name them exactly to score them. {CORRECT}"
    )
    with caplog.at_level(logging.INFO, "bulk_inferencer._units.inputs"):
        assert_refused(message, root, "*", "in/*")
    skipped = "skipped 2 files that begin with '.' or '_', or are in folders that do."
    assert caplog.messages == [f"Split 's': {skipped}"]


@pytest.mark.parametrize("name", ["part[1].gz", "a*b", "a?b", "[a]"])
def test_pattern_that_is_the_name_of_a_file_means_that_file(root, name):
    write(root, name, "part1.gz", "a")
    assert listed(root, name) == [name]


def test_pattern_that_is_the_name_of_a_file_and_matches_others_is_refused(root):
    write(root, "*.gz", "a.gz")
    message = (
        f"{root}/*.gz of split 's' is the name of a file, and as a pattern it also matches 1 "
        f"others. Rename the file, or name it as {root}/[*].gz."
    )
    assert_refused(message, root, "*.gz")
    assert listed(root, "[*].gz", "a.gz") == ["*.gz", "a.gz"]


# Results

REPORTS = [
    "prediction_logs-s-00000-of-00001.gz",
    "prediction_logs-s-1-00000-of-00001",
    "summary.json",
    "failures-s.jsonl.gz",
    "comparison.json",
]


@pytest.mark.parametrize("name", REPORTS)
def test_results_of_an_earlier_run_are_no_input_unless_they_are_named(root, name):
    write(root, f"out/{name}", "in/a")
    message = (
        f"{root}/*/* of split 's' matches {root}/out/{name}, a result of an earlier run, which is "
        f"no input. Move the results elsewhere, or choose a pattern that does not match them."
    )
    assert_refused(message, root, "*/*")
    assert listed(root, f"out/{name}") == [f"out/{name}"]


def test_examples_of_an_earlier_run_are_inputs(root):
    names = [f"Split-s/{kind}-00000-of-00001.gz" for kind in ("examples", "failed_examples")]
    write(root, *names)
    assert listed(root, "*/*") == names


@pytest.mark.parametrize(
    ("pattern", "folder"),
    [
        ("/data/**", "/data/out/summary"),
        ("/data/**.gz", "/data/out"),
        ("/data/*", "/data"),
        ("/data/", "/data/"),
        ("/data", "/data/results"),
        ("/data/*/*.json", "/data/summary"),
        ("/data/./*/*", "/data//summary"),
        ("/data/*/Split-s/*.gz", "/data/examples"),
        ("/data/*/*-s-*", "/data/x"),
        ("gs://bucket/*/*", "gs://bucket/summary"),
    ],
)
def test_output_folder_where_a_pattern_looks_for_inputs_is_refused(pattern, folder):
    shown = "/data/**" if pattern in ("/data", "/data/") else pattern
    message = (
        f"The output folder {folder.rstrip('/')} lies where {shown} of split 's' looks for inputs, "
        f"so the next run would take in the results of this one. Choose another folder, or a "
        f"pattern that does not match there."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        check_apart({"t": ["/other/*"], "s": ["/x/*", pattern]}, ["/out", folder])


@pytest.mark.parametrize("run_in", ["data[1]", "data"])
def test_output_folder_is_found_under_another_spelling(tmp_path, monkeypatch, run_in):
    (tmp_path / run_in / "in").mkdir(parents=True)
    os.symlink(run_in, tmp_path / "link")
    monkeypatch.chdir(tmp_path / run_in)
    for pattern, folder in (("**", f"{tmp_path}/link/x"), ("in/**", f"{tmp_path}/link/in/out")):
        with pytest.raises(SettingsError, match=r"^The output folder "):
            check_apart({"s": [pattern]}, [folder])


@pytest.mark.parametrize(
    ("pattern", "folder"),
    [
        ("/data/*", "/data/out"),
        ("/data/**/part-*.gz", "/data/out"),
        ("/data/**", "/data/_out"),
        ("/data/in/**", "/data/out"),
        ("/data/out/summary.json", "/data/out"),
        ("gs://bucket/**", "/bucket/out"),
        ("in/**", str(Path("in2/out").absolute())),
    ],
)
def test_output_folder_beside_the_inputs_is_taken(pattern, folder):
    check_apart({"s": [pattern]}, [folder])


# Amounts of work


def test_pattern_takes_one_listing_and_a_path_two_requests(tmp_path, monkeypatch):
    requests = Counter()

    def counted(name):
        method = getattr(Bucket, name)
        return lambda self, path: requests.update([name]) or method(self, path)

    for name in ("_list", "exists", "metadata"):
        monkeypatch.setattr(Bucket, name, counted(name))
    root = in_bucket(tmp_path)
    write(root, *(f"in/{i:02d}.gz" for i in range(40)))
    assert len(listed(root, "in/*.gz")) == 40
    # The sizes are part of a real listing.
    assert requests == {"_list": 1, "exists": 1, "metadata": 40}
    requests.clear()
    assert len(listed(root, *(f"in/{i:02d}.gz" for i in range(40)))) == 40
    assert requests == {"exists": 40, "metadata": 40}


def test_links_are_followed_once_per_folder(tmp_path, monkeypatch):
    root = str(tmp_path)
    names = [f"{folder}/{i:02d}.gz" for folder in "abc" for i in range(30)]
    write(root, *names)
    followed = []
    realpath = os.path.realpath
    monkeypatch.setattr(os.path, "realpath", lambda path: followed.append(path) or realpath(path))
    assert listed(root, *names) == names
    assert len(followed) == 3
    followed.clear()
    check_apart({"s": [f"{root}/{name}" for name in names]}, [f"{root}/out", f"{root}/summary"])
    assert len(followed) < 10


def test_paths_that_lie_elsewhere_are_not_compared_with_results(tmp_path, monkeypatch):
    compared = []
    monkeypatch.setattr(inputs, "_means", lambda pattern, path: compared.append(path))
    check_apart({"s": [f"{tmp_path}/in/{i}.gz" for i in range(30)]}, [f"{tmp_path}/out"])
    assert compared == []
    check_apart({"s": [f"{tmp_path}/*/1.gz"]}, [f"{tmp_path}/out"])
    assert compared
