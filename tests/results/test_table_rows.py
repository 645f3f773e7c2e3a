from __future__ import annotations

import math

import pyarrow as pa
import pytest

from bulk_inferencer._formats.table_writer import table_writer
from bulk_inferencer._layout import CSV, JSON_LINES, PARQUET, prediction_table, shard_name
from bulk_inferencer.errors import InputError
from bulk_inferencer.results.shards import table_shards
from bulk_inferencer.results.table_rows import table_rows
from tests.helpers import exactly, in_bucket


def write_table(folder, table_format, *tables):
    """Writes a file for each table, as runs do."""
    for i, table in enumerate(tables):
        writer = table_writer(table_format, table.schema)
        name = prediction_table("s", shard_name(i, len(tables)), table_format)
        (folder / name).write_bytes(writer.add(table) + writer.end())
    return table_rows(table_shards(in_bucket(folder)))


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
