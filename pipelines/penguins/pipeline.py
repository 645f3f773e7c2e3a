"""The penguins: one classifier learns the species, and names birds without a label."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import tensorflow_model_analysis as tfma
from tfx import v1 as tfx
from tfx.dsl.components.base.base_component import BaseComponent

from bulk_inferencer import BulkInferencer, bulk_inferencer_pb2
from pipelines import nodes
from pipelines.penguins.data import MIN_ACCURACY

MODULE_FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "model.py")


def create_pipeline(
    *,
    data_root: str,
    inference_data_root: str,
    train_steps: int = 300,
    **pipeline_arguments: Any,
) -> tfx.dsl.Pipeline:
    """Trains and validates a classifier on labelled birds, then scores unlabelled ones with it.

    Args:
      data_root: folder with CSV files of labelled birds.
      inference_data_root: folder with CSV files of birds without the column `species`.
      train_steps: number of batches to train on, at least 1.
      **pipeline_arguments: further arguments of `tfx.dsl.Pipeline`: `pipeline_name`, ...

    Raises:
      ValueError: `train_steps` is below 1.
    """
    examples, transform = read_examples(data_root, inference_data_root)
    model = train(examples, transform, train_steps=train_steps)
    bulk_inferencer = BulkInferencer(
        examples=examples.inference_example_gen.outputs["examples"],
        model_export=model.trainer.outputs["model"],
        model_blessing=model.evaluator.outputs["blessing"],
        data_spec=bulk_inferencer_pb2.DataSpec(example_splits=["unlabelled"]),
        model_spec=bulk_inferencer_pb2.ModelSpec(),
    )
    return tfx.dsl.Pipeline(
        components=[*examples, transform, *model, bulk_inferencer], **pipeline_arguments
    )


def read_examples(
    data_root: str, inference_data_root: str
) -> tuple[nodes.ExampleNodes, BaseComponent]:
    """Returns the nodes that read the examples, and the one that transforms the labelled ones."""
    examples = nodes.read_examples(tfx.components.CsvExampleGen, data_root, inference_data_root)
    transform = tfx.components.Transform(
        examples=examples.example_gen.outputs["examples"],
        schema=examples.schema_gen.outputs["schema"],
        module_file=MODULE_FILE,
    )
    return examples, transform


def train(
    examples: nodes.ExampleNodes,
    transform: BaseComponent,
    *,
    train_steps: int,
    prefix: str = "",
    features: Sequence[str] | None = None,
) -> nodes.ModelNodes:
    """Returns the nodes that make a classifier of these measurements; default: all four."""
    eval_config = nodes.eval_config(
        "SparseCategoricalAccuracy",
        tfma.GenericValueThreshold(lower_bound={"value": MIN_ACCURACY}),
        prediction_key="probabilities",
        # The species' number comes from Transform, like the order of the probabilities.
        preprocessing_function_names=["transform_features"],
        label_key="species_index",
    )
    return nodes.train(
        examples,
        eval_config,
        train_steps=train_steps,
        prefix=prefix,
        module_file=MODULE_FILE,
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        custom_config={"features": list(features)} if features else None,
    )
