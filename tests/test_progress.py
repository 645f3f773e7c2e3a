"""How far a run is, as its caller sees it: calls, lines of the log, a line in a notebook."""

from __future__ import annotations

import logging
import re
import signal
import threading
from dataclasses import dataclass
from pathlib import Path

import nbclient
import nbformat
import numpy as np
import pandas as pd
import pytest

from bulk_inferencer import BatchBounds, Progress, _files, _progress, predict, run
from bulk_inferencer._progress import COMMITTING, DONE, LOADING, PREPARING, SCORING
from bulk_inferencer._units import progress as unit_progress
from bulk_inferencer.engines.beam import Beam
from bulk_inferencer.errors import ModelError
from bulk_inferencer.results import Summary
from tests.faults import child
from tests.faults.child import FILES, RECORDS, LengthModel, job_in, write_inputs
from tests.helpers import exactly, tree

CHECKOUT = Path(__file__).parents[1]
FRAME = pd.DataFrame({"x": np.arange(1000, dtype=np.float32)})
PROCESSES = [
    "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",
    "--direct_running_mode=multi_processing",
    "--direct_num_workers=2",
]
ONE_THREAD = [PROCESSES[0], "--direct_running_mode=multi_threading", "--direct_num_workers=1"]


@pytest.fixture
def quick(monkeypatch):
    """Looks, and lets units tell, a hundred times as often."""
    monkeypatch.setattr(_progress, "_TICK_SECONDS", 0.005)
    monkeypatch.setattr(unit_progress, "_LOCAL_SECONDS", 0.0025)


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "progress"]


GATES: list[Gate] = []


def gate_of(index):
    return GATES[index]


class Gate:
    """A model that waits, after so many calls, until somebody has seen what it did."""

    def __init__(self, calls):
        self.calls, self.is_open = calls, threading.Event()
        GATES.append(self)

    def __reduce__(self):  # Beam's copy of it, on another thread, is this one.
        return gate_of, (GATES.index(self),)

    def __call__(self, features):
        if threading.current_thread() is not threading.main_thread():  # where it is tried out
            self.calls -= 1
        if self.calls < 0:
            assert self.is_open.wait(15)
        return {"y": 5 * features["x"]}


@dataclass(frozen=True)
class SlowModel(LengthModel):
    """Takes a twentieth of a second for each call."""

    def predict(self, batch):
        threading.Event().wait(0.05)
        return LengthModel.predict(self, batch)


# What is called


def test_callback_sees_the_run_from_its_beginning_to_its_end(tmp_path, quick):
    gate, seen = Gate(calls=3), []

    def progress(now):
        seen.append(now)
        if now.records == 300:
            gate.is_open.set()

    bounds = BatchBounds(max_records=100, first_records=100)
    result = predict(gate, FRAME, tmp_path / "out", bounds=bounds, progress=progress)
    assert threads() == []
    phases = [PREPARING, LOADING, SCORING, COMMITTING, DONE]
    assert [phases.index(now.phase) for now in seen] == sorted(
        phases.index(now.phase) for now in seen
    )
    first, last = seen[0], seen[-1]
    assert (first.phase, first.units, first.bytes_total) == (PREPARING, 0, 0)
    (middle, *_) = (now for now in seen if now.records == 300)
    assert (middle.phase, middle.predicted, middle.failed) == (SCORING, 300, 0)
    assert (middle.units_done, middle.units, middle.batch_records) == (0, 1, 100)
    assert middle.bytes_total == result.summary.input_bytes
    assert middle.fraction_done == pytest.approx(0.3, abs=0.03)
    assert middle.records_expected == pytest.approx(1000, rel=0.1)
    for name in ("seconds", "bytes_done", "records", "predicted", "units_done"):
        values = [getattr(now, name) for now in seen]
        assert values == sorted(values), name
    assert last == Progress(
        phase=DONE,
        seconds=last.seconds,
        bytes_done=last.bytes_total,
        bytes_total=result.summary.input_bytes,
        records=1000,
        predicted=1000,
        units_done=1,
        units=1,
        batch_records=100,
        records_per_second=last.records_per_second,
        seconds_left=0.0,
    )
    assert last.records_per_second > 0


