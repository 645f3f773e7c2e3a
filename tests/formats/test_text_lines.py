"""What CSV and JSON Lines share: rows, blocks and parts of text files, and bad rows among good."""

from __future__ import annotations

import csv as python_csv
import gzip
import io
import json
import pickle
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulk_inferencer._formats import csv_rows, text_lines
from bulk_inferencer._formats.csv import CSV
from bulk_inferencer._formats.input_format import InputFile
from bulk_inferencer._formats.json_lines import JSONLines
from bulk_inferencer.errors import InputError
from tests.formats.reading import chunks_of, failures_of, listed, reader_of, table_of
from tests.helpers import exactly, in_bucket

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), max_size=12)
LINE_END = st.sampled_from(["\n", "\r\n", "\n\n", "\r\n\r\n", "\r"])
SIZES = st.integers(1, 60)


@pytest.fixture(autouse=True)
def _small_reads(monkeypatch):
    monkeypatch.setattr(text_lines, "_SMALLEST_READ", 7)


def csv_line(*values):
    line = io.StringIO()
    python_csv.writer(line, quoting=python_csv.QUOTE_ALL, lineterminator="").writerow(values)
    return line.getvalue()


def both_ways(file, input_format, block_bytes, part_bytes):
    """Returns what is read of a file as a whole, and in parts; each as rows and bad rows."""
    reader = replace(reader_of(input_format, file), block_bytes=block_bytes, part_bytes=part_bytes)
    sent = pickle.loads(pickle.dumps(reader))
    parts = reader.parts(file)
    assert [p.part.start for p in parts if p.part][1:] == [p.part.stop for p in parts[:-1]]
    return [(table_of(sent, *own).to_pylist(), failures_of(sent, *own)) for own in ([file], parts)]


@settings(max_examples=30)
@given(
    rows=st.lists(st.tuples(st.integers(-99, 99), TEXT, LINE_END), min_size=1, max_size=30),
    bad=st.sets(st.integers(0, 29)),
    is_ended=st.booleans(),
    bom=st.sampled_from(["", "\ufeff"]),
    block_bytes=SIZES,
    part_bytes=SIZES,
)
@pytest.mark.parametrize("kind", ["csv", "json_lines"])
def test_every_row_is_read_once_and_in_order_or_named_as_bad(
    tmp_path_factory, kind, rows, bad, is_ended, bom, block_bytes, part_bytes
):
    content = bom + (f"id,text{rows[0][2]}" if kind == "csv" else "")
    for i, (number, text, end) in enumerate(rows):
        if kind == "csv":
            line = str(number) if i in bad else csv_line(number, text)
        else:
            line = '{"id":1,' if i in bad else json.dumps({"id": number, "text": text})
        content += line + (end if is_ended or i + 1 < len(rows) else "")
    types = {"id": "int64", "text": "text"}
    file = listed(tmp_path_factory.mktemp("rows") / "x", content.encode())
    whole, parts = both_ways(
        file, CSV(types=types) if kind == "csv" else JSONLines(types), block_bytes, part_bytes
    )
    bad &= set(range(len(rows)))
    assert whole[0] == [
        {"id": None, "text": None} if i in bad else {"id": number, "text": text}
        for i, (number, text, _) in enumerate(rows)
    ]
    assert whole[1].keys() == bad
    assert parts == whole


@settings(max_examples=30)
@given(
    rows=st.lists(
        st.tuples(st.text(st.sampled_from('a,"\n\r'), max_size=8), st.integers(0, 9)), max_size=20
    ),
    block_bytes=SIZES,
)
def test_quoted_line_breaks_are_read_whatever_the_size_of_blocks(
    tmp_path_factory, rows, block_bytes
):
    lines = [csv_line("text", "n"), *(csv_line(*row) for row in rows)]
    file = listed(tmp_path_factory.mktemp("rows") / "x.csv", "\r\n".join(lines).encode())
    input_format = CSV(newlines_in_values=True, types={"text": "text", "n": "int64"})
    whole, parts = both_ways(file, input_format, block_bytes, 10)
    assert whole == parts == ([{"text": text, "n": n} for text, n in rows], {})


LINES = [json.dumps({"x": i}) for i in range(100)]
CONTENT = "\n".join(LINES).encode()


@pytest.mark.parametrize("members", [1, 3])
def test_compressed_file_is_read_as_one_part(tmp_path, members):
    size = len(CONTENT) // members + 1
    pieces = [CONTENT[i * size : (i + 1) * size] for i in range(members)]
    file = listed(tmp_path / "x.gz", b"".join(map(gzip.compress, pieces)))
    reader = replace(reader_of(JSONLines(), file), part_bytes=10, block_bytes=20)
    assert reader.parts(file) == [file]
    assert table_of(reader, file)["x"].to_pylist() == [*range(100)]


