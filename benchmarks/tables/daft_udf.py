"""Daft: a class whose method takes batches.

Options: `2` for that many processes; in none, the model runs on the threads of Daft's engine.
"""

from __future__ import annotations

import daft
import numpy as np

from benchmarks.tables.task import BATCH, FEATURES, Model, given_task

task = given_task()
processes = int(task.option or 0)


@daft.cls(use_process=bool(processes), max_concurrency=processes or None)
class Predict:
    def __init__(self) -> None:
        self._model = Model(task)

    @daft.method.batch(return_dtype=daft.DataType.float32(), batch_size=BATCH)
    def y(self, *columns: daft.Series) -> np.ndarray:
        values = [column.to_arrow().to_numpy(zero_copy_only=False) for column in columns]
        return self._model(dict(zip(FEATURES, values, strict=True)))


predict = Predict()
rows = daft.read_parquet(f"{task.inputs}/*.parquet")
y = predict.y(*(rows[name] for name in FEATURES))
rows.select(rows["id"], y.alias("y")).write_parquet(task.output, compression="zstd")
