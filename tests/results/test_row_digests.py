"""Digests that tell records apart, and which rows belong together by them."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulk_inferencer._formats import wire
from bulk_inferencer.results.row_digests import (
    digests_of_column,
    digests_of_columns,
    digests_of_objects,
    digests_of_records,
    in_order,
    paired,
)

FEW = st.lists(st.integers(0, 4), max_size=12)


@given(FEW, FEW)
def test_rows_are_paired_as_often_as_both_have_them_the_first_with_the_first(a, b):
    pairs = paired(*(digests_of_column(pa.array(own, pa.int64())) for own in (a, b)))
    assert len(pairs.a) == (Counter(a) & Counter(b)).total()
    assert list(pairs.a) == sorted(set(pairs.a))
    taken = list(zip(pairs.a.tolist(), pairs.b.tolist(), strict=True))
    for i, j in taken:
        assert a[i] == b[j]
        assert a[:i].count(a[i]) == b[:j].count(b[j])
    for values, doubled in ((a, pairs.doubled), (b, pairs.doubled_in_b)):
        is_unique = len(set(values)) == len(values)
        assert (doubled is None) == is_unique
        assert is_unique or values[:doubled].count(values[doubled]) == 1


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (pa.array([1, -1], pa.int8()), pa.array([1, -1], pa.int64())),
        (pa.array([1, 255], pa.uint8()), pa.array([1, 255], pa.int16())),
        (pa.array(["ä", ""]), pa.array(["ä".encode(), b""], pa.large_binary())),
        (pa.array([0.5, 2.0], pa.float32()), pa.array([0.5, 2.0], pa.float64())),
    ],
    ids=["signed", "unsigned", "text", "floats"],
)
def test_equal_values_have_equal_digests_whatever_their_type(a, b):
    assert (digests_of_column(a) == digests_of_column(b)).all()


def test_different_values_have_different_digests():
    whole = [0, 1, -1, 2**63 - 1, -(2**63), 2**32]
    columns = [pa.array(whole), pa.array(["", "0", "1", "\0", "a", "a "]), pa.array([True, False])]
    for column in (*columns, pa.array([2**64 - 1, 2**63, 0], pa.uint64())):
        digests = digests_of_column(column)
        assert len(np.unique(digests, axis=0)) == len(column)
    large = digests_of_objects([str(i) for i in range(100_000)])
    assert [len(np.unique(own)) for own in large.T] == [100_000] * 2


def test_rows_of_several_columns_differ_in_any_of_them():
    columns = [pa.array(["a", "a", "ab", None, "null"]), pa.array(["b", None, "", "b", "b"])]
    assert len(np.unique(digests_of_columns(columns), axis=0)) == 5


def test_order_of_features_makes_no_other_record():
    features = [
        wire.field(1, wire.field(1, name) + wire.field(2, b"x" * 200))
        for name in (b"a", b"b", b"c")
    ]
    records = [wire.field(1, b"".join(own)) for own in itertools.permutations(features)]
    assert len({in_order(record) for record in records}) == 1
    assert len(np.unique(digests_of_records(records), axis=0)) == 1
    for other in (
        b"",
        b"no example",
        records[0][:-1],
        records[0] + b"\x0a",
        b"\x0a\xff",
        b"\x0a\x01\x0b",
    ):
        assert in_order(other) == other
