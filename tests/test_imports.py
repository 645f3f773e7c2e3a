"""Which module may know which: the floors of the house, and what each of them may import."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import bulk_inferencer
from bulk_inferencer import errors

PACKAGE = Path(bulk_inferencer.__file__).parent
MODULES = {
    path.relative_to(PACKAGE.parent).with_suffix("").as_posix().replace("/", "."): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name != "__init__.py"
}
# From the roof down; a module may import from its own part and from the floors below.
FLOORS = [
    ["components", "cli", "serving"],
    ["job"],
    ["beam"],
    ["_units"],
    ["_models", "results"],
    ["_formats"],
    ["_files", "_lazy", "_signatures", "_work", "errors"],
]
FLOOR_OF_PART = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}
GENERATED = "bulk_inferencer_pb2"


def part_of(module):
    return module.split(".")[1]


def imports_of(path):
    """Returns the full names of all modules and names that a module imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def own_imports_of(path):
    """Returns the parts of this package that a module imports."""
    names = imports_of(path)
    own = {part_of(name) for name in names if name.startswith("bulk_inferencer.")}
    return own - {"__version__"}


def users_of(library):
    """Returns the modules that import a library."""
    is_of_library = re.compile(rf"{re.escape(library)}(\.|$)").match
    return [m for m, path in MODULES.items() if any(map(is_of_library, imports_of(path)))]


def hand_written():
    return [module for module in MODULES if part_of(module) != GENERATED]


def test_every_module_stands_on_a_floor():
    assert {part_of(module) for module in hand_written()} <= set(FLOOR_OF_PART)


@pytest.mark.parametrize("module", hand_written())
def test_imports_run_downwards(module):
    own_part = part_of(module)
    for part in own_imports_of(MODULES[module]) - {own_part, GENERATED}:
        assert FLOOR_OF_PART[part] > FLOOR_OF_PART[own_part], f"{module} imports {part}"


def test_only_components_know_tfx():
    users = users_of("tfx")
    assert users
    assert {part_of(module) for module in users} == {"components"}


def test_only_components_know_our_protos():
    users = users_of("bulk_inferencer.bulk_inferencer_pb2")
    assert users
    assert {part_of(module) for module in users} == {"components"}


def test_only_the_job_and_its_transforms_know_pipelines():
    users = {part_of(module) for module in users_of("apache_beam")}
    assert users == {"job", "beam", "_files", "_models"}
    beam_in_models = {
        n
        for m in users_of("apache_beam")
        if part_of(m) == "_models"
        for n in imports_of(MODULES[m])
        if n.startswith("apache_beam")
    }
    assert all("adaptive_throttler" in name for name in beam_in_models)
    beam_in_files = {n for n in imports_of(PACKAGE / "_files.py") if n.startswith("apache_beam")}
    assert all(
        name.startswith(("apache_beam.io.filesystem", "apache_beam.io.localfilesystem"))
        for name in beam_in_files
    )


# The public names

EXPORTED = [
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


def test_exported_names():
    assert bulk_inferencer.__all__ == EXPORTED


@pytest.mark.parametrize("name", EXPORTED)
def test_exported_name_resolves(name):
    found = getattr(bulk_inferencer, name)
    assert found.__name__.rpartition(".")[2] == name
    assert name in dir(bulk_inferencer)


def test_other_name_does_not_resolve():
    message = "module 'bulk_inferencer' has no attribute 'BulkInferrer'"
    with pytest.raises(AttributeError, match=f"^{re.escape(message)}$"):
        bulk_inferencer.BulkInferrer  # noqa: B018


BEAM_EXPORTED = [
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
]


def test_exported_names_of_the_transforms():
    assert bulk_inferencer.beam.__all__ == BEAM_EXPORTED


@pytest.mark.parametrize("name", BEAM_EXPORTED)
def test_exported_name_of_the_transforms_resolves(name):
    assert getattr(bulk_inferencer.beam, name).__name__ == name
    assert name in dir(bulk_inferencer.beam)


def test_other_name_of_the_transforms_does_not_resolve():
    message = "module 'bulk_inferencer.beam' has no attribute 'RunInfer'"
    with pytest.raises(AttributeError, match=f"^{re.escape(message)}$"):
        bulk_inferencer.beam.RunInfer  # noqa: B018


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import bulk_inferencer.beam", "tensorflow|apache_beam|tfx|tfx_bsl|numpy|keras"),
        ("from bulk_inferencer.beam import RunInference", "tfx|tfx_bsl|keras|ml_metadata"),
        ("import bulk_inferencer", "tensorflow|apache_beam|tfx|tfx_bsl|numpy|keras"),
        ("from bulk_inferencer import SavedModel, run", "tfx|tfx_bsl|keras|ml_metadata"),
        ("import bulk_inferencer._units.run", "tensorflow|tfx|tfx_bsl|keras"),
    ],
)
def test_import_is_light(statement, unwanted):
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    modules = done.stdout.split()
    assert "bulk_inferencer" in modules
    assert [module for module in modules if re.fullmatch(unwanted, module)] == []


# Errors


def test_every_error_is_one_of_ours():
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    found = [error for error in classes if error.__module__ == errors.__name__]
    assert len(found) == 10
    assert all(issubclass(error, errors.BulkInferencerError) for error in found)


def test_wrong_setting_is_a_value_error():
    assert issubclass(errors.SettingsError, ValueError)
