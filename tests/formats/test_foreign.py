"""What files are that hold something else than TFRecords, and what their readers are told."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
import zipfile

import fastavro
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import feather, orc, parquet

from bulk_inferencer._formats import foreign, tfrecord
from bulk_inferencer.errors import InputError
from tests.helpers import example

TABLE = pa.table({"x": [1.0, 2.0], "name": ["a", "b"]})
CONVERT = "Write its records into Parquet, CSV, JSON Lines or TFRecord files."
UNPACK = "Unpack it: only TFRecord, CSV and JSON Lines may be compressed, with gzip."
READ_AS = {
    "a CSV file": 'Read it with input_format="csv".',
    "a JSON Lines file": 'Read it with input_format="json_lines".',
    "a Parquet file": 'Read it with input_format="parquet".',
    "a PNG image": 'Read it with input_format="files".',
    "a JSON file": "Write each of its records as a JSON object into a line of its own: JSON Lines.",
    "a text file": 'Read it with input_format="csv" if each line is a record, or with '
    'input_format="files" if all of it is one.',
}


def written(write):
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def avro(file):
    fields = [{"name": "x", "type": "double"}]
    schema = {"type": "record", "name": "r", "fields": fields}
    fastavro.writer(file, schema, TABLE.select(["x"]).to_pylist())


def zipped(file):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.tfrecord", b"content")


LINES = "".join(json.dumps(row) + "\n" for row in TABLE.to_pylist()).encode()
FILES = [
    ("a CSV file", b"x,name\n1,a\n2,b\n"),
    ("a CSV file", b"\xef\xbb\xbfx;name\r\n1;a\r\n"),
    ("a CSV file", "x^2\tgrößer\n1\t5\n".encode("latin-1")),
    ("a CSV file", b"x,y"),
    ("a JSON Lines file", LINES),
    ("a JSON file", json.dumps(TABLE.to_pylist(), indent=2).encode()),
    ("a JSON file", json.dumps(TABLE.to_pydict(), indent=2).encode()),
    ("a text file", b"This is not a table, is it?\nNo.\n"),
    ("a text file", b"x"),
    ("a Parquet file", written(lambda file: parquet.write_table(TABLE, file))),
    ("an Avro file", written(avro)),
    ("an ORC file", written(lambda file: orc.write_table(TABLE, file))),
    ("an Arrow file", written(lambda file: feather.write_feather(TABLE, file))),
    ("a NumPy file", written(lambda file: np.save(file, np.arange(9)))),
    ("a PNG image", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
    ("a zip archive", written(zipped)),
    ("compressed with bzip2", bz2.compress(b"content")),
    ("compressed with xz", lzma.compress(b"content")),
    ("compressed with Zstandard", pa.compress(b"content", "zstd", asbytes=True)),
]


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize(("name", "content"), FILES, ids=[name for name, _ in FILES])
def test_file_of_another_format_is_recognized_by_its_content(tmp_path, name, content, compress):
    path = tmp_path / "records.gz"
    path.write_bytes(compress(content))
    is_packed = name.startswith(("compressed", "a zip"))
    advice = READ_AS.get(name, UNPACK if is_packed else CONVERT)
    message = f"Cannot read {path} as TFRecord: it is {name} (after record 0). {advice}"
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        list(tfrecord.read_chunks(str(path)))


@given(st.lists(st.binary(max_size=200), max_size=20), st.data())
def test_tfrecords_look_like_no_other_format_even_if_they_are_cut(records, data):
    framed = tfrecord.frame([*records, example(text="text, and more text")])
    start = framed[: data.draw(st.integers(8, len(framed)))]
    assert foreign.kind_of(start) is None


def test_empty_or_blank_content_is_nothing():
    assert foreign.kind_of(b"") is foreign.kind_of(b" \n") is None
