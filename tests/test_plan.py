from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulk_inferencer._units.plan import InputFile, Unit, list_files, plan_units
from bulk_inferencer.errors import InputError

MIB = 1 << 20

splits = st.dictionaries(
    st.sampled_from(["train", "eval", "unlabelled"]),
    st.lists(st.integers(0, 300 * MIB), max_size=150).map(
        lambda sizes: [InputFile(f"file-{i:03d}", size) for i, size in enumerate(sizes)]
    ),
)


# Units


@given(splits)
def test_every_file_stands_in_exactly_one_unit_of_its_split(inputs):
    units = plan_units(inputs)
    for split, files in inputs.items():
        planned = [file for unit in units if unit.split == split for file in unit.files]
        assert sorted(planned, key=lambda file: file.path) == files


@given(splits)
def test_units_of_a_split_are_numbered_and_never_more_than_its_files(inputs):
    units = plan_units(inputs)
    for split, files in inputs.items():
        own = [unit for unit in units if unit.split == split]
        assert [(unit.index, unit.of) for unit in own] == [(i, len(own)) for i in range(len(own))]
        assert len(own) <= max(1, len(files))
        assert all(unit.files for unit in own) or not files


@given(splits)
def test_plan_does_not_depend_on_the_order_of_the_files(inputs):
    backwards = {split: files[::-1] for split, files in inputs.items()}
    assert plan_units(backwards) == plan_units(inputs)


def test_files_of_a_unit_stand_in_the_order_of_their_paths():
    files = [InputFile(f"file-{i:03d}", 1000 - i) for i in range(200)]
    for unit in plan_units({"s": files}):
        assert list(unit.files) == sorted(unit.files, key=lambda file: file.path)


def test_few_files_are_a_unit_each():
    units = plan_units({"s": [InputFile("b", 5), InputFile("a", 5)]})
    assert units == [
        Unit("s", 0, 2, (InputFile("a", 5),)),
        Unit("s", 1, 2, (InputFile("b", 5),)),
    ]


def test_many_small_files_are_packed_into_64_units_of_about_equal_size():
    units = plan_units({"s": [InputFile(f"file-{i:04d}", 1000 + i) for i in range(640)]})
    sizes = [sum(file.bytes for file in unit.files) for unit in units]
    assert len(units) == 64
    assert max(sizes) < 1.05 * min(sizes)


def test_many_large_files_are_packed_into_a_unit_per_64_mib():
    units = plan_units({"s": [InputFile(f"file-{i:04d}", 32 * MIB) for i in range(200)]})
    assert len(units) == 100


def test_empty_files_are_shared_out_too():
    units = plan_units({"s": [InputFile("a", 0), InputFile("b", 0)]})
    assert [len(unit.files) for unit in units] == [1, 1]


def test_split_without_files_is_one_empty_unit():
    assert plan_units({"s": []}) == [Unit("s", 0, 1, ())]


def test_shard_name_holds_index_and_count():
    unit = Unit("s", 7, 123, ())
    assert unit.shard_name("prediction_logs-s", ".gz") == "prediction_logs-s-00007-of-00123.gz"


# Files


def test_files_are_listed_with_their_sizes_in_order(tmp_path):
    for name, content in (("b.gz", "22"), ("a.gz", "1"), ("c.txt", "")):
        (tmp_path / name).write_text(content)
    found = list_files("s", [f"{tmp_path}/*.gz"])
    assert found == [InputFile(f"{tmp_path}/a.gz", 1), InputFile(f"{tmp_path}/b.gz", 2)]


def test_files_of_several_patterns_are_listed_together(tmp_path):
    for folder in ("monday", "tuesday"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "data.gz").write_text("1")
    found = list_files("s", [f"{tmp_path}/tuesday/*", f"{tmp_path}/monday/*"])
    assert [file.path for file in found] == [
        f"{tmp_path}/monday/data.gz",
        f"{tmp_path}/tuesday/data.gz",
    ]


@pytest.mark.parametrize("pattern", ["none/*", "none", "*.none"])
def test_pattern_that_matches_nothing_lists_nothing(tmp_path, pattern):
    assert list_files("s", [f"{tmp_path}/{pattern}"]) == []


def test_file_that_is_matched_twice_is_named(tmp_path):
    (tmp_path / "a.gz").write_text("1")
    patterns = [f"{tmp_path}/*", f"{tmp_path}/a.*"]
    message = (
        f"Expected every file once in split 's', got {tmp_path}/a.gz twice. Remove the pattern "
        f"that matches it a second time: {patterns[0]}, {patterns[1]}."
    )
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        list_files("s", patterns)
