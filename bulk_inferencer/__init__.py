"""Bulk inference for TFX pipelines, Beam pipelines, and SavedModels by themselves.

Names are loaded when they are first used (PEP 562): importing this package imports neither
TensorFlow nor TFX nor Beam. The components need TFX, which the extra `tfx` installs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bulk_inferencer import _extras, _lazy

if TYPE_CHECKING:
    from bulk_inferencer import beam as beam
    from bulk_inferencer import bulk_inferencer_pb2 as bulk_inferencer_pb2
    from bulk_inferencer import engines as engines
    from bulk_inferencer import errors as errors
    from bulk_inferencer import reports as reports
    from bulk_inferencer import results as results
    from bulk_inferencer import serving as serving
    from bulk_inferencer._formats.batches import BatchBounds as BatchBounds
    from bulk_inferencer._formats.csv import CSV as CSV
    from bulk_inferencer._formats.example import Column as Column
    from bulk_inferencer._formats.input_format import InputFormat as InputFormat
    from bulk_inferencer._formats.json_lines import JSONLines as JSONLines
    from bulk_inferencer._formats.parquet import Parquet as Parquet
    from bulk_inferencer._formats.table_settings import TableSettings as TableSettings
    from bulk_inferencer._formats.tfrecord_reader import TFRecord as TFRecord
    from bulk_inferencer._formats.whole_files import WholeFiles as WholeFiles
    from bulk_inferencer._gate import Decision as Decision
    from bulk_inferencer._models.cascade import CascadeModel as CascadeModel
    from bulk_inferencer._models.cascade import ExitWhen as ExitWhen
    from bulk_inferencer._models.cascade import Stage as Stage
    from bulk_inferencer._models.hooks import HookedModel as HookedModel
    from bulk_inferencer._models.python_model import PythonModel as PythonModel
    from bulk_inferencer._models.retries import Limits as Limits
    from bulk_inferencer._models.saved_model import SavedModel as SavedModel
    from bulk_inferencer._models.tf_serving import TFServing as TFServing
    from bulk_inferencer._models.vertex import VertexEndpoint as VertexEndpoint
    from bulk_inferencer._predict import predict as predict
    from bulk_inferencer._progress import Progress as Progress
    from bulk_inferencer._run import run as run
    from bulk_inferencer._units.checkpoint import Checkpoint as Checkpoint
    from bulk_inferencer._units.damaged_files import DamagedFiles as DamagedFiles
    from bulk_inferencer._units.failure_limit import FailureLimit as FailureLimit
    from bulk_inferencer._units.routing import SplitRouting as SplitRouting
    from bulk_inferencer.components.artifacts import InferenceSummary as InferenceSummary
    from bulk_inferencer.components.artifacts import ModelComparison as ModelComparison
    from bulk_inferencer.components.artifacts import PredictionTable as PredictionTable
    from bulk_inferencer.components.branch_inferencer import BranchInferencer as BranchInferencer
    from bulk_inferencer.components.bulk_inferencer import BulkInferencer as BulkInferencer
    from bulk_inferencer.components.cascade_inferencer import (
        CascadeInferencer as CascadeInferencer,
    )
    from bulk_inferencer.components.recorded_results import latest_results as latest_results
    from bulk_inferencer.job import Branch as Branch
    from bulk_inferencer.job import InferenceJob as InferenceJob
    from bulk_inferencer.job import Outputs as Outputs
    from bulk_inferencer.results.compare import Comparing as Comparing
    from bulk_inferencer.results.comparison import Comparison as Comparison
    from bulk_inferencer.results.expectations import Expectations as Expectations
    from bulk_inferencer.results.expectations import OutputExpectations as OutputExpectations
    from bulk_inferencer.results.reader import read_predictions as read_predictions
    from bulk_inferencer.results.summary import Summary as Summary

__version__ = "0.1.0"

_MODULE_OF_NAME = {
    "BatchBounds": "bulk_inferencer._formats.batches",
    "Branch": "bulk_inferencer.job",
    "BranchInferencer": "bulk_inferencer.components.branch_inferencer",
    "BulkInferencer": "bulk_inferencer.components.bulk_inferencer",
    "CSV": "bulk_inferencer._formats.csv",
    "CascadeInferencer": "bulk_inferencer.components.cascade_inferencer",
    "CascadeModel": "bulk_inferencer._models.cascade",
    "Checkpoint": "bulk_inferencer._units.checkpoint",
    "Column": "bulk_inferencer._formats.example",
    "Comparing": "bulk_inferencer.results.compare",
    "Comparison": "bulk_inferencer.results.comparison",
    "DamagedFiles": "bulk_inferencer._units.damaged_files",
    "Decision": "bulk_inferencer._gate",
    "Expectations": "bulk_inferencer.results.expectations",
    "ExitWhen": "bulk_inferencer._models.cascade",
    "FailureLimit": "bulk_inferencer._units.failure_limit",
    "HookedModel": "bulk_inferencer._models.hooks",
    "InputFormat": "bulk_inferencer._formats.input_format",
    "InferenceJob": "bulk_inferencer.job",
    # Kubeflow imports artifact types as `package.Class`.
    "InferenceSummary": "bulk_inferencer.components.artifacts",
    "JSONLines": "bulk_inferencer._formats.json_lines",
    "Limits": "bulk_inferencer._models.retries",
    "ModelComparison": "bulk_inferencer.components.artifacts",
    "OutputExpectations": "bulk_inferencer.results.expectations",
    "Outputs": "bulk_inferencer.job",
    "PythonModel": "bulk_inferencer._models.python_model",
    "PredictionTable": "bulk_inferencer.components.artifacts",
    "Parquet": "bulk_inferencer._formats.parquet",
    "Progress": "bulk_inferencer._progress",
    "SavedModel": "bulk_inferencer._models.saved_model",
    "SplitRouting": "bulk_inferencer._units.routing",
    "Stage": "bulk_inferencer._models.cascade",
    "Summary": "bulk_inferencer.results.summary",
    "TFRecord": "bulk_inferencer._formats.tfrecord_reader",
    "TFServing": "bulk_inferencer._models.tf_serving",
    "TableSettings": "bulk_inferencer._formats.table_settings",
    "VertexEndpoint": "bulk_inferencer._models.vertex",
    "WholeFiles": "bulk_inferencer._formats.whole_files",
    "beam": "bulk_inferencer.beam",
    "bulk_inferencer_pb2": "bulk_inferencer.bulk_inferencer_pb2",
    "engines": "bulk_inferencer.engines",
    "errors": "bulk_inferencer.errors",
    "latest_results": "bulk_inferencer.components.recorded_results",
    "predict": "bulk_inferencer._predict",
    "read_predictions": "bulk_inferencer.results.reader",
    "reports": "bulk_inferencer.reports",
    "results": "bulk_inferencer.results",
    "run": "bulk_inferencer._run",
    "serving": "bulk_inferencer.serving",
}

# `import *` must not bring modules of common names: `beam` is what Beam's users call Beam. Nor does
# it bring the components where there is no TFX.
_MODULES = {"beam", "engines", "errors", "reports", "results", "serving"}
_COMPONENTS = {n for n, module in _MODULE_OF_NAME.items() if ".components." in module}
_HIDDEN = _MODULES if _extras.is_installed("tfx") else _MODULES | _COMPONENTS
__all__ = sorted(_MODULE_OF_NAME.keys() - _HIDDEN)

if not TYPE_CHECKING:  # or type checkers would take a misspelt name for one that is loaded here
    __getattr__, __dir__ = _lazy.attach(__name__, _MODULE_OF_NAME)
