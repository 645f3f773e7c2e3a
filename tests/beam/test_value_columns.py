from __future__ import annotations

import datetime as dt
from decimal import Decimal

import hypothesis
import ml_dtypes
import numpy as np
import pandas as pd
import pytest
from apache_beam.utils.timestamp import Timestamp
from hypothesis import strategies as st

from bulk_inferencer._formats.rows import Rows
from bulk_inferencer.beam.value_columns import tables_of
from tests.helpers import example, features_of

NEW_YEAR = 1_577_836_800_000_000  # 2020 in UTC, in microseconds
WINTER = dt.timezone(dt.timedelta(hours=1))
INTEGERS = st.integers(-(2**63), 2**63 - 1)
SCALARS = st.one_of(
    *(st.none(), st.booleans(), INTEGERS, st.floats(width=32, allow_nan=False)),
    *(st.text(max_size=3), st.binary(max_size=3)),
)
LISTS = [st.lists(s, max_size=3) for s in (INTEGERS, st.floats(width=32, allow_nan=False))]
TEXTS = st.lists(st.text(max_size=3) | st.binary(max_size=3), max_size=3)
DICTS = st.dictionaries(st.sampled_from(["a", "b", "é"]), st.one_of(SCALARS, *LISTS, TEXTS))


def types_of(*values, **settings):
    """Returns the types of the column that holds the values, one for each table."""
    tables, unfit = tables_of([{"x": value} for value in values], **settings)
    assert not unfit
    return [str(table.columns.schema.field("x").type) for table in tables]


def values_of(*values):
    """Returns what the one table with the values holds."""
    (table,), unfit = tables_of([{"x": value} for value in values])
    assert not unfit
    return table.columns["x"].to_pylist()


@hypothesis.settings(max_examples=60)
@hypothesis.given(dicts=st.lists(DICTS, max_size=6))
def test_row_of_a_table_is_the_tf_example_of_its_values(dicts):
    for widen in (False, True):
        tables, unfit = tables_of(dicts, widen=widen)
        found = {}
        for table in tables:
            if table.columns.num_columns:
                found |= zip(table.indexes, Rows(table.columns).examples(), strict=True)
            else:
                found |= dict.fromkeys(table.indexes, b"")
        assert sorted(found) == list(range(len(dicts)))
        assert not unfit
        for index, record in found.items():
            wanted = features_of(
                example(**{n: [] if v is None else v for n, v in dicts[index].items()})
            )
            own = {name: values for name, values in features_of(record).items() if values}
            wanted = {name: values for name, values in wanted.items() if values}
            assert own == wanted if not widen else close(own, wanted)


def close(own, wanted):
    """Returns whether values are the same but for the rounding of integers that became floats."""
    assert own.keys() == wanted.keys()
    return all(
        values == pytest.approx(wanted[name], rel=1e-6)
        if is_number(values)
        else values == wanted[name]
        for name, values in own.items()
    )


def is_number(values):
    return not isinstance(values[0], bytes)


@pytest.mark.parametrize(
    ("values", "types"),
    [
        ((1, None), ["int64"]),
        ((1, 2.5), ["double"]),
        ((True, None), ["bool"]),
        ((True, 2), ["int64"]),
        (("a", None), ["string"]),
        (("a", b"b"), ["binary"]),
        ((None, []), ["null"]),
        ((np.float32(1), None), ["float"]),
        ((np.float32(1), 1.0), ["double"]),
        ((np.float16(1), np.float16(2)), ["float"]),
        ((Decimal("1.5"), 1), ["double"]),
        ((1.5, [2, 3]), ["list<item: double>"]),
        ((np.zeros((2, 2), np.uint8), np.zeros(3, np.uint8)), ["list<item: uint8>"]),
        ((np.zeros(2, np.float32), [1.0]), ["list<item: double>"]),
        ((["a"], "b", None), ["list<item: string>"]),
        # What does not fit together is scored apart.
        (("a", 1, 2.5), ["string", "double"]),
        (([b"a"], [1]), ["list<item: binary>", "list<item: int64>"]),
        ((2**53 + 1, 2.5), ["int64", "double"]),
    ],
    ids=str,
)  # fmt: skip
def test_column_has_the_type_that_holds_all_values(values, types):
    assert types_of(*values) == types


