"""`predict --engine` in a process of its own, on one machine: no cluster, no address."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bulk_inferencer import results
from tests.cli.conftest import NEXT
from tests.cli.on_terminal import lines_on_terminal

ENGINES = {"ray": (), "spark": ("--master", "local[2]")}
ROWS, FILES = 1000, 4
# Says where each of two modules comes from: only the file of the model is in the current folder.
MODEL = """
import numpy as np
import constants

def load(path):
    found = [type(module).__name__ for module in (__loader__, constants.__loader__)]
    def score(features):
        x = features["x"]
        return {"y": constants.FACTOR * x, "from": np.full(len(x), " ".join(found))}
    return score
"""
# What the display writes again and again.
SHOWN = re.compile(
    r"(.+ )?(Preparing|Loading the model|Scoring|Writing the results|Done) .*"
    r"|[\d.]+ of [\d.]+ kB( .*)?"
)
# Ray on a machine that is busy, and whose disk may be almost full.
ENVIRONMENT = {
    "RAY_raylet_start_wait_time_s": "120",
    "RAY_agent_register_timeout_ms": "120000",
    "RAY_local_fs_capacity_threshold": "1",
}
_PATIENCE_SECONDS = 60


@pytest.fixture
def command(tmp_path, monkeypatch):
    """What both engines are called with, in a folder with data and a model."""
    monkeypatch.chdir(tmp_path)
    for folder in ("data", "code"):
        Path(folder).mkdir()
    ids = np.arange(ROWS)
    table = pa.table({"id": ids, "x": (ids / 10).astype(np.float32)})
    for i in range(FILES):
        pq.write_table(table.slice(i * ROWS // FILES, ROWS // FILES), f"data/{i}.parquet")
    Path("own_model.py").write_text(MODEL)
    Path("code/constants.py").write_text("FACTOR = 5\n")
    program = [sys.executable, "-m", "bulk_inferencer", "predict", "own_model:load", "data"]
    return [*program, "-o", "out", "--keep", "id,x", "--module", "code/constants.py"]


def processes_with(variable):
    """Returns the processes that have inherited an environment variable."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if variable.encode() in path.read_bytes().split(b"\0"):
                found.append(path.parent.name)
        except OSError:  # It has ended meanwhile, or is somebody else's.
            continue
    return found


@pytest.mark.parametrize("engine", ENGINES)
def test_engine_scores_and_shows_nothing_but_the_run(command, engine, tmp_path):
    own = f"TEST_OF_COMMAND_LINE={uuid.uuid4().hex}"
    home = {"HOME": str(tmp_path)}  # where Ray keeps a token
    environment = {**os.environ, **ENVIRONMENT, **home, **dict([own.split("=")])}
    command = [*command, "--engine", engine, *ENGINES[engine]]

    code, lines = lines_on_terminal(command, environment)

    assert code == 0, "\n".join(lines[-20:])
    first, *shown, balance = lines[: -len(NEXT)]
    assert first == "Scoring data with own_model:load."
    assert [line for line in shown if not SHOWN.fullmatch(line)] == []
    assert balance.startswith("1,000 records: 1,000 predicted, 0 failed, in ")
    assert lines[-len(NEXT) :] == [line.strip() for line in NEXT]
    found = results.read("out").to_pandas()
    assert found["id"].sort_values().tolist() == list(range(ROWS))
    np.testing.assert_allclose(found["y"], 5 * found["x"], rtol=1e-6)
    assert set(found["from"]) == {"_ShippedModules _ShippedModules"}
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while processes_with(own):
        assert time.monotonic() < deadline, "processes are left"
        time.sleep(0.1)  # Nothing says that a process of somebody else's has ended.


def test_results_of_another_engine_are_those_of_the_same_run(command):
    subprocess.run(command, check=True, capture_output=True)
    for engine, arguments in ENGINES.items():
        said = subprocess.run(
            [*command, "--engine", engine, *arguments], check=True, capture_output=True, text=True
        )
        assert said.stdout.splitlines()[0] == "1,000 records: 1,000 predicted, 0 failed."
        assert said.stderr.splitlines()[-1] == (
            "The results of this job are in out/summary already. Nothing was scored."
        )
