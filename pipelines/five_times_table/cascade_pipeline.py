"""Five, then ten: what five returns is what ten is given, so y = 50x."""

from __future__ import annotations

from typing import Any

from tfx import v1 as tfx

from bulk_inferencer import CascadeInferencer, bulk_inferencer_pb2
from pipelines.five_times_table.pipeline import read_examples, train


def create_pipeline(
    *, data_root: str, inference_data_root: str, train_steps: int = 200, **of_pipeline: Any
) -> tfx.dsl.Pipeline:
    """Trains and validates two models on labelled examples, then chains them on unlabelled ones.

    Each model is validated alone, on the x that it learnt from. Ten is given five times as much:
    no blessing speaks of that. It holds here because a straight line goes on.

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
    y_becomes_x = bulk_inferencer_pb2.OutputColumnsSpec(
        predict_output=bulk_inferencer_pb2.PredictOutput(
            output_columns=[bulk_inferencer_pb2.PredictOutputCol(output_key="y", output_column="x")]
        )
    )
    cascade_inferencer = CascadeInferencer(
        examples=examples.inference_example_gen.outputs["examples"],
        models={"five": five.trainer.outputs["model"], "ten": ten.trainer.outputs["model"]},
        model_blessings={
            "five": five.evaluator.outputs["blessing"],
            "ten": ten.evaluator.outputs["blessing"],
        },
        stages=[
            bulk_inferencer_pb2.StageSpec(name="five", output_columns_spec=y_becomes_x),
            bulk_inferencer_pb2.StageSpec(name="ten"),
        ],
    )
    return tfx.dsl.Pipeline(components=[*examples, *five, *ten, cascade_inferencer], **of_pipeline)