def test_whole_numbers_stay_whole_beside_floats_where_asked():
    assert types_of(1, 2.5, [3], widen=False) == ["list<item: int64>", "double"]
    (table,), _ = tables_of([{"x": 1}, {"x": 2.5}])
    assert table.is_widened


def test_values_of_an_array_come_in_row_order_whatever_their_byte_order_and_dtype():
    assert values_of(np.array([[1, 2], [3, 4]]).T, None, []) == [[1, 3, 2, 4], None, []]
    assert values_of(np.array([1, 2], ">i4"), np.array([True, False])) == [[1, 2], [1, 0]]
    assert values_of(np.array(["a", "b"]), np.array(b"c")) == [[b"a", b"b"], [b"c"]]
    half = ml_dtypes.bfloat16
    assert values_of(np.array([1.5], half), half(2.5)) == [[1.5], [2.5]]


@pytest.mark.parametrize(
    "time",
    [
        dt.date(2020, 1, 1),
        dt.datetime(2020, 1, 1),
        dt.datetime(2020, 1, 1, 1, tzinfo=WINTER),
        pd.Timestamp("2020-01-01 01:00", tz="Europe/Berlin"),
        np.datetime64("2020-01-01"),
        np.datetime64("2020-01-01T00:00:00", "ns"),
        Timestamp(1_577_836_800),
    ],
    ids=repr,
)
def test_time_is_microseconds_since_1970(time):
    assert values_of(time, [time], pd.NaT, np.datetime64("NaT")) == [
        [NEW_YEAR],
        [NEW_YEAR],
        None,
        None,
    ]


LEAVE_OUT = "which a tf.Example cannot hold. Leave it out"
FLATTEN = "which a tf.Example cannot hold. Flatten it, or make the whole value a NumPy array"
TOO_LARGE = f"holds {2**63}, which does not fit into 64 bits with a sign. Make it text or a float"
SURROGATE = "text that cannot be written as UTF-8: surrogates not allowed"
UNFIT = [
    ({"y": 1}, f"holds a dict, {LEAVE_OUT}"),
    ({1}, f"holds a set, {LEAVE_OUT}"),
    (1j, f"holds a complex, {LEAVE_OUT}"),
    (np.array([1j]), f"holds an array of complex128, {LEAVE_OUT}"),
    ([[1, 2]], f"holds a list with a list, {FLATTEN}"),
    (2**63, TOO_LARGE),
    ([2**63], TOO_LARGE),
    (np.uint64(2**63), TOO_LARGE),
    (np.array([2**63], np.uint64), TOO_LARGE),
    ([1, None], "holds a list with None among its values. Replace it"),
    ([1, "a"], "holds a list of both text and numbers. Use one of them"),
    ("\ud800", f"holds {SURROGATE}"),
    (["\ud800"], f"holds a list with {SURROGATE}"),
    (np.ma.array([1, 2], mask=[0, 1]),
     "holds an array with masked values. Fill them, or leave the column out"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "reason"), UNFIT, ids=[repr(value) for value, _ in UNFIT])
def test_value_that_does_not_fit_costs_its_own_row_alone(value, reason):
    (table,), unfit = tables_of([{"x": 1}, {"x": value}, {"x": 2, "y": "a"}])
    assert (table.indexes, table.columns["x"].to_pylist()) == ([0, 2], [1, 2])
    assert unfit == {1: ("ValueError", f"column 'x' {reason}")}


def test_name_of_a_column_must_be_text():
    tables, unfit = tables_of([{1: 2}, {"\ud800": 2}])
    assert not tables
    assert [message for _, message in unfit.values()] == [
        "the name of a column must be text, not 1",
        "the name of a column is '\\ud800', which cannot be written as UTF-8",
    ]