def test_summary_says_how_much_was_read_and_when_it_was_scored(tmp_path):
    bounds = BatchBounds(max_records=100, first_records=100)
    summary = predict(Gate(10), FRAME, tmp_path / "out", bounds=bounds).summary
    assert summary.bytes_read == summary.input_bytes > 0
    points = summary.timeline.points
    assert sum(point.records for point in points) == pytest.approx(1000, abs=0.01)
    assert points[0].batch_records == pytest.approx(100)
    assert 0 < points[0].seconds < sum(summary.branches["inference_result"].seconds.values())
    assert Summary.read(f"{tmp_path}/out/summary") == summary
    # Numbers stand in one line, for people who read the file.
    assert len(Path(tmp_path, "out/summary/summary.json").read_text().splitlines()) < 200


def test_same_job_again_is_done_at_once(tmp_path):
    write_inputs(tmp_path)
    for _ in range(2):
        seen = []
        run(job_in(tmp_path), progress=seen.append)
    last = seen[-1]
    assert (last.phase, last.records, last.predicted) == (DONE, len(RECORDS), len(RECORDS))
    assert (last.fraction_done, last.bytes_done) == (1, last.bytes_total)
    assert last.bytes_total == sum(path.stat().st_size for path in (tmp_path / "in").iterdir())
    assert SCORING not in {now.phase for now in seen}


@pytest.mark.parametrize("error", [ValueError("my display"), KeyboardInterrupt("my button")])
def test_callback_that_raises_ends_the_run_and_the_next_one_goes_on(
    tmp_path, quick, monkeypatch, error
):
    write_inputs(tmp_path)
    gate = Gate(calls=5)  # of which each is a unit
    monkeypatch.setattr(child, "before_call", lambda: gate({"x": 1}))

    def progress(now):
        if now.units_done >= 3:
            monkeypatch.setattr(gate, "calls", FILES)
            threading.Timer(0.2, gate.is_open.set).start()  # when no more units start
            raise error

    with pytest.raises(type(error), match=exactly(str(error))):
        run(job_in(tmp_path), Beam(ONE_THREAD), progress=progress)
    assert threads() == []
    assert all("/.work/" in path for path in tree(tmp_path / "out"))
    seen = []
    summary = run(job_in(tmp_path), Beam(ONE_THREAD), progress=seen.append)
    assert 3 <= summary.reused.units < FILES // 2
    begun = next(now for now in seen if now.units)
    assert (begun.units_done, begun.records) == (summary.reused.units, 10 * summary.reused.units)
    assert (seen[-1].records, seen[-1].units_done) == (len(RECORDS), FILES)
    # Only what this run did is in its timeline.
    own = len(RECORDS) - summary.reused.examples_read
    assert sum(summary.timeline.records) == pytest.approx(own, abs=0.01)


def test_callback_that_raises_at_once_ends_the_run_before_anything_is_scored(tmp_path):
    def progress(now):
        raise ValueError("my display")

    with pytest.raises(ValueError, match=exactly("my display")):
        predict(Gate(0), FRAME, tmp_path / "out", progress=progress)
    assert threads() == []
    assert not (tmp_path / "out/summary/summary.json").exists()


def test_error_of_the_run_ends_the_thread_without_a_last_call(tmp_path):
    seen = []

    def model(features):
        raise ModelError("my model")

    with pytest.raises(ModelError, match="my model"):
        predict(model, FRAME, tmp_path / "out", progress=seen.append)
    assert threads() == []
    assert DONE not in {now.phase for now in seen}


def test_ctrl_c_ends_the_thread(tmp_path, quick, monkeypatch):
    gate, interrupts = Gate(calls=1), iter([signal.SIGINT])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which some ignore

    def progress(now):
        if now.records and (number := next(interrupts, None)):
            signal.pthread_kill(threading.main_thread().ident, number)

    bounds = BatchBounds(max_records=500, first_records=500)
    with pytest.raises(KeyboardInterrupt):
        predict(gate, FRAME, tmp_path / "out", bounds=bounds, progress=progress)
    gate.is_open.set()
    signal.signal(signal.SIGINT, before)
    assert threads() == []


def test_folder_that_cannot_be_read_for_a_while_hides_progress_and_is_logged(
    tmp_path, quick, monkeypatch, caplog
):
    gate, matching, seen = Gate(calls=1), _files.matching, []

    def failing(pattern, **settings):
        if "units-" in pattern and threading.current_thread().name == "progress":
            if len(caplog.messages) > 3:
                gate.is_open.set()
            raise OSError("no network")
        return matching(pattern, **settings)

    monkeypatch.setattr(_files, "matching", failing)
    bounds = BatchBounds(max_records=500, first_records=500)
    with caplog.at_level(logging.DEBUG, "bulk_inferencer._progress"):
        predict(gate, FRAME, tmp_path / "out", bounds=bounds, progress=seen.append)
    found = [r.levelname for r in caplog.records if r.message.startswith("Cannot see how far")]
    assert found[0] == "INFO"
    assert set(found[1:]) == {"DEBUG"}
    assert SCORING not in {now.phase for now in seen}
    assert seen[-1].records == 1000


