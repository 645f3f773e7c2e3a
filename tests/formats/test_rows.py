from __future__ import annotations

import pickle

import pyarrow as pa
import pytest

from bulk_inferencer._formats import rows as rows_module
from bulk_inferencer._formats.column_values import NoFeatureError
from bulk_inferencer._formats.columns import column_view
from bulk_inferencer._formats.rows import Rows, as_list, bytes_of, joined, taken
from tests.helpers import features_of

TABLE = pa.table({"a": [1, 2, 3, 4, 5], "b": ["v", "w", "x", "y", "z"]})
VIEW = column_view(["a"], {"a": "n"})


def values(records):
    return [features_of(record)["n"] for record in records]


@pytest.fixture
def made(monkeypatch):
    """Notes how many rows become tf.Examples, call by call."""
    counts = []
    make = rows_module.examples_of

    def noted(table):
        counts.append(len(table))
        return make(table)

    monkeypatch.setattr(rows_module, "examples_of", noted)
    return counts


def test_rows_are_their_examples_as_models_see_them():
    rows = Rows(TABLE, VIEW)
    assert [features_of(record) for record in rows] == [{"n": [i]} for i in range(1, 6)]
    assert (rows[0], rows[-1]) == (rows.examples()[0], rows.examples()[4])
    assert rows.source is TABLE
    assert rows.columns == pa.table({"n": [1, 2, 3, 4, 5]})
    assert (len(rows), bytes_of(rows)) == (5, TABLE.nbytes)


PARTS = [slice(None), slice(1, 4), slice(3, 99), slice(-2, None), slice(2, 2), slice(4, 1),
         slice(None, None, 2), slice(None, None, -1)]  # fmt: skip


@pytest.mark.parametrize("part", PARTS, ids=str)
def test_slices_are_rows_that_share_the_examples_of_all(part, made):
    rows = Rows(TABLE, VIEW)
    examples = rows.examples()
    own = rows[part]
    assert isinstance(own, Rows)
    assert own.examples() == examples[part]
    assert own.columns["n"].to_pylist() == [1, 2, 3, 4, 5][part]
    assert own.source["b"].to_pylist() == ["v", "w", "x", "y", "z"][part]
    assert made == [5]


def test_examples_are_made_once_for_all_slices(made):
    rows = Rows(TABLE, VIEW)
    part = rows[1:4]
    assert values(part[1:]) == [[3], [4]]
    assert [values(rows[i : i + 1]) for i in range(5)] == [[[i]] for i in range(1, 6)]
    assert made == [5]


def test_taken_rows_are_rows_in_that_order(made):
    rows = Rows(TABLE, VIEW)
    before = taken(rows, [4, 0, 0])
    assert (before.columns["n"].to_pylist(), values(before)) == ([5, 1, 1], [[5], [1], [1]])
    rows[1:].examples()
    after = taken(rows[1:], [2, 0])
    assert (after.source["b"].to_pylist(), values(after)) == (["y", "w"], [[4], [2]])
    assert made == [3, 5]
    assert len(taken(rows, [])) == 0
    assert taken([b"a", b"b"], [1]) == [b"b"]


def test_pickled_rows_are_the_rows_of_a_slice_alone():
    table = pa.table({"a": range(10_000), "b": ["text"] * 10_000})
    rows = Rows.concat([Rows(table, VIEW)[5:7], Rows(table, VIEW)[9:10]])
    pickled = pickle.dumps(rows)
    assert len(pickled) < 2_000
    found = pickle.loads(pickled)
    assert found.source == pa.table({"a": [5, 6, 9], "b": ["text"] * 3})
    assert found.columns == pa.table({"n": [5, 6, 9]})
    assert found.examples() == rows.examples()
    for part in (found[1:], found.take([2])):  # They are still seen in the same way.
        assert pickle.loads(pickle.dumps(part)).examples() == part.examples()


def test_joined_rows_are_rows():
    rows = Rows(TABLE, VIEW)
    both = joined([rows[3:], rows[:0], rows[:2]])
    assert isinstance(both, Rows)
    assert both.source["b"].to_pylist() == ["y", "z", "v", "w"]
    assert values(both) == [[4], [5], [1], [2]]
    assert joined([rows]) is rows
    plain = joined([Rows(TABLE)[:1], Rows(TABLE)[1:2]])
    assert plain.columns is plain.source
    records = as_list(rows)
    assert joined([records[:1], rows[1:2]]) == records[:2]
    assert joined([]) == []


def test_rows_that_can_be_no_examples_are_named_and_cost_no_others():
    rows = Rows(pa.table({
        "id": pa.array([1, 2, 2**63, 4], pa.uint64()),
        "day": pa.array([0, 2**31 - 1, 0, 0], pa.int32()).cast(pa.date32()),
        "list": pa.array([[2**63], None, [], []], pa.list_(pa.uint64())),
    }))  # fmt: skip
    assert {row: reason[:13] for row, reason in rows.unfit().items()} == {
        0: "column 'list'", 1: "column 'day' ", 2: "column 'id' h"
    }  # fmt: skip
    with pytest.raises(NoFeatureError):
        rows.examples()
    assert rows[3:].examples() == rows.take([3]).examples()
    assert rows[3:].unfit() == {}
