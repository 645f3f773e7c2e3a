"""Which columns of tables are read, and those that only the names of folders stand for."""

from __future__ import annotations

import datetime
import decimal
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bulk_inferencer._formats.columns import ColumnView
from bulk_inferencer._formats.csv import CSV
from bulk_inferencer._formats.damage import DamagedError
from bulk_inferencer._formats.json_lines import JSONLines
from bulk_inferencer._formats.parquet import Parquet
from bulk_inferencer._formats.table_columns import table_columns
from bulk_inferencer.errors import InputError
from tests.formats.reading import failures_of, listed, reader_of, table_of
from tests.helpers import exactly


def csv_files(root, **contents):
    """Writes a file into each folder; `__` separates folders, and `_is_` stands for `=`."""
    return [
        listed(root / name.replace("__", "/").replace("_is_", "=") / "x.csv", content)
        for name, content in contents.items()
    ]


def test_folders_become_columns_whatever_the_format(tmp_path):
    folders = ["day=1/place=a%2Fb", "day=2/place=__HIVE_DEFAULT_PARTITION__"]
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
        pq.write_table(pa.table({"x": [5]}), str(tmp_path / folder / "x.parquet"))
        (tmp_path / folder / "x.csv").write_bytes(b"x\n5\n")
        (tmp_path / folder / "x.jsonl").write_bytes(b'{"x": 5}\n')
    rows = [{"x": 5, "day": 1, "place": "a/b"}, {"x": 5, "day": 2, "place": None}]
    for name, own in (("parquet", Parquet()), ("csv", CSV()), ("jsonl", JSONLines())):
        files = [listed(tmp_path / folder / f"x.{name}") for folder in folders]
        assert table_of(reader_of(own, *files), *files).to_pylist() == rows
        reader = reader_of(own, *files, columns=["day"], kept=())
        assert table_of(reader, *files).to_pydict() == {"day": [1, 2]}


@pytest.mark.parametrize(
    ("own", "content"),
    [(CSV(), b"x,y\n5,\xe4\n1\n6,a\n"), (JSONLines(), b'{"x": 5}\noops\n{"y": 6}\n')],
    ids=["csv", "json_lines"],
)
def test_rows_count_even_if_only_names_of_folders_are_wanted(tmp_path, own, content):
    file = listed(tmp_path / "day=1" / "x", content)
    reader = reader_of(own, file, columns=["day"], kept=())
    assert table_of(reader, file).to_pydict() == {"day": [1, 1, 1]}
    assert list(failures_of(reader, file)) == [1]


@pytest.mark.parametrize("kind", [CSV, JSONLines, Parquet])
def test_folders_may_be_no_columns(tmp_path, kind):
    path = tmp_path / "day=1" / "x"
    file = listed(path, b'{"x": 5, "y": 6}\n' if kind is JSONLines else b"x,y\n5,6\n")
    if kind is Parquet:
        pq.write_table(pa.table({"x": [5], "y": [6]}), str(path))
        file = listed(path)
    assert table_of(reader_of(kind(partitions=False), file), file).to_pydict() == {
        "x": [5],
        "y": [6],
    }
    reader = reader_of(kind(partitions=False), file, columns=["x"], kept=())
    assert table_of(reader, file).to_pydict() == {"x": [5]}


def test_column_of_folders_is_text_unless_all_values_are_whole_numbers(tmp_path):
    files = csv_files(tmp_path, a_is_1__b_is_1=b"x\n1\n", **{"a_is_-2__b_is_1.5": b"x\n2\n"})
    table = table_of(reader_of(CSV(), *files), *files)
    assert table.to_pydict() == {"x": [1, 2], "a": [1, -2], "b": ["1", "1.5"]}


def test_column_of_folders_is_text_if_a_number_is_not_as_one_writes_it(tmp_path):
    files = csv_files(tmp_path, zip_is_00501=b"x\n1\n", zip_is_10001=b"x\n2\n")
    table = table_of(reader_of(CSV(), *files), *files)
    assert table.to_pydict() == {"x": [1, 2], "zip": ["00501", "10001"]}


DAY = datetime.date(2024, 1, 2)


@pytest.mark.parametrize(
    ("folder", "value"),
    [
        ("00501", pa.scalar("00501")),
        ("00501", pa.scalar(501)),
        ("True", pa.scalar(True)),
        ("1.0", pa.scalar(1.0)),
        ("nan", pa.scalar(math.nan)),
        ("1.5", pa.scalar(np.float16(1.5))),
        ("1.50", pa.scalar(decimal.Decimal("1.500"))),
        ("2024-01-02", pa.scalar(DAY)),
        ("2024-01-02", pa.scalar(datetime.datetime(2024, 1, 2))),
        ("2024-01-02 03%3A04%3A05", pa.scalar(datetime.datetime(2024, 1, 2, 3, 4, 5))),
        ("03%3A04", pa.scalar(datetime.time(3, 4))),
        ("b", pa.scalar(b"b")),
    ],
    ids=str,
)
def test_column_of_files_and_folders_is_compared_in_its_own_type(value, folder):
    own = pa.schema([("c", value.type)])
    path = f"c={folder}/x"
    columns = table_columns(own, [path], ColumnView(), None)
    rows = columns.rows(path, pa.table([pa.array([value.as_py(), None], value.type)], own))
    assert len(rows) == 2
    for other in (f"c={folder}1/x", "c=other/x", "c=__HIVE_DEFAULT_PARTITION__/x"):
        with pytest.raises(DamagedError, match="but the name of its folder says"):
            columns.rows(other, rows.source)


def test_column_may_also_be_in_the_files_if_it_says_the_same(tmp_path):
    files = csv_files(tmp_path, day_is_1=b"day,x\n1,5\n1,oops\n", day_is_2=b"day,x\n2,6\n3,7\n")
    reader = reader_of(CSV(types={"x": "int64"}), *files)
    assert table_of(reader, files[0])["day"].to_pylist() == [1, None]
    assert failures_of(reader, files[0]).keys() == {1}
    message = (
        f"Cannot read {files[1].path} as CSV: its column 'day' holds '3', but the name of its "
        f"folder says '2' (after row 0). Rename the folder, or correct the file."
    )
    with pytest.raises(InputError, match=exactly(message)):
        table_of(reader, files[1])


def test_file_outside_of_the_folders_or_twice_in_one_is_an_error(tmp_path):
    files = csv_files(tmp_path, day_is_1=b"x\n1\n", rest=b"x\n1\n")
    for order in (files, files[::-1]):
        message = (
            f"{files[0].path} is in a folder 'day=...', which stands for a column, but "
            f"{files[1].path} is not. Move one of them, or leave it out."
        )
        with pytest.raises(InputError, match=exactly(message)):
            reader_of(CSV(), *order)
    twice = csv_files(tmp_path, day_is_1__day_is_2=b"x\n1\n")
    message = (
        f"{twice[0].path} is in two folders named 'day=...', so the column has two values. Rename "
        f"one of them."
    )
    with pytest.raises(InputError, match=exactly(message)):
        reader_of(CSV(), *twice)


def test_column_to_keep_must_be_there(tmp_path):
    files = csv_files(tmp_path, a=b"id,x\n1,1\n")
    message = (
        "The inputs have no column 'idd' to keep; they have id, x. Did you mean 'id'? Correct the "
        "setting that names it."
    )
    with pytest.raises(InputError, match=exactly(message)):
        reader_of(CSV(), *files, kept=("idd",))
