"""What the package exports, read from its files without importing them."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = "bulk_inferencer"
# Modules whose names are documented on one page, and what the reference calls each.
WHOLE_MODULES = {
    "errors": "Errors",
    "serving": "Models for serving",
    "bulk_inferencer_pb2": "Messages of the components",
}
# In which group of the reference a name stands, by the module that defines it.
GROUPS = {
    "TFX components": ("components",),
    "Runs": ("_predict", "_run", "_progress", "job", "_units"),
    "Models": ("_models",),
    "Inputs and tables": ("_formats",),
    "Results": ("results", "_gate", "reports"),
    "Engines": ("engines",),
    "Beam": ("beam",),
}


class ExportError(Exception):
    """An exported name that the reference has no place for."""


@dataclass(frozen=True)
class Export:
    """A name that people import.

    Attributes:
      package: the package that exports it, such as `bulk_inferencer.beam`.
      name: its name.
      module: the module that defines it.
      says: the first line of its docstring.
    """

    package: str
    name: str
    module: str
    says: str

    @property
    def is_settings(self) -> bool:
        """Returns whether its methods are for the package alone, but for those that make one."""
        return _group(self) in ("TFX components", "Runs", "Models", "Inputs and tables")

    @property
    def path(self) -> str:
        """Returns what people import."""
        return f"{self.package}.{self.name}"

    @property
    def title(self) -> str:
        """Returns its name, after that of its package if this is not the topmost."""
        return self.path.removeprefix(f"{PACKAGE}.")

    @property
    def page(self) -> str:
        """Returns the page about it, below `reference/`."""
        return "/".join([*self.package.split(".")[1:], f"{self.name}.md"])


def groups() -> dict[str, list[Export]]:
    """Returns the exported names by group, in alphabetic order, each where it is found first."""
    grouped: dict[str, list[Export]] = {group: [] for group in GROUPS}
    for first, *_ in _by_definition():
        grouped[_group(first)].append(first)
    return {group: exports for group, exports in grouped.items() if exports}


def other_names() -> dict[Export, list[Export]]:
    """Returns the further packages' names for what `groups` has."""
    return {first: others for first, *others in _by_definition() if others}


def all_exports() -> Iterator[Export]:
    """Yields each name of each public package, but for the modules of `WHOLE_MODULES`."""
    packages = [PACKAGE, *(f"{PACKAGE}.{p.parent.name}" for p in sorted(_public_packages()))]
    for package in packages:
        for name, module in module_of_name(package).items():
            if module in packages or (package == PACKAGE and name in WHOLE_MODULES):
                continue
            if module == f"{package}.{name}":
                raise ExportError(f"{module} is a module: name its page in WHOLE_MODULES.")
            yield Export(package, name, module, first_line(module, name))


def module_of_name(package: str) -> Mapping[str, str]:
    """Returns the table of a package's exports; it may be empty."""
    tree = ast.parse((_folder(package) / "__init__.py").read_text(encoding="utf-8"))
    values = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    table = values.get("_MODULE_OF_NAME")
    if not isinstance(table, ast.Dict):
        return {}

    def text(node: ast.expr | None) -> str:
        return ast.literal_eval(values[node.id] if isinstance(node, ast.Name) else node)

    return {text(key): text(value) for key, value in zip(table.keys, table.values, strict=True)}


def first_line(module: str, name: str = "") -> str:
    """Returns the first line of the docstring of a module, or of a name in it."""
    docstring = ast.get_docstring(_node(module, name)) or ""
    return docstring.partition("\n\n")[0].replace("\n", " ")


def classes(module: str) -> list[str]:
    """Returns the classes of a module."""
    return [node.name for node in _node(module, "").body if isinstance(node, ast.ClassDef)]


def constructors(module: str, name: str) -> list[str]:
    """Returns the public class methods of a class: other ways to make one."""
    return [
        node.name
        for node in getattr(_node(module, name), "body", [])
        if isinstance(node, ast.FunctionDef)
        and node.name[0] != "_"
        and any(isinstance(by, ast.Name) and by.id == "classmethod" for by in node.decorator_list)
    ]


@functools.cache
def _by_definition() -> tuple[list[Export], ...]:
    found: dict[tuple[str, str], list[Export]] = {}
    for export in sorted(all_exports(), key=lambda e: (e.package, e.name.lower())):
        found.setdefault((export.module, export.name), []).append(export)
    return tuple(found.values())


def _group(export: Export) -> str:
    if export.package != PACKAGE:
        whole = export.package.removeprefix(f"{PACKAGE}.")
        for group, modules in GROUPS.items():
            if whole in modules:
                return group
    top = export.module.split(".")[1]
    for group, modules in GROUPS.items():
        if top in modules:
            return group
    raise ExportError(f"{export.path} of {export.module} is in no group: add {top!r} to GROUPS.")


def _node(module: str, name: str) -> ast.Module | ast.ClassDef | ast.FunctionDef:
    path = _folder(module)
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not path.exists():
        raise ExportError(f"{module} is exported from, but it is not there.")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if not name:
        return tree
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
            return node
        if isinstance(node, ast.ImportFrom) and node.module:
            for imported in node.names:
                if (imported.asname or imported.name) == name:
                    return _node(node.module, imported.name)
    raise ExportError(f"{module} defines no class or function {name!r}, but it is exported.")


def _public_packages() -> Iterator[Path]:
    for path in (ROOT / PACKAGE).glob("*/__init__.py"):
        if not path.parent.name.startswith("_") and module_of_name(f"{PACKAGE}.{path.parent.name}"):
            yield path


def _folder(module: str) -> Path:
    return ROOT.joinpath(*module.split("."))
