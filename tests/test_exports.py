"""The public names: what users import, what `import *` brings, and what type checkers see."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import typing
from importlib import import_module
from pathlib import Path

import pytest

import bulk_inferencer
from bulk_inferencer import errors

COMPONENTS = [
    "BranchInferencer", "BulkInferencer", "CascadeInferencer", "InferenceSummary",
    "ModelComparison", "PredictionTable", "latest_results",
]  # fmt: skip
CORE = [
    "BatchBounds", "Branch", "CSV", "CascadeModel", "Checkpoint", "Column", "Comparing",
    "Comparison", "DamagedFiles", "Decision", "ExitWhen", "Expectations", "FailureLimit",
    "HookedModel", "InferenceJob", "InputFormat", "JSONLines", "Limits", "OutputExpectations",
    "Outputs", "Parquet", "Progress", "PythonModel", "SavedModel", "SplitRouting", "Stage",
    "Summary", "TFRecord", "TFServing", "TableSettings", "VertexEndpoint", "WholeFiles",
    "bulk_inferencer_pb2", "predict", "read_predictions", "run",
]  # fmt: skip
EXPORTED = {
    "bulk_inferencer": sorted(COMPONENTS + CORE),
    "bulk_inferencer.beam": [
        "ABTest", "BatchBounds", "Cascade", "Column", "CreateModelHandler", "ExitWhen", "Limits",
        "PredictionsToExamples", "PythonModel", "RecordFailure", "Results", "RunInference",
        "RunInferenceOnKeyedBatches", "RunInferencePerModel", "RunInferencePerModelOnKeyedBatches",
        "SavedModel", "Stage", "TFServing", "VertexEndpoint",
    ],
    "bulk_inferencer.engines": ["Beam", "Engine", "Ray", "Spark"],
    "bulk_inferencer.reports": ["page", "write"],
    "bulk_inferencer.results": [
        "BranchSummary", "Check", "Comparison", "Counts", "DamagedFile", "Histogram",
        "JoinedComparison", "OutputStatistics", "OutputSummary", "RecordPrediction", "Results",
        "Reused", "StageCounts", "Statistics", "Summary", "Timeline", "compare_results", "read",
        "read_expectations", "read_prediction_logs", "read_predictions", "to_tfdv", "write_tfdv",
    ],
}  # fmt: skip
MODULES = ["beam", "engines", "errors", "reports", "results", "serving"]
CHECKOUT = Path(bulk_inferencer.__file__).parents[1]


@pytest.mark.parametrize("name", EXPORTED)
def test_exported_names(name):
    for module in MODULES:
        assert getattr(bulk_inferencer, module).__name__ == f"bulk_inferencer.{module}"
        assert module in dir(bulk_inferencer)
    assert import_module(name).__all__ == EXPORTED[name]
    for exported in EXPORTED[name]:
        found = getattr(import_module(name), exported)
        assert found.__name__.rpartition(".")[2] == exported
        assert exported in dir(import_module(name))
    message = f"module '{name}' has no attribute 'BulkInferrer'"
    with pytest.raises(AttributeError, match=f"^{re.escape(message)}$"):
        import_module(name).BulkInferrer  # noqa: B018


def types_in(hint):
    """Yields the types that an annotation consists of."""
    arguments = typing.get_args(hint)
    yield from [hint] if not arguments else [t for part in arguments for t in types_in(part)]


def test_types_of_settings_are_exported_as_well():
    names = {name for exported in EXPORTED.values() for name in exported}
    exported = [getattr(import_module(p), name) for p, own in EXPORTED.items() for name in own]
    hidden = {
        found.__name__
        for kind in exported
        if dataclasses.is_dataclass(kind)
        for field in dataclasses.fields(kind)
        for found in types_in(eval(field.type, vars(sys.modules[kind.__module__])))
        if getattr(found, "__module__", "").startswith("bulk_inferencer.")
    } - names
    # Protocols, and what results hold: nobody makes these.
    assert hidden == {"Model", "Outcome", "PairComparison", "Work"}


def test_star_import_leaves_beam_alone():
    names: dict[str, object] = {"beam": "Apache Beam"}
    exec("from bulk_inferencer import *", names)
    assert names["beam"] == "Apache Beam"
    assert names["BulkInferencer"] is bulk_inferencer.BulkInferencer


WITHOUT_TFX = """
import importlib.machinery, sys

class NoTFX(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name == "tfx" else super().find_spec(name, path, target)

sys.meta_path = [f for f in sys.meta_path if f is not importlib.machinery.PathFinder] + [NoTFX]
from bulk_inferencer import *
print(*sorted(name for name in vars() if name in sys.argv))
from bulk_inferencer import BulkInferencer
"""


def test_without_tfx_star_import_brings_the_core_and_a_component_names_its_extra():
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT_TFX, *COMPONENTS, *CORE]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    assert done.stdout.split() == CORE
    assert done.stderr.splitlines()[-1] == (
        "bulk_inferencer.errors.MissingExtraError: A component needs tfx, which is not installed. "
        "Install it with: pip install 'bulk-inferencer[tfx]'"
    )


@pytest.mark.slow
def test_type_checker_sees_names_and_arguments(tmp_path):
    (tmp_path / "user.py").write_text(
        "from bulk_inferencer import BulkInferencer, SavedModel, run\n"
        "from bulk_inferencer import BulkInferrer\n"
        "from bulk_inferencer.beam import RunInferense\n"
        "BulkInferencer(examples=[], modl=3)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", "user.py"],
        cwd=tmp_path,
        env={"MYPYPATH": str(CHECKOUT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    found = re.findall(r"^user\.py:(\d): error: (.*)$", done.stdout, re.MULTILINE)
    assert [(line, re.findall('"(.*?)"', text)[:2]) for line, text in found] == [
        ("2", ["bulk_inferencer", "BulkInferrer"]),
        ("3", ["bulk_inferencer.beam", "RunInferense"]),
        ("4", ["modl", "BulkInferencer"]),
    ]


def test_every_error_is_one_of_ours():
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    found = [error for error in classes if error.__module__ == errors.__name__]
    assert len(found) == 14
    assert all(issubclass(error, errors.BulkInferencerError) for error in found)
    assert issubclass(errors.SettingsError, ValueError)
    assert issubclass(errors.MissingExtraError, ImportError)
