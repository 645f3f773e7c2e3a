"""Five, then ten: what five returns is what ten is given, so y = 50x."""

from __future__ import annotations

from typing import Any

from tfx import v1 as tfx

from bulk_inferencer import CascadeInferencer, bulk_inferencer_pb2
from pipelines.five_times_table.pipeline import read_examples, train
from pipelines.nodes import models_and_blessings


def create_pipeline(
    *, data_root: str, inference_data_root: str, train_steps: int = 200, **pipeline_arguments: Any
) -> tfx.dsl.Pipeline:
    """Trains and validates two models on labelled examples, then chains them on unlabelled ones.

    Each model is validated alone, on the x that it learnt from. Ten is given values five times as
    large, and no blessing covers those. It works here because a straight line goes on.

    See `pipeline.create_pipeline` for the arguments.
    """
    examples = read_examples(data_root, inference_data_root)
    five = train(examples, "five", train_steps=train_steps, prefix="Five")
    ten = train(examples, "ten", train_steps=train_steps, prefix="Ten")
    y_becomes_x = bulk_inferencer_pb2.OutputColumnsSpec(
        predict_output=bulk_inferencer_pb2.PredictOutput(
            output_columns=[bulk_inferencer_pb2.PredictOutputCol(output_key="y", output_column="x")]
        )
    )
    cascade_inferencer = CascadeInferencer(
        examples=examples.inference_example_gen.outputs["examples"],
        stages=[
            bulk_inferencer_pb2.StageSpec(name="five", output_columns_spec=y_becomes_x),
            bulk_inferencer_pb2.StageSpec(name="ten"),
        ],
        **models_and_blessings({"five": five, "ten": ten}),
    )
    return tfx.dsl.Pipeline(
        components=[*examples, *five, *ten, cascade_inferencer], **pipeline_arguments
    )
