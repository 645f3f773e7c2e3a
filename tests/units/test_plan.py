from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulk_inferencer._units.plan import InputFile, Unit, list_files, plan_units
from bulk_inferencer.errors import InputError
from tests.helpers import exactly

MIB = 1 << 20

splits = st.dictionaries(
    st.sampled_from(["train", "eval", "unlabelled"]),
    st.lists(st.integers(0, 300 * MIB), max_size=150).map(
        lambda sizes: [InputFile(f"file-{i:03d}", size) for i, size in enumerate(sizes)]
    ),
)


# Units


@given(splits)
def test_every_file_is_in_exactly_one_unit_of_its_split(inputs):
    units = plan_units(inputs)
    for split, files in inputs.items():
        own = [unit for unit in units if unit.split == split]
        planned = [file for unit in own for file in unit.files]
        assert sorted(planned, key=lambda file: file.path) == files
        assert [(unit.index, unit.count) for unit in own] == [
            (i, len(own)) for i in range(len(own))
        ]
        assert len(own) <= max(1, len(files))
        assert all(unit.files for unit in own) or not files
    backwards = {split: files[::-1] for split, files in inputs.items()}
    assert plan_units(backwards) == units


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


# Files


def test_files_of_all_patterns_are_listed_with_their_sizes_in_order(tmp_path):
    for name, content in (("b/2.gz", "22"), ("a/1.gz", "1"), ("a/3.txt", "")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    found = list_files("s", [f"{tmp_path}/b/*", f"{tmp_path}/a/*.gz"])
    assert found == [InputFile(f"{tmp_path}/a/1.gz", 1), InputFile(f"{tmp_path}/b/2.gz", 2)]


@pytest.mark.parametrize("pattern", ["none/*", "none", "*.none"])
def test_pattern_that_matches_nothing_lists_nothing(tmp_path, pattern):
    assert list_files("s", [f"{tmp_path}/{pattern}"]) == []


def test_file_that_is_matched_twice_is_named(tmp_path):
    (tmp_path / "a.gz").write_text("1")
    patterns = [f"{tmp_path}/*", f"{tmp_path}/a.*"]
    message = (
        f"Two patterns of split 's' match {tmp_path}/a.gz, so it would be scored twice. Remove one "
        f"of them: {patterns[0]}, {patterns[1]}."
    )
    with pytest.raises(InputError, match=exactly(message)):
        list_files("s", patterns)
