"""Bulk inference for TFX pipelines. See `BulkInferencer`.

Names are loaded when they are first used (PEP 562): importing this package imports neither
TensorFlow nor TFX nor Beam.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bulk_inferencer import bulk_inferencer_pb2 as bulk_inferencer_pb2
    from bulk_inferencer.components.artifacts import (
        InferenceSummary as InferenceSummary,
    )
    from bulk_inferencer.components.bulk_inferencer import (
        BulkInferencer as BulkInferencer,
    )
    from bulk_inferencer.job import InferenceJob as InferenceJob
    from bulk_inferencer.job import run as run
    from bulk_inferencer.models.batching import BatchBounds as BatchBounds
    from bulk_inferencer.models.saved_model import SavedModel as SavedModel
    from bulk_inferencer.results.reader import read_predictions as read_predictions
    from bulk_inferencer.units.run import Outputs as Outputs

__version__ = "0.1.0"

_MODULE_OF_NAME = {
    "BatchBounds": "bulk_inferencer.models.batching",
    "BulkInferencer": "bulk_inferencer.components.bulk_inferencer",
    "InferenceJob": "bulk_inferencer.job",
    # Kubeflow imports artifact types as `package.Class`.
    "InferenceSummary": "bulk_inferencer.components.artifacts",
    "Outputs": "bulk_inferencer.units.run",
    "SavedModel": "bulk_inferencer.models.saved_model",
    "read_predictions": "bulk_inferencer.results.reader",
    "run": "bulk_inferencer.job",
}
_MODULES = ("bulk_inferencer_pb2", "errors")

__all__ = [
    "BatchBounds",
    "BulkInferencer",
    "InferenceJob",
    "InferenceSummary",
    "Outputs",
    "SavedModel",
    "bulk_inferencer_pb2",
    "errors",
    "read_predictions",
    "run",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _MODULE_OF_NAME:
        return getattr(importlib.import_module(_MODULE_OF_NAME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
