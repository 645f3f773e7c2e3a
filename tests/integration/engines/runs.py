"""Jobs of a model that notes its calls, and runs of them in which a test kills something."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import struct
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from bulk_inferencer import BatchBounds, Branch, InferenceJob, Outputs, PythonModel
from tests.helpers import example, write_tfrecord

CHECKOUT = Path(__file__).parents[3]
MODULES = Path(__file__).with_name("user_modules")
FILES = UNITS = 16
RECORDS_OF_FILE = 20
CALLS = 2  # of the model, in a unit
BOUNDS = BatchBounds(first_records=RECORDS_OF_FILE // CALLS, max_records=RECORDS_OF_FILE // CALLS)
_PATIENCE_SECONDS = 120

if str(MODULES) not in sys.path:  # of the launcher
    sys.path.append(str(MODULES))


@dataclass(frozen=True)
class Plan:
    """What the model does in a run, beside scoring.

    Attributes:
      notes: the folder for notes of its calls.
      workers: how many processes must have a unit before one of them goes on.
      pause_after: after how many calls it pauses, in each worker, until there is the file `go`.
      error: the message of an error of ours that it raises instead of scoring; with `crash`, the
        first record kills its process.
      launcher: the process that does not wait, as it is no worker.
    """

    notes: str
    workers: int = 0
    pause_after: int = 0
    error: str = ""
    launcher: int = os.getpid()


class Call(NamedTuple):
    """What the model noted of a call."""

    x: float  # of its first record
    pid: int
    parent: int
    nanoseconds: int


def model_in(folder, workers=0, half=False, error=""):
    """Returns the model y = 5 x, with a plan and notes of its own below `folder`."""
    notes = Path(folder, "notes")
    (notes / "calls").mkdir(parents=True)
    model = Path(folder, "model")
    model.mkdir()
    plan = Plan(str(notes), workers, UNITS * CALLS // 2 if half else 0, error)
    (model / "plan.json").write_text(json.dumps(asdict(plan)))
    return PythonModel("five_times:load", str(model))


def calls_in(folder):
    """Returns the calls that the model in a folder has noted, in their order."""
    names = [path.name.split() for path in Path(folder, "notes/calls").iterdir()]
    calls = (Call(float(x), *map(int, numbers)) for x, *numbers in names)
    return sorted(calls, key=lambda call: call.nanoseconds)


RECORDS = [example(x=float(x)) for x in range(FILES * RECORDS_OF_FILE)]


def write_inputs(folder, bad=()):
    """Writes files of 20 records each, x = 0, 1, 2 and so on; returns their pattern.

    Negative numbers in `bad` become records that cannot be scored, one in each file.
    """
    for i in range(FILES):
        own = RECORDS[RECORDS_OF_FILE * i : RECORDS_OF_FILE * (i + 1)]
        own += [example(x=float(x)) for x in bad[i : i + 1]]
        write_tfrecord(Path(folder, f"{i:02d}.gz"), own)
    return f"{folder}/*.gz"


WIDE_RECORDS = 400_000


def write_wide_inputs(folder, files=32):
    """Writes 400,000 records of 20 numbers; the first one tells them apart."""
    others = {f"f{i:02d}": i / 7 for i in range(1, 20)}
    start, end = example(f00=-0.5, **others).split(struct.pack("<f", -0.5))
    per_file = WIDE_RECORDS // files
    for i in range(files):
        own = range(per_file * i, per_file * (i + 1))
        records = (start + struct.pack("<f", x) + end for x in own)
        write_tfrecord(Path(folder, f"{i:02d}.gz"), records)


def job_of(model, inputs, out, **settings):
    """Returns a job with a model, or with several by name, whose modules go to workers."""
    outputs = settings.pop("outputs", None) or Outputs.under(out)
    if isinstance(model, dict):
        branches = [Branch(name, own, f"{out}/{name}") for name, own in model.items()]
        settings["branches"] = branches
    else:
        settings["model"] = model
    settings = {"bounds": BOUNDS, "modules": [str(MODULES / "five_times.py")], **settings}
    return InferenceJob(splits={"s": [inputs]}, outputs=outputs, **settings)


def job_in(folder, workers=0, half=False, error=""):
    """Returns a job with the model y = 5 x, its inputs and its outputs below `folder`."""
    model = model_in(folder, workers, half, error)
    return job_of(model, write_inputs(folder / "in"), folder / "out")


# While they run


def wait_for(condition, child=None):
    """Waits until a path exists, or until a function returns True."""
    is_so = condition.exists if isinstance(condition, Path) else condition
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not is_so():
        assert child is None or child.poll() is None, child.log.read_text()
        assert time.monotonic() < deadline, f"waited for {condition} for {_PATIENCE_SECONDS} s"
        time.sleep(0.02)  # There is no event to wait for across processes.


@contextlib.contextmanager
def at_half(folder, kill):
    """Calls `kill` with the call of the model that pauses last at half; then lets the run go on.

    Yields:
      a list, which holds that call when it is killed.
    """
    notes = Path(folder, "notes")
    killed = []

    def wait_and_kill():
        wait_for(notes / "paused")
        call = calls_in(folder)[-1]
        kill(call)
        killed.append(call)
        (notes / "go").touch()

    thread = threading.Thread(target=wait_and_kill, daemon=True)
    thread.start()
    yield killed
    thread.join(1)


@contextlib.contextmanager
def launched(job, engine, folder):
    """Runs a job in a process of its own within `with`, and kills that at the end."""
    path, log = Path(folder, "job.pickle"), Path(folder, "child.log")
    path.write_bytes(pickle.dumps((job, engine)))
    command = [sys.executable, "-W", "ignore", "-m", "tests.integration.engines.child", path]
    with open(log, "w") as said:
        child = subprocess.Popen(command, cwd=CHECKOUT, stdout=said, stderr=said)
    child.log = log
    try:
        yield child
    finally:
        child.kill()
        child.wait()
