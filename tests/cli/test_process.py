"""`predict` in a process of its own: killed, interrupted, and on a terminal."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from bulk_inferencer import results
from tests.cli.conftest import NEXT, ROWS
from tests.cli.on_terminal import lines_on_terminal
from tests.helpers import FLOAT, save_functions, tree

PROGRAM = [sys.executable, "-m", "bulk_inferencer"]
# Whoever runs the tests in the background has SIGINT ignored.
INTERRUPTIBLE = """
import signal
from bulk_inferencer.cli.main import main
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""
# Stops for good in the call of the model that a file asks for, and says so.
STOPPING = """
import pathlib
import time

def load(path):
    calls = []
    def score(features):
        calls.append(1)
        if pathlib.Path("stop").exists() and len(calls) > 30:
            pathlib.Path("stopped").touch()
            time.sleep(600)
        return {"y": 5 * features["x"]}
    return score
"""
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}


@pytest.fixture
def split_in_files(here):
    """`data/` with 40 files."""
    import pyarrow.parquet as pq

    table = pq.read_table(here / "data.parquet")
    (here / "data").mkdir()
    for i in range(40):
        pq.write_table(table.slice(25 * i, 25), here / f"data/{i:02d}.parquet")
    (here / "stopping.py").write_text(STOPPING)
    return here


@pytest.fixture
def start(split_in_files):
    """Starts `predict`, and returns the process when it has scored 30 of 40 files."""
    children = []

    def start_child(*args):
        (split_in_files / "stop").touch()
        (split_in_files / "temporary").mkdir()
        child = subprocess.Popen(
            [*(sys.executable, "-c", INTERRUPTIBLE), "predict", "stopping:load", "data", *args],
            cwd=split_in_files,
            env={**ENVIRONMENT, "TMPDIR": "temporary"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        children.append(child)
        while not (split_in_files / "stopped").exists():
            assert child.poll() is None, child.stderr.read()
            time.sleep(0.01)  # There is no event to wait for across processes.
        (split_in_files / "stop").unlink()
        return child

    yield start_child
    for child in children:
        child.kill()
        with child:  # which closes its pipes
            pass


def visible(folder):
    return [path for path in tree(folder) if "/.work/" not in path]


@pytest.mark.slow
def test_run_that_was_killed_goes_on_and_says_so(start, split_in_files, call):
    child = start("-o", "out")
    child.kill()
    child.wait()
    assert visible(split_in_files / "out") == []
    code, out, err = call("predict", "stopping:load", "data", "-o", "out")
    assert code == 0
    (line,) = [line for line in err.splitlines() if "units were done before" in line]
    done = int(line.split()[0])
    assert 0 < done < 40
    assert out.splitlines()[1] == f"{25 * done} records were scored by an earlier run."
    assert sorted(results.read("out").to_arrow()["id"].to_pylist()) == list(range(ROWS))


@pytest.mark.slow
def test_interrupt_is_one_line_and_leaves_no_results(start, split_in_files):
    child = start("-o", "out")
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (130, "")
    assert err.splitlines()[0] == "Scoring data with stopping:load."
    (line,) = err.splitlines()[1:]
    assert re.fullmatch(
        r"Interrupted\. The run did not end, but \d+ finished units are kept in "
        r"out/summary/\.work\. Run again to go on\.",
        line,
    )
    assert visible(split_in_files / "out") == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_trial_that_is_told_to_end_leaves_nothing(start, split_in_files, number):
    child = start("--limit", "1000", "--max-records", "20")
    child.send_signal(number)
    child.communicate(timeout=60)
    assert child.returncode == {signal.SIGINT: 130}.get(number, -number)
    assert tree(split_in_files / "temporary") == []


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    import tensorflow as tf

    def serve(examples):
        return {"y": 5 * tf.io.parse_example(examples, {"x": FLOAT})["x"]}

    inputs = {"examples": tf.TensorSpec([None], tf.string, name="examples")}
    return save_functions(tmp_path_factory.mktemp("m") / "model", serving_default=(serve, inputs))


@pytest.mark.slow
def test_libraries_say_nothing_of_themselves(here, model):
    command = [*PROGRAM, "predict", model, "data.parquet", "-o", "out", "--json"]
    said = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert json.loads(said.stdout)["total"]["predictions_written"] == ROWS
    own = [line for line in said.stderr.splitlines() if not re.match(r"\d:\d\d  ", line)]
    assert own[0] == f"Scoring data.parquet with {model}."
    assert own[1].startswith("1,000 records: 1,000 predicted, 0 failed, in ")
    assert own[2:] == NEXT


@pytest.mark.slow
def test_terminal_shows_how_far_the_run_is(here, model):
    command = [*PROGRAM, "predict", model, "data.parquet", "-o", "out", "--keep", "id"]
    code, lines = lines_on_terminal(command, ENVIRONMENT)
    assert code == 0
    assert lines[0] == f"Scoring data.parquet with {model}."
    shown = {line.split("  ")[0] for line in lines[1:-4]}
    assert any("Preparing 0:0" in line for line in shown)
    assert not [line for line in shown if re.match(r"\d{4}-|[IWE]\d{4} |WARNING", line)]
    assert lines[-4].startswith("1,000 records: 1,000 predicted, 0 failed, in ")
    assert lines[-3:] == [line.strip() for line in NEXT]
