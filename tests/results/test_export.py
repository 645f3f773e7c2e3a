"""Results as one file, in each format."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from bulk_inferencer._layout import PARQUET
from bulk_inferencer.errors import SettingsError
from bulk_inferencer.results import read
from bulk_inferencer.results.export import write_file
from tests.helpers import exactly, in_bucket

ROWS = pa.table(
    {
        "id": [1, 2, None],
        "text": ["a,\n", '"ä"', ""],
        "bytes": pa.array([b"\xff", None, b""]),
        "y": [0.5, float("nan"), 5.0],
        "vector": [[1.0, 2.0], None, []],
    }
)


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    pq.write_table(ROWS.slice(0, 1), folder / "predictions-s-00000-of-00002.parquet")
    pq.write_table(ROWS.slice(1), folder / "predictions-s-00001-of-00002.parquet")
    return read(folder)


def test_rows_become_one_file_of_each_format_on_any_filesystem(results, tmp_path):
    target = tmp_path / "new" / "rows"
    results.to_csv(in_bucket(target))
    assert target.read_text() == (
        '"id","text","bytes","y","vector"\n'
        '1,"a,\n","/w==",0.5,"[1.0,2.0]"\n'
        '2,"""ä""",,nan,\n'
        ',"","",5.0,"[]"\n'
    )
    results.to_json_lines(target)
    assert [json.loads(line) for line in target.read_text().splitlines()] == [
        {"id": 1, "text": "a,\n", "bytes": "/w==", "y": 0.5, "vector": [1.0, 2.0]},
        {"id": 2, "text": '"ä"', "bytes": None, "y": "NaN", "vector": None},
        {"id": None, "text": "", "bytes": "", "y": 5.0, "vector": []},
    ]
    results.to_parquet(target, columns=["y", "id"])
    assert pq.read_table(target).schema.names == ["y", "id"]
    assert list(target.parent.iterdir()) == [target]


def test_file_that_cannot_be_written_whole_leaves_the_older_one(tmp_path):
    target = tmp_path / "rows.parquet"
    target.write_text("an older file")

    def interrupted():
        yield ROWS
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_file(str(target), PARQUET, lambda: (ROWS.schema, interrupted()))
    assert target.read_text() == "an older file"
    assert list(tmp_path.iterdir()) == [target]


def test_what_cannot_be_written_is_an_error_that_says_what_can(results, tmp_path):
    with pytest.raises(
        SettingsError,
        match=exactly(f"{tmp_path} is a folder, not a file. Name a file to write to."),
    ):
        results.to_csv(tmp_path)
    for columns, message in (
        (
            ("tex",),
            (
                "There is no column 'tex' in the results, but id, text, bytes, y, vector. Did you "
                "mean 'text'? Correct columns."
            ),
        ),
        (("y", "y"), "columns should name each column once, but names twice: y. Correct it."),
        ([], "columns should name each column once, but names none. Correct it."),
    ):
        with pytest.raises(SettingsError, match=exactly(message)):
            results.to_parquet(tmp_path / "rows", columns)
    schema = pa.schema([("y", pa.float32()), ("of", pa.struct([("a", pa.int64())]))])
    message = (
        "Column 'of' holds struct<a: int64>, which cannot be written as csv. Name the columns to "
        "write, without 'of', or write parquet."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        write_file(str(tmp_path / "rows"), "csv", lambda: (schema, []))
    assert not (tmp_path / "rows").exists()
