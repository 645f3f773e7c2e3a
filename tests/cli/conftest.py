"""A folder with a table and models in Python, in which commands run."""

from __future__ import annotations

import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from bulk_inferencer.cli.main import group

ROWS = 1000
# What `predict ... -o out` ends with.
NEXT = [
    *("Results: out", "Next: bulk-inferencer show out", "      bulk-inferencer report out"),
]
MODELS = """
import threading

import numpy as np

def times_five(path):
    return lambda features: {"y": 5 * features["x"]}

def picky(path):
    def score(features):
        if (features["x"] < 1).any():
            raise ValueError("x is too small")
        return {"y": 5 * features["x"]}
    return score

def talkative(path):
    def score(features):
        print("the model prints")
        return {"y": 5 * features["x"]}
    return score

def broken(path):
    class Broken(BaseException):
        pass
    def score(features):
        if threading.current_thread() is not threading.main_thread():
            raise Broken("as nobody expected")
        return {"y": features["x"]}
    return score
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with `data.parquet` (id, x = id / 10, name) and `own_models.py`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_models", raising=False)
    (tmp_path / "own_models.py").write_text(MODELS)
    ids = np.arange(ROWS)
    columns = {"id": ids, "x": (ids / 10).astype(np.float32), "name": [f"n{i}" for i in ids]}
    pq.write_table(pa.table(columns), tmp_path / "data.parquet", row_group_size=100)
    return tmp_path


@pytest.fixture
def call():
    """Calls the command line in this process; returns exit code, stdout and stderr."""

    def call_with(*args):
        result = CliRunner().invoke(group, [str(arg) for arg in args])
        return result.exit_code, result.stdout, result.stderr

    return call_with


@pytest.fixture
def call_json(call):
    """Calls the command line, which must end well; returns the JSON on stdout."""

    def call_with(*args):
        code, out, err = call(*args)
        assert code == 0, err
        return json.loads(out)

    return call_with
