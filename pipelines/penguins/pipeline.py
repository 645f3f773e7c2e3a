"""The penguins as a TFX pipeline. What runs it is for a runner to say."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow_model_analysis as tfma
from tfx import v1 as tfx
from tfx.dsl.components.base.base_component import BaseComponent

from bulk_inferencer import BulkInferencer, bulk_inferencer_pb2

MODULE_FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "model.py")


class ExampleNodes(NamedTuple):
    """The nodes that bring the examples."""

    example_gen: BaseComponent
    statistics_gen: BaseComponent
    schema_gen: BaseComponent
    transform: BaseComponent
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
    module_file: str = MODULE_FILE,
    train_steps: int = 300,
    min_accuracy: float = 0.9,
    enable_cache: bool = True,
    metadata_connection_config: Any = None,
    beam_pipeline_args: Sequence[str] | None = None,
) -> tfx.dsl.Pipeline:
    """Trains and validates a classifier on labelled birds, then scores unlabelled ones with it.

    Args:
      pipeline_name: name of the pipeline in ML Metadata.
      pipeline_root: where the artifacts are written.
      data_root: folder with CSV files of labelled birds.
      inference_data_root: folder with CSV files of birds without the column `species`.
      module_file: Python file with Transform's `preprocessing_fn` and Trainer's `run_fn`.
      train_steps: number of batches to train on, at least 1.
      min_accuracy: Evaluator blesses a model whose accuracy is at least this.
      enable_cache: whether components with unchanged inputs are skipped.
      metadata_connection_config: where ML Metadata is kept, for runners that need to be told.
      beam_pipeline_args: options of the Beam jobs that the components run.

    Raises:
      ValueError: `train_steps` is below 1.
    """
    examples = read_examples(data_root, inference_data_root, module_file)
    model = train(
        examples, module_file=module_file, train_steps=train_steps, min_accuracy=min_accuracy
    )
    bulk_inferencer = BulkInferencer(
        examples=examples.inference_example_gen.outputs["examples"],
        model_export=model.trainer.outputs["model"],
        model_blessing=model.evaluator.outputs["blessing"],
        data_spec=bulk_inferencer_pb2.DataSpec(example_splits=["unlabelled"]),
        model_spec=bulk_inferencer_pb2.ModelSpec(),
    )
    return tfx.dsl.Pipeline(
        pipeline_name=pipeline_name,
        pipeline_root=pipeline_root,
        components=[*examples, *model, bulk_inferencer],
        enable_cache=enable_cache,
        metadata_connection_config=metadata_connection_config,
        beam_pipeline_args=list(beam_pipeline_args or []),
    )


def read_examples(
    data_root: str, inference_data_root: str, module_file: str = MODULE_FILE
) -> ExampleNodes:
    """Returns the nodes that read and transform the examples; see `create_pipeline`."""
    example_gen = tfx.components.CsvExampleGen(input_base=data_root)
    statistics_gen = tfx.components.StatisticsGen(examples=example_gen.outputs["examples"])
    schema_gen = tfx.components.SchemaGen(statistics=statistics_gen.outputs["statistics"])
    transform = tfx.components.Transform(
        examples=example_gen.outputs["examples"],
        schema=schema_gen.outputs["schema"],
        module_file=module_file,
    )
    inference_example_gen = tfx.components.CsvExampleGen(
        input_base=inference_data_root,
        # Without an output_config, ExampleGen would make the splits "train" and "eval" of it.
        output_config=tfx.proto.Output(
            split_config=tfx.proto.SplitConfig(
                splits=[tfx.proto.SplitConfig.Split(name="unlabelled", hash_buckets=1)]
            )
        ),
    ).with_id("InferenceExampleGen")
    return ExampleNodes(example_gen, statistics_gen, schema_gen, transform, inference_example_gen)


def train(
    examples: ExampleNodes,
    *,
    features: Sequence[str] | None = None,
    prefix: str = "",
    module_file: str = MODULE_FILE,
    train_steps: int = 300,
    min_accuracy: float = 0.9,
) -> ModelNodes:
    """Returns the nodes that train and validate a classifier; see `create_pipeline`.

    Args:
      examples: the nodes that bring the examples.
      features: the measurements that the model takes; default: all four.
      prefix: what the nodes' ids begin with, where there are several models.
      module_file: Python file with Trainer's `run_fn`.
      train_steps: number of batches to train on, at least 1.
      min_accuracy: what blesses the model.
    """
    if train_steps < 1:  # TFX takes 0 for "no limit".
        raise ValueError(f"Expected train_steps of at least 1, got {train_steps}.")

    trainer = tfx.components.Trainer(
        module_file=module_file,
        examples=examples.transform.outputs["transformed_examples"],
        transform_graph=examples.transform.outputs["transform_graph"],
        schema=examples.schema_gen.outputs["schema"],
        train_args=tfx.proto.TrainArgs(splits=["train"], num_steps=train_steps),
        eval_args=tfx.proto.EvalArgs(splits=["eval"]),
        custom_config={"features": list(features)} if features else None,
    ).with_id(f"{prefix}Trainer")
    evaluator = tfx.components.Evaluator(
        examples=examples.example_gen.outputs["examples"],
        model=trainer.outputs["model"],
        eval_config=eval_config(min_accuracy),
    ).with_id(f"{prefix}Evaluator")
    return ModelNodes(trainer, evaluator)


def eval_config(min_accuracy: float) -> tfma.EvalConfig:
    """Evaluator's settings: the one metric that blesses, on all eval birds together."""
    threshold = tfma.MetricThreshold(
        value_threshold=tfma.GenericValueThreshold(lower_bound={"value": min_accuracy})
    )
    return tfma.EvalConfig(
        model_specs=[
            tfma.ModelSpec(
                signature_name="serving_default",
                prediction_key="probabilities",
                # The species' number comes from Transform, like the order of the probabilities.
                preprocessing_function_names=["transform_features"],
                label_key="species_index",
            )
        ],
        slicing_specs=[tfma.SlicingSpec()],
        metrics_specs=[
            tfma.MetricsSpec(
                metrics=[
                    tfma.MetricConfig(class_name="SparseCategoricalAccuracy", threshold=threshold)
                ]
            )
        ],
    )
