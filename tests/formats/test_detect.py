"""Formats by name, by content and by the names of files."""

from __future__ import annotations

import bz2
import gzip
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bulk_inferencer._formats import tfrecord
from bulk_inferencer._formats.csv import CSV
from bulk_inferencer._formats.detect import format_of, named_format
from bulk_inferencer._formats.json_lines import JSONLines
from bulk_inferencer._formats.parquet import Parquet
from bulk_inferencer._formats.tfrecord_reader import TFRecord
from bulk_inferencer._formats.whole_files import WholeFiles
from bulk_inferencer.errors import InputError, SettingsError
from tests.formats.reading import listed
from tests.helpers import exactly


def parquet_content():
    file = io.BytesIO()
    pq.write_table(pa.table({"x": [1]}), file)
    return file.getvalue()


RECORDS = tfrecord.frame([b"record"])
PARQUET = parquet_content()
JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF"


def format_of_files(folder, **contents):
    names = {name.replace("_", "."): content for name, content in contents.items()}
    return format_of([listed(folder / name, content) for name, content in names.items()])


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("x", RECORDS, TFRecord()),
        ("x.csv", RECORDS, TFRecord()),
        ("data_tfrecord-00000-of-00002.gz", gzip.compress(RECORDS), TFRecord()),
        ("x.gz", gzip.compress(RECORDS)[:12], TFRecord()),
        ("x", b"neither one nor the other", TFRecord()),
        ("x", b"", TFRecord()),
        ("part-00000", PARQUET, Parquet()),
        ("x.parquet", PARQUET[4:], Parquet()),
        ("x", b"a,b\n1,2\n", CSV()),
        ("x.csv-00000-of-00002", b"a\n1\n", CSV()),
        ("x.csv.gz", gzip.compress(b"a;b\n1,5;2\n"), CSV(delimiter=";")),
        ("x.tsv", b"a\tb, c\n1\t2, 3\n", CSV(delimiter="\t")),
        ("x.csv", b"", CSV()),
        ("x.csv", "a,b\n1,2\n".encode("utf-16"), CSV()),
        ("x.csv", b"ORC,b\n1,2\n", CSV()),
        ("x.csv", b"[id],b\n1,2\n", CSV()),
        ("x", b'{"a": 1, "b": 2}\n', JSONLines()),
        ("x.jsonl", b'{"a": 1\n{"a": 2}\n', JSONLines()),
        ("x.json", b'{"a": 1}\n', JSONLines()),
        ("x", JPEG, WholeFiles()),
        ("x.JPEG", b"damaged", WholeFiles()),
        ("x.txt", b"a,b\n1,2\n", WholeFiles()),
        ("x", b"RIFF\0\0\0\0WAVEfmt ", WholeFiles()),
    ],
)
def test_content_says_the_format_and_names_help(tmp_path, name, content, expected):
    assert format_of([listed(tmp_path / name, content)]) == expected


def test_empty_files_and_others_of_the_same_extension_may_lie_beside(tmp_path):
    assert format_of_files(tmp_path, a_csv=b"", b_csv=b"a;b\n1;2\n", c_csv=b"?") == CSV(";")
    assert format_of([]) == TFRecord()


def test_files_of_different_formats_are_an_error(tmp_path):
    one, two = tmp_path / "a.jpg", tmp_path / "b.csv"
    message = (
        f'All files must have one format, but {one} is "files", and {two} is "csv". Leave out the '
        f"files that are no inputs, or set input_format."
    )
    with pytest.raises(InputError, match=exactly(message)):
        format_of_files(tmp_path, a_jpg=JPEG, b_csv=b"a,b\n1,2\n")
    message = (
        f"All files must have one delimiter, but {two} has ',', and {tmp_path / 'c.tsv'} '\\t'. "
        f"Run once for each, or set input_format to CSV(delimiter=...)."
    )
    with pytest.raises(InputError, match=exactly(message)):
        format_of_files(tmp_path, b_csv=b"a,b\n1,2\n", c_tsv=b"a\tb\n1\t2\n")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (
            b"Obj\x01\0",
            (
                "it is an Avro file. Write its records into Parquet, CSV, JSON Lines or TFRecord "
                "files."
            ),
        ),
        (
            bz2.compress(b"a,b"),
            (
                "it is compressed with bzip2. Unpack it: only TFRecord, CSV and JSON Lines may be "
                "compressed, with gzip."
            ),
        ),
        (gzip.compress(PARQUET), "within gzip, it is a Parquet file. Unpack it."),
        (
            b'[\n {"a": 1}\n]\n',
            (
                "it is a JSON file. Write each of its records as a JSON object into a line of its "
                "own: JSON Lines."
            ),
        ),
    ],
    ids=["avro", "bzip2", "compressed parquet", "json"],
)
def test_format_that_cannot_be_read_is_an_error(tmp_path, content, fault):
    path = tmp_path / "x.json"
    with pytest.raises(InputError, match=exactly(f"Cannot read {path}: {fault}")):
        format_of([listed(path, content)])


def test_format_may_be_named():
    by_name = ["tfrecord", "parquet", "csv", "json_lines", "files"]
    formats = [TFRecord(), Parquet(), CSV(), JSONLines(), WholeFiles()]
    assert list(map(named_format, by_name)) == list(map(named_format, formats)) == formats
    for value in ("xlsx", None, CSV):
        message = (
            'input_format must be one of "tfrecord", "parquet", "csv", "json_lines", "files", or '
            f"a format such as CSV(), not {value!r}."
        )
        with pytest.raises(SettingsError, match=exactly(message)):
            named_format(value)
