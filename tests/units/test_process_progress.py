"""How far those are who predict, beside the units that they predict for."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from bulk_inferencer import _files
from bulk_inferencer._formats.batches import Batch, Segment
from bulk_inferencer._formats.input_format import InputFile
from bulk_inferencer._models.scorer import Failed
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.process_progress import ProcessProgress
from bulk_inferencer._units.progress import Heartbeat, HeartbeatFile, Tally, heartbeats_of_processes
from bulk_inferencer._units.run_file import begin_run, end_runs
from bulk_inferencer._units.sinks.sink import BranchResult, ScoredBatch
from tests.helpers import in_bucket

# Three records that two models score, but for one.
FAILED = [Failed(0, "kind", "why")]
BATCH = Batch([b"1", b"2", b"3"], (Segment("a", 0, 3),), stored_bytes=30)
SCORED = ScoredBatch(BATCH, {"a": BranchResult(3, [], FAILED), "b": BranchResult(3, [], [])})
DONE = Heartbeat(30, 3, 0, 1)
UNITS = [Unit("s", i, 2, (InputFile(f"file {i}", 60),)) for i in range(2)]


@pytest.fixture(params=[str, in_bucket], ids=["disk", "object store"])
def folder(tmp_path, request):
    return request.param(tmp_path)


def add(process, batches=1):
    for _ in range(batches):
        process.add(SCORED, 64)
    for thread in threading.enumerate():
        if thread.name == "heartbeats":
            thread.join(30)


def beat(folder, run_file, heartbeat):
    HeartbeatFile(f"{folder}/{UNITS[0].key}.progress", run_file).write(heartbeat, 64)


def test_all_processes_count_together_but_not_beside_units(folder):
    run_file = begin_run(folder)
    tally = Tally(UNITS, [], folder)
    with heartbeats_of_processes(folder):
        one, other = (ProcessProgress(folder, run_file) for _ in range(2))
        add(one)
        tally.update()
        assert (tally.done, tally.is_scoring, tally.batch_records) == (DONE, True, 64)
        add(other)
        tally.update()
        assert tally.done == DONE + DONE
        beat(folder, run_file, Heartbeat(50, 2))  # who writes begins anew
        tally.update()
        assert (tally.done, tally.units_done) == (DONE + DONE, 0)
        beat(folder, run_file, Heartbeat(110, 9))
        tally.update()
        assert tally.done == Heartbeat(110, 9)
    assert [Path(path).suffix for path in _files.files_below(folder)] == [".progress", ""]


def test_batches_that_are_done_again_do_not_make_more_of_the_input(folder):
    run_file = begin_run(folder)
    tally = Tally(UNITS, [], folder)
    for _ in range(5):
        add(ProcessProgress(folder, run_file))
    tally.update()
    assert (tally.done.bytes_read, tally.bytes_total) == (120, 120)


def test_process_says_how_far_it_is_now_and_then(tmp_path, monkeypatch):
    run_file = begin_run(str(tmp_path))
    tally = Tally(UNITS, [], str(tmp_path))
    written, replace = [], _files.replace
    monkeypatch.setattr(
        _files, "replace", lambda path, content: written.append(path) or replace(path, content)
    )
    process = ProcessProgress(str(tmp_path), run_file)
    process._file.interval = 3600
    add(process, batches=9)
    assert len(written) == 1
    process._next = 0.0  # an hour later
    add(process)
    assert len(set(written)) == 1 < len(written)
    tally.update()
    assert tally.done.records == 30


def test_process_whose_run_is_over_writes_nothing(folder):
    run_file = begin_run(folder)
    end_runs(folder)
    add(ProcessProgress(folder, run_file))
    assert list(_files.files_below(folder)) == []
