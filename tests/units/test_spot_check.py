from __future__ import annotations

from collections import Counter

import pytest

from bulk_inferencer._formats import tfrecord
from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._formats.input_format import InputFile
from bulk_inferencer._formats.tfrecord_reader import TFRecord
from bulk_inferencer._units.spot_check import Drawn, Verdict, beginnings, draw, judge, sample


def written(path, records, cut=None):
    """Writes records, or the first so many bytes of their file; returns the file."""
    content = tfrecord.frame(records)
    path.write_bytes(content[:cut])
    return InputFile(str(path), len(content[:cut]))


def test_files_are_drawn_by_their_sizes_and_the_same_each_time():
    files = [InputFile("small", 1000), InputFile("empty", 0), InputFile("large", 9000)]
    drawn = draw("s", files, 0.01)
    assert drawn == draw("s", files[::-1], 0.01) != draw("t", files, 0.01)
    records = {part.file.path: part.records for part in drawn}
    assert records.keys() == {"small", "large"}
    assert sum(records.values()) == 64
    assert records["small"] < 16


@pytest.mark.parametrize(
    ("fraction", "records"), [(0, 64), (0.5, 68), (0.9, 438), (0.99, 512), (1, 64)]
)
def test_the_more_records_may_fail_the_more_are_tried(fraction, records):
    assert sum(part.records for part in draw("s", [InputFile("a", 1)], fraction)) == records
    assert draw("s", [InputFile("a", 0)], fraction) == ()


def test_records_come_from_all_over_a_file_in_random_order(tmp_path):
    records = [b"%05d" % i for i in range(10_000)]
    drawn = [Drawn(written(tmp_path / "a", records), 64)]
    settings = TFRecord(), drawn, BatchBounds(max_records=1000)
    found = [record for (record,) in sample(*settings)]
    assert [[record] for record in found] == sample(*settings)
    assert len(set(found)) == 64
    assert set(found) <= set(records)
    assert found != sorted(found)
    assert len({record[:1] for record in found}) == 1
    assert len({record[:2] for record in found}) == 10


def test_a_few_records_are_read_without_whole_files(tmp_path):
    records = [b"%05d" % i for i in range(10_000)]
    whole, damaged = written(tmp_path / "a", records), written(tmp_path / "b", records, cut=2)
    drawn = [Drawn(damaged, 1), Drawn(whole, 1)]
    found = list(beginnings(TFRecord(), drawn))
    assert found == list(beginnings(TFRecord(), drawn))
    assert len(set(found)) == 8
    assert max(found) < b"04096"
    assert list(beginnings(TFRecord(), [])) == []


def test_a_record_counts_as_much_as_any_other_whatever_bytes_it_takes(tmp_path):
    few = written(tmp_path / "few", [b"x" * 10_000] * 100)
    many = written(tmp_path / "many", [b"y"] * 10_000)
    drawn = draw("s", [few, many], 0.01)
    assert max(drawn, key=lambda part: part.records).file == few
    first = Counter(record[:1] for (record,) in sample(TFRecord(), drawn, BatchBounds())[:8])
    assert first[b"y"] > first[b"x"]


def test_files_give_what_can_be_read_of_them(tmp_path):
    short = written(tmp_path / "short", [b"1", b"2"])
    damaged = written(tmp_path / "damaged", [b"3", b"4"], cut=-3)
    gone = InputFile(str(tmp_path / "gone"), 10)
    drawn = [Drawn(file, 5) for file in (short, damaged, gone)]
    found = {record for (record,) in sample(TFRecord(), drawn, BatchBounds())}
    assert {b"1", b"2"} <= found <= {b"1", b"2", b"3"}


@pytest.mark.parametrize(
    ("pattern", "fraction", "verdict", "tried"),
    [
        ("x" * 64, 0.01, Verdict(6, 6), 6),
        ("x" * 68, 0.5, Verdict(34, 34), 34),
        ("x" * 438, 0.9, Verdict(219, 219), 219),
        (".x" * 32, 0.01, Verdict(7, 14), 14),
        ("." * 64, 0.01, None, 8),
        ("xx" + "." * 198, 0.02, None, 100),  # as many as may
        ("x.." * 22, 0.3, None, 66),  # somewhat more than may
        ("xxxxx", 0.01, None, 5),  # all that there are
        ("", 0.01, None, 0),
    ],
    ids=str,
)
def test_a_split_is_hopeless_once_chance_cannot_explain_its_failures(
    pattern, fraction, verdict, tried
):
    records = iter(pattern)
    assert judge(records, lambda record: record == "x", fraction) == verdict
    assert len(list(records)) == len(pattern) - tried
