"""What every contestant gets: python -m benchmarks.tables.<contestant> JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

BATCH = 8_192
FEATURES = tuple(f"f{i:02d}" for i in range(20))


@dataclass(frozen=True)
class Task:
    """Rows to score, and where the predictions go.

    Attributes:
      inputs: a folder of Parquet files with the columns `id` and `FEATURES`, or of TFRecord files
        with the same features.
      model: a SavedModel. One that takes `x: [None, 20]`, or serialized tf.Examples.
      takes_examples: whether it takes tf.Examples.
      output: the folder for Parquet files with the columns `id` and `y`.
      option: what else a contestant should do; each says what it knows.
    """

    inputs: str
    model: str
    takes_examples: bool
    output: str
    option: str = ""


def given_task() -> Task:
    """Returns the task on the command line."""
    return Task(**json.loads(sys.argv[1]))


class Model:
    """The model as a function of columns: what a user of TensorFlow would write by hand."""

    def __init__(self, task: Task) -> None:
        import tensorflow as tf

        self._tensor = tf.constant
        self._takes_examples = task.takes_examples
        self._loaded = tf.saved_model.load(task.model)
        self._serve = self._loaded.signatures["serving_default"]

    def __call__(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Returns `y` of each row; float32 `[rows]`."""
        return self.of_matrix(np.column_stack([columns[name] for name in FEATURES]))

    def of_matrix(self, x: np.ndarray) -> np.ndarray:
        """The same, from float32 `[rows, 20]`."""
        if self._takes_examples:
            y = self._serve(examples=self._tensor(tf_examples(x)))["y"]
        else:
            y = self._serve(x=self._tensor(x))["y"]
        result: np.ndarray = y.numpy()
        return result


def tf_examples(x: np.ndarray) -> list[bytes]:
    """Returns rows of floats as serialized tf.Examples.

    One message is filled again and again, which takes a quarter of the time of making one per row.
    """
    from tensorflow.core.example.example_pb2 import Example

    example: Any = Example()
    values = []
    for name in FEATURES:
        value = example.features.feature[name].float_list.value
        value.append(0.0)
        values.append(value)
    serialized = []
    for row in x.tolist():
        for value, number in zip(values, row, strict=True):
            value[0] = number
        serialized.append(example.SerializeToString())
    return serialized
