"""Units in three stages: how batches are cut, what is refused, and what becomes of attempts."""

from __future__ import annotations

import dataclasses
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer._units import room as unit_room
from bulk_inferencer._units import stages
from bulk_inferencer._units.failure_limit import FailureLimit
from bulk_inferencer._units.manifest_files import read_manifests
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.run import UnitTask
from bulk_inferencer._units.run_file import begin_run, end_runs
from bulk_inferencer._units.sinks.prediction_logs import PredictionLogs
from bulk_inferencer._units.stop_sign import StopSign
from bulk_inferencer._units.worker import UnitWorker
from bulk_inferencer.errors import FailureLimitError, InputError, ModelError, ReconciliationError
from tests.helpers import exactly, example, read_tfrecord, tree, write_tfrecord
from tests.models.fakes import Model, length, raising
from tests.units.helpers import sinks_in, unit_of

RECORDS = [b"%d" % i for i in range(20)]


@pytest.fixture
def worker_of(tmp_path):
    """Makes who runs units, with a model and settings of the task."""
    folder = tmp_path / "units"
    folder.mkdir()

    def make(model, **settings):
        models = {"m": model}
        task = UnitTask(
            **{
                "models": models,
                "labels": {"m": "Model 'm'"},
                "record_format": "FORMAT_PROTO",
                "bounds": BatchBounds(first_records=8),
                "routing": None,
                "sinks": tuple(sinks_in(f"{tmp_path}/out", models)),
                "failure_limit": FailureLimit(max_fraction=1),
                "manifests_folder": str(folder),
                "run_file": begin_run(str(folder)),
                **settings,
            }
        )
        return UnitWorker(task, StopSign.in_folder(str(folder)))

    return make


def unit_in(folder, records=RECORDS):
    return unit_of(write_tfrecord(folder / "in/0.gz", records))


def predicted(worker, unit):
    """Returns what comes out of the first two stages, in any order."""
    read = list(stages.read(stages.without_models(worker), unit))
    random.Random(0).shuffle(read)
    parts = [part for own in read for part in stages.predict(worker, unit.key, own)]
    random.Random(1).shuffle(parts)
    return parts


def written(worker, parts):
    return stages.write(stages.without_models(worker), iter(parts))


def records_of(manifest):
    (shard,) = manifest.sinks["prediction_logs/m"].shards
    return len(read_tfrecord(shard.path))


def finished_units(worker):
    return list(read_manifests(worker.task.manifests_folder))


# Batches


def test_reader_fills_batches_and_predictions_cut_them_by_what_they_take(
    tmp_path, monkeypatch, worker_of
):
    monkeypatch.setattr(unit_room, "_PREDICTION_BYTES", 4_000)
    model = Model(lambda batch: {"y": np.zeros((len(batch), 100))})  # 800 bytes each
    worker = worker_of(model, bounds=BatchBounds(max_records=12, first_records=8))
    unit = unit_in(tmp_path)
    read = list(stages.read(worker, unit))
    assert [number for number, _ in read] == [0, 12, 20]
    parts = [part for own in read for part in stages.predict(worker, unit.key, own)]
    assert [len(batch) for batch in model.batches] == [8, 4, 4, 4]
    assert [number for number, _ in parts] == [0, 8, 12, 16, 20]
    # What is known of predictions is known for all units of the process.
    other = dataclasses.replace(unit, index=1)
    for own in stages.read(worker, other):
        list(stages.predict(worker, other.key, own))
    assert [len(batch) for batch in model.batches[4:]] == [4, 4, 4, 4, 4]
    manifest = written(worker, parts)
    assert (manifest.examples_read, manifest.predictions_made, records_of(manifest)) == (20,) * 3


@pytest.mark.parametrize("limit", [3, 12, 15, 99])
def test_reader_keeps_to_a_limit(tmp_path, worker_of, limit):
    worker = worker_of(Model(length), bounds=BatchBounds(max_records=6), limit=limit)
    parts = predicted(worker, unit_in(tmp_path))
    assert written(worker, parts).examples_read == min(limit, 20)


def test_unit_without_records_has_its_files(tmp_path, worker_of):
    worker = worker_of(Model(length))
    unit = Unit("empty", 0, 1, ())
    manifest = written(worker, predicted(worker, unit))
    assert (manifest.key, manifest.examples_read, records_of(manifest)) == (unit.key, 0, 0)
    assert len(manifest.shards) == 3
    assert finished_units(worker) == [manifest]


ELSEWHERE = """
import pickle, sys
from bulk_inferencer._units import stages
stage, worker, given = pickle.load(sys.stdin.buffer)
done = stages.write(worker, given) if stage == "write" else list(stages.read(worker, given))
sys.stdout.buffer.write(pickle.dumps((done, sorted(sys.modules))))
"""


def elsewhere(stage, worker, given):
    """Returns what a stage does in a process of its own, and which modules it needs for that."""
    return pickle.loads(
        subprocess.run(
            [sys.executable, "-c", ELSEWHERE],
            input=pickle.dumps((stage, stages.without_models(worker), given)),
            capture_output=True,
            check=True,
        ).stdout
    )


@pytest.mark.slow
def test_who_reads_and_writes_needs_no_tensorflow(tmp_path, worker_of, linear_model):
    worker = worker_of(SavedModel(linear_model), record_format="FORMAT_TF_EXAMPLE")
    unit = unit_in(tmp_path, [example(x=1.0), b"\xff"])
    read, modules = elsewhere("read", worker, unit)
    parts = [part for own in read for part in stages.predict(worker, unit.key, own)]
    manifest, more_modules = elsewhere("write", worker, parts)
    assert (manifest.predictions_made, manifest.examples_failed) == (1, 1)
    assert {"bulk_inferencer._models.saved_model", "tensorflow"}.isdisjoint(modules + more_modules)


