"""BulkInferencer, with one call.

Options: `logs` to write PredictionLogs too; `tfrecords` for inputs that are TFRecords.
"""

from __future__ import annotations

import bulk_inferencer
from benchmarks.tables.task import FEATURES, given_task

task = given_task()
bulk_inferencer.predict(
    task.model,
    task.inputs,
    output=task.output,
    columns=() if task.takes_examples else {"x": FEATURES},
    keep=["id"],
    prediction_logs=task.option == "logs",
)
