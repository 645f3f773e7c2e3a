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
        assert all(list(u.files) == sorted(u.files, key=lambda file: file.path) for u in own)
        assert [(unit.index, unit.count) for unit in own] == [
            (i, len(own)) for i in range(len(own))
        ]
        assert len(own) <= max(1, len(files))
        assert all(unit.files for unit in own) or not files
    backwards = {split: files[::-1] for split, files in inputs.items()}
    assert plan_units(backwards) == units


@pytest.mark.parametrize(
    ("sizes", "units"),
    [
        ([], [()]),  # so that it has a shard
        ([5, 5], [(0,), (1,)]),
        ([0, 0], [(0,), (1,)]),
    ],
    ids=["no files", "few files", "empty files"],
)
def test_few_files_are_a_unit_each_and_no_files_are_an_empty_one(sizes, units):
    files = [InputFile(f"file-{i}", size) for i, size in enumerate(sizes)]
    assert plan_units({"s": files[::-1]}) == [
        Unit("s", index, len(units), tuple(files[i] for i in own))
        for index, own in enumerate(units)
    ]


def test_many_files_are_packed_into_a_unit_per_64_mib_and_at_least_64_of_about_equal_size():
    units = plan_units({"s": [InputFile(f"file-{i:04d}", 1000 + i) for i in range(640)]})
    sizes = [sum(file.bytes for file in unit.files) for unit in units]
    assert len(units) == 64
    assert max(sizes) < 1.05 * min(sizes)
    large = [InputFile(f"file-{i:04d}", 32 * MIB) for i in range(200)]
    assert len(plan_units({"s": large})) == 100


# Files


def test_files_of_all_patterns_are_listed_with_their_sizes_in_order(tmp_path):
    for name, content in (("b/2.gz", "22"), ("a/1.gz", "1"), ("a/3.txt", "")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    found = list_files("s", [f"{tmp_path}/b/*", f"{tmp_path}/a/*.gz"])
    assert found == [InputFile(f"{tmp_path}/a/1.gz", 1), InputFile(f"{tmp_path}/b/2.gz", 2)]
    assert list_files("s", [f"{tmp_path}/{name}" for name in ("none/*", "none", "*.none")]) == []


def test_file_that_is_matched_twice_is_named(tmp_path):
    (tmp_path / "a.gz").write_text("1")
    patterns = [f"{tmp_path}/*", f"{tmp_path}/a.*"]
    message = (
        f"Two patterns of split 's' match {tmp_path}/a.gz, so it would be scored twice. Remove one "
        f"of them: {patterns[0]}, {patterns[1]}."
    )
    with pytest.raises(InputError, match=exactly(message)):
        list_files("s", patterns)