# What goes wrong


def lost(parts):
    return [(number, own) for number, own in parts if number != 6]


def without_end(parts):
    return [(number, own) for number, own in parts if number != 20]


def doubled(parts):
    return [*parts, next(own for own in parts if own[0] == 6)]


@pytest.mark.parametrize(
    ("spoil", "number"),
    [(lost, 6), (without_end, 18), (doubled, 12)],
    ids=["lost", "without its end", "doubled"],
)
def test_unit_of_which_parts_are_missing_is_refused(tmp_path, worker_of, spoil, number):
    worker = worker_of(Model(length), bounds=BatchBounds(max_records=6))
    parts = predicted(worker, unit_in(tmp_path))
    assert sorted(own for own, _ in parts) == [0, 6, 12, 18, 20]
    assert written(worker, spoil(parts)) is None
    message = (
        f"Records of a unit were lost or came twice on their way from one step of the job to the "
        f"next, the first of them with number {number}. Nothing was committed. Run again."
    )
    with pytest.raises(ReconciliationError, match=exactly(message)):
        raise worker.stop.take_down()
    assert tree(tmp_path / "out") == []


def test_error_of_a_model_ends_all_stages(tmp_path, worker_of):
    model = raising(ModelError("it is wrong"))
    worker = worker_of(model, bounds=BatchBounds(max_records=6))
    unit = unit_in(tmp_path)
    parts = predicted(worker, unit)
    assert [number for number, _ in parts] == [20]
    assert len(model.batches) == 1
    assert list(stages.read(worker, unit)) == []
    assert written(worker, parts) is None
    with pytest.raises(ModelError, match=exactly("Model 'm': it is wrong")):
        raise worker.stop.take_down()


def test_file_that_is_damaged_ends_all_stages(tmp_path, worker_of):
    worker = worker_of(Model(length))
    (tmp_path / "in").mkdir()
    (tmp_path / "in/0.gz").write_text("this is no TFRecord file")
    assert predicted(worker, unit_of(tmp_path / "in/0.gz")) == []
    with pytest.raises(InputError, match=str(tmp_path)):
        raise worker.stop.take_down()


def test_failures_are_watched_where_they_happen(tmp_path, worker_of):
    model = Model(length)
    limit = FailureLimit(max_count=2)
    worker = worker_of(model, bounds=BatchBounds(max_records=1), failure_limit=limit)
    predicted(worker, unit_in(tmp_path, [b"bad"] * 20))
    assert len(model.batches) == 3
    with pytest.raises(FailureLimitError, match=r"^Model 'm': 3 of 3 records failed in split 's'"):
        raise worker.stop.take_down()


def test_batch_that_is_done_again_counts_once(tmp_path, worker_of):
    limit = FailureLimit(max_count=2)
    worker = worker_of(Model(length), failure_limit=limit)
    unit = unit_in(tmp_path, [b"bad", b"bad", b"good"])
    first, end = stages.read(worker, unit)
    for _ in range(3):
        (part,) = stages.predict(worker, unit.key, first)
    manifest = written(worker, [part, end])
    assert (manifest.examples_failed, manifest.predictions_made) == (2, 1)
    assert worker.stop.take_down() is None


def test_nothing_is_done_for_a_run_that_is_over(tmp_path, worker_of):
    worker = worker_of(Model(length))
    unit = unit_in(tmp_path)
    parts = predicted(worker, unit)
    end_runs(worker.task.manifests_folder)
    assert list(stages.read(worker, unit)) == []
    assert written(worker, parts) is None
    assert tree(tmp_path / "out") == []


def test_predictions_do_not_wait_for_looks_at_a_store_that_is_far_away(
    tmp_path, monkeypatch, worker_of
):
    worker = worker_of(Model(length), bounds=BatchBounds(max_records=1))
    unit = unit_in(tmp_path)
    read = list(stages.read(worker, unit))
    monkeypatch.setattr(stages, "poll_seconds", lambda path, local: 60.0)
    looks = []
    monkeypatch.setattr(UnitWorker, "is_over", lambda self: bool(looks.append(1)))
    for own in read:
        list(stages.predict(worker, unit.key, own))
    assert len(looks) <= 2  # before the model is loaded


# Attempts


def test_second_attempt_to_write_leaves_what_the_first_one_wrote(tmp_path, worker_of):
    worker = worker_of(Model(length))
    parts = predicted(worker, unit_in(tmp_path))
    first = written(worker, parts)
    found = tree(tmp_path / "out")
    assert written(worker, parts) == first
    assert tree(tmp_path / "out") == found
    assert finished_units(worker) == [first]


class Overtaken(PredictionLogs):
    """A sink whose unit another attempt writes before it closes."""

    other_attempts = ()

    def open(self, unit, files):
        opened = super().open(unit, files)
        close = opened.close

        def close_late():
            if self.other_attempts:
                self.other_attempts.pop()()
            return close()

        opened.close = close_late
        return opened


def test_of_two_attempts_at_once_the_first_that_ends_counts(tmp_path, monkeypatch, worker_of):
    worker = worker_of(Model(length), sinks=(Overtaken("m", f"{tmp_path}/out/m"),))
    parts = predicted(worker, unit_in(tmp_path))
    inner = []
    attempt = [lambda: inner.append(written(worker, parts))]
    monkeypatch.setattr(Overtaken, "other_attempts", attempt)
    outer = written(worker, parts)
    assert [outer] == inner
    (shard,) = outer.shards
    assert tree(tmp_path / "out") == [os.path.relpath(shard.path, tmp_path / "out")]
    assert Path(shard.path).stat().st_size == shard.bytes
    assert finished_units(worker) == [outer]
