"""Cascade: models one after the other, in one step."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._models.cascade import CascadeModel, Stage
from bulk_inferencer.beam.run_inference import RunInference
from bulk_inferencer.beam.specs import bounds_of, model_of
from bulk_inferencer.errors import prefix_errors


class Cascade(RunInference):
    """`RunInference` with several models in order, which hand on each batch in memory.

    ```python
    small = Stage("small", SavedModel("models/small"), exit_when=[ExitWhen("score", at_least=0.9)])
    predictions = records | Cascade([small, Stage("large", SavedModel("models/large"))])
    ```

    A PredictionLog holds the outputs of the last stage that ran for its record and, as
    `<stage>/<output>`, those of every stage that ran. If stages need different kinds of workers,
    use `PredictionsToExamples` between two `RunInference` instead.
    """

    def __init__(self, stages: Sequence[Stage], *, bounds: BatchBounds | None = None) -> None:
        """Takes the models in order.

        Args:
          stages: the models; each is of any kind that `RunInference` takes.
          bounds: bounds of a batch. Default: the tightest `batch_parameters` of the stages' specs.

        Raises:
          SettingsError: a stage is not consistent.
        """
        # `CascadeModel` refuses anything that is not a stage.
        bounds = bounds or bounds_of([stage.model for stage in stages if isinstance(stage, Stage)])
        super().__init__(CascadeModel(tuple(map(_with_model, stages))), bounds=bounds)


def _with_model(stage: Any) -> Any:
    if not isinstance(stage, Stage):
        return stage
    with prefix_errors(stage.label):
        return dataclasses.replace(stage, model=model_of(stage.model))
