"""A small model names the penguins of which it is sure; the full one sees only the others."""

from __future__ import annotations

from typing import Any

from tfx import v1 as tfx

from bulk_inferencer import CascadeInferencer, bulk_inferencer_pb2
from pipelines.penguins.pipeline import read_examples, train

# The bill alone tells most birds apart, but not every Adelie from every Chinstrap.
SMALL_FEATURES = ("bill_length_mm", "bill_depth_mm")


def create_pipeline(
    *,
    data_root: str,
    inference_data_root: str,
    train_steps: int = 300,
    min_probability: float = 0.95,
    **of_pipeline: Any,
) -> tfx.dsl.Pipeline:
    """Trains and validates two classifiers on labelled birds, then scores unlabelled ones.

    Args:
      data_root: folder with CSV files of labelled birds.
      inference_data_root: folder with CSV files of birds without the column `species`.
      train_steps: number of batches to train each model on, at least 1.
      min_probability: the small model settles a bird whose species it gives at least this
        probability.
      **of_pipeline: further arguments of `tfx.dsl.Pipeline`: `pipeline_name`, `pipeline_root`, ...

    Raises:
      ValueError: `train_steps` is below 1.
    """
    examples = read_examples(data_root, inference_data_root)
    small = train(examples, features=SMALL_FEATURES, prefix="Small", train_steps=train_steps)
    full = train(examples, prefix="Full", train_steps=train_steps)
    # Of the probabilities of one bird, the largest counts.
    sure = bulk_inferencer_pb2.ExitWhen(output_key="probabilities", at_least=min_probability)
    cascade_inferencer = CascadeInferencer(
        examples=examples.inference_example_gen.outputs["examples"],
        models={"small": small.trainer.outputs["model"], "full": full.trainer.outputs["model"]},
        model_blessings={
            "small": small.evaluator.outputs["blessing"],
            "full": full.evaluator.outputs["blessing"],
        },
        stages=[
            bulk_inferencer_pb2.StageSpec(name="small", exit_when=[sure]),
            bulk_inferencer_pb2.StageSpec(name="full"),
        ],
    )
    return tfx.dsl.Pipeline(
        components=[*examples, *small, *full, cascade_inferencer], **of_pipeline
    )