@pytest.mark.slow
def test_processes_of_workers_tell_how_far_they_are(tmp_path, quick, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    write_inputs(tmp_path)
    seen = []
    run(job_in(tmp_path, model=SlowModel()), Beam(PROCESSES), progress=seen.append)
    records = [now.records for now in seen]
    assert records == sorted(records)
    assert len(set(records)) > 5
    assert any(now.phase == SCORING and now.batch_records == 10 for now in seen)
    assert (seen[-1].records, seen[-1].predicted) == (len(RECORDS), len(RECORDS))


# The log and the notebook


def test_long_run_says_how_far_it_is_in_the_log(tmp_path, quick, monkeypatch, caplog):
    monkeypatch.setattr(_progress, "_LOG_SECONDS", 0)
    gate = Gate(calls=3)

    class Opening(logging.Handler):
        def emit(self, record):
            if record.getMessage().startswith("300 of about"):
                gate.is_open.set()

    handler = Opening()
    logging.getLogger("bulk_inferencer._progress").addHandler(handler)
    bounds = BatchBounds(max_records=100, first_records=100)
    with caplog.at_level(logging.INFO, "bulk_inferencer._progress"):
        predict(gate, FRAME, tmp_path / "out", bounds=bounds)
    logging.getLogger("bulk_inferencer._progress").removeHandler(handler)
    assert caplog.messages[0] == "Preparing, 0 s so far."
    (line, *_) = (line for line in caplog.messages if line.startswith("300 of about"))
    assert re.fullmatch(
        r"300 of about [\d,]+ records \(\d+ %\), [\d,]+ records/s, 0 failed\.", line
    )


def test_short_run_says_nothing(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "bulk_inferencer._progress"):
        predict(Gate(100), FRAME, tmp_path / "out")
    assert caplog.messages == []


def test_progress_is_a_line_of_text():
    scoring = Progress(
        SCORING, 3.0, 310, 1000, 1_240_000, 1_239_997, 3, 1, 2, 64, 412_000.4, seconds_left=6.7
    )
    assert str(scoring) == (
        "1,240,000 of about 4,000,000 records (31 %), 412,000 records/s, 3 failed, 7 s left"
    )
    assert str(Progress(SCORING)) == "0 records (0 %), 0 records/s, 0 failed"
    assert str(Progress(SCORING, seconds_left=200.0)).endswith(", 3 min 20 s left")
    assert str(Progress(SCORING, seconds_left=7500.0)).endswith(", 2 h 5 min left")
    assert str(Progress(LOADING, 12.3)) == "loading the model, 12 s so far"
    committing = Progress(COMMITTING, records=1000, failed=3)
    assert str(committing) == "1,000 records, 3 failed, putting the results in place"
    assert str(Progress(DONE, records=1000, failed=3)) == "1,000 records, 3 failed, done"


NOTEBOOK = """
import threading
import pandas as pd
from bulk_inferencer import BatchBounds, predict

is_scored = threading.Event()

def five_times(features):
    if is_scored.is_set():
        threading.Event().wait(1.2)  # so that the line changes in between
    is_scored.set()
    return {"y": 5 * features["x"]}

frame = pd.DataFrame({"x": range(1000)})
bounds = BatchBounds(max_records=500, first_records=500)
result = predict(five_times, frame, "out", bounds=bounds)
"""


@pytest.mark.slow
def test_notebook_shows_a_line_that_updates_itself(tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(NOTEBOOK)])
    shown = []

    class Client(nbclient.NotebookClient):
        def process_message(self, message, *args):
            if message["msg_type"] in ("display_data", "update_display_data"):
                shown.append((message["msg_type"], message["content"]["data"]))
            return super().process_message(message, *args)

    resources = {"metadata": {"path": str(tmp_path)}}
    Client(notebook, timeout=120, kernel_name="python3", resources=resources).execute()
    # Beam shows scripts.
    (first, *others) = ((kind, data["text/plain"]) for kind, data in shown if "text/plain" in data)
    assert first == ("display_data", "Preparing, 0 s so far")
    assert {kind for kind, _ in others} == {"update_display_data"}
    assert any(text.startswith("500 of about") for _, text in others)
    lines = [o.data.get("text/plain") for o in notebook.cells[0].outputs if "data" in o]
    assert [line for line in lines if line] == ["1,000 records, 0 failed, done"]
