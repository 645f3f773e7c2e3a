"""The limit: a loop over pyarrow's batches, written by hand."""

from __future__ import annotations

import os

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from benchmarks.tables.task import BATCH, FEATURES, Model, given_task

_ROW_GROUP = 16 * BATCH

task = given_task()
model = Model(task)
schema = pa.schema({"id": pa.int64(), "y": pa.float32()})
os.makedirs(task.output)
rows = ds.dataset(task.inputs, format="parquet").to_batches(batch_size=BATCH)
with pq.ParquetWriter(os.path.join(task.output, "0.parquet"), schema, compression="zstd") as writer:
    pending: list[pa.RecordBatch] = []

    def flush() -> None:
        if pending:
            writer.write_table(pa.Table.from_batches(pending), row_group_size=_ROW_GROUP)
            pending.clear()

    for batch in rows:
        y = model({name: batch[name].to_numpy() for name in FEATURES})
        pending.append(pa.record_batch([batch["id"], pa.array(y)], schema=schema))
        if len(pending) == _ROW_GROUP // BATCH:
            flush()
    flush()
