"""The runs that are measured. Each runs alone: python -m benchmarks.scale.runs NAME COUNT FOLDER.

The last line of the output is a JSON object:
  cpu_seconds: user and system time of the process, without imports.
  peak_mib: its peak memory, in MiB.
  bytes_out: the size of the results.
  bytes_in: the size of the inputs, of runs that score records.
  bytes: how much memory planning took.
  commit_seconds: wall time to gather and commit.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.data import Data, Prepared, prepare

_ROWS_PER_GROUP = 1 << 17
_UNIT_FILES = 2_100


def saved_model(count: int, folder: Path) -> dict[str, float]:
    """Scores records with y = 5 x, a SavedModel."""
    return _score(_records(count, folder), folder)


def wide(count: int, folder: Path) -> dict[str, float]:
    """Scores records of 20 features with an MLP."""
    return _score(_records(count, folder, features=20), folder)


def _score(prepared: Prepared, folder: Path) -> dict[str, float]:
    from bulk_inferencer import InferenceJob, Outputs, SavedModel, run

    job = InferenceJob(
        splits={"unlabelled": prepared.files},
        model=SavedModel(prepared.saved_model),
        outputs=Outputs.under(str(folder / "results")),
    )
    run(job)
    return {"bytes_in": sum(map(os.path.getsize, prepared.files))}


def function(count: int, folder: Path) -> dict[str, float]:
    """Scores rows with y = 5 x, a function."""
    from bulk_inferencer import predict

    path = _rows(count, folder)
    predict(_five_times, path, folder / "results", columns=["f00"], keep=["id"])
    return {"bytes_in": path.stat().st_size}


def plan_tfrecord(count: int, folder: Path) -> dict[str, float]:
    """Plans a run over many files."""
    return _plan(_files(count, folder, "tfrecord"), folder)


def plan_parquet(count: int, folder: Path) -> dict[str, float]:
    """Plans a run over many files."""
    return _plan(_files(count, folder, "parquet"), folder)


def units(count: int, folder: Path) -> dict[str, float]:
    """Scores files of one record each, in so many units; their number is always the same."""
    from bulk_inferencer import predict
    from bulk_inferencer._units import plan
    from bulk_inferencer.results.summary import Summary

    plan._MIN_UNITS = count
    predict(_five_times, _files(_UNIT_FILES, folder, "tfrecord"), folder / "results")
    (branch,) = Summary.read(str(folder / "results" / "summary")).branches.values()
    return {"commit_seconds": branch.seconds["commit"]}


RUNS: dict[str, Callable[[int, Path], dict[str, float]]] = {
    own.__name__: own for own in (saved_model, wide, function, plan_tfrecord, plan_parquet, units)
}


def _five_times(features: dict[str, Any]) -> dict[str, Any]:
    return {"y": 5 * features["f00"]}


def _plan(pattern: str, folder: Path) -> dict[str, float]:
    from bulk_inferencer import InferenceJob, Outputs
    from bulk_inferencer._models.python_model import Given, PythonModel
    from bulk_inferencer._models.usage import peak_bytes, resident_bytes
    from bulk_inferencer._preparation import prepare as prepare_run
    from bulk_inferencer._units.plan import plan_units

    before = resident_bytes()
    job = InferenceJob(
        splits={"unlabelled": [pattern]},
        model=PythonModel(Given(_five_times)),
        outputs=Outputs.under(str(folder / "results")),
    )
    plan_units(prepare_run(job).inputs)
    return {"bytes": max(0, peak_bytes() - before)}


def _records(count: int, folder: Path, features: int = 1) -> Prepared:
    """Returns records and a model: y = 5 x for one feature, and else an MLP."""
    return prepare(folder, Data(records=count, features=features, files=min(count, 8)))


def _rows(count: int, folder: Path) -> Path:
    path = folder / f"{count}.parquet"
    if not path.exists():
        x = np.random.default_rng(7).random(count, np.float32)
        table = pa.table({"id": np.arange(count), "f00": x})
        pq.write_table(table, path, row_group_size=_ROWS_PER_GROUP)
    return path


def _files(count: int, folder: Path, file_format: str) -> str:
    """Returns a pattern of files of one record."""
    within = folder / f"{count}-{file_format}"
    if not within.exists():
        within.mkdir(parents=True)
        record = Path(_records(1, folder).files[0]).read_bytes()
        for i in range(count):
            path = within / f"part-{i:06d}"
            if file_format == "parquet":
                pq.write_table(pa.table({"f00": np.array([i], np.float32)}), path)
            else:
                path.write_bytes(record)
    return str(within / "*")


def main() -> None:
    """Runs once."""
    name, count, path = sys.argv[1:]
    folder, results = Path(path), Path(path, "results")
    shutil.rmtree(results, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    # Imports are not what is measured.
    for module in ("tensorflow", "apache_beam.runners.portability.fn_api_runner.fn_runner"):
        importlib.import_module(module)
    before = resource.getrusage(resource.RUSAGE_SELF)
    made = RUNS[name](int(count), folder)
    after = resource.getrusage(resource.RUSAGE_SELF)
    measured = {
        "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "peak_mib": after.ru_maxrss / 1024,
        "bytes_out": sum(own.stat().st_size for own in results.rglob("*") if own.is_file()),
        **made,
    }
    print(json.dumps(measured), flush=True)
    os._exit(0)  # skips TensorFlow's shutdown


if __name__ == "__main__":
    main()
