"""A user's own module: a model and hooks, which note what they do and wait where a test says so.

It is not on the path of workers. They have it only if an engine brings it to them.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import numpy as np

from bulk_inferencer import PythonModel
from bulk_inferencer._signatures import PREDICT, Signature
from bulk_inferencer.errors import ModelError

_PATIENCE_SECONDS = 120


def load(path):
    """Returns the model y = 5 x, whose folder holds a plan; see `runs.Plan`."""
    plan = json.loads(Path(path, "plan.json").read_text())

    def predict(features):
        x = features["x"]
        if x.min() < 0:
            raise ValueError("x is negative")
        _follow(plan, x[0])
        return {"y": 5.0 * x}

    return predict


def load_ten(path):
    """Returns the model y = 10 x."""
    return lambda features: {"y": 10.0 * features["x"]}


def load_gpus(path):
    """Returns a model whose output is the process that it is in, and the GPUs that it sees."""
    seen = f"{os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES')}"
    return lambda features: {"seen": np.full(len(features["x"]), seen)}


class Broken(PythonModel):
    """A model that raises an error that is not one of this package, when a worker loads it."""

    def load(self, record_format):
        raise ArithmeticError("nobody expects it")

    def check(self, record_format):
        return (Signature("serving_default", PREDICT),)


def load_sum(path):
    """Returns a model of 20 numbers."""
    return lambda features: {"y": sum((i + 1) * features[f"f{i:02d}"] for i in range(20))}


def add_label(records, outputs):
    """Adds an output that says whether y is large."""
    return {**outputs, "label": np.where(outputs["y"] > 500, b"large", b"small")}


def _follow(plan, first_x):
    notes = Path(plan["notes"])
    note = f"{first_x:g} {os.getpid()} {os.getppid()} {time.monotonic_ns()}"
    (notes / "calls" / note).touch()
    if plan["error"] == "crash" and first_x:
        return
    if plan["error"] == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if plan["error"]:
        raise ModelError(plan["error"])
    if os.getpid() != plan["launcher"]:
        _wait(lambda: len(_processes(notes, plan["launcher"])) >= plan["workers"], "other workers")
        if 0 < plan["pause_after"] <= len(os.listdir(notes / "calls")):
            (notes / "paused").touch()
            _wait((notes / "go").exists, "the test")


def _processes(notes, launcher):
    processes = {int(name.split()[1]) for name in os.listdir(notes / "calls")}
    return processes - {launcher}


def _wait(condition, for_what):
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited for {for_what} for {_PATIENCE_SECONDS} s")
        time.sleep(0.01)  # There is no event to wait for across machines.
