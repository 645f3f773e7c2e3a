"""How far units are: what a worker counts and writes, and what the launcher reads of it."""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from bulk_inferencer import _files
from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._models.predictor import Prediction
from bulk_inferencer._models.scorer import Scorer
from bulk_inferencer._models.scoring import LogScorer
from bulk_inferencer._units import progress as unit_progress
from bulk_inferencer._units.manifest_files import (
    add_manifest,
    delete_manifests,
    read_manifests,
)
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.progress import Heartbeat, Tally, UnitProgress, heartbeats
from bulk_inferencer._units.routing import SplitRouting
from bulk_inferencer._units.run import Scoring, run_unit
from tests.helpers import Lengths, example, in_bucket, write_tfrecord
from tests.units.helpers import Function, input_file, unit_of

SIX = [b"1", b"bad", b"3", b"4", b"5", b"6"]


def scored(unit, models, *, calls=None, bounds=None, routing=None, **settings):
    """Runs a unit; returns its manifest, and its heartbeat before each call of a model."""
    progress, seen = UnitProgress(), []

    def function(model):
        return Function(lambda batch: seen.append(progress.heartbeat()) or model.predict(batch))

    scorers = {name: LogScorer(Scorer(function(own), calls)) for name, own in models.items()}
    scoring = Scoring(scorers, bounds or BatchBounds(), routing)
    manifest = run_unit(unit, scoring, [], progress=progress, **settings)
    return manifest, seen, progress


# On the worker


def test_records_of_a_batch_count_as_soon_as_models_have_returned_them(tmp_path):
    unit = unit_of(write_tfrecord(tmp_path / "in", SIX, ""))  # 17 bytes each, and 19 for `bad`
    models = {"a": Lengths(), "b": Lengths()}
    manifest, seen, progress = scored(unit, models, calls=2, bounds=BatchBounds(max_records=4))
    first = [(beat.bytes_read, beat.records, beat.predicted, beat.failed) for beat in seen[:5]]
    assert first == [(0, 0, 0, 0), (0, 0, 0, 0), (8, 0, 1, 0), (17, 1, 1, 1), (34, 2, 3, 1)]
    last = seen[-1]  # before model `b` gets the second batch
    assert (last.bytes_read, last.records, last.predicted, last.failed) == (86, 5, 8, 2)
    total = Heartbeat(unit.files[0].bytes, 6, 10, 2)
    assert progress.heartbeat() == total
    assert progress.batch_records == 2
    assert manifest.bytes_read == total.bytes_read == 104
    assert sum(manifest.timeline.records) == pytest.approx(10, abs=0.001)
    assert len(seen) == 10
    assert sum(manifest.timeline.calls) == pytest.approx(6, abs=0.001)  # those that did not fail


def test_with_a_routing_each_record_counts_once_even_if_it_reaches_no_model(tmp_path):
    records = [example(k=f"user-{i}") for i in range(9)] + [b"\xff"]
    unit = unit_of(write_tfrecord(tmp_path / "in.gz", records))
    routing = SplitRouting({"a": 1, "b": 1}, "k")
    models = {"a": Lengths(), "b": Lengths()}
    manifest, seen, progress = scored(unit, models, routing=routing)
    assert [beat.failed for beat in seen] == [1, 1]
    assert 0 < seen[0].bytes_read < seen[1].bytes_read < manifest.bytes_read
    assert progress.heartbeat() == Heartbeat(manifest.bytes_read, 10, 9, 1)


def test_unit_that_stops_at_a_limit_has_read_a_part_of_its_file(tmp_path):
    unit = unit_of(write_tfrecord(tmp_path / "in", [b"12345678"] * 100, ""))
    manifest, _, _ = scored(unit, {"a": Lengths()}, limit=25)
    assert (manifest.examples_read, manifest.bytes_read) == (25, 25 * 24)


# In the folder

UNIT = Unit("s", 0, 1, ())


@pytest.fixture
def beats(monkeypatch):
    """Lets hearts beat fast; returns an event that is set when a heartbeat has been written."""
    monkeypatch.setattr(unit_progress, "_LOCAL_SECONDS", 0.001)
    monkeypatch.setattr(unit_progress, "_REMOTE_SECONDS", 0.001)
    written, replace = threading.Event(), _files.replace

    def spy(path, content):
        try:
            replace(path, content)
        finally:
            written.set()

    monkeypatch.setattr(_files, "replace", spy)
    return written


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "heartbeats"]


def done(heartbeat, batch_records=0):
    """Returns the progress of a unit that has done so much."""
    progress = UnitProgress()
    progress.heartbeat = lambda: heartbeat
    progress.batch_records = batch_records
    return progress


@pytest.mark.parametrize("place", [str, in_bucket], ids=["disk", "object store"])
def test_heartbeat_is_there_while_its_unit_runs_and_is_no_manifest(tmp_path, beats, place):
    tally = Tally([UNIT], [], place(tmp_path))
    with heartbeats(place(tmp_path), UNIT, done(Heartbeat(0, 3, 2, 1), 64)):
        assert beats.wait(10)
        assert not tally.is_scoring
        tally.update()
        assert (tally.is_scoring, tally.batch_records) == (True, 64)
        assert tally.done == Heartbeat(0, 3, 2, 1)
        assert list(read_manifests(place(tmp_path))) == []
    assert os.listdir(tmp_path) == []
    assert threads() == []


def test_unit_that_fails_leaves_no_heartbeat(tmp_path, beats):
    def failing_unit():
        with heartbeats(str(tmp_path), UNIT, done(Heartbeat())):
            assert beats.wait(10)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        failing_unit()
    assert os.listdir(tmp_path) == []


