"""What goes from stage to stage comes back as it was, in few bytes."""

from __future__ import annotations

import dataclasses
import itertools
import string

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bulk_inferencer._formats.batches import Batch, Segment
from bulk_inferencer._formats.columns import column_view
from bulk_inferencer._formats.input_format import Unreadable
from bulk_inferencer._formats.rows import Rows, bytes_of, taken
from bulk_inferencer._models.predictor import Prediction
from bulk_inferencer._models.scorer import Failed
from bulk_inferencer._models.scoring import LogEncoder, ScoredRows
from bulk_inferencer._signatures import PREDICT, OutputType, Signature
from bulk_inferencer._units.sinks.sink import BranchResult, ScoredBatch
from bulk_inferencer._units.stage_codec import (
    EndOfUnit,
    ReadBatch,
    ScoredPart,
    decode,
    encode,
)
from bulk_inferencer._work import Work
from bulk_inferencer.beam.metrics import NotedWork
from bulk_inferencer.results.summary import DamagedFile
from bulk_inferencer.results.timeline import Timeline
from tests.helpers import example
from tests.units.helpers import unit_of

ENCODER = LogEncoder((Signature("s", PREDICT, ("y",), (), (OutputType("float32", ()),)),), "x")
TEXT = st.text(string.ascii_lowercase, max_size=5)
FLOATS = st.lists(st.floats(width=32, allow_nan=False), max_size=2)
COLUMNS = {
    "a": (st.integers(-9, 9), pa.int64()),
    "b": (st.none() | TEXT, pa.string()),
    "c": (st.none() | FLOATS, pa.list_(pa.float32())),
}


def of_bytes(draw, count):
    return draw(st.lists(st.binary(max_size=9), min_size=count, max_size=count))


def of_rows(draw, count):
    columns = {
        name: pa.array(draw(st.lists(values, min_size=count, max_size=count)), kind)
        for name, (values, kind) in COLUMNS.items()
    }
    rows = Rows(pa.table(columns), column_view(["a", "b"], {"a": "n"}))
    if count and draw(st.booleans()):  # A batch may be a part of a block, or made of several.
        middle = draw(st.integers(0, count))
        rows = Rows.concat([rows[:middle], rows[middle:]])
    return rows


