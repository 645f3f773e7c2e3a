from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal

import pyarrow as pa
import pytest

from bulk_inferencer._formats.table_writer import table_writer
from bulk_inferencer._layout import CSV, JSON_LINES, PARQUET, prediction_table, shard_name
from bulk_inferencer.errors import InputError
from bulk_inferencer.results import table_rows as own_module
from bulk_inferencer.results.shards import table_shards
from bulk_inferencer.results.table_rows import table_rows
from tests.helpers import exactly, in_bucket


def write_table(folder, table_format, *tables, schema=None):
    """Writes a file for each table, as runs do, and reads them, perhaps with a known schema."""
    for i, table in enumerate(tables):
        writer = table_writer(table_format, table.schema)
        name = prediction_table("s", shard_name(i, len(tables)), table_format)
        (folder / name).write_bytes(writer.add(table) + writer.end())
    return table_rows(table_shards(in_bucket(folder)), schema)


SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("x", pa.float64()),
        ("text", pa.string()),
        ("flag", pa.bool_()),
        ("none", pa.string()),
        ("vector", pa.list_(pa.float64())),
    ]
)
ROWS = [
    {"id": 1, "x": 1.5, "text": 'a "b", c\n', "flag": True, "none": None, "vector": [1.0, 2.5]},
    {"id": 2, "x": None, "text": "", "flag": None, "none": None, "vector": []},
    {"id": -3, "x": math.inf, "text": None, "flag": False, "none": None, "vector": None},
    {"id": 4, "x": -2.0, "text": "ä", "flag": True, "none": None, "vector": [-math.inf]},
]


@pytest.mark.parametrize("table_format", [PARQUET, CSV, JSON_LINES])
def test_rows_come_back_in_order_and_with_their_types(tmp_path, table_format):
    whole = pa.Table.from_pylist(ROWS, SCHEMA)
    shards = (whole.slice(0, 2), whole.slice(2, 0), whole.slice(2))
    rows = write_table(tmp_path, table_format, *shards)
    assert rows.count() == 4
    assert [table.num_rows for table in rows.tables(1)] == [1] * 4
    found = pa.concat_tables(rows.tables(100))
    if table_format == PARQUET:
        assert rows.whole() == found
    expected = whole
    if table_format == CSV:
        expected = [
            {**row, "vector": text}
            for row, text in zip(ROWS, ["[1.0,2.5]", "[]", None, '["-Infinity"]'], strict=True)
        ]
        assert found.to_pylist() == expected
        return
    assert found.drop(["none"]).to_pylist() == expected.drop(["none"]).to_pylist()
    assert found.drop(["none"]).schema == SCHEMA.remove(SCHEMA.get_field_index("none"))
    assert found["none"].null_count == 4


TYPED = pa.table(
    {
        "text": ["007", "", None, "1.50"],
        "day as text": ["2020-01-01", None, "null", "NaN"],
        "big": pa.array([2**64 - 1, 2**64 - 2, None, 0], pa.uint64()),
        "whole": pa.array([2**53 + 1, None, -1, 0]),
        "small": pa.array([0.1, None, -math.inf, 2], pa.float32()),
        "exact": pa.array([Decimal("0.10"), None, Decimal("-12345678901234567890.12"), 0]).cast(
            pa.decimal128(30, 2)
        ),
        "bytes": [b"", b"\xff", None, b"a"],
        "day": [dt.date(1, 1, 1), None, dt.date(9999, 12, 31), dt.date(2020, 1, 1)],
        "late day": pa.array([4_000_000, None, -800_000, 0], pa.int32()).cast(pa.date32()),
        "time": pa.array([1, None, 86_399_999_999, 0], pa.time64("us")),
        "moment": pa.array([1, None, -(2**60), 0], pa.timestamp("ns")),
        "zoned": pa.array([1, None, 2**50, 0], pa.timestamp("us", "Europe/Berlin")),
        "nothing": pa.nulls(4),
        "flags": pa.array([[True, None], None, [], [False]]),
        "lists": pa.array([[[2**63], None], None, [], [[]]], pa.list_(pa.list_(pa.uint64()))),
        "pair": pa.array([[1, math.inf], None, [None, 2], [3, 4]], pa.list_(pa.float64(), 2)),
        "days": pa.array([[dt.date(2020, 1, 1)], None, [], [None]], pa.large_list(pa.date32())),
        "exacts": [[Decimal("0.1")], None, [], [Decimal("123456789012345678.9")]],
        "several": [[b""], None, [], [b"\xff", None]],
    }
)


