"""Beam transforms for pipelines without TFX, and the models that they use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bulk_inferencer import _lazy

if TYPE_CHECKING:
    from bulk_inferencer._formats.batches import BatchBounds as BatchBounds
    from bulk_inferencer._formats.example import Column as Column
    from bulk_inferencer._models.cascade import ExitWhen as ExitWhen
    from bulk_inferencer._models.cascade import Stage as Stage
    from bulk_inferencer._models.python_model import PythonModel as PythonModel
    from bulk_inferencer._models.retries import Limits as Limits
    from bulk_inferencer._models.saved_model import SavedModel as SavedModel
    from bulk_inferencer._models.tf_serving import TFServing as TFServing
    from bulk_inferencer._models.vertex import VertexEndpoint as VertexEndpoint
    from bulk_inferencer.beam.bundle import RecordFailure as RecordFailure
    from bulk_inferencer.beam.cascade import Cascade as Cascade
    from bulk_inferencer.beam.model_handler import CreateModelHandler as CreateModelHandler
    from bulk_inferencer.beam.predictions_to_examples import (
        PredictionsToExamples as PredictionsToExamples,
    )
    from bulk_inferencer.beam.run_inference import Results as Results
    from bulk_inferencer.beam.run_inference import RunInference as RunInference
    from bulk_inferencer.beam.run_inference import (
        RunInferenceOnKeyedBatches as RunInferenceOnKeyedBatches,
    )
    from bulk_inferencer.beam.run_inference import RunInferencePerModel as RunInferencePerModel
    from bulk_inferencer.beam.run_inference import (
        RunInferencePerModelOnKeyedBatches as RunInferencePerModelOnKeyedBatches,
    )
    from bulk_inferencer.beam.split import ABTest as ABTest

_TRANSFORMS = "bulk_inferencer.beam.run_inference"
_MODULE_OF_NAME = {
    "ABTest": "bulk_inferencer.beam.split",
    "BatchBounds": "bulk_inferencer._formats.batches",
    "Cascade": "bulk_inferencer.beam.cascade",
    "Column": "bulk_inferencer._formats.example",
    "CreateModelHandler": "bulk_inferencer.beam.model_handler",
    "ExitWhen": "bulk_inferencer._models.cascade",
    "Limits": "bulk_inferencer._models.retries",
    "PredictionsToExamples": "bulk_inferencer.beam.predictions_to_examples",
    "PythonModel": "bulk_inferencer._models.python_model",
    "RecordFailure": "bulk_inferencer.beam.bundle",
    "Results": _TRANSFORMS,
    "RunInference": _TRANSFORMS,
    "RunInferenceOnKeyedBatches": _TRANSFORMS,
    "RunInferencePerModel": _TRANSFORMS,
    "RunInferencePerModelOnKeyedBatches": _TRANSFORMS,
    "SavedModel": "bulk_inferencer._models.saved_model",
    "Stage": "bulk_inferencer._models.cascade",
    "TFServing": "bulk_inferencer._models.tf_serving",
    "VertexEndpoint": "bulk_inferencer._models.vertex",
}

__all__ = sorted(_MODULE_OF_NAME)

if not TYPE_CHECKING:
    __getattr__, __dir__ = _lazy.attach(__name__, _MODULE_OF_NAME)
