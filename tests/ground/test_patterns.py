from __future__ import annotations

import os
from pathlib import Path

import pytest
from apache_beam.io.filesystems import FileSystems

from bulk_inferencer import _patterns

NAMES = [
    "a.gz",
    "b.gz",
    "b.txt",
    "[x].gz",
    "a/a.gz",
    "a/b/c.gz",
    "ab/c.gz",
    ".h/a.gz",
    "a^b",
    "z-a",
]


def write(root, names):
    for name in names:
        path = Path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(root, pattern, **settings):
    paths = _patterns.files_on_disk(f"{root}/{pattern}", **settings)
    return sorted(path.removeprefix(f"{root}/") for path in paths)


@pytest.mark.filterwarnings("ignore:Possible nested set:FutureWarning")
@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "a.gz",
            "none",
            "*",
            "*.gz",
            "**",
            "**.gz",
            "a*",
            "?.gz",
            "[ab].gz",
            "[!a].gz",
            "[a-b].txt",
        ),
        *("*/a.gz", "a/*", "a/**", "**/c.gz", "*/*/*", "[[]x].gz", "a/b", "none/*", "a.gz/*"),
        *("a[^]b", "[x", "[]", "[!]", "[a^]^b", "a**c.gz"),
    ],
)
def test_matches_are_those_of_beam(tmp_path, pattern):
    write(tmp_path, NAMES)
    beams = FileSystems.match([f"{tmp_path}/{pattern}"])[0].metadata_list
    paths = [file.path.removeprefix(f"{tmp_path}/") for file in beams]
    assert found(tmp_path, pattern) == sorted(p for p in paths if not (tmp_path / p).is_dir())


def test_set_that_is_none_stands_for_itself(tmp_path):
    write(tmp_path, ["[z-a]"])
    assert found(tmp_path, "[z-a]*") == ["[z-a]"]


def test_names_with_a_backslash_or_a_line_break_match_too(tmp_path):
    names = ["a\\b.gz", "a\nb.gz"]
    write(tmp_path, names)
    assert found(tmp_path, "*.gz") == found(tmp_path, "**.gz") == sorted(names)


def test_relative_patterns_give_relative_paths(tmp_path, monkeypatch):
    write(tmp_path, ["a.gz", "b/c.gz"])
    monkeypatch.chdir(tmp_path)
    assert sorted(_patterns.files_on_disk("**.gz")) == ["a.gz", "b/c.gz"]
    assert list(_patterns.files_on_disk("./*.gz")) == ["./a.gz"]


def test_links_are_followed_but_for_those_that_go_round_in_circles(tmp_path):
    write(tmp_path, ["away/x.gz", "in/1/y.gz"])
    links = {"in/away": "away", "in/lost.gz": "none", "in/1/up": "in", "away/in": "in"}
    for link, target in links.items():
        os.symlink(tmp_path / target, tmp_path / link)
    assert found(tmp_path, "in/*/*.gz") == ["in/1/y.gz", "in/away/x.gz"]
    assert found(tmp_path, "in/**.gz") == ["in/1/y.gz", "in/away/x.gz", "in/lost.gz"]
    assert found(tmp_path, "in/**", follow_links=False) == ["in/1/y.gz", "in/lost.gz"]


def test_folder_that_cannot_be_read_is_an_error(tmp_path):
    os.symlink(tmp_path / "loop", tmp_path / "loop")
    with pytest.raises(OSError, match="loop"):
        found(tmp_path, "loop/*")


@pytest.mark.parametrize(
    ("pattern", "folder"),
    [("a/b*/c", "a/"), ("/a/b/*", "/a/b/"), ("*", ""), ("a", ""), ("gs://b/a[1]/x", "gs://b/")],
)
def test_what_a_pattern_begins_with(pattern, folder):
    assert _patterns.fixed_folder(pattern) == folder
