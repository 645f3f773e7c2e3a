"""Makes the examples of the times tables: labelled x to learn from, and x alone to score."""

from __future__ import annotations

import csv
import os
import random
from collections.abc import Iterable
from dataclasses import dataclass

X_MIN, X_MAX = -100.0, 100.0
# Each labelled x has a label for each model: y of its times table.
FACTORS = {"five": 5.0, "ten": 10.0}

Row = dict[str, float]


@dataclass(frozen=True)
class Data:
    """Where the examples lie, and what was written there.

    Attributes:
      data_root: folder with the labelled examples: x, five, ten.
      inference_data_root: folder with the unlabelled examples: x.
      xs: each x in `inference_data_root`, in ascending order.
    """

    data_root: str
    inference_data_root: str
    xs: tuple[float, ...]

    @property
    def records(self) -> int:
        """Number of unlabelled examples."""
        return len(self.xs)


def make_data(
    folder: str,
    *,
    data_format: str = "csv",
    labelled: int = 1_000,
    unlabelled: int = 1_001,
    seed: int = 5,
) -> Data:
    """Writes `folder/labelled` and `folder/unlabelled`.

    Labelled x are random, unlabelled x evenly spaced, both from X_MIN to X_MAX: most of what is
    scored was never seen in training.

    Args:
      folder: where to write; created if missing.
      data_format: "csv" (for CsvExampleGen) or "tfrecord" (for ImportExampleGen).
      labelled: number of labelled examples.
      unlabelled: number of unlabelled examples, at least 2.
      seed: seed of the random x.

    Raises:
      ValueError: `data_format` is unknown or `unlabelled` too small.
    """
    if data_format not in _WRITERS:
        raise ValueError(f"data_format must be {' or '.join(_WRITERS)}, not {data_format!r}.")
    if unlabelled < 2:
        raise ValueError(f"unlabelled must be at least 2, not {unlabelled}.")
    draw = random.Random(seed)
    step = (X_MAX - X_MIN) / (unlabelled - 1)
    known = [round(draw.uniform(X_MIN, X_MAX), 3) for _ in range(labelled)]
    unknown = [round(X_MIN + i * step, 3) for i in range(unlabelled)]

    data = Data(
        os.path.join(folder, "labelled"), os.path.join(folder, "unlabelled"), tuple(unknown)
    )
    write = _WRITERS[data_format]
    write(
        data.data_root,
        [{"x": x} | {label: factor * x for label, factor in FACTORS.items()} for x in known],
    )
    write(data.inference_data_root, [{"x": x} for x in unknown])
    return data


def write_csv(folder: str, rows: Iterable[Row]) -> None:
    """Writes `rows` to `folder/data.csv`."""
    rows = list(rows)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "data.csv"), "w", newline="") as file:
        # A Python float always prints with a decimal point. That matters: CsvExampleGen takes a
        # column of whole numbers for integers, and the model for one of another type.
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_tfrecord(folder: str, rows: Iterable[Row]) -> None:
    """Writes `rows` as tf.Examples to `folder/data.tfrecord.gz`."""
    import tensorflow as tf  # Here, so that CSV data does not wait for TensorFlow.

    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "data.tfrecord.gz")
    with tf.io.TFRecordWriter(path, options="GZIP") as writer:
        for row in rows:
            example = tf.train.Example()
            for name, value in row.items():
                example.features.feature[name].float_list.value.append(value)
            writer.write(example.SerializeToString())


_WRITERS = {"csv": write_csv, "tfrecord": write_tfrecord}
