"""Signatures without the private names of types and constants, which nobody can import."""

from __future__ import annotations

import ast
import copy
import functools
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import griffe


class PublicTypes(griffe.Extension):
    """Puts what such a name stands for in its place."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Changes all functions and attributes of classes of the package."""
        for found in _objects(pkg):
            if isinstance(found, griffe.Function):
                found.returns = _public(found.returns, pkg)
                for parameter in found.parameters:
                    parameter.annotation = _public(parameter.annotation, pkg)
                    parameter.default = _public(parameter.default, pkg)
            elif isinstance(found, griffe.Attribute) and isinstance(found.parent, griffe.Class):
                found.annotation = _public(found.annotation, pkg)
                found.value = _public(found.value, pkg)


def _objects(parent: griffe.Object) -> Iterator[griffe.Object]:
    for member in parent.members.values():
        if not member.is_alias:
            yield member
            yield from _objects(member)


def _public(expression: Any, package: griffe.Module) -> Any:
    if isinstance(expression, list):
        return [_public(one, package) for one in expression]
    if not isinstance(expression, griffe.Expr):
        return expression
    if isinstance(expression, (griffe.ExprName, griffe.ExprAttribute)):
        meant = _meant(expression.canonical_path, package)
        return expression if meant is None else _public(meant, package)
    if isinstance(expression, griffe.ExprBinOp) and expression.operator == "|":
        return _union(_operands(expression, package))
    changed = copy.copy(expression)
    for field in fields(expression):
        setattr(changed, field.name, _public(getattr(expression, field.name), package))
    return changed


def _operands(expression: Any, package: griffe.Module) -> list[Any]:
    """Returns what a union consists of, with the unions that are in it."""
    if isinstance(expression, griffe.ExprBinOp) and expression.operator == "|":
        sides = (expression.left, expression.right)
        return [one for side in sides for one in _operands(_public(side, package), package)]
    return [expression]


def _union(operands: list[Any]) -> Any:
    """Returns the union of these, without brackets, each once."""
    shown = [str(getattr(one, "canonical_name", one)) for one in operands]  # without its module
    different = list(dict(zip(shown, operands, strict=True)).values())
    return functools.reduce(lambda left, right: griffe.ExprBinOp(left, "|", right), different)


def _meant(path: str, package: griffe.Module) -> Any:
    """Returns what a name of a module of ours stands for, or None for everything else."""
    if not path.startswith(f"{package.name}."):
        return None
    try:
        found = package.modules_collection[path]
    except KeyError:
        return None
    if not isinstance(found, griffe.Attribute) or not isinstance(found.parent, griffe.Module):
        return None
    is_type = "TypeAlias" in str(found.annotation)
    if is_type and isinstance(found.value, str):  # a type in quotes
        node = ast.parse(ast.literal_eval(found.value), mode="eval").body
        return griffe.safe_get_annotation(node, parent=found.parent)
    return found.value
