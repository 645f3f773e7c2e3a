"""Spark: `predict_batch_udf`.

Options: the master of a cluster; without one, all cores of this machine.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import numpy as np
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql import SparkSession
from pyspark.sql.functions import struct
from pyspark.sql.types import FloatType

from benchmarks.tables.task import BATCH, FEATURES, Model, given_task

task = given_task()
os.environ["PYSPARK_PYTHON"] = sys.executable


def make_predict() -> Callable[[np.ndarray], np.ndarray]:
    model = Model(task)
    return lambda x: model.of_matrix(np.ascontiguousarray(x, np.float32))


spark = (
    SparkSession.builder.master(task.option or "local[*]")
    .config("spark.ui.enabled", "false")
    .config("spark.sql.execution.arrow.maxRecordsPerBatch", BATCH)
    .config("spark.sql.parquet.compression.codec", "zstd")
    .getOrCreate()
)
spark.sparkContext.setLogLevel("ERROR")
rows = spark.read.parquet(task.inputs)
# Columns of a struct come to the function as one matrix.
predict = predict_batch_udf(make_predict, return_type=FloatType(), batch_size=BATCH)
predictions = rows.select("id", predict(struct(*FEATURES)).alias("y"))
predictions.write.parquet(task.output)
spark.stop()
