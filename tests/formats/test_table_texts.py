from __future__ import annotations

import datetime
import decimal
import json
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulk_inferencer._formats.table_texts import csv_texts, json_texts

KINDS = [
    (pa.float64(), st.floats()),
    (pa.float32(), st.floats(width=32)),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.uint64(), st.integers(0, 2**64 - 1)),
    (pa.bool_(), st.booleans()),
    (pa.string(), st.text()),
]


def or_none(values):
    return st.none() | values


def as_json(value):
    """Returns what JSON can hold of a value."""
    if isinstance(value, list):
        return [as_json(own) for own in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def read(text, kind):
    """Returns what a text holds; numbers as a reader with the type of the column gets them."""
    while pa.types.is_list(kind):
        kind = kind.value_type
    is_float32 = pa.types.is_float32(kind)
    number = (lambda digits: float(np.float32(digits))) if is_float32 else float
    return json.loads(text, parse_float=number, parse_int=number if is_float32 else int)


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize(("kind", "values"), KINDS, ids=lambda own: str(own)[:8])
@settings(max_examples=30)
@given(data=st.data())
def test_texts_are_read_back_as_the_values(depth, kind, values, data):
    values = or_none(values)
    for _ in range(depth):
        kind, values = pa.list_(kind), or_none(st.lists(values, max_size=3))
    own = data.draw(st.lists(values, max_size=5))
    start = data.draw(st.integers(0, 2))
    texts = json_texts(pa.array(own, kind).slice(start)).to_pylist()
    assert [read(text, kind) for text in texts] == as_json(own[start:])


@pytest.mark.parametrize(
    ("values", "of_json", "of_csv"),
    [
        (pa.array([b"\x00\xff", None]), ['"AP8="', "null"], ['"AP8="', ""]),
        (
            pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int8(), 2)),
            ["[1,2]", "null", "[3,4]"],
            ['"[1,2]"', "", '"[3,4]"'],
        ),
        (pa.array([[1], None], pa.large_list(pa.int8())), ["[1]", "null"], ['"[1]"', ""]),
        (pa.array([["a"]]), ['["a"]'], ['"[""a""]"']),
        (pa.array([decimal.Decimal("1.50")]), ["1.50"], ["1.50"]),
        (pa.array([datetime.date(2024, 2, 29)]), ['"2024-02-29"'], ["2024-02-29"]),
        (
            pa.array([0], pa.timestamp("ms", "UTC")),
            ['"1970-01-01 00:00:00.000Z"'],
            ["1970-01-01 00:00:00.000Z"],
        ),
        (pa.nulls(1), ["null"], [""]),
        (
            pa.array(['a,"b"\n', "", None]),
            ['"a,\\"b\\"\\n"', '""', "null"],
            ['"a,""b""\n"', '""', ""],
        ),
        (
            pa.array([0.1, 5.0, 1e30], pa.float32()),
            ["0.1", "5.0", "1e+30"],
            ["0.1", "5.0", "1e+30"],
        ),
        (
            pa.array([math.nan, -math.inf, None]),
            ['"NaN"', '"-Infinity"', "null"],
            ["nan", "-inf", ""],
        ),
        (pa.array([True, None]), ["true", "null"], ["true", ""]),
    ],
    ids=lambda own: str(own.type) if isinstance(own, pa.Array) else "",
)
def test_values_have_texts_by_type(values, of_json, of_csv):
    assert json_texts(values).to_pylist() == of_json
    assert csv_texts(values).to_pylist() == of_csv
