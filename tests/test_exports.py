"""The public names: what users import, what `import *` brings, and what type checkers see."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import bulk_inferencer
from bulk_inferencer import errors

COMPONENTS = [
    "BranchInferencer",
    "BulkInferencer",
    "CascadeInferencer",
    "InferenceSummary",
    "ModelComparison",
]
CORE = [
    "BatchBounds",
    "Branch",
    "CascadeModel",
    "Column",
    "Comparing",
    "Comparison",
    "Decision",
    "ExitWhen",
    "FailureLimit",
    "HookedModel",
    "InferenceJob",
    "Outputs",
    "SavedModel",
    "SplitRouting",
    "Stage",
    "Summary",
    "TFServing",
    "VertexEndpoint",
    "bulk_inferencer_pb2",
    "read_predictions",
    "run",
]
EXPORTED = {
    "bulk_inferencer": sorted(COMPONENTS + CORE),
    "bulk_inferencer.beam": [
        "ABTest",
        "BatchBounds",
        "Cascade",
        "Column",
        "CreateModelHandler",
        "ExitWhen",
        "PredictionsToExamples",
        "RecordFailure",
        "Results",
        "RunInference",
        "RunInferenceOnKeyedBatches",
        "RunInferencePerModel",
        "RunInferencePerModelOnKeyedBatches",
        "SavedModel",
        "Stage",
        "TFServing",
        "VertexEndpoint",
    ],
    "bulk_inferencer.results": [
        "BranchSummary",
        "Comparison",
        "Counts",
        "RecordPrediction",
        "Summary",
        "read_prediction_logs",
        "read_predictions",
    ],
}
MODULES = ["beam", "errors", "results", "serving"]


def package(name):
    return bulk_inferencer if name == "bulk_inferencer" else sys.modules[name]


@pytest.mark.parametrize("name", EXPORTED)
def test_exported_names(name):
    for module in MODULES:
        assert getattr(bulk_inferencer, module).__name__ == f"bulk_inferencer.{module}"
        assert module in dir(bulk_inferencer)
    assert package(name).__all__ == EXPORTED[name]
    for exported in EXPORTED[name]:
        found = getattr(package(name), exported)
        assert found.__name__.rpartition(".")[2] == exported
        assert exported in dir(package(name))


@pytest.mark.parametrize("name", EXPORTED)
def test_other_name_does_not_resolve(name):
    message = f"module '{name}' has no attribute 'BulkInferrer'"
    assert package(name)
    with pytest.raises(AttributeError, match=f"^{re.escape(message)}$"):
        package(name).BulkInferrer  # noqa: B018


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
"""


def run_without_tfx(code):
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT_TFX + code]
    return subprocess.run(
        command, cwd=Path(bulk_inferencer.__file__).parents[1], capture_output=True, text=True
    )


def test_component_without_tfx_says_which_extra_to_install():
    done = run_without_tfx("from bulk_inferencer import BulkInferencer")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "bulk_inferencer.errors.MissingExtraError: A component needs tfx, which is not installed. "
        "Install it with: pip install 'bulk-inferencer[tfx]'"
    )


def test_star_import_works_without_tfx():
    done = run_without_tfx("from bulk_inferencer import *; print(InferenceJob, run, SavedModel)")
    assert done.returncode == 0, done.stderr
    done = run_without_tfx("import bulk_inferencer; print(*bulk_inferencer.__all__)")
    assert done.stdout.split() == CORE


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
        env={"MYPYPATH": str(Path(bulk_inferencer.__file__).parents[1]), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    found = [line for line in done.stdout.splitlines() if re.match(r"user\.py:\d+: error", line)]
    expected = [
        r'user\.py:2: error: Module "bulk_inferencer" has no attribute "BulkInferrer"',
        r'user\.py:3: error: Module "bulk_inferencer\.beam" has no attribute "RunInferense"',
        r'user\.py:4: error: Unexpected keyword argument "modl" for "BulkInferencer"',
    ]
    assert len(found) == len(expected), done.stdout
    for line, pattern in zip(found, expected, strict=True):
        assert re.match(pattern, line), line


def test_every_error_is_one_of_ours():
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    found = [error for error in classes if error.__module__ == errors.__name__]
    assert len(found) == 11
    assert all(issubclass(error, errors.BulkInferencerError) for error in found)
    assert issubclass(errors.SettingsError, ValueError)
    assert issubclass(errors.MissingExtraError, ImportError)