def output(draw, count):
    kind = draw(st.sampled_from(["float32", "int64", "bool", "strings", "masked"]))
    if kind == "strings":
        values = np.empty(count, object)
        values[:] = draw(st.lists(st.binary(max_size=5), min_size=count, max_size=count))
        return values
    shape = (count, *draw(st.sampled_from([(), (1,), (2, 3), (0,)])))
    if kind == "masked":
        values = np.ma.masked_array(draw(arrays.arrays("float32", shape)))
        values[: count // 2] = np.ma.masked
        return values
    return draw(arrays.arrays(kind, shape))


@st.composite
def parts(draw):
    """Returns a part with any records, models, pieces and failures."""
    count = draw(st.integers(0, 12))
    records = draw(st.sampled_from([of_bytes, of_rows]))(draw, count)
    unreadable = {i: Unreadable("kind", "why") for i in range(count) if draw(st.booleans())}
    segments = (Segment("a", 3, count), Segment("b", 0, 0))
    batch = Batch(records, segments, unreadable, draw(st.integers(0, 99)))
    branches = {}
    for name in draw(st.lists(TEXT, unique=True, max_size=3)):
        own = range(count)
        if draw(st.booleans()):  # routed, or with failures
            own = [row for row in own if draw(st.booleans())]
        edges = sorted({0, len(own), *draw(st.lists(st.integers(0, len(own)), max_size=2))})
        pieces = []
        for start, stop in itertools.pairwise(edges):
            rows = own[start:stop]
            outputs = {n: output(draw, len(rows)) for n in draw(st.lists(TEXT, max_size=2))}
            prediction = Prediction(outputs, {"stage": 1}, frozenset(draw(st.lists(TEXT))))
            encoder = dataclasses.replace(ENCODER, label=name)
            pieces.append(ScoredRows(rows, taken(records, rows), prediction, encoder))
        failed = [Failed(i, "kind", "why") for i in sorted(set(range(count)) - set(own))]
        branches[name] = BranchResult(len(own), pieces, failed)
    keys = draw(st.sampled_from([(), [b"key"] * count]))
    work = {name: Work(batches=draw(st.integers(0, 9))) for name in branches}
    unrouted = [Failed(0, "NoKeyError", "why")] * draw(st.integers(0, 1))
    scored = ScoredBatch(batch, branches, unrouted, keys)
    return ScoredPart(scored, work, Timeline(records=(1.5,), calls=(1.0,)), 0.5)


def assert_same_records(one, other):
    assert type(one) is type(other)
    if isinstance(one, Rows):
        assert one.source.equals(other.source)
        assert one.columns.equals(other.columns)
        assert one.view == other.view
    else:
        assert one == other


@settings(max_examples=60)
@given(parts())
def test_whatever_was_scored_comes_back(part):
    found = decode(encode(part))
    assert (found.work, found.timeline, found.seconds) == (part.work, part.timeline, 0.5)
    one, other = found.scored, part.scored
    assert (one.unrouted, list(one.keys)) == (other.unrouted, list(other.keys))
    assert_same_records(one.batch.records, other.batch.records)
    empty = {"records": ()}
    assert dataclasses.replace(one.batch, **empty) == dataclasses.replace(other.batch, **empty)
    assert one.batch.stored_bytes == other.batch.stored_bytes
    assert list(one.branches) == list(other.branches)
    for name, result in one.branches.items():
        expected = other.branches[name]
        assert result.examples_read == expected.examples_read
        assert result.failed == expected.failed
        for piece, own in zip(result.scored, expected.scored, strict=True):
            assert list(piece.rows) == list(own.rows)
            assert_same_records(piece.records, own.records)
            assert piece.encode == own.encode
            assert piece.prediction.stages == own.prediction.stages
            assert piece.prediction.versions == own.prediction.versions
            assert list(piece.prediction.outputs) == list(own.prediction.outputs)
            for key, values in piece.prediction.outputs.items():
                assert_same_values(values, own.prediction.outputs[key])


def assert_same_values(values, expected):
    assert (type(values), values.dtype, values.shape) == (
        type(expected),
        expected.dtype,
        expected.shape,
    )
    np.testing.assert_array_equal(np.ma.getmaskarray(values), np.ma.getmaskarray(expected))
    np.testing.assert_array_equal(values, expected)


def test_batches_and_ends_of_units_come_back(tmp_path):
    (tmp_path / "a").touch()
    read = ReadBatch("s", Batch([b"1"], (Segment("a", 0, 1),)))
    end = EndOfUnit(unit_of(tmp_path / "a"), (DamagedFile("s", "a", "why"),), 17, 0.5)
    for value in (read, end):
        assert decode(encode(value)) == value


def scored(records, models=1, outputs=None):
    """Returns a part in which four calls scored all records."""
    count = len(records) // 4
    batch = Batch(records, (Segment("gs://bucket/inputs/file-00017.gz", 0, len(records)),))
    outputs = outputs or {"y": np.zeros((count, 10), np.float32)}
    ranges = [range(i * count, (i + 1) * count) for i in range(4)]
    pieces = [ScoredRows(r, taken(records, r), Prediction(outputs), ENCODER) for r in ranges]
    branches = {str(i): BranchResult(len(records), pieces, []) for i in range(models)}
    return ScoredPart(ScoredBatch(batch, branches), dict.fromkeys(branches, Work()), Timeline(), 0)


@pytest.mark.parametrize("models", [1, 3])
@pytest.mark.parametrize(
    "records",
    [
        [example(x=float(i), id=i, text="some words") for i in range(4000)],
        Rows(pa.table({c: np.random.default_rng(0).random(4000) for c in "abcd"})),
    ],
    ids=["examples", "rows"],
)
def test_all_of_it_takes_few_more_bytes_than_records_and_outputs(records, models):
    part = scored(records, models)
    raw = bytes_of(records) + models * 4000 * 10 * 4
    assert len(encode(part)) < 1.1 * raw
    assert len(encode(ReadBatch("s", part.scored.batch))) < 1.1 * bytes_of(records)
    # A part of a table does not take all of the table along.
    half = ReadBatch("s", part.scored.batch.part(1000, 3000))
    assert len(encode(half)) < 1.1 * bytes_of(records) / 2


def test_rows_of_a_routed_batch_take_a_byte_or_two():
    records = [b"x" * 100] * 4000
    part = scored(records)
    pieces = [
        dataclasses.replace(own, rows=list(own.rows)) for own in part.scored.branches["0"].scored
    ]
    listed = dataclasses.replace(
        part, scored=dataclasses.replace(part.scored, branches={"0": BranchResult(1, pieces, [])})
    )
    assert len(encode(listed)) - len(encode(part)) < 2 * 4000 + 500


def test_keys_that_are_the_records_take_no_room():
    records = [b"%099d" % i for i in range(400)]
    part = scored(records)
    keyed = dataclasses.replace(part, scored=dataclasses.replace(part.scored, keys=list(records)))
    assert len(encode(keyed)) - len(encode(part)) < 4 * 400


def test_batches_share_what_makes_logs():
    encoders = {}
    content = encode(scored([b"record"] * 8))
    made = [decode(content, encoders).scored.branches["0"].scored for _ in range(2)]
    assert [own.logs for own in made[0]] == [own.logs for own in made[1]]
    assert len({id(own.encode) for pieces in made for own in pieces}) == 1
    assert list(encoders) == [ENCODER]
    # What it has made to that end does not go along.
    assert encode(scored([b"record"] * 8)) == content


def test_work_that_is_metered_goes_without_the_meter():
    part = scored([b"record"] * 8)
    work = NotedWork()
    Work.count(work, "batches")
    found = decode(encode(dataclasses.replace(part, work={"0": work}))).work["0"]
    assert type(found) is Work
    assert found == Work(batches=1)
