from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from bulk_inferencer._formats.column_values import (
    FLOAT32,
    INT64,
    STRING,
    NoFeatureError,
    check_features,
    kinds_of_columns,
    list_with_gap,
    values_of,
)
from bulk_inferencer._formats.example import Kind
from bulk_inferencer.errors import InputError
from tests.helpers import exactly


def test_numbers_share_the_memory_of_the_column():
    array = pa.array(np.arange(10, dtype=np.int16))
    lists = pa.FixedSizeListArray.from_arrays(array, 2)
    for column in (array[3:], lists[1:], pa.chunked_array([array])):
        values = values_of("x", column).flat
        assert values.dtype == np.int16
        assert np.shares_memory(values, array.to_numpy())


def test_first_list_with_a_null_inside_is_found():
    own = pa.array([None, [], [1], [2, None], [None]])
    whole = pa.array([[1], None, [2]])
    assert (values_of("x", own).gap, values_of("x", whole).gap) == (3, None)
    chunks = pa.chunked_array([whole, own.slice(1), own])
    assert values_of("x", chunks).gap == 3 + 2
    assert values_of("x", pa.array([[0.5, None]])).flat.tolist() == pytest.approx(
        [0.5, np.nan], nan_ok=True
    )
    assert list_with_gap(pa.table({"a": [1, None], "b": whole[:2]})) is None
    assert list_with_gap(pa.table({"b": whole, "x": own[:3]})) is None
    assert list_with_gap(pa.table({"b": whole, "x": own[1:4]})) == "x"


def test_kinds_say_how_many_values_rows_have():
    schema = pa.schema(
        {
            "n": pa.timestamp("ms"),
            "x": pa.list_(pa.float16(), 3),
            "text": pa.large_list(pa.dictionary(pa.int8(), pa.string())),
            "nothing": pa.null(),
        }
    )
    assert kinds_of_columns(schema) == {
        "n": Kind(INT64, 1),
        "x": Kind(FLOAT32, 3),
        "text": Kind(STRING, -1),
        "nothing": None,
    }


NESTED = [
    pa.struct({"a": pa.int64()}),
    pa.map_(pa.string(), pa.int64()),
    pa.list_(pa.list_(pa.int64())),
    pa.list_(pa.struct({"a": pa.int64()})),
    pa.dense_union([pa.field("a", pa.int64())]),
    pa.month_day_nano_interval(),
]


@pytest.mark.parametrize("kind", NESTED, ids=str)
def test_column_that_no_example_has_a_place_for_is_named_with_its_type(kind):
    message = (
        f"Column 'c' holds {kind}, which a tf.Example has no place for. Leave it out with "
        f"columns=, which names the columns that the model sees."
    )
    with pytest.raises(InputError, match=exactly(message)):
        check_features(pa.schema({"a": pa.int64(), "c": kind}))
    if not pa.types.is_union(kind):
        with pytest.raises(InputError, match=exactly(message)):
            values_of("c", pa.nulls(2, kind))


def test_columns_of_one_name_are_refused():
    message = (
        "Two columns of the inputs are named 'a', so nobody can tell them apart. Rename one of "
        "them where the inputs are written."
    )
    with pytest.raises(InputError, match=exactly(message)):
        check_features(pa.schema([("a", pa.int64()), ("b", pa.int64()), ("a", pa.string())]))


def test_time_too_far_away_for_microseconds_is_named():
    message = (
        "column 'day' holds a date32[day] that is too far away to be counted in microseconds; "
        "correct it, or leave the column out with columns="
    )
    for day in (2**31 - 1, -(2**31)):
        with pytest.raises(NoFeatureError, match=exactly(message)):
            values_of("day", pa.array([0, day], pa.int32()).view(pa.date32()))
