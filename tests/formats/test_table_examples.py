"""tf.Examples of tables are compared with what the official protos parse them to."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulk_inferencer._formats.column_values import NoFeatureError
from bulk_inferencer._formats.table_examples import examples_of
from tests.formats.tables import columns_of, feature_of, tables
from tests.helpers import exactly, features_of

quick = settings(max_examples=60, deadline=None)


def expected(table):
    """Returns the features of each row, made value by value."""
    return [
        {name: feature_of(column[i], column.type) for name, column in columns_of(table)}
        for i in range(len(table))
    ]


@quick
@given(tables())
def test_rows_parse_to_their_values(table):
    found = [features_of(record) for record in examples_of(table)]
    np.testing.assert_equal(found, expected(table))


@quick
@given(tables(), st.data())
def test_row_has_the_same_bytes_in_any_batch(table, data):
    rows = data.draw(st.lists(st.integers(0, len(table) - 1))) if len(table) else []
    examples = examples_of(table)
    assert examples_of(table.take(pa.array(rows, pa.int64()))) == [examples[i] for i in rows]


def test_rows_without_columns_are_empty_examples():
    assert examples_of(pa.table({"a": [1, 2]}).select([])) == [b"", b""]


def test_many_rows_are_made_block_by_block():
    count = 50_000
    texts = [str(i) * (i % 7) for i in range(count)]
    table = pa.table({"i": range(count), "text": texts, "x": np.ones((count,), np.float32)})
    examples = examples_of(table)
    for i in (0, 1, 12_345, count - 1):
        assert features_of(examples[i]) == {"i": [i], "text": [texts[i].encode()], "x": [1.0]}
    assert len(examples) == count


def test_integer_too_large_for_int64_is_named():
    table = pa.table({"id": pa.array([1, 2**63], pa.uint64())})
    message = (
        f"column 'id' holds {2**63}, which is too large for the int64 of a tf.Example; leave it "
        f"out with columns=, or make it text"
    )
    with pytest.raises(NoFeatureError, match=exactly(message)):
        examples_of(table)
