"""Bulk inference for TFX pipelines. See `BulkInferencer`.

Names are loaded when they are first used (PEP 562): importing this package imports neither
TensorFlow nor TFX nor Beam.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bulk_inferencer import _lazy

if TYPE_CHECKING:
    from bulk_inferencer import beam as beam
    from bulk_inferencer import bulk_inferencer_pb2 as bulk_inferencer_pb2
    from bulk_inferencer import errors as errors
    from bulk_inferencer import serving as serving
    from bulk_inferencer._models.batching import BatchBounds as BatchBounds
    from bulk_inferencer._models.saved_model import SavedModel as SavedModel
    from bulk_inferencer._units.outputs import Outputs as Outputs
    from bulk_inferencer.components.artifacts import (
        InferenceSummary as InferenceSummary,
    )
    from bulk_inferencer.components.artifacts import ModelComparison as ModelComparison
    from bulk_inferencer.components.branch_inferencer import (
        BranchInferencer as BranchInferencer,
    )
    from bulk_inferencer.components.bulk_inferencer import (
        BulkInferencer as BulkInferencer,
    )
    from bulk_inferencer.components.cascade_inferencer import (
        CascadeInferencer as CascadeInferencer,
    )
    from bulk_inferencer.job import InferenceJob as InferenceJob
    from bulk_inferencer.job import run as run
    from bulk_inferencer.results.reader import read_predictions as read_predictions

__version__ = "0.1.0"

_MODULE_OF_NAME = {
    "BatchBounds": "bulk_inferencer._models.batching",
    "BranchInferencer": "bulk_inferencer.components.branch_inferencer",
    "BulkInferencer": "bulk_inferencer.components.bulk_inferencer",
    "CascadeInferencer": "bulk_inferencer.components.cascade_inferencer",
    "InferenceJob": "bulk_inferencer.job",
    # Kubeflow imports artifact types as `package.Class`.
    "InferenceSummary": "bulk_inferencer.components.artifacts",
    "ModelComparison": "bulk_inferencer.components.artifacts",
    "Outputs": "bulk_inferencer._units.outputs",
    "SavedModel": "bulk_inferencer._models.saved_model",
    "beam": "bulk_inferencer.beam",
    "bulk_inferencer_pb2": "bulk_inferencer.bulk_inferencer_pb2",
    "errors": "bulk_inferencer.errors",
    "read_predictions": "bulk_inferencer.results.reader",
    "run": "bulk_inferencer.job",
    "serving": "bulk_inferencer.serving",
}

__all__ = [
    "BatchBounds",
    "BranchInferencer",
    "BulkInferencer",
    "CascadeInferencer",
    "InferenceJob",
    "InferenceSummary",
    "ModelComparison",
    "Outputs",
    "SavedModel",
    "beam",
    "bulk_inferencer_pb2",
    "errors",
    "read_predictions",
    "run",
    "serving",
]

__getattr__, __dir__ = _lazy.attach(__name__, _MODULE_OF_NAME)
