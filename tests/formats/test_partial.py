from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bulk_inferencer._formats.partial import encode_groups, plain, rows_with, spread

SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4)


def masked(values, *rows):
    """Returns an array whose `rows` are masked as a whole."""
    array = np.ma.array(values)
    array[list(rows)] = np.ma.masked
    return array


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.zeros(3), [True, True, True]),
        (np.zeros((3, 0)), [True, True, True]),
        (np.zeros(0), []),
        (np.ma.array(np.zeros(3)), [True, True, True]),
        (np.ma.array(np.zeros((2, 0))), [True, True]),
        (masked(np.zeros(3), 1), [True, False, True]),
        (masked(np.zeros((3, 2, 2)), 0, 2), [False, True, False]),
        (np.ma.masked_all(2, object), [False, False]),
        (np.ma.array([[1, 2], [3, 4]], mask=[[True, False], [False, False]]), [True, True]),
    ],
)
def test_rows_are_there_unless_they_are_masked_as_a_whole(values, expected):
    rows_with(values)[:] = False  # changes a copy
    assert rows_with(values).tolist() == expected


def test_plain_array_has_no_mask():
    values = np.zeros(2)
    assert plain(values) is values
    assert type(plain(masked(np.zeros(2), 0))) is np.ndarray


@given(st.data())
def test_values_stand_in_their_rows_and_all_other_rows_are_masked(data):
    count = data.draw(st.integers(1, 12))
    part_of = data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    row_shape = data.draw(SHAPES)
    dtype = data.draw(st.sampled_from([np.float32, np.int64, np.bool_, ml_dtypes.bfloat16, object]))
    expected = np.arange(count * np.prod(row_shape)).reshape(count, *row_shape).astype(dtype)
    rows_of = [np.flatnonzero(np.array(part_of) == part) for part in range(3)]
    parts = [(rows, expected[rows]) for rows in rows_of if rows.size]
    if not parts:
        return
    values = spread(parts, count)
    has = np.array(part_of) < 3
    assert rows_with(values).tolist() == has.tolist()
    assert (values.dtype, values.shape) == (expected.dtype, expected.shape)
    assert plain(values)[has].tolist() == expected[has].tolist()
    assert isinstance(values, np.ma.MaskedArray) == (not has.all())


def test_rows_that_a_part_masks_stay_masked_and_all_rows_are_taken_as_they_are():
    part = masked(np.array([[1.0], [2.0]]), 0)
    values = spread([(np.array([3, 1]), part), (np.array([0]), np.array([[5.0]]))], 4)
    assert values.tolist() == [[5.0], [2.0], [None], [None]]
    assert spread([(np.arange(4), values)], 4) is values


def tell(records, outputs):
    """Encodes records as themselves and the outputs that they have."""
    assert not any(isinstance(values, np.ma.MaskedArray) for values in outputs.values())
    rows = zip(records, *[values.tolist() for values in outputs.values()], strict=True)
    return [repr((record, dict(zip(outputs, row, strict=True)))).encode() for record, *row in rows]


@given(st.data())
def test_records_are_encoded_with_the_outputs_that_they_have_in_their_order(data):
    count = data.draw(st.integers(0, 10))
    names = data.draw(st.lists(st.sampled_from("abcd"), unique=True, min_size=1))
    has = {n: data.draw(hnp.arrays(bool, count)) for n in names}
    records = [b"%d" % i for i in range(count)]
    outputs = {
        name: np.ma.array(np.arange(count) * 10 + i, mask=~has[name])
        for i, name in enumerate(names)
    }
    expected = [
        {name: row * 10 + i for i, name in enumerate(names) if has[name][row]}
        for row in range(count)
    ]
    encoded = encode_groups(tell, records, outputs)
    assert encoded == [repr(pair).encode() for pair in zip(records, expected, strict=True)]


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ({}, [("abcd", [])]),
        ({"y": np.arange(4)}, [("abcd", ["y"])]),
        ({"x": np.arange(4), "y": masked(np.arange(4), 0, 2)}, [("ac", ["x"]), ("bd", ["x", "y"])]),
    ],
)
def test_each_group_is_encoded_in_one_call(outputs, expected):
    calls = []

    def encode(records, outputs):
        calls.append(("".join(records), list(outputs)))
        return list(records)

    assert encode_groups(encode, list("abcd"), outputs) == list("abcd")
    assert calls == expected
