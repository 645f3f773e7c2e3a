from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulk_inferencer._formats.columns import ColumnView, column_view
from bulk_inferencer.errors import InputError, SettingsError
from tests.helpers import exactly

TABLE = pa.table({"a": [1, 2], "b": [0.5, 1.5], "c": ["v", "w"]})


@pytest.mark.parametrize(
    ("columns", "rename", "expected"),
    [
        ((), {}, {"a": "a", "b": "b", "c": "c"}),
        ([], {"a": "x"}, {"x": "a", "b": "b", "c": "c"}),
        (["c", "a"], {}, {"c": "c", "a": "a"}),
        (["c", "a"], {"a": "x"}, {"c": "c", "x": "a"}),
        ([], {"a": "b", "b": "a"}, {"b": "a", "a": "b", "c": "c"}),
        ({"x": "a", "y": "a"}, {}, {"x": "a", "y": "a"}),
        ({}, {"a": "x"}, {"x": "a", "b": "b", "c": "c"}),
    ],
)
def test_view_chooses_and_renames(columns, rename, expected):
    view = column_view(columns, rename)
    found = view.apply(TABLE)
    assert found.equals(pa.table({new: TABLE[old] for new, old in expected.items()}))
    assert view.schema(TABLE.schema) == found.schema
    assert dict(view.columns_of(TABLE.column_names)) == expected
    assert view.sources == {*(columns.values() if isinstance(columns, dict) else columns), *rename}


_NUMBERS = [pa.int8(), pa.uint16(), pa.int64(), pa.float32(), pa.float64(), pa.bool_()]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_columns_become_vectors_whose_places_are_null_where_they_are(data):
    count = data.draw(st.integers(0, 5))
    kinds = data.draw(st.lists(st.sampled_from(_NUMBERS), min_size=1, max_size=4))
    values = st.none() | st.integers(0, 1)
    cells = [data.draw(st.lists(values, min_size=count, max_size=count)) for _ in kinds]
    own = {
        f"c{i}": pa.array(cell, pa.int8()).cast(kind)
        for i, (cell, kind) in enumerate(zip(cells, kinds, strict=True))
    }
    view = column_view({"x": list(own)})
    found = view.apply(pa.table(own))
    assert found["x"].to_pylist() == [list(row) for row in zip(*cells, strict=True)]
    assert found["x"].null_count == 0
    assert view.schema(pa.table(own).schema) == found.schema


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ([pa.float32(), pa.float32()], pa.float32()),
        ([pa.int8(), pa.int64()], pa.int64()),
        ([pa.int64(), pa.float32()], pa.float64()),
        ([pa.bool_(), pa.float32()], pa.float32()),
        ([pa.bool_(), pa.bool_()], pa.uint8()),
        ([pa.decimal128(5, 2), pa.float32()], pa.float64()),
    ],
)
def test_vector_has_the_type_that_holds_all_of_its_columns(kinds, expected):
    schema = pa.schema([(f"c{i}", kind) for i, kind in enumerate(kinds)])
    found = column_view({"x": schema.names}).schema(schema)
    assert found.field("x").type == pa.list_(expected, len(kinds))


def test_large_vectors_keep_each_value():
    own = {f"c{i}": np.random.default_rng(i).random(1000) for i in range(3)}
    (vectors,) = column_view({"x": list(own)}).apply(pa.table(own)).columns
    matrix = np.array(vectors.to_pylist())
    np.testing.assert_array_equal(matrix, np.stack(list(own.values()), 1))


@pytest.mark.parametrize(
    ("columns", "rename", "message"),
    [
        ("a", {}, "columns must be a list, not 'a'. Write ['a']."),
        (5, {}, "columns must be a list of names, or a dict, not 5. Write ['a column']."),
        (b"a", {}, "columns must be a list of names, or a dict, not b'a'. Write ['a column']."),
        *[(("a",), rename, (f"rename must hold the new name of each column, not {rename!r}. Write "
                            "{'old name': 'new name'}.")) for rename in (5, "ab", ["ab"])],
        ([1], {}, "columns must hold names of columns, not 1."),
        (["a", "b", "a"], {}, "columns names a twice. Name it once."),
        ({"x": []}, {}, ("columns must hold a column, or a list of columns, for each input of the "
                         "model, not 'x': [].")),
        ({"x": "a"}, {"a": "x"}, ("columns names the inputs of the model already, so rename has "
                                  "nothing to do. Leave out rename.")),
        (["a"], {"b": "x"}, ("rename names the column 'b', which columns leaves out. Add it to "
                             "columns.")),
        ([], {"a": ""}, "rename must hold the new name of each column, as text, not 'a': ''."),
        ([], {"a": "x", "b": "x"}, "rename gives several columns the name x. Rename all but one."),
        (["a", "x"], {"a": "x"}, ("Two of the columns would be named 'x' for the model. Rename one "
                                  "of them.")),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(columns, rename, message):
    with pytest.raises(SettingsError, match=exactly(message)):
        column_view(columns, rename)


def test_columns_may_be_any_collection_but_not_an_iterator():
    assert column_view(pd.Index(["a", "b"])) == column_view(["a", "b"])
    with pytest.raises(SettingsError, match=r"^columns must be a list of names, or a dict, not <"):
        column_view(name for name in "ab")


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (column_view(["a", "bb"]),
         ("The inputs have no column 'bb'; they have a, b, c. Did you mean 'b'? Correct the "
          "setting that names it.")),
        (column_view(rename={"a": "c"}),
         ("Two columns would be named 'c' for the model. Rename one of them, or leave it out by "
          "naming the others in columns.")),
        (column_view({"x": ["a", "c"]}),
         ("Column 'c' holds string, so it cannot become a part of the vector 'x', which takes "
          "numbers. Leave it out of columns.")),
    ],
)  # fmt: skip
def test_column_that_the_inputs_do_not_have_like_that_is_named(view, message):
    with pytest.raises(InputError, match=exactly(message)):
        view.schema(TABLE.schema)


def test_column_that_is_there_twice_cannot_be_chosen():
    twice = pa.table([[1], [2]], names=["a", "a"])
    with pytest.raises(InputError, match=r"^Two columns of the inputs are named 'a'"):
        ColumnView({"x": "a"}).apply(twice)
