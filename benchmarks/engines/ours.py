"""BulkInferencer on an engine.

Options: the engine's name, and where its cluster is: `ray 127.0.0.1:6379`.
"""

from __future__ import annotations

import bulk_inferencer
from benchmarks.tables.task import FEATURES, given_task
from bulk_inferencer import engines

_PROCESSES = ("--runner=FnApiRunner", "--direct_running_mode=multi_processing")

if __name__ == "__main__":  # Processes of Beam's local runner import this, too.
    task = given_task()
    name, _, address = task.option.partition(" ")
    engine = {
        "threads": lambda: engines.Beam(),
        "processes": lambda: engines.Beam([*_PROCESSES, "--direct_num_workers=2"]),
        "runner": lambda: engines.Beam(address.split()),
        "ray": lambda: engines.Ray(address),
        "spark": lambda: engines.Spark(address),
    }[name]()
    bulk_inferencer.predict(
        task.model,
        task.inputs,
        output=task.output,
        columns={"x": FEATURES},
        keep=["id"],
        prediction_logs=False,
        engine=engine,
    )
