from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulk_inferencer._formats.input_format import InputFile
from bulk_inferencer._units.plan import Unit, plan_units

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
    assert len({unit.key for unit in units}) == len(units)
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


@given(splits, st.randoms(use_true_random=False))
def test_files_that_are_added_leave_the_units_of_earlier_files_as_they_were(inputs, random):
    earlier = {s: [file for file in files if random.random() < 0.7] for s, files in inputs.items()}
    before = plan_units(earlier)
    after = plan_units(inputs, [(unit.split, unit.files) for unit in before])
    keys = {unit.key for unit in after}
    assert all(unit.key in keys for unit in before if unit.files)
    for split, files in inputs.items():
        own = [unit for unit in after if unit.split == split]
        assert sorted(file for unit in own for file in unit.files) == files
        assert all(unit.files for unit in own) or not files


def test_unit_with_a_file_that_has_changed_is_planned_anew():
    old, new = InputFile("a", 5, 1.0), InputFile("a", 5, 2.0)
    other = InputFile("b", 5, 1.0)
    units = plan_units({"s": [new, other]}, [("s", (old,)), ("s", (other,))])
    assert [unit.files for unit in units] == [(other,), (new,)]


def test_a_split_can_be_one_unit():
    files = [InputFile(f"file-{i}", 1000) for i in range(9)]
    assert plan_units({"s": files[::-1], "t": []}, in_one=True) == [
        Unit("s", 0, 1, tuple(files)),
        Unit("t", 0, 1, ()),
    ]
