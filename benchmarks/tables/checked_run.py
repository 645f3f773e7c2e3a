"""Runs a contestant on a task, measures it, and compares its results with those of the others."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.dataset as ds

from benchmarks.tables import watched
from benchmarks.tables.data import sum_of_ids
from benchmarks.tables.task import Task

_CHECKOUT = Path(__file__).parents[2]
_TIMEOUT_SECONDS = 600


def checked_run(
    python: str,
    module: str,
    task: Task,
    rows: int,
    sums: dict[int, float],
    variables: Mapping[str, str] | None = None,
    servers: Sequence[int] = (),
) -> watched.Measured:
    """Runs `module` on a task to its end, and deletes its output.

    Args:
      python: the interpreter of its environment.
      module: the program.
      task: what it gets. Its log goes beside its output.
      rows: how many rows the task has.
      sums: of `y`, by the number of rows: the same for all contestants.
      variables: environment variables.
      servers: see `watched.run`.

    Raises:
      AssertionError: rows are missing, or predictions differ.
      RuntimeError: it failed, or took too long.
    """
    output = Path(task.output)
    shutil.rmtree(output, ignore_errors=True)
    command = [python, "-W", "ignore", "-m", module, json.dumps(asdict(task))]
    # Workers find the classes of the programs there.
    own = {"PYTHONPATH": str(_CHECKOUT), "TF_CPP_MIN_LOG_LEVEL": "3", **(variables or {})}
    measured = watched.run(command, output.parent, own, _TIMEOUT_SECONDS, servers)
    _check(output, rows, sums)
    shutil.rmtree(output)
    return measured


def _check(output: Path, rows: int, sums: dict[int, float]) -> None:
    tables = output / "prediction_table"
    folder = tables if tables.is_dir() else output
    paths = [str(path) for path in sorted(folder.rglob("*.parquet"))]
    found = ds.dataset(paths, format="parquet").to_table()
    assert sorted(found.column_names) == ["id", "y"], found.column_names
    assert found.num_rows == rows, f"expected {rows} rows, got {found.num_rows}"
    ids = pc.sum(found["id"]).as_py()
    assert ids == sum_of_ids(rows), f"expected {sum_of_ids(rows)} as the sum of id, got {ids}"
    # Rows are in any order, so the sum weighs each prediction with its row.
    y = found["y"].to_numpy().astype(float)
    total = float((y * (1 + found["id"].to_numpy() % 97)).sum())
    expected = sums.setdefault(rows, total)
    assert math.isclose(total, expected, rel_tol=1e-5), f"expected {expected} of y, got {total}"
