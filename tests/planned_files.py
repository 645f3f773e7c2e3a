"""Plans a run over many files, in a process of its own, and prints what that took.

    python -m tests.planned_files tfrecord FOLDER

A small run is planned first, so that imports do not count.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bulk_inferencer._earlier import basis_of_job
from bulk_inferencer._formats import parquet, tfrecord
from bulk_inferencer._formats.example import Column, append_columns
from bulk_inferencer._models.python_model import Given, PythonModel
from bulk_inferencer._models.usage import peak_bytes, resident_bytes
from bulk_inferencer._preparation import prepare
from bulk_inferencer._units.plan import identity, plan_units
from bulk_inferencer._units.progress import Tally
from bulk_inferencer._units.spot_check import draw
from bulk_inferencer.job import InferenceJob, Outputs

MANY = 100_000
_LINKS = 10_000  # Filesystems allow so many names of one file.


def main() -> None:
    """Measures."""
    file_format, folder = sys.argv[1:]
    few, many = Path(folder, "few"), Path(folder, "many")
    make_files(few, 10, file_format)
    make_files(many, MANY, file_format)
    _plan(few)
    before = resident_bytes()
    _count_opens()
    made = _plan(many)
    made["bytes"] = peak_bytes() - before
    print(json.dumps(made))


def make_files(folder: Path, count: int, file_format: str) -> None:
    """Makes files of one record: a few, and many names for each."""
    folder.mkdir(parents=True)
    names = [folder / f"part-{i:06d}.{file_format}" for i in range(count)]
    for i, path in enumerate(names):
        if i % _LINKS:
            os.link(names[i - i % _LINKS], path)
        elif file_format == "parquet":
            pq.write_table(pa.table({"x": [float(i)]}), path)
        else:
            x = {"x": np.array([i], np.float32)}
            path.write_bytes(tfrecord.frame(append_columns([b""], x, [Column("x", "x")], True)))


def _plan(folder: Path) -> dict[str, Any]:
    job = InferenceJob(
        splits={"s": [str(folder / "*")]},
        model=PythonModel(Given(_five_times)),
        outputs=Outputs.under(f"{folder}.results"),
    )
    _opens.clear()
    prepared = prepare(job)
    files = prepared.inputs["s"]
    units = plan_units(prepared.inputs)
    assert basis_of_job(job, prepared)
    tally = Tally(units, [])
    drawn = {"s": draw("s", files, job.failure_limit.max_fraction)}
    return {
        "files": len({file.path for file in files}),
        "is_in_one_unit": Counter(identity(file) for unit in units for file in unit.files)
        == Counter(map(identity, files)),
        "units": tally.units,
        "task_bytes": len(pickle.dumps([prepared.task.reader, drawn])),
        **_opens,
    }


_opens: Counter[str] = Counter()


def _count_opens() -> None:
    """Counts folders that are listed, files that are opened, and tables that are."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("open", "os.scandir", "os.listdir"):
            _opens[event] += 1

    sys.addaudithook(hook)
    source = parquet._source

    def opened(path: str) -> Any:
        _opens["tables"] += 1
        return source(path)

    parquet._source = opened


def _five_times(features: dict[str, Any]) -> dict[str, Any]:
    return {"y": 5 * features["x"]}


if __name__ == "__main__":
    main()
