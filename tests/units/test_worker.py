"""Units in the processes of workers: what is loaded, for how long, and which errors come out."""

from __future__ import annotations

import gc
import os
import socket
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bulk_inferencer import _files
from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._units import progress, worker
from bulk_inferencer.errors import ModelError, WorkerError
from tests.helpers import exactly, tree
from tests.models.fakes import Model, length, raising
from tests.units.helpers import worker_in


class Loaded:
    """A model whose `load` gives each process an object of its own."""

    def __init__(self):
        self.loaded = []  # weak references

    def load(self, record_format):
        loaded = Model(length)
        self.loaded.append(weakref.ref(loaded))
        return loaded

    uri = "memory://loaded"
    signatures = Model(length).signatures

    def check(self, record_format):
        return self.signatures

    def fingerprint(self):
        return "f00d"

    def are_gone(self):
        gc.collect()
        return [reference() for reference in self.loaded] == [None] * len(self.loaded)


def end_run(own):
    """Ends a run, as its launcher does."""
    os.remove(own.task.run_file)


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_model_is_loaded_once_for_all_threads_of_a_process(tmp_path):
    model = Loaded()
    own, units = worker_in(tmp_path, model, files=8)
    with ThreadPoolExecutor(8) as pool:
        manifests = list(pool.map(own, units))
    assert [manifest.key for manifest in manifests] == [unit.key for unit in units]
    assert len(model.loaded) == 1
    own.forget()


def test_process_that_forgets_a_run_lets_go_of_its_model_and_starts_no_more_units(tmp_path):
    model = Loaded()
    own, (first, second) = worker_in(tmp_path, model, files=2)
    assert own(first)
    own.forget()
    assert model.are_gone()
    assert own(second) is None
    assert len(model.loaded) == 1


def test_process_that_waits_for_another_run_lets_go_of_the_model(tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "_LOCAL_SECONDS", 0.01)
    model = Loaded()
    own, (first, second) = worker_in(tmp_path, model, files=2)
    assert own(first)
    assert not model.are_gone()
    end_run(own)
    wait_until(model.are_gone)
    assert own(second) is None


def test_process_that_works_for_two_runs_at_once_loads_a_model_for_each(tmp_path):
    models = [Loaded(), Loaded(), Loaded()]
    runs = [worker_in(tmp_path / str(i), model) for i, model in enumerate(models)]
    (one, (unit,)), (other, (others_unit,)), (last, (last_unit,)) = runs
    assert one(unit)
    assert other(others_unit)
    assert [len(model.loaded) for model in models] == [1, 1, 0]
    assert not models[0].are_gone()
    end_run(one)
    assert last(last_unit)  # A new run lets go of those that are over.
    assert models[0].are_gone()
    assert not models[1].are_gone()
    for own in (other, last):
        own.forget()


@pytest.mark.parametrize("end", [end_run, lambda own: own.stop.put_up(ModelError("wrong"))])
def test_unit_does_not_start_when_the_run_is_over(tmp_path, end):
    model = Model(length)
    own, (first, second) = worker_in(tmp_path, model, files=2)
    assert own(first)
    end(own)
    before = tree(tmp_path)
    assert own(second) is None
    assert own.is_over()
    assert tree(tmp_path) == before
    assert model.batches == [[b"good", b"bad"], [b"good"], [b"bad"]]


def test_worker_that_does_not_see_the_folder_says_so(tmp_path):
    model = Model(length)
    own, (unit,) = worker_in(tmp_path, model)
    (tmp_path / "units").rename(tmp_path / "elsewhere")
    message = (
        f"A worker on {socket.gethostname()} cannot see {own.task.run_file}, which this run wrote. "
        f"Results and checkpoints must be in folders that all workers share: choose a bucket, or a "
        f"disk that every machine mounts at the same path. Nothing was scored there."
    )
    with pytest.raises(WorkerError, match=exactly(message)):
        own(unit)
    assert model.batches == []


def test_unit_that_is_finished_is_not_scored_again(tmp_path):
    model = Model(length)
    own, (unit,) = worker_in(tmp_path, model)
    first = own(unit)
    model.batches.clear()
    assert own(unit) == first
    assert model.batches == []
    before = tree(tmp_path / "units")
    Path(first.shards[0].path).write_bytes(b"")
    second = own(unit)  # Its files are not whole.
    assert second.shards != first.shards
    assert tree(tmp_path / "units") == before


def test_error_of_ours_ends_the_run_and_any_other_comes_out(tmp_path):
    own, units = worker_in(tmp_path / "1", raising(ModelError("wrong")), files=2)
    assert [own(unit) for unit in units] == [None, None]
    assert own.is_over()
    assert str(own.stop.take_down()) == "wrong"
    own, (unit,) = worker_in(tmp_path / "2", raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        own(unit)
    assert not own.is_over()


# Attempts that outlive their run


def test_error_that_comes_after_the_run_concerns_nobody(tmp_path):
    def fail(batch):
        end_run(own)
        raise ModelError("wrong")

    own, (unit,) = worker_in(tmp_path, Model(fail))
    assert own(unit) is None
    assert not own.stop.is_up()
    assert tree(tmp_path / "out") == []


def test_attempt_whose_run_ends_gives_up_at_its_next_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "_LOCAL_SECONDS", 0.001)
    heart = []

    def score(batch):
        if not heart:
            heart.extend(own for own in threading.enumerate() if own.name == "heartbeats")
            end_run(own_worker)
            heart[0].join(20)  # It ends as soon as it sees that.
        return length(batch)

    model = Model(score)
    own_worker, (unit,) = worker_in(
        tmp_path, model, records=[b"1"] * 10, bounds=BatchBounds(max_records=1)
    )
    assert own_worker(unit) is None
    assert len(model.batches) == 1
    assert tree(tmp_path / "out") == []
    assert not list((tmp_path / "out").rglob(".work"))


def test_stop_sign_that_comes_too_late_is_taken_down(tmp_path, monkeypatch):
    own, (unit,) = worker_in(tmp_path, raising(ModelError("wrong")))
    rename = _files.rename

    def slow_rename(source, target):
        end_run(own)
        rename(source, target)

    monkeypatch.setattr(_files, "rename", slow_rename)
    assert own(unit) is None
    assert not own.stop.is_up()