def test_rows_before_damage_come_before_the_error(tmp_path):
    file = listed(tmp_path / "x.gz", gzip.compress(CONTENT)[:-20])
    reader = replace(reader_of(JSONLines(), file), block_bytes=20)
    read = []
    message = r"JSON Lines: its compressed data ends too early \(after row (\d+)\)\. Write the file"
    with pytest.raises(InputError, match=message) as raised:
        read.extend(reader.read(file, 1 << 20, 1 << 30))
    rows = [x for chunk in read for x in chunk.records.source["x"].to_pylist()]
    assert rows == [*range(int(re.search(message, str(raised.value))[1]))] != []


def test_rows_before_a_part_are_counted_once_though_batches_come_from_another_process(
    tmp_path, monkeypatch
):
    file = listed(tmp_path / "x", CONTENT)
    reader = replace(reader_of(JSONLines(), file), part_bytes=300, block_bytes=20)
    counted, count = [], text_lines.LinesReader.count_before
    monkeypatch.setattr(
        text_lines.LinesReader,
        "count_before",
        lambda self, part, most: counted.append(part) or count(self, part, most),
    )
    rows = 0
    for part in reader.parts(file):
        chunks = pickle.loads(pickle.dumps(list(chunks_of(reader, part))))
        assert [own.before() + own.first for own in chunks] == [rows + own.first for own in chunks]
        rows += sum(len(own.records) for own in chunks)
    assert rows == 100
    assert counted == reader.parts(file)[1:]


def test_file_in_another_filesystem_is_read(tmp_path):
    local = listed(tmp_path / "x", CONTENT)
    file = InputFile(in_bucket(local.path), local.bytes)
    whole, parts = both_ways(file, JSONLines(), 20, 50)
    assert whole == parts == ([{"x": i} for i in range(100)], {})


def test_file_that_has_changed_is_an_error(tmp_path):
    path = tmp_path / "x"
    file = listed(path, CONTENT)
    reader = reader_of(JSONLines(), file)
    path.write_bytes(CONTENT + b"\n")
    message = (
        f"{path} had {file.bytes} bytes when the run began, and {file.bytes + 1} when it was read. "
        f"Run again when nothing writes to it any more."
    )
    with pytest.raises(InputError, match=exactly(message)):
        chunks_of(reader, file)
    path.unlink()
    with pytest.raises(InputError, match=rf"^Cannot read {path} as JSON Lines: .*No such file"):
        chunks_of(reader, file)


@pytest.mark.parametrize("block_bytes", [5, 1 << 20])
def test_row_that_is_too_long_ends_its_file(tmp_path, block_bytes):
    lines = [*LINES[:10], json.dumps({"x": 1, "text": "t" * 100}), LINES[11]]
    file = listed(tmp_path / "x", "\n".join(lines).encode())
    reader = replace(reader_of(JSONLines(), file), block_bytes=block_bytes)
    read = []
    message = (
        r"the next record has \d+ bytes, but BatchBounds.max_record_bytes is 30 \(after row 10\)"
    )
    with pytest.raises(InputError, match=message):
        read.extend(reader.read(file, 1 << 20, 30))
    assert sum(len(chunk.records) for chunk in read) == 10


def test_binary_file_is_named(tmp_path):
    file = listed(tmp_path / "x.csv", b"PAR1\x15\x04")
    message = (
        f"Cannot read {file.path} as CSV: it is a Parquet file (at its start). Read it with "
        f'input_format="parquet".'
    )
    with pytest.raises(InputError, match=exactly(message)):
        reader_of(CSV(), file)


def test_first_line_may_be_as_long_as_what_is_read_first(tmp_path, monkeypatch):
    monkeypatch.setattr(text_lines, "HEAD_BYTES", 10)
    monkeypatch.setattr(csv_rows, "HEAD_BYTES", 10)
    assert table_of(
        reader_of(CSV(), file := listed(tmp_path / "1", b"abc,efgh\n1,x\n")), file
    ).to_pylist() == [{"abc": "1", "efgh": "x"}]
    file = listed(tmp_path / "2", b"abc,efgh,i\n1,x,2\n")
    message = (
        f"Cannot read {file.path} as CSV: its first line is longer than 10 bytes (at its start). "
        f"Write the file again, or leave it out of the inputs."
    )
    with pytest.raises(InputError, match=exactly(message)):
        reader_of(CSV(), file)
