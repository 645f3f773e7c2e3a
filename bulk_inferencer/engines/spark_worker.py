"""What Spark runs on a worker."""

from __future__ import annotations

import gc
import sys
import zipimport
from collections.abc import Callable, Sequence
from typing import Any

_run = ""  # for which this process was prepared


def task_runner(
    run_parcel: Callable[[Sequence[Any], Sequence[bytes]], str], parcel: Sequence[Any]
) -> Callable[[Sequence[bytes]], str]:
    """Returns a function that runs a task on a worker, which may lack this package.

    It takes the pickled units of the task, and returns what `run_parcel` does.

    Args:
      run_parcel: `parcel.run_parcel`, which is pickled by value.
      parcel: the fields of a `Parcel`.
    """
    run = parcel[-1]

    # Pickled by value, as all functions within functions are.
    def run_task(units: Sequence[bytes]) -> str:
        import os

        from pyspark import TaskContext

        context = TaskContext.get()
        # Spark only says what a task may use, and TensorFlow takes all that it sees.
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(context.cpus()))
        if gpus := context.resources().get("gpu"):
            os.environ.setdefault("CUDA_VISIBLE_DEVICES", ",".join(gpus.addresses))
        if problem := run_parcel(parcel, units):
            return problem
        from bulk_inferencer.engines import spark_worker

        spark_worker.make_tasks_cheap(run)
        return ""

    return run_task


def make_tasks_cheap(run: str) -> None:
    """Spares this process what Spark does around each task, 0.3 s with TensorFlow.

    Args:
      run: tells a run from others. Does nothing if it is the same as the last time.
    """
    global _run
    if run == _run:
        return
    _run = run
    # After a task, Spark collects garbage, among all objects of TensorFlow: hide what is loaded.
    # What was hidden for an earlier run is collected first.
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    # Before a task, Spark 3 lets Python read the directory of its zip files again, once for each
    # folder in them that was imported from. Spark 4 does not.
    for path, finder in list(sys.path_importer_cache.items()):
        if isinstance(finder, zipimport.zipimporter):
            del sys.path_importer_cache[path]
