"""Cascade: models one after the other, in one step."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from bulk_inferencer._models.batching import BatchBounds
from bulk_inferencer._models.cascade import CascadeModel, Stage
from bulk_inferencer.beam.run_inference import RunInference
from bulk_inferencer.beam.specs import bounds_of, model_of


class Cascade(RunInference):
    """`RunInference` with several models in order, batch by batch in the memory of one worker.

    A PredictionLog holds the outputs of the last stage that ran for its record and, under
    `<stage>/<output>`, those of every stage that did. Where stages need workers of different
    kinds, `PredictionsToExamples` between two `RunInference` gives each its own.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        *,
        bounds: BatchBounds | None = None,
    ) -> None:
        """Describes the models and how to call them; see `RunInference` for the other arguments.

        Args:
          stages: the models in order. A stage's model is of any kind that `RunInference` takes.
          bounds: bounds of a batch; default: the tightest `batch_parameters` of the stages' specs.

        Raises:
          SettingsError: a stage is not consistent.
        """
        cascade = CascadeModel(tuple(stages))  # which says best what is wrong with a stage
        bounds = bounds or bounds_of([stage.model for stage in cascade.stages])
        models = [dataclasses.replace(s, model=model_of(s.model, None)) for s in cascade.stages]
        super().__init__(CascadeModel(tuple(models)), bounds=bounds)
