from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulk_inferencer._formats.columns import column_view
from bulk_inferencer._formats.example_columns import (
    columns_of_records,
    kept_columns,
    kinds_of_records,
)
from bulk_inferencer._formats.rows import Rows
from tests.helpers import example, sequence_example

_VALUES = {
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float32(): st.floats(width=32),
    pa.string(): st.text(max_size=5),
    pa.binary(): st.binary(max_size=5),
}


@st.composite
def tables(draw, most_rows=3):
    """Returns tables of the types that features become, in which no list is empty."""
    count = draw(st.integers(1, most_rows))
    made = {}
    for i, kind in enumerate(draw(st.lists(st.sampled_from([*_VALUES]), min_size=1, max_size=4))):
        own, is_list = _VALUES[kind], draw(st.booleans())
        own = st.none() | (st.lists(own, min_size=1, max_size=3) if is_list else own)
        values = draw(st.lists(own, min_size=count, max_size=count))
        made[f"c{i}"] = pa.array(values, pa.list_(kind) if is_list else kind)
    return pa.table(made)


# Few records are parsed one by one, and many together.
@pytest.mark.parametrize("copies", [1, 40])
@settings(max_examples=40, deadline=None)
@given(table=tables())
def test_columns_that_became_records_come_back(copies, table):
    table = pa.concat_tables([table] * copies).combine_chunks()
    found, reasons = columns_of_records(Rows(table).examples(), table.schema)
    assert (found.schema, reasons) == (table.schema, {})
    np.testing.assert_equal(found.to_pydict(), table.to_pydict())


def test_kinds_are_what_records_have():
    records = [
        example(n=1, x=1.5, text="ä", raw=b"\xff", many=[1, 2], empty=[]),
        b"no example",
        example(n=2, text=["b"], raw="text", many=[], few=["a", "b"]),
        example(n="once", n2=1.5),
        sequence_example(context=1.5),
    ]
    assert kinds_of_records(records) == pa.schema(
        {
            "context": pa.float32(),
            "few": pa.list_(pa.string()),
            "many": pa.list_(pa.int64()),
            "n": pa.int64(),
            "n2": pa.float32(),
            "raw": pa.binary(),
            "text": pa.string(),
            "x": pa.float32(),
        }
    )
    assert kinds_of_records([b"no example"]) == pa.schema([])


SCHEMA = pa.schema({"n": pa.int64(), "text": pa.string(), "words": pa.list_(pa.string())})
GOOD = example(n=1, text="a", words=["b", "c"], other=1.5)
BAD = {
    b"no example": "The record is no tf.Example",
    example(n=1.5): "Feature 'n' holds float32, but the column int64",
    example(n=[1, 2]): "Feature 'n' has 2 values, but those of the first records had one",
    example(text=b"\xff"): "Feature 'text' is not UTF-8, as those of the first records were",
    example(words=["b", b"\xff"]): (
        "Feature 'words' is not UTF-8, as those of the first records were"
    ),
}


@pytest.mark.parametrize("bad", BAD, ids=[reason[:30] for reason in BAD.values()])
@pytest.mark.parametrize("count", [1, 100])
def test_record_that_does_not_fit_is_null_and_the_others_are_not(bad, count):
    records = [GOOD] * count + [bad, example()] + [GOOD] * count
    table, reasons = columns_of_records(records, SCHEMA)
    assert reasons == {count: BAD[bad]}
    good = {"n": 1, "text": "a", "words": ["b", "c"]}
    nothing = dict.fromkeys(good)
    assert table.to_pylist() == [good] * count + [nothing] * 2 + [good] * count
    assert table.schema == SCHEMA


def test_no_records_are_columns_without_rows():
    assert columns_of_records([], SCHEMA) == (SCHEMA.empty_table(), {})


def test_kept_columns_of_rows_are_those_of_their_source():
    source = pa.table({"id": pa.array([1, 2], pa.uint8()), "x": [0.5, 1.5], "y": [[1], None]})
    rows = Rows(source, column_view(["x"]))
    schema = pa.schema({"y": source.schema.field("y").type, "id": pa.uint8()})
    assert kept_columns(rows, schema) == (source.select(["y", "id"]), {})
    records = Rows(source).examples()
    wide = pa.schema({"id": pa.int64(), "x": pa.float32()})
    assert kept_columns(records, wide) == (source.select(["id", "x"]).cast(wide), {})
