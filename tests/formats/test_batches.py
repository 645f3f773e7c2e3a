from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulk_inferencer._formats.batches import (
    Batch,
    BatchBounds,
    Segment,
    batches,
    read_batches,
)
from bulk_inferencer._formats.input_format import Chunk, InputFile, Unreadable
from bulk_inferencer._formats.tfrecord_reader import TFRecord
from tests.helpers import exactly, write_tfrecord


@given(
    st.lists(st.lists(st.integers(0, 12), max_size=12), max_size=6),
    st.builds(BatchBounds, st.integers(1, 9), st.integers(1, 30)),
)
def test_batches_keep_every_record_in_order_within_the_bounds(sizes, bounds):
    chunks = [
        Chunk(f"file {i}", 10 * i, [bytes([i]) * size for size in chunk])
        for i, chunk in enumerate(sizes)
    ]
    found = list(batches(chunks, bounds))
    origins = [(c.path, c.first + i, r) for c in chunks for i, r in enumerate(c.records)]
    assert [(*b.locate(i), r) for b in found for i, r in enumerate(b.records)] == origins
    for batch in found:
        assert 1 <= len(batch.records) <= bounds.max_records
        assert len(batch.records) == 1 or sum(map(len, batch.records)) <= bounds.max_bytes
    for batch, following in itertools.pairwise(found):
        assert len(batch.records) == bounds.max_records or (
            sum(map(len, batch.records)) + len(following.records[0]) > bounds.max_bytes
        ), "a batch ended before it was full"


def files(*paths):
    return [InputFile(path, Path(path).stat().st_size) for path in paths]


def test_batch_of_several_files_knows_where_its_records_come_from(tmp_path):
    a = write_tfrecord(tmp_path / "a", [b"1", b"2"])
    b = write_tfrecord(tmp_path / "b", [b"3", b"4"])
    first, second = read_batches(TFRecord(), files(a, b), BatchBounds(max_records=3))
    assert first == Batch([b"1", b"2", b"3"], (Segment(a, 0, 2), Segment(b, 0, 1)))
    assert second == Batch([b"4"], (Segment(b, 1, 1),))
    with pytest.raises(IndexError, match=exactly("no such record in this batch")):
        second.locate(1)


def test_file_of_several_chunks_is_numbered_through(tmp_path):
    path = write_tfrecord(tmp_path / "a", [b"%02d" % i for i in range(50)])
    found = list(read_batches(TFRecord(), files(path), BatchBounds(max_bytes=40)))
    places = [batch.locate(len(batch.records) - 1) for batch in found]
    assert places == [(path, 19), (path, 39), (path, 49)]


def test_caller_may_lower_the_size_of_each_batch(tmp_path):
    path = write_tfrecord(tmp_path / "a", [b"1"] * 10)
    most = iter([1, 9, 2, 3, 0])
    found = read_batches(TFRecord(), files(path), BatchBounds(max_records=4), lambda: next(most))
    assert [len(batch.records) for batch in found] == [1, 4, 2, 3]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=5), st.data())
def test_part_of_a_batch_has_its_records_with_their_places(counts, data):
    total = sum(counts)
    segments = tuple(Segment(f"file {i}", 10 * i, count) for i, count in enumerate(counts))
    unreadable = {i: Unreadable("kind", f"why {i}") for i in range(0, total, 3)}
    records = [b"%d" % i for i in range(total)]
    batch = Batch(records, segments, unreadable, stored_bytes=7 * total)
    assert batch.part(0, total) is batch
    start = data.draw(st.integers(0, total))
    stop = data.draw(st.integers(start, total))
    part = batch.part(start, stop)
    assert part.records == records[start:stop]
    places = [part.locate(i) for i in range(stop - start)]
    assert places == [batch.locate(i) for i in range(start, stop)]
    assert {i + start: own for i, own in part.unreadable.items()} == {
        i: own for i, own in unreadable.items() if start <= i < stop
    }
    assert part.stored_bytes == 7 * (stop - start)
