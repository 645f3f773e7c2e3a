"""Rows and models for the race of tables. They are made once, then reused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.data import weights
from benchmarks.tables.task import FEATURES

TFRECORD_ROWS = 40_000

_ROW_GROUP = 100_000


@dataclass(frozen=True)
class Prepared:
    """What the contestants get.

    Attributes:
      rows: how many.
      folder: where everything is.
      files: how many Parquet files there are.
    """

    rows: int
    folder: str
    files: int = 4

    @property
    def parquet(self) -> str:
        """The folder of Parquet files: `id` (int64) and 20 columns of floats."""
        return os.path.join(self.folder, f"rows-{self.rows}", "parquet")

    @property
    def tfrecord(self) -> str:
        """The folder of TFRecord files (gzip) with the same rows as tf.Examples."""
        return os.path.join(self.folder, f"rows-{self.rows}", "tfrecord")

    @property
    def tensor_model(self) -> str:
        """A SavedModel from `x: float32 [None, 20]` to `y: float32 [None]`."""
        return os.path.join(self.folder, "tensor-model")

    @property
    def example_model(self) -> str:
        """The same from serialized tf.Examples."""
        return os.path.join(self.folder, "example-model")


def prepare(folder: Path, rows: int, files: int, *, with_tfrecords: bool) -> Prepared:
    """Makes what is not there yet below `folder`."""
    made = Prepared(rows, str(folder), files)
    for path, is_wanted, make in (
        (made.parquet, True, _write_parquet),
        (made.tfrecord, with_tfrecords, _write_tfrecords),
        (made.tensor_model, True, _save_models),
    ):
        is_complete = Path(f"{path}.json")
        if is_wanted and not is_complete.exists():
            os.makedirs(path, exist_ok=True)
            make(made)
            is_complete.write_text(json.dumps({"rows": rows}))
    return made


def prepared_in(folder: Path, rows: int, files: int = 4) -> Prepared:
    """Makes rows and models in a process of its own, because TensorFlow would stay in this one."""
    command = [sys.executable, "-W", "ignore", "-m", __name__, str(folder), str(rows), str(files)]
    checkout = Path(__file__).parents[2]
    subprocess.run(command, cwd=checkout, check=True, stderr=subprocess.DEVNULL)
    return Prepared(rows, str(folder), files)


def sum_of_ids(rows: int) -> int:
    """Returns the sum of the column `id`."""
    return rows * (rows - 1) // 2


def _write_parquet(made: Prepared) -> None:
    random = np.random.default_rng(7)
    per_file = -(-made.rows // made.files)
    for i in range(made.files):
        writer = None
        stop = min((i + 1) * per_file, made.rows)
        for start in range(i * per_file, stop, _ROW_GROUP):
            count = min(_ROW_GROUP, stop - start)
            columns = {"id": np.arange(start, start + count)}
            columns |= {name: random.random(count, np.float32) for name in FEATURES}
            table = pa.table(columns)
            path = os.path.join(made.parquet, f"part-{i:02d}.parquet")
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
        assert writer, "fewer rows than files"
        writer.close()


def _write_tfrecords(made: Prepared) -> None:
    from bulk_inferencer._formats import tfrecord
    from bulk_inferencer._formats.example import Column, append_columns

    for path in sorted(Path(made.parquet).glob("*.parquet")):
        target = Path(made.tfrecord, f"{path.stem}.tfrecord.gz")
        with open(target, "wb") as file:
            for batch in pq.ParquetFile(path).iter_batches(10_000):
                values = {name: batch.column(name).to_numpy() for name in batch.schema.names}
                columns = [Column(name, name) for name in values]
                # A record is features appended to nothing.
                records = append_columns([b""] * len(batch), values, columns, True)
                file.write(tfrecord.gzip_member(tfrecord.frame(records)))


def _save_models(made: Prepared) -> None:
    import tensorflow as tf

    layers = weights(len(FEATURES))

    class Model(tf.Module):
        """A small MLP, so that what is around it shows."""

        def __init__(self) -> None:
            super().__init__()
            self.layers = [(tf.Variable(w), tf.Variable(b)) for w, b in layers]

        @tf.function(input_signature=[tf.TensorSpec([None, len(FEATURES)], tf.float32, "x")])
        def of_tensor(self, x: Any) -> dict[str, Any]:
            for w, b in self.layers[:-1]:
                x = tf.nn.relu(x @ w + b)
            return {"y": (x @ self.layers[-1][0] + self.layers[-1][1])[:, 0]}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
        def of_examples(self, examples: Any) -> dict[str, Any]:
            spec = {name: tf.io.FixedLenFeature([], tf.float32) for name in FEATURES}
            parsed = tf.io.parse_example(examples, spec)
            return self.of_tensor(tf.stack([parsed[name] for name in FEATURES], axis=1))

    model = Model()
    tf.saved_model.save(model, made.tensor_model, {"serving_default": model.of_tensor})
    tf.saved_model.save(model, made.example_model, {"serving_default": model.of_examples})


if __name__ == "__main__":
    rows, files = map(int, sys.argv[2:])
    prepare(Path(sys.argv[1]), rows, files, with_tfrecords=rows == TFRECORD_ROWS)
