"""Five beside ten: both times tables score the same x, and are compared."""

from __future__ import annotations

from typing import Any

from tfx import v1 as tfx

from bulk_inferencer import BranchInferencer, bulk_inferencer_pb2
from pipelines.five_times_table.pipeline import read_examples, train


def create_pipeline(
    *, data_root: str, inference_data_root: str, train_steps: int = 200, **of_pipeline: Any
) -> tfx.dsl.Pipeline:
    """Trains and validates two models on labelled examples, then scores unlabelled ones with both.

    Args:
      data_root: folder with labelled examples, x, five and ten, as CSV.
      inference_data_root: folder with unlabelled examples, x, as CSV.
      train_steps: number of batches to train each model on, at least 1.
      **of_pipeline: further arguments of `tfx.dsl.Pipeline`: `pipeline_name`, `pipeline_root`, ...

    Raises:
      ValueError: `train_steps` is below 1.
    """
    examples = read_examples(data_root, inference_data_root)
    five = train(examples, "five", prefix="Five", train_steps=train_steps)
    ten = train(examples, "ten", prefix="Ten", train_steps=train_steps)
    branch_inferencer = BranchInferencer(
        examples=examples.inference_example_gen.outputs["examples"],
        models={"five": five.trainer.outputs["model"], "ten": ten.trainer.outputs["model"]},
        model_blessings={
            "five": five.evaluator.outputs["blessing"],
            "ten": ten.evaluator.outputs["blessing"],
        },
        comparison_spec=bulk_inferencer_pb2.ComparisonSpec(key_features=["x"]),
    )
    return tfx.dsl.Pipeline(components=[*examples, *five, *ten, branch_inferencer], **of_pipeline)
