from __future__ import annotations

import gzip
import importlib.util
import itertools
import os
import re
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import google_crc32c
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulk_inferencer._formats import framing, tfrecord
from bulk_inferencer.errors import InputError
from tests.helpers import exactly, in_bucket, read_tfrecord, write_tfrecord

WRITE_AGAIN = "Write the file again, or leave it out of the inputs."
RECORDS = [b"", b"a", b"\0\0", b"x" * 1000, "ä".encode()]


@pytest.fixture(params=["compiled", "in Python"], scope="module", autouse=True)
def way(request):
    """Both ways in which records are cut and framed."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "in Python":
            patch.setattr(framing, "cut", framing.cut_in_python)
            patch.setattr(framing, "frame", framing.frame_in_python)
        else:
            assert framing.is_compiled
        yield


def chunks_of(path, **bounds):
    return list(tfrecord.read_chunks(str(path), **bounds))


def read(path, **bounds):
    return [record for chunk in chunks_of(path, **bounds) for record in chunk]


def unreadable(path, after=r"\d+"):
    """Returns a pattern for the message about a file that is damaged after so many records."""
    start = re.escape(f"Cannot read {path} as TFRecord: ")
    return rf"(?s)^{start}.+ \(after record {after}\)\. {re.escape(WRITE_AGAIN)}$"


def read_to_damage(path, **settings):
    """Returns the records before the damage and the message, which counts them if it is ours."""
    records = []
    with pytest.raises(InputError) as raised:
        records.extend(r for chunk in tfrecord.read_chunks(str(path), **settings) for r in chunk)
    message = str(raised.value)
    assert "after record" not in message or f"(after record {len(records)})" in message
    return records, message


@pytest.mark.parametrize("compression", ["", "GZIP", "ZLIB"])
@pytest.mark.parametrize("name", ["records", "records.gz", "records.tfrecord"])
def test_compression_is_told_by_the_content_not_by_the_name(tmp_path, name, compression):
    path = write_tfrecord(tmp_path / name, RECORDS, compression)
    assert read(path) == RECORDS
    assert read(in_bucket(path)) == RECORDS
    if compression or not name.endswith(".gz"):
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


def test_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(InputError, match=unreadable(tmp_path / "none", 0)):
        read(tmp_path / "none")


@pytest.mark.parametrize("damage", ["record", "length"])
def test_damaged_record_is_named_and_all_before_it_are_read(tmp_path, damage):
    records = [b"record %02d" % i for i in range(40)]
    path = Path(write_tfrecord(tmp_path / "records", records, ""))
    content = bytearray(path.read_bytes())
    content[25 * (9 + 16) + (12 if damage == "record" else 0)] ^= 1
    path.write_bytes(content)
    found, message = read_to_damage(path)
    assert found == records[:25]
    assert message == (
        f"Cannot read {path} as TFRecord: a {damage} does not match its checksum (after record "
        f"25). {WRITE_AGAIN}"
    )


@pytest.mark.parametrize("compression", ["", "GZIP", "ZLIB"])
def test_file_is_read_whole_or_refused_wherever_it_is_cut(tmp_path, compression):
    records = [b"record %d" % i for i in range(12)]
    path = Path(write_tfrecord(tmp_path / "records", records, compression))
    content = path.read_bytes()
    # A plain file that ends after a record is whole.
    ends = [0, *itertools.accumulate(16 + len(r) for r in records)] if not compression else [0]
    for length in set(range(len(content))) - set(ends):
        path.write_bytes(content[:length])
        found, _ = read_to_damage(path)
        assert found == records[: len(found)]
        if not compression:
            assert len(found) == sum(end <= length for end in ends) - 1
    if compression:
        assert found == records, "all of them, as only the checksum at the end was cut"


def test_gzip_file_of_several_members_is_read_whole_or_refused_wherever_one_is_cut(tmp_path):
    path = tmp_path / "records.gz"
    first, second = (tfrecord.gzip_member(tfrecord.frame([r])) for r in (b"a" * 9, b"b" * 9))
    for zeros in (b"", bytes(9), bytes(1 << 20)):
        path.write_bytes(first + zeros + second + zeros)
        assert read(path) == [b"a" * 9, b"b" * 9]
    for length in range(1, len(second)):
        path.write_bytes(first + second[:length])
        assert read_to_damage(path)[0] in ([b"a" * 9], [b"a" * 9, b"b" * 9])


@pytest.mark.parametrize("compression", ["GZIP", "ZLIB"])
@pytest.mark.parametrize("count", [100, 40_000], ids=["one block", "several blocks"])
def test_all_records_before_damage_in_compressed_data_are_read(tmp_path, compression, count):
    records = [b"%06d" % (i * i % 1_000_003) * 10 for i in range(count)]
    path = Path(write_tfrecord(tmp_path / "records", records, compression))
    content = path.read_bytes()
    counts = []
    for position in (len(content) // 3, len(content) // 2, len(content) * 3 // 4, -1):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        found, _ = read_to_damage(path)
        assert found == records[: len(found)]
        counts.append(len(found))
    assert counts == sorted(counts)
    assert counts[2] > count // 2
    assert counts[3] == count - 1, "the last bytes come with the checksum, which does not match"


def test_data_after_the_end_of_compressed_data_is_damage(tmp_path):
    path = tmp_path / "records"
    for compress in (zlib.compress, gzip.compress):
        path.write_bytes(compress(tfrecord.frame([b"a"])) + b"rest")
        assert read_to_damage(path)[0] == [b"a"]


# Lengths


@pytest.mark.parametrize("whole", [[], [b"whole"], [b"many"] * 9], ids=len)
@pytest.mark.parametrize("length", [2**31, 2**62, 2**64 - 1])
def test_absurd_length_with_a_valid_checksum_is_damage(tmp_path, whole, length):
    path = tmp_path / "records"
    path.write_bytes(tfrecord.frame(whole) + framing.header(length) + b"rest")
    assert read_to_damage(path)[0] == whole


@pytest.mark.parametrize("lengths", [[5, 9, 11, 3], [11] * 9, [5, 9, 2 << 20]], ids=str)
def test_record_that_is_longer_than_the_bound_is_named_and_all_before_it_are_read(
    tmp_path, lengths
):
    records = [b"r" * length for length in lengths]
    path = write_tfrecord(tmp_path / "records", records)
    for enough in (max(lengths), 1 << 64, 1 << 100):
        assert read(path, max_record_bytes=enough) == records
    first = next(i for i, length in enumerate(lengths) if length > 10)
    found, message = read_to_damage(path, max_record_bytes=10)
    assert found == records[:first]
    assert message == (
        f"Cannot read {path} as TFRecord: the next record has {lengths[first]} bytes, but "
        f"BatchBounds.max_record_bytes is 10 (after record {first}). If records are this long, "
        f"raise the setting. If not, the file is damaged. {WRITE_AGAIN}"
    )


def test_length_of_gigabytes_in_a_file_of_megabytes_takes_no_memory(tmp_path):
    path = tmp_path / "records.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(framing.header(2**32))
        for _ in range(200):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    read_to_damage(path, max_record_bytes=512 << 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20


# Sizes


def test_file_of_another_size_than_listed_is_read_and_then_refused(tmp_path):
    path = Path(write_tfrecord(tmp_path / "records", RECORDS, ""))
    size = path.stat().st_size
    assert read(path, listed_bytes=size) == RECORDS
    for content in (path.read_bytes() * 2, b""):
        path.write_bytes(content)
        found, message = read_to_damage(path, listed_bytes=size)
        assert found == RECORDS * (len(content) // size)
        assert message == (
            f"{path} had {size} bytes when the run began, and {len(content)} when it was read. Run "
            f"again when nothing writes to it any more."
        )


@pytest.mark.parametrize("name", ["a.gz", "a.GZ", "a.tfrecord.gzip", "a.zlib"])
def test_empty_file_with_the_name_of_a_compressed_one_is_refused(tmp_path, name):
    (tmp_path / name).touch()
    assert read_to_damage(tmp_path / name)[1] == (
        f"{tmp_path / name} is empty, although a compressed file never is, not even one without "
        f"records. {WRITE_AGAIN}"
    )


# Writing


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


@pytest.fixture
def nobody():
    """The rights of a user that owns nothing."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    os.seteuid(user)


def test_file_that_nobody_lets_us_read_is_named(tmp_path, request):
    path = tmp_path / "secret.gz"
    path.write_bytes(gzip.compress(b""))
    path.chmod(0)
    request.getfixturevalue("nobody")
    message = f"Cannot read {path}: Permission denied. Let this process read it, or leave it out."
    with pytest.raises(InputError, match=exactly(message)):
        chunks_of(path)
