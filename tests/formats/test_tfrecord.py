from __future__ import annotations

import gzip
import importlib.util
import itertools
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import google_crc32c
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulk_inferencer._formats import tfrecord
from bulk_inferencer.errors import InputError
from tests.helpers import in_bucket, read_tfrecord, write_tfrecord

RECORDS = [b"", b"a", b"\0\0", b"x" * 1000, "ä".encode()]


def chunks_of(path, **bounds):
    return list(tfrecord.read_chunks(str(path), **bounds))


def read(path):
    return [record for chunk in chunks_of(path) for record in chunk]


def unreadable(path, after=r"\d+"):
    """Returns a pattern for the message about a file that is damaged after so many records."""
    advice = "Write the file again, or leave it out of the examples."
    start = re.escape(f"Cannot read {path} as TFRecord: ")
    return rf"(?s)^{start}.+ \(after record {after}\)\. {re.escape(advice)}$"


@pytest.mark.parametrize("compression", ["", "GZIP"])
@pytest.mark.parametrize("name", ["records", "records.gz", "records.tfrecord"])
def test_compression_is_told_by_the_content_not_by_the_name(tmp_path, name, compression):
    path = write_tfrecord(tmp_path / name, RECORDS, compression)
    assert read(path) == RECORDS
    assert read(in_bucket(path)) == RECORDS
    assert read(write_tfrecord(tmp_path / name, [], compression)) == []


@pytest.mark.parametrize("first_bytes", [0x8B1F, 0x088B1F])
def test_plain_file_may_begin_with_a_length_that_looks_like_gzip(tmp_path, first_bytes):
    records = [b"r" * first_bytes]
    assert read(write_tfrecord(tmp_path / "records", records, "")) == records


@pytest.mark.parametrize("compression", ["", "GZIP"])
@settings(max_examples=25)
@given(
    records=st.lists(st.binary(max_size=300), max_size=30),
    max_bytes=st.integers(min_value=1, max_value=1000),
)
def test_records_are_the_same_whatever_the_size_of_chunks(
    tmp_path_factory, records, max_bytes, compression
):
    path = write_tfrecord(tmp_path_factory.mktemp("chunks") / "records", records, compression)
    chunks = chunks_of(path, max_bytes=max_bytes)
    assert [record for chunk in chunks for record in chunk] == records
    for chunk in chunks:
        # What was left of the block before, and one record that was longer than a block.
        assert sum(16 + len(r) for r in chunk[:-1]) <= 2 * max_bytes


def test_large_records_after_small_ones_come_a_few_at_a_time(tmp_path):
    records = [b"small"] * 1000 + [bytes(400_000)] * 20
    chunks = chunks_of(write_tfrecord(tmp_path / "records", records))
    assert [record for chunk in chunks for record in chunk] == records
    assert max(sum(map(len, chunk)) for chunk in chunks) < 2 << 20


def test_cache_of_lengths_is_bounded(monkeypatch):
    monkeypatch.setattr(tfrecord, "_MAX_CACHED_LENGTHS", 3)
    lengths = tfrecord._Lengths()
    for size in range(10):
        header = tfrecord.frame([b"r" * size])[:12]
        assert lengths[header] == lengths[header] == size
        assert len(lengths) <= 3


def test_file_that_is_missing_or_no_tfrecord_is_named(tmp_path):
    path = tmp_path / "records.csv"
    for content in (None, "x,y\n1,2\n3,4\n5,6\n"):
        if content:
            path.write_text(content)
        with pytest.raises(InputError, match=unreadable(path, 0)):
            read(path)


@pytest.mark.parametrize("damage", ["record", "length"])
def test_damaged_record_is_named(tmp_path, damage):
    records = [b"record %02d" % i for i in range(40)]
    path = Path(write_tfrecord(tmp_path / "records", records, ""))
    content = bytearray(path.read_bytes())
    content[25 * (9 + 16) + (12 if damage == "record" else 0)] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=unreadable(path, 25)) as raised:
        read(path)
    assert f"TFRecord: a {damage} does not match its checksum (" in str(raised.value)


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_file_is_read_whole_or_refused_wherever_it_is_cut(tmp_path, compression):
    records = [b"record %d" % i for i in range(12)]
    path = Path(write_tfrecord(tmp_path / "records", records, compression))
    content = path.read_bytes()
    # A plain file that ends after a record is whole.
    ends = [0, *itertools.accumulate(16 + len(r) for r in records)] if not compression else [0]
    for length in set(range(len(content))) - set(ends):
        path.write_bytes(content[:length])
        whole = r"\d+" if compression else sum(end <= length for end in ends) - 1
        with pytest.raises(InputError, match=unreadable(path, whole)):
            read(path)


def test_gzip_file_of_several_members_is_read_whole_or_refused_wherever_one_is_cut(tmp_path):
    path = tmp_path / "records.gz"
    first, second = (tfrecord.gzip_member(tfrecord.frame([r])) for r in (b"a" * 9, b"b" * 9))
    path.write_bytes(first + second)
    assert read(path) == [b"a" * 9, b"b" * 9]
    for length in range(1, len(second)):
        path.write_bytes(first + second[:length])
        with pytest.raises(InputError, match=unreadable(path)):
            read(path)


@pytest.mark.parametrize("whole", [[], [b"whole"], [b"many"] * 9], ids=len)
@pytest.mark.parametrize("length", [2**31, 2**62, 2**64 - 1])
def test_absurd_length_with_a_valid_checksum_is_damage(tmp_path, whole, length):
    path = tmp_path / "records"
    path.write_bytes(tfrecord.frame(whole) + tfrecord._header(length) + b"rest")
    with pytest.raises(InputError, match=unreadable(path, len(whole))):
        read(path)


@pytest.mark.parametrize("position", [30, -20, -3], ids=["deflated data", "late data", "trailer"])
def test_damaged_gzip_data_is_named(tmp_path, position):
    path = Path(write_tfrecord(tmp_path / "records", [b"%d" % i for i in range(100)]))
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match=unreadable(path)):
        read(path)


@settings(max_examples=25)
@given(st.lists(st.binary(max_size=2000), max_size=20))
def test_tensorflow_reads_the_frames(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("frames") / "records"
    path.write_bytes(tfrecord.frame(records))
    assert read_tfrecord(path, "") == records


@given(st.lists(st.binary(max_size=100), min_size=1, max_size=5))
def test_gzip_members_follow_one_another_and_hold_no_time(pieces):
    members = list(map(tfrecord.gzip_member, pieces))
    assert gzip.decompress(b"".join(members)) == b"".join(pieces)
    assert {member[4:8] for member in members} == {bytes(4)}


def test_gzip_members_are_the_same_in_every_thread():
    """A second attempt at a unit has to write what the first one wrote."""
    pieces = [bytes(n * i % 7 for i in range(n)) for n in range(40, 160)]
    with ThreadPoolExecutor(8) as threads:
        made = threads.map(lambda _: tuple(map(tfrecord.gzip_member, pieces)), range(64))
        assert len(set(made)) == 1


def test_slow_checksums_are_warned_of_when_the_module_is_loaded(monkeypatch, caplog):
    assert google_crc32c.implementation == "c"
    monkeypatch.setattr(google_crc32c, "implementation", "python")
    spec = importlib.util.find_spec(tfrecord.__name__)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    (message,) = caplog.messages
    assert message == (
        "google-crc32c runs without its C extension here, which makes reading and writing many "
        "times slower. Install a wheel of google-crc32c for this platform."
    )
