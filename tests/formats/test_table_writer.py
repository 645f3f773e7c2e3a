"""What is written is read back with other tools: Arrow's own readers, pandas and DuckDB."""

from __future__ import annotations

import io
import json

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
import pytest

from bulk_inferencer._formats import table_writer as module
from bulk_inferencer._formats.table_writer import check_writable, table_writer
from bulk_inferencer._layout import TABLE_FORMATS
from bulk_inferencer.errors import SettingsError
from tests.helpers import exactly

ENDINGS = {"parquet": "parquet", "csv": "csv", "json_lines": "jsonl"}
TABLE = pa.table(
    {
        "id": pa.array([1, 2, 3], pa.int64()),
        "y": pa.array([0.5, None, -2.25], pa.float32()),
        "word": ['a "quoted", one', None, "zwei\nZeilen"],
        "is_new": [True, False, None],
        "scores": pa.array([[0.5, 1.5], [], None], pa.list_(pa.float64())),
    }
)


def written(table_format, tables, schema=None):
    writer = table_writer(table_format, schema or tables[0].schema)
    return b"".join([*map(writer.add, tables), writer.end()])


@pytest.fixture(params=TABLE_FORMATS)
def file(request, tmp_path):
    """A file with the table, written in two parts."""
    path = tmp_path / f"table.{ENDINGS[request.param]}"
    path.write_bytes(written(request.param, [TABLE.slice(0, 2), TABLE.slice(2)]))
    return path


def values_of(table):
    """Returns rows as Python values, with lists also where CSV has them as text."""
    rows = table.to_pylist() if isinstance(table, pa.Table) else table
    for row in rows:
        if isinstance(row["scores"], str):
            row["scores"] = json.loads(row["scores"])
    return rows


def test_arrow_reads_the_table(file):
    # Null and empty text look alike to Arrow's reader of CSV unless it is told that they are not.
    options = pyarrow.csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
    newlines = pyarrow.csv.ParseOptions(newlines_in_values=True)
    read = {
        ".parquet": pq.read_table,
        ".csv": lambda path: pyarrow.csv.read_csv(path, None, newlines, options),
        ".jsonl": pyarrow.json.read_json,
    }[file.suffix]
    assert values_of(read(file)) == TABLE.to_pylist()


def test_pandas_reads_the_table(file):
    read = {
        ".parquet": pd.read_parquet,
        ".csv": pd.read_csv,
        ".jsonl": lambda path: pd.read_json(path, lines=True),
    }[file.suffix]
    frame = read(file)
    assert frame["id"].tolist() == [1, 2, 3]
    assert frame["y"].isna().tolist() == [False, True, False]
    assert frame["y"].dropna().tolist() == [0.5, -2.25]
    assert frame["word"].tolist()[::2] == TABLE["word"].to_pylist()[::2]
    assert frame["is_new"].tolist()[:2] == [True, False]
    first = frame["scores"][0]
    assert list(json.loads(first) if isinstance(first, str) else first) == [0.5, 1.5]


def test_duckdb_reads_the_table(file):
    found = duckdb.sql(f"select * from '{file}' order by id")
    assert found.columns == TABLE.column_names
    rows = [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]
    assert values_of(rows) == TABLE.to_pylist()


@pytest.mark.parametrize("table_format", TABLE_FORMATS)
def test_file_without_rows_has_the_same_columns(table_format):
    content = written(table_format, [], TABLE.schema)
    if table_format == "parquet":
        assert pq.read_schema(io.BytesIO(content)).equals(TABLE.schema)
    else:
        expected = b'"id","y","word","is_new","scores"\n' if table_format == "csv" else b""
        assert content == expected


@pytest.mark.parametrize("table_format", TABLE_FORMATS)
def test_bytes_do_not_depend_on_how_rows_are_batched(table_format, monkeypatch):
    monkeypatch.setattr(module, "_GROUP_ROWS", 1000)
    count = 5000
    table = pa.table(
        {
            "id": np.arange(count),
            "v": pa.array([[float(i)] * (i % 3) for i in range(count)]),
            "word": [f"word {i % 7}" for i in range(count)],
        }
    )
    parts = [table.slice(i, 37) for i in range(0, count, 37)]
    content = written(table_format, parts)
    assert content == written(table_format, [table])
    if table_format == "parquet":
        groups = pq.read_metadata(io.BytesIO(content))
        assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [1000] * 5
        column = groups.row_group(0).column(0)
        assert (column.compression, column.is_stats_set) == ("ZSTD", True)
        assert pq.read_table(io.BytesIO(content)).equals(table)


def test_row_group_of_large_rows_ends_early(monkeypatch):
    monkeypatch.setattr(module, "_GROUP_BYTES", 1 << 16)
    batch = pa.table({"text": ["x" * 1000] * 20})
    writer = table_writer("parquet", batch.schema)
    passed = [writer.add(batch) for _ in range(40)]
    assert sum(map(bool, passed[1:])) == 40 * 20_000 // (1 << 16) - 2
    content = io.BytesIO(b"".join([*passed, writer.end()]))
    assert pq.read_metadata(content).num_row_groups == 10
    assert pq.read_table(content).num_rows == 800


def test_parquet_holds_whole_numbers_of_every_width():
    names = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
    limits = {name: [np.iinfo(name).min, np.iinfo(name).max] for name in names}
    table = pa.table({name: pa.array(own, name) for name, own in limits.items()})
    assert pq.read_table(io.BytesIO(written("parquet", [table]))).equals(table)


@pytest.mark.parametrize(
    ("table_format", "kind", "instead"),
    [
        ("parquet", pa.month_day_nano_interval(), ""),
        ("csv", pa.struct([("a", pa.int8())]), ", or write the table as parquet"),
        ("json_lines", pa.struct([("a", pa.int8())]), ", or write the table as parquet"),
    ],
)
def test_column_that_a_format_cannot_hold_is_named_before_a_run(table_format, kind, instead):
    message = (
        f"Column 'x' holds {kind}, which cannot be written as {table_format}. Name the features "
        f"that the table keeps in TableSettings.keep, without 'x'{instead}."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        check_writable(table_format, pa.schema([("id", pa.int64()), ("x", kind)]))
    check_writable(table_format, TABLE.schema)
