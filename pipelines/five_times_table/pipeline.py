"""The five times table as a TFX pipeline. What runs it is for a runner to say."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow_model_analysis as tfma
from tfx import v1 as tfx
from tfx.dsl.components.base.base_component import BaseComponent

from bulk_inferencer import BulkInferencer, bulk_inferencer_pb2

MODULE_FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "model.py")

_EXAMPLE_GENS = {
    "csv": tfx.components.CsvExampleGen,
    "tfrecord": tfx.components.ImportExampleGen,
}


class ExampleNodes(NamedTuple):
    """The nodes that bring the examples."""

    example_gen: BaseComponent
    statistics_gen: BaseComponent
    schema_gen: BaseComponent
    inference_example_gen: BaseComponent


class ModelNodes(NamedTuple):
    """The nodes that make one model."""

    trainer: BaseComponent
    evaluator: BaseComponent


def create_pipeline(
    *,
    pipeline_name: str,
    pipeline_root: str,
    data_root: str,
    inference_data_root: str,
    data_format: str = "csv",
    module_file: str = MODULE_FILE,
    train_steps: int = 200,
    max_mean_absolute_error: float = 1.0,
    enable_cache: bool = True,
    metadata_connection_config: Any = None,
    beam_pipeline_args: Sequence[str] | None = None,
) -> tfx.dsl.Pipeline:
    """Trains and validates a model on labelled examples, then scores unlabelled ones with it.

    Args:
      pipeline_name: name of the pipeline in ML Metadata.
      pipeline_root: where the artifacts are written.
      data_root: folder with labelled examples, x and five.
      inference_data_root: folder with unlabelled examples, x.
      data_format: "csv" or "tfrecord" (tf.Examples); that of both folders.
      module_file: Python file with Trainer's `run_fn`.
      train_steps: number of batches to train on, at least 1.
      max_mean_absolute_error: Evaluator blesses a model whose mean absolute error, in units of
          y, is at most this.
      enable_cache: whether components with unchanged inputs are skipped.
      metadata_connection_config: where ML Metadata is kept, for runners that need to be told.
      beam_pipeline_args: options of the Beam jobs that the components run.

    Raises:
      ValueError: `data_format` is unknown or `train_steps` below 1.
    """
    examples = read_examples(data_root, inference_data_root, data_format)
    five = train(
        examples,
        "five",
        module_file=module_file,
        train_steps=train_steps,
        max_mean_absolute_error=max_mean_absolute_error,
    )
    bulk_inferencer = BulkInferencer(
        examples=examples.inference_example_gen.outputs["examples"],
        model_export=five.trainer.outputs["model"],
        model_blessing=five.evaluator.outputs["blessing"],
        data_spec=bulk_inferencer_pb2.DataSpec(example_splits=["unlabelled"]),
        model_spec=bulk_inferencer_pb2.ModelSpec(),
    )
    return tfx.dsl.Pipeline(
        pipeline_name=pipeline_name,
        pipeline_root=pipeline_root,
        components=[*examples, *five, bulk_inferencer],
        enable_cache=enable_cache,
        metadata_connection_config=metadata_connection_config,
        beam_pipeline_args=list(beam_pipeline_args or []),
    )


def read_examples(
    data_root: str, inference_data_root: str, data_format: str = "csv"
) -> ExampleNodes:
    """Returns the nodes that read the examples; see `create_pipeline`."""
    if data_format not in _EXAMPLE_GENS:
        raise ValueError(f"Expected data_format {' or '.join(_EXAMPLE_GENS)}, got {data_format!r}.")
    example_gen_class = _EXAMPLE_GENS[data_format]

    example_gen = example_gen_class(input_base=data_root)
    statistics_gen = tfx.components.StatisticsGen(examples=example_gen.outputs["examples"])
    schema_gen = tfx.components.SchemaGen(statistics=statistics_gen.outputs["statistics"])
    inference_example_gen = example_gen_class(
        input_base=inference_data_root,
        # Without an output_config, ExampleGen would make the splits "train" and "eval" of it.
        output_config=tfx.proto.Output(
            split_config=tfx.proto.SplitConfig(
                splits=[tfx.proto.SplitConfig.Split(name="unlabelled", hash_buckets=1)]
            )
        ),
    ).with_id("InferenceExampleGen")
    return ExampleNodes(example_gen, statistics_gen, schema_gen, inference_example_gen)


def train(
    examples: ExampleNodes,
    label: str,
    *,
    prefix: str = "",
    module_file: str = MODULE_FILE,
    train_steps: int = 200,
    max_mean_absolute_error: float = 1.0,
) -> ModelNodes:
    """Returns the nodes that train and validate a model; see `create_pipeline`.

    Args:
      examples: the nodes that bring the examples.
      label: the feature that the model learns.
      prefix: what the nodes' ids begin with, where there are several models.
      module_file: Python file with Trainer's `run_fn`.
      train_steps: number of batches to train on, at least 1.
      max_mean_absolute_error: what blesses the model.
    """
    if train_steps < 1:  # TFX takes 0 for "no limit".
        raise ValueError(f"Expected train_steps of at least 1, got {train_steps}.")

    trainer = tfx.components.Trainer(
        module_file=module_file,
        examples=examples.example_gen.outputs["examples"],
        schema=examples.schema_gen.outputs["schema"],
        train_args=tfx.proto.TrainArgs(splits=["train"], num_steps=train_steps),
        eval_args=tfx.proto.EvalArgs(splits=["eval"]),
        custom_config={"label": label},
    ).with_id(f"{prefix}Trainer")
    evaluator = tfx.components.Evaluator(
        examples=examples.example_gen.outputs["examples"],
        model=trainer.outputs["model"],
        eval_config=eval_config(label, max_mean_absolute_error),
    ).with_id(f"{prefix}Evaluator")
    return ModelNodes(trainer, evaluator)


def eval_config(label: str, max_mean_absolute_error: float) -> tfma.EvalConfig:
    """Evaluator's settings: the one metric that blesses, on all eval examples together."""
    threshold = tfma.MetricThreshold(
        value_threshold=tfma.GenericValueThreshold(upper_bound={"value": max_mean_absolute_error})
    )
    return tfma.EvalConfig(
        model_specs=[
            tfma.ModelSpec(signature_name="serving_default", label_key=label, prediction_key="y")
        ],
        slicing_specs=[tfma.SlicingSpec()],
        metrics_specs=[
            tfma.MetricsSpec(
                metrics=[tfma.MetricConfig(class_name="MeanAbsoluteError", threshold=threshold)]
            )
        ],
    )
