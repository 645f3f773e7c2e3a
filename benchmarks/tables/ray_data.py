"""Ray Data: `map_batches` with one actor, as the other core has to read and write.

Options: `tfrecords` for inputs that are TFRecords, with Ray's own reader.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import ray

from benchmarks.tables.task import BATCH, FEATURES, Model, given_task

task = given_task()


class Predict:
    def __init__(self) -> None:
        self._model = Model(task)

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"id": batch["id"], "y": self._model(batch)}


ray.init(log_to_driver=False)  # a cluster, if RAY_ADDRESS names one
ray.data.DataContext.get_current().enable_progress_bars = False
if task.option == "tfrecords":
    rows = ray.data.read_tfrecords(task.inputs, arrow_open_stream_args={"compression": "gzip"})
else:
    rows = ray.data.read_parquet(task.inputs, columns=["id", *FEATURES])
predictions = rows.map_batches(Predict, batch_size=BATCH, concurrency=1, num_cpus=1)
predictions.write_parquet(task.output, compression="zstd")