def test_heartbeat_that_cannot_be_written_is_logged_and_harms_nothing(tmp_path, beats, caplog):
    (tmp_path / "file").touch()
    folder = f"{tmp_path}/file/units"
    with caplog.at_level(logging.INFO), heartbeats(folder, UNIT, done(Heartbeat())):
        assert beats.wait(10)
    message = f"Cannot write {folder}/{UNIT.key}.progress, so nobody sees how far this unit is."
    assert caplog.messages == [message]


def test_unit_that_outlives_its_run_writes_nothing(tmp_path, beats):
    folder, asked = tmp_path / "units", threading.Event()
    progress = done(Heartbeat())
    progress.heartbeat = lambda: asked.set() or Heartbeat()
    with heartbeats(str(folder), UNIT, progress, f"{tmp_path}/claim"):
        assert asked.wait(10)
    assert not folder.exists()
    assert not beats.is_set()


# What all units add up to


@pytest.fixture
def units(tmp_path):
    """Three units of a file with two records each, and their manifests."""
    paths = [write_tfrecord(tmp_path / f"in/{i}", [b"good", b"bad"], "") for i in range(3)]
    units = [Unit("s", i, 3, (input_file(path),)) for i, path in enumerate(paths)]
    manifests = [scored(unit, {"inference_result": Lengths()})[0] for unit in units]
    (tmp_path / "units").mkdir()
    return str(tmp_path / "units"), units, manifests


ONE = Heartbeat(39, 2, 1, 1)


def beat(folder, unit, heartbeat):
    content = '{"bytes_read": %d, "records": %d, "predicted": %d, "failed": %d, "batch_records": 5}'
    path = f"{folder}/{unit.key}.progress"
    _files.replace(path, (content % dataclasses.astuple(heartbeat)).encode())


def test_units_that_are_finished_run_or_were_finished_before_add_up(units):
    folder, (first, second, third), manifests = units
    add_manifest(folder, manifests[0])
    tally = Tally([first, second, third], manifests[:1], folder)
    assert (tally.units, tally.units_done, tally.bytes_total) == (3, 1, 3 * 39)
    assert (tally.done, tally.is_scoring) == (ONE, False)
    beat(folder, second, Heartbeat(20, 1, 1, 0))
    beat(folder, third, Heartbeat(5, 0, 0, 0))
    tally.update()
    assert tally.done == ONE + Heartbeat(25, 1, 1, 0)
    add_manifest(folder, manifests[1])  # before its heartbeat is deleted
    tally.update()
    assert (tally.done, tally.units_done) == (ONE + ONE + Heartbeat(5), 2)
    _files.delete(f"{folder}/{second.key}.progress")
    add_manifest(folder, manifests[2])
    tally.update()
    assert (tally.done, tally.units_done) == (ONE + ONE + ONE, 3)
    assert Tally([first, second, third], manifests).done == tally.done


def test_second_attempt_of_a_unit_counts_only_from_where_the_first_one_got_to(units):
    folder, (first, *_), manifests = units
    tally = Tally([first], [], folder)
    for bytes_read, expected in ((20, 20), (3, 20), (30, 30)):
        beat(folder, first, Heartbeat(bytes_read, bytes_read))
        tally.update()
        assert tally.done == Heartbeat(expected, expected)
    _files.delete(f"{folder}/{first.key}.progress")  # of an attempt that failed
    tally.update()
    assert tally.done == Heartbeat(30, 30)
    add_manifest(folder, manifests[0])
    beat(folder, first, Heartbeat(9, 9))  # of an attempt that nobody needs any more
    tally.update()
    assert tally.done == ONE


def test_what_an_earlier_run_left_of_a_unit_that_runs_again_does_not_count(units):
    folder, (first, *_), manifests = units
    add_manifest(folder, manifests[0])
    beat(folder, first, Heartbeat(30, 30))
    tally = Tally([first], [], folder)
    tally.update()
    assert (tally.done, tally.units_done) == (Heartbeat(), 0)
    delete_manifests(folder, [first.key])
    add_manifest(folder, manifests[0])
    tally.update()
    assert (tally.done, tally.units_done) == (ONE, 1)


def test_files_are_read_once_and_those_that_are_not_whole_later(units, monkeypatch):
    folder, (first, second, _), manifests = units
    read, open_to_read = [], _files.open_to_read
    monkeypatch.setattr(_files, "open_to_read", lambda p: read.append(p) or open_to_read(p))
    tally = Tally([first, second], [], folder)
    Path(folder, "stop-1").touch()
    add_manifest(folder, manifests[0])
    broken = Path(folder, f"{second.key}.json")
    broken.write_text("{")
    for _ in range(2):
        tally.update()
    assert tally.units_done == 1
    assert read == [f"{folder}/{first.key}.json" if p != str(broken) else p for p in read]
    assert sorted(read) == sorted([f"{folder}/{first.key}.json", str(broken), str(broken)])
    add_manifest(folder, manifests[1])
    tally.update()
    assert tally.units_done == 2


def test_prediction_with_several_calls_is_in_the_timeline_of_its_manifest(tmp_path):
    unit = unit_of(write_tfrecord(tmp_path / "in.gz", [b"x"] * 10))
    model = Function(lambda batch: Prediction({"n": np.arange(len(batch))}))
    manifest, _, _ = scored(unit, {"a": model}, bounds=BatchBounds(max_records=5))
    assert sum(manifest.timeline.calls) == pytest.approx(2, abs=0.001)
    add_manifest(str(tmp_path), manifest)
    assert list(read_manifests(str(tmp_path))) == [manifest]
