from __future__ import annotations

import gzip
import itertools
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulk_inferencer.errors import InputError
from bulk_inferencer.formats import tfrecord
from tests.helpers import in_bucket, read_tfrecord, write_tfrecord

RECORDS = [b"", b"a", b"\0\0", b"x" * 1000, "ä".encode()]


def read(path, max_records=100, max_bytes=1 << 20):
    return list(tfrecord.read_chunks(str(path), max_records, max_bytes))


# Reading


@pytest.mark.parametrize("compression", ["", "GZIP"])
@pytest.mark.parametrize("name", ["records", "records.gz", "records.tfrecord"])
def test_compression_is_told_by_the_content_not_by_the_name(tmp_path, name, compression):
    path = write_tfrecord(tmp_path / name, RECORDS, compression)
    assert read(path) == [RECORDS]


@pytest.mark.parametrize("first_bytes", [0x8B1F, 0x088B1F])
def test_plain_file_whose_first_length_looks_like_gzip(tmp_path, first_bytes):
    records = [b"r" * first_bytes]
    assert read(write_tfrecord(tmp_path / "records", records, "")) == [records]


def test_gzip_file_of_several_members(tmp_path):
    path = tmp_path / "records.gz"
    members = [tfrecord.gzip_member(tfrecord.frame([record])) for record in RECORDS]
    path.write_bytes(b"".join(members))
    assert read(path) == [RECORDS]


def test_chunks_hold_at_most_max_records(tmp_path):
    records = [b"%d" % i for i in range(25)]
    chunks = read(write_tfrecord(tmp_path / "records", records), max_records=10)
    assert chunks == [records[:10], records[10:20], records[20:]]


def test_chunks_hold_about_max_bytes(tmp_path):
    records = [b"r" * 100] * 10
    chunks = read(write_tfrecord(tmp_path / "records", records), max_bytes=350)
    assert [len(chunk) for chunk in chunks] == [3, 3, 3, 1]


def test_record_larger_than_max_bytes_is_a_chunk_of_one(tmp_path):
    chunks = read(write_tfrecord(tmp_path / "records", [b"r" * 100] * 2), max_bytes=10)
    assert [len(chunk) for chunk in chunks] == [1, 1]


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_file_without_records_has_no_chunks(tmp_path, compression):
    assert read(write_tfrecord(tmp_path / "records", [], compression)) == []


def test_file_on_a_filesystem_unknown_to_tensorflow_is_copied_for_as_long_as_it_is_read(
    tmp_path, monkeypatch
):
    path = write_tfrecord(tmp_path / "records.gz", RECORDS)
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(copies))

    chunks = tfrecord.read_chunks(in_bucket(path), 2, 1 << 20)
    assert next(chunks) == RECORDS[:2]
    (copy,) = copies.glob("*/*")
    assert copy.read_bytes() == Path(path).read_bytes()

    assert [record for chunk in chunks for record in chunk] == RECORDS[2:]
    assert list(copies.iterdir()) == []


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=damaged(tmp_path / "none", 0)):
        read(tmp_path / "none")


def test_damaged_record_is_named(tmp_path):
    path = Path(write_tfrecord(tmp_path / "records", [b"record %02d" % i for i in range(40)], ""))
    path.write_bytes(path.read_bytes().replace(b"record 25", b"RECORD 25"))
    with pytest.raises(InputError, match=damaged(path, 20)):
        read(path, max_records=10)


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_truncated_file_is_named(tmp_path, compression):
    path = Path(write_tfrecord(tmp_path / "records", [bytes(range(256))] * 3, compression))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=damaged(path, 0)):
        read(path)


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_file_is_read_whole_or_refused_wherever_it_is_cut(tmp_path, compression):
    records = [b"record %d" % i for i in range(30)]
    path = Path(write_tfrecord(tmp_path / "records", records, compression))
    content = path.read_bytes()
    # A plain file that ends after a record is whole.
    ends = {0, *itertools.accumulate(16 + len(r) for r in records)} if not compression else {0}
    for length in set(range(len(content))) - ends:
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match="Expected a readable TFRecord file"):
            read(path)


def test_gzip_file_of_several_members_is_whole_or_refused_wherever_one_is_cut(tmp_path):
    path = tmp_path / "records.gz"
    first, second = (tfrecord.gzip_member(tfrecord.frame([r])) for r in (b"a" * 9, b"b" * 9))
    for length in range(1, len(second)):
        path.write_bytes(first + second[:length])
        with pytest.raises(InputError, match="Expected a readable TFRecord file"):
            read(path)


def test_large_records_after_small_ones_come_a_few_at_a_time(tmp_path):
    records = [b"small"] * 16 + [b"large" * 100] * 2000
    chunks = read(write_tfrecord(tmp_path / "records", records), max_records=4096)
    assert [record for chunk in chunks for record in chunk] == records
    assert max(map(len, chunks)) == 512


def test_file_that_is_no_tfrecord_is_named(tmp_path):
    path = tmp_path / "records.csv"
    path.write_text("x,y\n1,2\n3,4\n5,6\n")
    with pytest.raises(InputError, match=damaged(path, 0)):
        read(path)


def damaged(path, after):
    start = f"Expected a readable TFRecord file, got an error in {path} after record {after}: "
    cure = ". Write the file again, or leave it out of the examples."
    return f"(?s)^{re.escape(start)}.+{re.escape(cure)}$"


# Writing


@settings(max_examples=25)
@given(st.lists(st.binary(max_size=2000), max_size=20))
def test_tensorflow_reads_the_frames(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("frames") / "records"
    path.write_bytes(tfrecord.frame(records))
    assert read_tfrecord(path, "") == records


def test_frame_of_nothing_is_empty():
    assert tfrecord.frame([]) == b""


@given(st.lists(st.binary(max_size=100), min_size=1, max_size=5))
def test_gzip_members_follow_one_another(pieces):
    data = b"".join(map(tfrecord.gzip_member, pieces))
    assert gzip.decompress(data) == b"".join(pieces)


def test_gzip_member_holds_no_time():
    modified = slice(4, 8)
    assert tfrecord.gzip_member(b"data")[modified] == bytes(4)
