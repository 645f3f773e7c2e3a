"""How many bytes of its file a batch takes, as progress needs it: about, and in all exactly."""

from __future__ import annotations

import gzip
import itertools
import json
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bulk_inferencer._formats import tfrecord
from bulk_inferencer._formats.batches import BatchBounds, read_batches
from bulk_inferencer._formats.csv import CSV
from bulk_inferencer._formats.json_lines import JSONLines
from bulk_inferencer._formats.parquet import Parquet
from bulk_inferencer._formats.tfrecord_reader import TFRecord
from bulk_inferencer._formats.whole_files import WholeFiles
from tests.formats.reading import listed, reader_of

COUNT = 40_000
NUMBERS = np.random.default_rng(0).integers(0, 2**62, COUNT).tolist()


def parquet():
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": NUMBERS}), sink, row_group_size=7000)
    return sink.getvalue().to_pybytes()


RECORDS = tfrecord.frame([b"%020d" % number * 3 for number in NUMBERS])
LINES = b"x\n" + b"".join(b"%d\n" % number for number in NUMBERS)
OBJECTS = b"".join(json.dumps({"x": number}).encode() + b"\n" for number in NUMBERS)
FILES = {
    "TFRecord": (TFRecord(), RECORDS),
    "TFRecord in gzip": (TFRecord(), tfrecord.gzip_member(RECORDS)),
    "TFRecord in zlib": (TFRecord(), zlib.compress(RECORDS, 1)),
    "CSV": (CSV(), LINES),
    "CSV in gzip": (CSV(), gzip.compress(LINES, 1)),
    "JSON Lines": (JSONLines(), OBJECTS),
    "JSON Lines in gzip": (JSONLines(), gzip.compress(OBJECTS, 1)),
    "Parquet": (Parquet(), parquet()),
}


def batches_of(reader, files, records=1000):
    """Returns the batches of files, and how many bytes belong to none."""
    more = []
    bounds = BatchBounds(max_records=records)
    return list(read_batches(reader, files, bounds, on_end=more.append)), sum(more)


@pytest.mark.parametrize("name", FILES)
def test_share_of_the_bytes_is_about_that_of_the_records_and_all_in_the_end(tmp_path, name):
    input_format, content = FILES[name]
    file = listed(tmp_path / "file", content)
    batches, more = batches_of(reader_of(input_format, file), [file])
    shares = np.cumsum([batch.stored_bytes for batch in batches]) / len(content)
    assert np.abs(shares - np.arange(1, 41) / 40).max() < 0.05
    assert sum(batch.stored_bytes for batch in batches) + more == len(content)


@pytest.mark.parametrize("name", ["CSV", "JSON Lines", "Parquet"])
def test_parts_of_a_file_take_all_of_its_bytes(tmp_path, name, monkeypatch):
    monkeypatch.setattr("bulk_inferencer._formats.parquet._PART_BYTES", 100_000)
    input_format, content = FILES[name]
    file = listed(tmp_path / "file", content)
    reader = reader_of(input_format, file)
    if name != "Parquet":
        reader = type(reader)(reader.format, part_bytes=100_000)
    parts = reader.parts(file)
    assert len(parts) > 2
    for part in parts:
        batches, more = batches_of(reader, [part])
        assert sum(batch.stored_bytes for batch in batches) + more == part.own_bytes
        assert more < 0.05 * part.own_bytes
    assert sum(part.own_bytes for part in parts) == pytest.approx(len(content), rel=0.001)


def test_whole_file_takes_its_bytes(tmp_path):
    files = [listed(tmp_path / str(size), b"x" * size) for size in (5, 0, 7)]
    batches, more = batches_of(reader_of(WholeFiles(), *files), files, records=1)
    assert ([batch.stored_bytes for batch in batches], more) == ([5, 0, 7], 0)


def test_reader_of_somebody_else_takes_all_bytes_at_the_end_of_a_file(tmp_path):
    class Reader(TFRecord):
        def read(self, *args):
            for chunk in super().read(*args):
                yield type(chunk)(chunk.path, chunk.first, chunk.records)

    file = listed(tmp_path / "file", RECORDS)
    batches, more = batches_of(Reader(), [file])
    assert {batch.stored_bytes for batch in batches} == {0}
    assert more == len(RECORDS)


def test_file_that_is_damaged_takes_all_its_bytes_too(tmp_path):
    file = listed(tmp_path / "file", tfrecord.gzip_member(RECORDS)[:-100_000])
    more, damage = [], []
    batches = read_batches(
        TFRecord(), [file], BatchBounds(), on_damage=lambda *d: damage.append(d), on_end=more.append
    )
    assert sum(batch.stored_bytes for batch in batches) + sum(more) == file.bytes
    assert len(damage) == 1


def test_batch_of_several_files_takes_bytes_of_each(tmp_path):
    files = [listed(tmp_path / name, tfrecord.frame([b"12345678"] * 3)) for name in "ab"]
    batches, more = batches_of(TFRecord(), files, records=4)
    assert ([batch.stored_bytes for batch in batches], more) == ([96, 48], 0)
    assert list(itertools.chain.from_iterable(b.segments for b in batches))[1].path == files[1].path
