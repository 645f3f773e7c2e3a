"""Runs that are killed, told to end, or started twice: nothing is lost, and nothing is doubled."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from bulk_inferencer import (
    Checkpoint,
    DamagedFiles,
    FailureLimit,
    Outputs,
    _signals,
    read_predictions,
    run,
)
from bulk_inferencer.engines.beam import Beam
from bulk_inferencer.errors import FailureLimitError, FolderInUseError, InputError, SettingsError
from bulk_inferencer.results import Statistics, Summary
from tests.faults.account import ONE_RUN, RESUMES, lost_and_doubled
from tests.faults.child import FILES, RECORDS, LengthModel, job_in, write_inputs
from tests.faults.stderr import lines_of
from tests.helpers import exactly, tree, write_tfrecord

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def start(tmp_path):
    """Starts children in `tmp_path`, and returns each when it has stopped."""
    children = []

    def start_child(place, count):
        command = [sys.executable, "-W", "ignore", "-m", "tests.faults.child", tmp_path, place]
        with open(tmp_path / "said", "w") as said:
            child = subprocess.Popen([*command, str(count)], cwd=CHECKOUT, stderr=said)
        children.append(child)
        while not (tmp_path / "stopped").exists():
            assert child.poll() is None, (tmp_path / "said").read_text()
            time.sleep(0.01)  # There is no event to wait for across processes.
        return child

    yield start_child
    for child in children:
        child.kill()
        child.wait()


def visible(folder):
    return [path for path in tree(folder) if "/.work/" not in path]


def account(folder):
    return lost_and_doubled(RECORDS, folder / "out/inference_result")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "place", "count", "least_reused"),
    [
        ("at a quarter", "model", 10, 8),
        ("at half", "model", 20, 18),
        ("before the commit", "commit", 1, 40),
        ("in the commit", "commit", 50, 40),
    ],
)
def test_run_that_is_killed_goes_on_where_it_stopped(
    tmp_path, start, caplog, reliability, case, place, count, least_reused
):
    write_inputs(tmp_path)
    child = start(place, count)
    child.kill()
    child.wait()
    if place == "model":
        assert visible(tmp_path / "out") == []
    with pytest.raises(InputError):
        list(read_predictions(tmp_path / "out/inference_result"))
    with caplog.at_level(logging.WARNING):
        summary = run(job_in(tmp_path))
    reused = summary.reused.units
    assert least_reused <= reused <= 40
    assert f"{reused} of 40 units were done before; {40 - reused} to do." in caplog.messages
    assert summary.reused.examples_read == 10 * reused
    # As if nothing had happened.
    fresh = tmp_path / "fresh"
    run(job_in(tmp_path, outputs=Outputs.under(fresh)))
    assert tree(tmp_path / "out") == tree(fresh)
    names = [name for name in tree(fresh) if name.startswith("inference_result")]
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (fresh / name).read_bytes()
    reliability(RESUMES, f"SIGKILL {case}", *account(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_that_is_told_to_end_says_what_it_kept(tmp_path, start, reliability, number):
    write_inputs(tmp_path)
    child = start("model", 20)
    started = time.monotonic()
    child.send_signal(number)
    child.wait(timeout=30)
    said = (tmp_path / "said").read_text()
    assert time.monotonic() - started < 10
    assert child.returncode in (-number, 128 + number)
    assert visible(tmp_path / "out") == []
    (line,) = [line for line in said.splitlines() if "finished units are kept in" in line]
    assert f"kept in {tmp_path}/out/summary/.work. Run again to go on." in line
    if number == signal.SIGTERM:
        assert lines_of(said) == [line]
    kept = len(list((tmp_path / "out/summary/.work").glob("units-*/*.json")))
    assert run(job_in(tmp_path)).reused.units == kept >= 18
    reliability(RESUMES, f"{signal.Signals(number).name} at half", *account(tmp_path))


@pytest.mark.slow
def test_run_that_is_told_to_end_before_it_has_done_anything_says_so(tmp_path, start):
    write_inputs(tmp_path)
    child = start("model", 1)
    child.send_signal(signal.SIGTERM)
    child.wait(timeout=30)
    (line,) = lines_of((tmp_path / "said").read_text())
    assert line.endswith("The run did not end, and no finished unit is kept.")
    assert tree(tmp_path / "out") == []


@pytest.mark.slow
def test_second_run_into_the_same_folder_leaves_the_first_alone(tmp_path, start, reliability):
    write_inputs(tmp_path)
    child = start("model", 20)
    before = tree(tmp_path / "out")
    with pytest.raises(
        FolderInUseError, match=rf"^Another run is writing to .*: process {child.pid} "
    ):
        run(job_in(tmp_path))
    # The first may just be finishing units that began before it stopped.
    assert set(tree(tmp_path / "out")) >= set(before)
    child.kill()
    child.wait()
    assert run(job_in(tmp_path)).reused.units >= 18
    reliability(ONE_RUN, "a second run starts, then the first is killed", *account(tmp_path))


# Without a process of its own


class LostCluster(beam.Pipeline):
    """Runs all units, and then the connection to the cluster is lost."""

    def __exit__(self, *error):
        super().__exit__(*error)
        raise OSError("the cluster is gone")


def lose_cluster(job):
    with pytest.raises(OSError, match=r"^the cluster is gone$"):
        run(job, Beam(make_pipeline=lambda: LostCluster(FnApiRunner())))


@pytest.fixture
def failed(tmp_path):
    write_inputs(tmp_path)
    lose_cluster(job_in(tmp_path))
    return tmp_path


def test_run_that_failed_keeps_finished_units_but_no_results(failed):
    assert visible(failed / "out") == []
    assert len(list((failed / "out/summary/.work").glob("units-*/*.json"))) == FILES


def test_threads_that_outlive_ctrl_c_leave_nothing(tmp_path, monkeypatch):
    write_inputs(tmp_path)
    is_over, calls, first = threading.Event(), [], threading.Lock()

    def interrupt():
        calls.append(threading.current_thread())
        if first.acquire(blocking=False):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        is_over.wait(60)

    with monkeypatch.context() as patch:
        patch.setattr("tests.faults.child.before_call", interrupt)
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                run(job_in(tmp_path))
        finally:
            is_over.set()
            signal.signal(signal.SIGINT, before)
        deadline = time.monotonic() + 60
        while _signals._busy and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not _signals._busy
    assert len(calls) == len(set(calls))  # No thread began another unit.
    assert tree(tmp_path / "out") == []
    assert not list((tmp_path / "out").rglob(".work"))
    assert run(job_in(tmp_path)).reused.units == 0
    assert account(tmp_path) == (0, 0)


def test_unfinished_run_of_another_job_is_named_and_left_alone(failed):
    before = tree(failed / "out")
    write_tfrecord(failed / "in/00.gz", RECORDS[:10], "ZLIB")
    message = (
        f"An unfinished run left results in {failed}/out/summary/.work, but not of this job. "
        f"Different: the model, how models are called, the inputs of split 's'. Nothing was "
        f"scored. Call run(job, restart=True) to delete them and start anew, choose other folders, "
        f"or go on with the job as it was."
    )
    job = job_in(failed, model=LengthModel("2"))
    with pytest.raises(SettingsError, match=exactly(message)):
        run(job)
    assert tree(failed / "out") == before
    assert run(job, restart=True).reused.units == 0
    assert account(failed) == (0, 0)


def test_same_job_again_returns_the_results_that_are_there(tmp_path, caplog):
    write_inputs(tmp_path)
    first = run(job_in(tmp_path))
    before = {path: path.stat() for path in (tmp_path / "out").rglob("*")}
    with caplog.at_level(logging.WARNING):
        assert run(job_in(tmp_path)) == first
    assert caplog.messages == [
        f"The results of this job are in {tmp_path}/out/summary already. Nothing was scored."
    ]
    assert {path: path.stat() for path in (tmp_path / "out").rglob("*")} == before
    # As a run leaves it that is killed right after its commit.
    (tmp_path / "out/summary/.work").mkdir()
    (tmp_path / "out/summary/.work/job.json").touch()
    assert run(job_in(tmp_path)) == first
    assert account(tmp_path) == (0, 0)
    assert not (tmp_path / "out/summary/.work").exists()
    with pytest.raises(SettingsError, match=" is not empty: it holds "):
        run(job_in(tmp_path, model=LengthModel("2")))
    next((tmp_path / "out/inference_result").iterdir()).unlink()
    with pytest.raises(SettingsError, match=" is not empty: it holds 39 files"):
        run(job_in(tmp_path))


def test_shard_that_was_damaged_since_is_scored_again(failed, reliability):
    manifests = sorted((failed / "out/summary/.work").glob("units-*/*.json"))
    for manifest, damage in zip(manifests, (b"", b"damaged"), strict=False):
        found = json.loads(manifest.read_text())
        (shard,) = found["sinks"]["prediction_logs/inference_result"]["shards"]
        Path(shard["path"]).write_bytes(damage)
    assert run(job_in(failed)).reused.units == FILES - 2
    reliability(RESUMES, "finished shards are emptied and overwritten", *account(failed))


def test_manifests_of_another_format_are_not_read(failed):
    for manifest in (failed / "out/summary/.work").glob("units-*/*.json"):
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format_version": 0}))
    assert run(job_in(failed)).reused.units == 0
    assert account(failed) == (0, 0)


def test_too_many_failures_leave_nothing_behind_that_would_fail_again(tmp_path):
    write_inputs(tmp_path)
    write_tfrecord(tmp_path / "in/bad.gz", [b"bad"])
    limit = FailureLimit(max_fraction=0.001)
    with pytest.raises(FailureLimitError):
        run(job_in(tmp_path, failure_limit=limit))
    assert tree(tmp_path / "out") == []
    checkpoint = Checkpoint(tmp_path / "checkpoints")
    with pytest.raises(FailureLimitError):
        run(job_in(tmp_path, failure_limit=limit, checkpoint=checkpoint))
    assert run(job_in(tmp_path, checkpoint=checkpoint)).reused.units == FILES
    assert account(tmp_path) == (0, 0)


# Checkpoints


def test_checkpoint_that_is_kept_lets_a_later_run_score_only_new_files(
    tmp_path, caplog, reliability
):
    write_inputs(tmp_path)
    checkpoint = Checkpoint(tmp_path / "checkpoints", keep=True)
    first = run(job_in(tmp_path, checkpoint=checkpoint))
    assert first.reused.units == 0
    write_tfrecord(tmp_path / "in/99.gz", [b"new"])
    write_tfrecord(tmp_path / "in/00.gz", [b"changed"])
    outputs = Outputs.under(tmp_path / "tomorrow")
    with caplog.at_level(logging.WARNING):
        second = run(job_in(tmp_path, checkpoint=checkpoint, outputs=outputs))
    assert (second.reused.units, second.reused.examples_read) == (39, 390)
    assert "39 of 41 units were done before; 2 to do." in caplog.messages
    assert second.total.examples_read == 392
    statistics = Statistics.read(outputs.summary).of("inference_result")
    assert statistics["length"].records == 392
    expected = [*RECORDS[10:], b"new", b"changed"]
    found = lost_and_doubled(expected, tmp_path / "tomorrow/inference_result")
    reliability(RESUMES, "a file is new and another one changed since the last run", *found)
    assert account(tmp_path) == (0, 0)
    other = job_in(
        tmp_path, checkpoint=checkpoint, outputs=Outputs.under(tmp_path / "other"),
        model=LengthModel("2"),
    )  # fmt: skip
    assert run(other).reused.units == 0
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


def test_checkpoint_outlives_a_failed_run_and_goes_with_one_that_commits(tmp_path):
    write_inputs(tmp_path)
    checkpoint = Checkpoint(tmp_path / "checkpoints")
    lose_cluster(job_in(tmp_path, checkpoint=checkpoint))
    assert tree(tmp_path / "out") == []
    outputs = Outputs.under(tmp_path / "again")
    assert run(job_in(tmp_path, checkpoint=checkpoint, outputs=outputs)).reused.units == FILES
    assert tree(tmp_path / "checkpoints") == []
    assert lost_and_doubled(RECORDS, tmp_path / "again/inference_result") == (0, 0)


def test_unit_of_which_a_file_was_skipped_is_no_help_to_a_run_that_skips_none(tmp_path):
    write_inputs(tmp_path)
    (tmp_path / "in/00.gz").write_bytes(b"damaged")
    settings = {"checkpoint": Checkpoint(tmp_path / "checkpoints", keep=True)}
    run(job_in(tmp_path, damaged_files=DamagedFiles(skip=True), **settings))
    settings["outputs"] = Outputs.under(tmp_path / "second")
    with pytest.raises(InputError, match=r"in/00\.gz"):
        run(job_in(tmp_path, **settings))
    summary = run(job_in(tmp_path, damaged_files=DamagedFiles(skip=True), **settings))
    assert summary.reused.units == FILES - 1
    assert [file.file for file in summary.damaged_files] == [f"{tmp_path}/in/00.gz"]


def test_checkpoint_that_nobody_used_for_long_is_deleted(tmp_path):
    write_inputs(tmp_path)
    checkpoint = Checkpoint(tmp_path / "checkpoints", keep=True, max_age_days=1)
    run(job_in(tmp_path, checkpoint=checkpoint, outputs=Outputs.under(tmp_path / "1")))
    (old,) = (tmp_path / "checkpoints").iterdir()
    long_ago = time.time() - 2 * 24 * 60 * 60
    os.utime(old / "job.json", (long_ago, long_ago))
    job = job_in(
        tmp_path, checkpoint=checkpoint, outputs=Outputs.under(tmp_path / "2"),
        model=LengthModel("2"),
    )  # fmt: skip
    run(job)
    assert not old.exists()
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1


def test_model_without_a_fingerprint_is_scored_anew(tmp_path, caplog):
    write_inputs(tmp_path)
    job = job_in(tmp_path, model=LengthModel(""), checkpoint=Checkpoint(tmp_path / "checkpoints"))
    with caplog.at_level(logging.WARNING):
        run(job)
    assert caplog.messages == [
        "No later run can reuse what this one scores: the model has no fingerprint."
    ]
    assert Summary.read(f"{tmp_path}/out/summary").made_from == {}
    assert not (tmp_path / "checkpoints").exists()
