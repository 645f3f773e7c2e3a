"""Five beside ten: both times tables score the same x, and are compared."""

from __future__ import annotations

from typing import Any

from tfx import v1 as tfx

from bulk_inferencer import BranchInferencer, bulk_inferencer_pb2
from pipelines.five_times_table.pipeline import read_examples, train
from pipelines.nodes import models_and_blessings


def create_pipeline(
    *, data_root: str, inference_data_root: str, train_steps: int = 200, **pipeline_arguments: Any
) -> tfx.dsl.Pipeline:
    """Trains and validates two models on labelled examples, then scores unlabelled ones with both.

    See `pipeline.create_pipeline` for the arguments.
    """
    examples = read_examples(data_root, inference_data_root)
    five = train(examples, "five", train_steps=train_steps, prefix="Five")
    ten = train(examples, "ten", train_steps=train_steps, prefix="Ten")
    branch_inferencer = BranchInferencer(
        examples=examples.inference_example_gen.outputs["examples"],
        comparison_spec=bulk_inferencer_pb2.ComparisonSpec(key_features=["x"]),
        **models_and_blessings({"five": five, "ten": ten}),
    )
    return tfx.dsl.Pipeline(
        components=[*examples, *five, *ten, branch_inferencer], **pipeline_arguments
    )