@pytest.mark.parametrize("table_format", [CSV, JSON_LINES])
def test_columns_of_known_types_come_back_as_they_were(tmp_path, table_format):
    shards = [TYPED.slice(0, 1), TYPED.slice(1, 0), TYPED.slice(1)]
    rows = write_table(tmp_path, table_format, *shards, schema=TYPED.schema)
    assert rows.schema == TYPED.schema
    found = pa.concat_tables(rows.tables(2))
    found.validate(full=True)
    for name in TYPED.column_names:
        assert found[name].combine_chunks().equals(TYPED[name].combine_chunks()), name


@pytest.mark.parametrize("table_format", [CSV, JSON_LINES])
@pytest.mark.parametrize(
    ("kind", "written"),
    [
        (pa.int64(), ["a"]),
        (pa.decimal128(5, 2), ["a"]),
        (pa.binary(), ["a"]),
        (pa.date32(), ["a"]),
        (pa.float64(), ["a"]),
        (pa.uint8(), [256]),
        (pa.list_(pa.float64(), 2), [[1.0]]),
    ],
    ids=str,
)
def test_value_that_is_not_of_the_known_type_is_an_error_that_names_the_file(
    tmp_path, table_format, kind, written
):
    schema = pa.schema([("x", kind)])
    rows = write_table(tmp_path, table_format, pa.table({"x": written}), schema=schema)
    with pytest.raises(InputError, match=r"00000-of-00001.* cannot be read as a table"):
        list(rows.tables(10))


def test_row_of_csv_may_be_larger_than_what_is_parsed_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(own_module, "_BLOCK_BYTES", 100)
    lengths = [1, 2, 500, 3, 1, 2, 90, 1]
    table = pa.table({"id": range(8), "text": ["a" * own for own in lengths]})
    rows = write_table(tmp_path, CSV, table, schema=table.schema)
    assert pa.concat_tables(rows.tables(3)) == table


def test_whole_numbers_beyond_int64_are_not_rounded_where_types_are_guessed(tmp_path):
    big = pa.array([2**64 - 1, 2**64 - 2], pa.uint64())
    rows = write_table(tmp_path, JSON_LINES, pa.table({"x": big}))
    assert next(rows.tables(10))["x"].to_pylist() == big.to_pylist()
    (tmp_path / "two").mkdir()
    rows = write_table(tmp_path / "two", JSON_LINES, pa.table({"x": big}), pa.table({"x": [-1]}))
    found = [own for table in rows.tables(10) for own in table["x"].to_pylist()]
    assert found == [str(2**64 - 1), str(2**64 - 2), "-1"]


@pytest.mark.parametrize("table_format", [CSV, JSON_LINES])
@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([[1], [2.5]], [1.0, 2.5]),
        ([[None], [2]], [None, 2]),
        ([[1], ["a"]], ["1", "a"]),
        ([[math.nan], [1.0]], [None, 1.0]),
    ],
    ids=["numbers", "none", "text", "NaN"],
)
def test_column_has_the_type_of_all_files_together(tmp_path, table_format, values, found):
    rows = write_table(tmp_path, table_format, *(pa.table({"a": own}) for own in values))
    (column,) = pa.concat_tables(rows.tables(10)).columns
    is_nan = [isinstance(own, float) and math.isnan(own) for own in column.to_pylist()]
    plain = [None if nan else own for own, nan in zip(column.to_pylist(), is_nan, strict=True)]
    assert plain == found


@pytest.mark.parametrize("table_format", [PARQUET, CSV, JSON_LINES])
def test_damaged_file_is_an_error_that_names_it(tmp_path, table_format):
    rows = write_table(tmp_path, table_format, pa.table({"a": [1, 2], "b": [1, 2]}))
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    broken = [b'{"a": 1}\n2,3,4\n{']
    if table_format == PARQUET:  # a damaged page
        broken.append(whole[:4] + bytes(40) + whole[44:])
    for content in broken:
        path.write_bytes(content)
        message = f"{path} cannot be read as a table, since it is damaged or was written by"
        with pytest.raises(InputError, match=message):
            list(rows.tables(10))


def test_files_of_several_formats_are_an_error(tmp_path):
    write_table(tmp_path, CSV, pa.table({"a": [1]}))
    message = (
        f"The table has files of the formats csv and parquet, such as "
        f"{in_bucket(tmp_path)}/predictions-s-00000-of-00001.csv. Keep those of one."
    )
    with pytest.raises(InputError, match=exactly(message)):
        write_table(tmp_path, PARQUET, pa.table({"a": [1]}))
