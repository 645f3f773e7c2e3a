"""A run over very many files: what planning it takes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bulk_inferencer import _run
from bulk_inferencer._models.python_model import Given, PythonModel
from bulk_inferencer._units.progress import Tally
from bulk_inferencer.job import InferenceJob, Outputs
from tests.helpers import Bucket, in_bucket
from tests.planned_files import MANY

CHECKOUT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.parametrize(("file_format", "tables"), [("tfrecord", 0), ("parquet", MANY)])
def test_planning_takes_little_memory_and_opens_no_file_twice(tmp_path, file_format, tables):
    command = [sys.executable, "-W", "ignore", "-m", "tests.planned_files", file_format, tmp_path]
    made = json.loads(subprocess.check_output(command, cwd=CHECKOUT))
    assert (made["files"], made["is_in_one_unit"], made["units"]) == (MANY, True, 64)
    assert made["bytes"] < 200e6
    assert made["task_bytes"] < 20_000
    assert made["os.scandir"] == 1
    # A few are read to see what records are like; sources of Python are opened as well.
    assert tables <= made.get("tables", 0) < tables + 20
    assert made["open"] < 100


def requests_of(folder, count, monkeypatch):
    """Returns how often a run asks a store for something before and after its units."""
    requests = Counter()
    phases = iter(["before", "within", "after"])
    phase = [next(phases)]

    def counted(name):
        method = getattr(Bucket, name)

        def call(self, paths, *args, **kwargs):
            many = len(paths) if isinstance(paths, list) else 1
            requests[phase[0], name] += many
            return method(self, paths, *args, **kwargs)

        return call

    def score(*args, own=_run._score):
        phase[0] = next(phases)
        own(*args)
        phase[0] = next(phases)

    for i in range(count):
        path = folder / f"in/{i:03d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"x": [float(i)]}), path)
    with monkeypatch.context() as patch:
        for name in ("_list", "exists", "open", "create", "rename", "delete"):
            patch.setattr(Bucket, name, counted(name))
        patch.setattr(_run, "_score", score)
        # Progress reads manifests as well, whenever its thread comes to it.
        patch.setattr(Tally, "update", lambda self: None)
        job = InferenceJob(
            splits={"s": [in_bucket(f"{folder}/in/*")]},
            model=PythonModel(Given(lambda features: {"y": 5 * features["x"]})),
            outputs=Outputs.under(in_bucket(folder / "out")),
        )
        _run.run(job)
    return requests


def test_a_file_is_one_more_request_and_a_unit_a_dozen_and_no_listing(tmp_path, monkeypatch):
    few, more = (requests_of(tmp_path / str(n), n, monkeypatch) for n in (10, 20))
    per_unit = {name: (more[name] - few[name]) / 10 for name in more}
    assert {name: n for name, n in per_unit.items() if n and name[0] == "before"} == {
        ("before", "open"): 1,
    }
    after = {name[1]: n for name, n in per_unit.items() if n and name[0] == "after"}
    assert after == {"open": 1, "rename": 2, "exists": 4, "delete": 2}
