"""A small model names the penguins that it is sure of; the full one sees only the others."""

from __future__ import annotations

from typing import Any

from tfx import v1 as tfx

from bulk_inferencer import CascadeInferencer, bulk_inferencer_pb2
from pipelines.nodes import models_and_blessings
from pipelines.penguins.pipeline import read_examples, train

# The bill alone tells most birds apart, but not every Adelie from every Chinstrap.
SMALL_FEATURES = ("bill_length_mm", "bill_depth_mm")


def create_pipeline(
    *,
    data_root: str,
    inference_data_root: str,
    train_steps: int = 300,
    min_probability: float = 0.95,
    **pipeline_arguments: Any,
) -> tfx.dsl.Pipeline:
    """Trains and validates two classifiers on labelled birds, then scores unlabelled ones.

    The small model settles a bird if it gives one species at least `min_probability`. See
    `pipeline.create_pipeline` for the other arguments.
    """
    examples, transform = read_examples(data_root, inference_data_root)
    small = train(
        examples, transform, train_steps=train_steps, prefix="Small", features=SMALL_FEATURES
    )
    full = train(examples, transform, train_steps=train_steps, prefix="Full")
    # The largest of a bird's probabilities counts.
    sure = bulk_inferencer_pb2.ExitWhen(output_key="probabilities", at_least=min_probability)
    cascade_inferencer = CascadeInferencer(
        examples=examples.inference_example_gen.outputs["examples"],
        stages=[
            bulk_inferencer_pb2.StageSpec(name="small", exit_when=[sure]),
            bulk_inferencer_pb2.StageSpec(name="full"),
        ],
        **models_and_blessings({"small": small, "full": full}),
    )
    return tfx.dsl.Pipeline(
        components=[*examples, transform, *small, *full, cascade_inferencer],
        **pipeline_arguments,
    )
