"""Nodes that the example pipelines share: they read examples, train and evaluate models."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow_model_analysis as tfma
from tfx import types
from tfx import v1 as tfx
from tfx.dsl.components.base.base_component import BaseComponent

# Transform and Trainer would build a wheel of the model's file, for which they need pip. Wherever
# these pipelines run, the file itself is there.
os.environ.setdefault("UNSUPPORTED_DO_NOT_PACKAGE_USER_MODULES", "1")


class ExampleNodes(NamedTuple):
    """The nodes that read the examples."""

    example_gen: BaseComponent
    statistics_gen: BaseComponent
    schema_gen: BaseComponent
    inference_example_gen: BaseComponent


class ModelNodes(NamedTuple):
    """The nodes that make one model."""

    trainer: BaseComponent
    evaluator: BaseComponent


def read_examples(
    example_gen_class: type[BaseComponent], data_root: str, inference_data_root: str
) -> ExampleNodes:
    """Returns the nodes that read labelled examples, and unlabelled ones as one split."""
    example_gen = example_gen_class(input_base=data_root)
    statistics_gen = tfx.components.StatisticsGen(examples=example_gen.outputs["examples"])
    schema_gen = tfx.components.SchemaGen(statistics=statistics_gen.outputs["statistics"])
    inference_example_gen = example_gen_class(
        input_base=inference_data_root,
        # Without an output_config, ExampleGen would make the splits "train" and "eval".
        output_config=tfx.proto.Output(
            split_config=tfx.proto.SplitConfig(
                splits=[tfx.proto.SplitConfig.Split(name="unlabelled", hash_buckets=1)]
            )
        ),
    ).with_id("InferenceExampleGen")
    return ExampleNodes(example_gen, statistics_gen, schema_gen, inference_example_gen)


def train(
    nodes: ExampleNodes,
    eval_config: tfma.EvalConfig,
    *,
    train_steps: int,
    prefix: str = "",
    **trainer_arguments: Any,
) -> ModelNodes:
    """Returns the nodes that train a model and evaluate it.

    Args:
      nodes: the nodes that read the examples.
      eval_config: Evaluator's settings.
      train_steps: number of batches to train on, at least 1.
      prefix: start of the nodes' ids, where a pipeline has several models.
      **trainer_arguments: further arguments of the Trainer.

    Raises:
      ValueError: `train_steps` is below 1.
    """
    if train_steps < 1:  # TFX takes 0 for "no limit".
        raise ValueError(f"train_steps must be at least 1, not {train_steps}.")
    trainer = tfx.components.Trainer(
        schema=nodes.schema_gen.outputs["schema"],
        train_args=tfx.proto.TrainArgs(splits=["train"], num_steps=train_steps),
        eval_args=tfx.proto.EvalArgs(splits=["eval"]),
        **trainer_arguments,
    ).with_id(f"{prefix}Trainer")
    evaluator = tfx.components.Evaluator(
        examples=nodes.example_gen.outputs["examples"],
        model=trainer.outputs["model"],
        eval_config=eval_config,
    ).with_id(f"{prefix}Evaluator")
    return ModelNodes(trainer, evaluator)


def eval_config(
    metric: str, threshold: tfma.GenericValueThreshold, **model_spec: Any
) -> tfma.EvalConfig:
    """Returns Evaluator's settings: it blesses by one metric, over all eval examples.

    Args:
      metric: class of the metric in Keras or TFMA.
      threshold: the values that bless.
      **model_spec: arguments of `tfma.ModelSpec`.
    """
    config = tfma.MetricConfig(
        class_name=metric, threshold=tfma.MetricThreshold(value_threshold=threshold)
    )
    return tfma.EvalConfig(
        model_specs=[tfma.ModelSpec(signature_name="serving_default", **model_spec)],
        slicing_specs=[tfma.SlicingSpec()],
        metrics_specs=[tfma.MetricsSpec(metrics=[config])],
    )


def models_and_blessings(
    models: Mapping[str, ModelNodes],
) -> dict[str, dict[str, types.BaseChannel]]:
    """Returns `models` and `model_blessings` of an inferencer for several models."""
    return {
        "models": {name: nodes.trainer.outputs["model"] for name, nodes in models.items()},
        "model_blessings": {
            name: nodes.evaluator.outputs["blessing"] for name, nodes in models.items()
        },
    }
