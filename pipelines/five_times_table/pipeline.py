"""The five times table: one model learns y = 5x, and predicts y for x without one."""

from __future__ import annotations

import os
from typing import Any

import tensorflow_model_analysis as tfma
from tfx import v1 as tfx

from bulk_inferencer import BulkInferencer, bulk_inferencer_pb2
from pipelines import nodes

MODULE_FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "model.py")
# Evaluator blesses a model whose mean absolute error is at most this, in units of y.
MAX_MEAN_ABSOLUTE_ERROR = 1.0

_EXAMPLE_GENS = {
    "csv": tfx.components.CsvExampleGen,
    "tfrecord": tfx.components.ImportExampleGen,
}


def create_pipeline(
    *,
    data_root: str,
    inference_data_root: str,
    data_format: str = "csv",
    train_steps: int = 200,
    **pipeline_arguments: Any,
) -> tfx.dsl.Pipeline:
    """Trains and validates a model on labelled examples, then scores unlabelled ones with it.

    Args:
      data_root: folder with labelled examples: x, five and ten.
      inference_data_root: folder with unlabelled examples: x.
      data_format: format of both: "csv" or "tfrecord" (tf.Examples).
      train_steps: number of batches to train on, at least 1.
      **pipeline_arguments: further arguments of `tfx.dsl.Pipeline`: `pipeline_name`, ...

    Raises:
      ValueError: `data_format` is unknown or `train_steps` is below 1.
    """
    examples = read_examples(data_root, inference_data_root, data_format)
    model = train(examples, "five", train_steps=train_steps)
    bulk_inferencer = BulkInferencer(
        examples=examples.inference_example_gen.outputs["examples"],
        model_export=model.trainer.outputs["model"],
        model_blessing=model.evaluator.outputs["blessing"],
        data_spec=bulk_inferencer_pb2.DataSpec(example_splits=["unlabelled"]),
        model_spec=bulk_inferencer_pb2.ModelSpec(),
        table_spec=bulk_inferencer_pb2.TableSpec(),
    )
    return tfx.dsl.Pipeline(components=[*examples, *model, bulk_inferencer], **pipeline_arguments)


def read_examples(
    data_root: str, inference_data_root: str, data_format: str = "csv"
) -> nodes.ExampleNodes:
    """Returns the nodes that read the examples."""
    if data_format not in _EXAMPLE_GENS:
        raise ValueError(f"data_format must be {' or '.join(_EXAMPLE_GENS)}, not {data_format!r}.")
    return nodes.read_examples(_EXAMPLE_GENS[data_format], data_root, inference_data_root)


def train(
    examples: nodes.ExampleNodes, label: str, *, train_steps: int, prefix: str = ""
) -> nodes.ModelNodes:
    """Returns the nodes that make a model of one of the labels, `five` or `ten`."""
    threshold = tfma.GenericValueThreshold(upper_bound={"value": MAX_MEAN_ABSOLUTE_ERROR})
    return nodes.train(
        examples,
        nodes.eval_config("MeanAbsoluteError", threshold, label_key=label, prediction_key="y"),
        train_steps=train_steps,
        prefix=prefix,
        module_file=MODULE_FILE,
        examples=examples.example_gen.outputs["examples"],
        custom_config={"label": label},
    )
