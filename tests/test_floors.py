"""Which module may know which: the floors of the house, and what each of them may import."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import bulk_inferencer

PACKAGE = Path(bulk_inferencer.__file__).parent
GENERATED = "bulk_inferencer_pb2"
MODULES = {
    path.relative_to(PACKAGE.parent).with_suffix("").as_posix().replace("/", "."): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name != "__init__.py" and path.stem != GENERATED
}
# From the roof down; a module may import from its own part and from the floors below.
FLOORS = [
    ["__main__"],
    ["cli"],
    ["components", "serving"],
    ["reports"],
    ["_inspection", "_predict"],
    ["_run"],
    ["_closing", "_earlier", "_progress", "_verdict"],
    ["_preparation"],
    ["job"],
    ["engines"],
    ["beam"],
    ["_units"],
    ["_models", "results"],
    ["_formats", "_markers"],
    ["_access", "_checks", "_files", "_gate", "_layout"],
    ["_lazy", "_signals", "_signatures", "_versions", "_work"],
    ["_extras", "_imports", "_patterns"],
    ["errors"],
]
FLOOR_OF_PART = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}
OUR_PROTOS = [
    name.removeprefix("class ")
    for name in re.findall(r"^class \w+Spec\b", (PACKAGE / f"{GENERATED}.pyi").read_text(), re.M)
]


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


def users_of(library):
    """Returns the parts of the package that import a library, with what they import of it."""
    is_of_library = re.compile(rf"{re.escape(library)}(\.|$)").match
    users: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        if found := {name for name in imports_of(path) if is_of_library(name)}:
            users.setdefault(part_of(module), set()).update(found)
    return users


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_downwards(module):
    own = part_of(module)
    names = imports_of(MODULES[module])
    parts = {part_of(name) for name in names if name.startswith("bulk_inferencer.")}
    for part in parts - {own, GENERATED, "__version__"}:
        assert FLOOR_OF_PART[part] > FLOOR_OF_PART[own], f"{module} imports {part}"


@pytest.mark.parametrize("library", ["tfx", f"bulk_inferencer.{GENERATED}"])
def test_only_components_know_tfx_and_our_protos(library):
    assert users_of(library).keys() == {"components"}


def test_only_engines_and_transforms_know_pipelines():
    users = users_of("apache_beam")
    assert users.keys() == {"beam", "engines", "_access", "_files", "_models"}
    assert all("adaptive_throttler" in name for name in users["_models"])
    filesystems = ("apache_beam.io.filesystem", "apache_beam.io.localfilesystem")
    assert all(name.startswith(filesystems) for name in users["_access"] | users["_files"])


def test_only_components_speak_of_settings_by_the_names_of_protos():
    """A lower floor names its own fields; the components add the setting that they came from."""
    word = re.compile(rf"\b({'|'.join(OUR_PROTOS)})\b")
    assert {"ModelSpec", "DataSpec", "OutputExampleSpec", "BatchSpec"} <= set(OUR_PROTOS)
    found = [
        (module, node.value)
        for module, path in MODULES.items()
        if part_of(module) != "components"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and word.search(node.value)
    ]
    assert found == []


PACKAGES = "bulk_inferencer, bulk_inferencer.beam, bulk_inferencer.results"
HEAVY = {"tensorflow", "keras", "tfx", "tfx_bsl", "ml_metadata"}


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        (f"import {PACKAGES}, bulk_inferencer.components.keys", {*HEAVY, "apache_beam", "numpy"}),
        ("import bulk_inferencer.results.run_results", {*HEAVY, "apache_beam"}),
        ("from bulk_inferencer import SavedModel, run; import bulk_inferencer._units.run", HEAVY),
        pytest.param(
            "from bulk_inferencer.beam import RunInference",
            HEAVY - {"tensorflow", "keras"},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["packages", "results", "run", "beam"],
)
def test_import_is_light(statement, unwanted):
    command = [sys.executable, "-c", f"import sys; {statement}; print(*sys.modules)"]
    modules = subprocess.check_output(command, cwd=PACKAGE.parent, text=True).split()
    assert "bulk_inferencer" in modules
    assert not unwanted.intersection(modules)
