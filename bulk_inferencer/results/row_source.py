"""Where the rows of results come from, and which of their columns are outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from bulk_inferencer._formats.column_values import is_list
from bulk_inferencer._formats.table_schema import SPLIT, VARIANT
from bulk_inferencer._layout import names_models
from bulk_inferencer.results.log_rows import LogRows
from bulk_inferencer.results.selection import Selection
from bulk_inferencer.results.table_rows import TableRows


@dataclass(frozen=True)
class RowSource:
    """The rows of results.

    Attributes:
      name: of the results, for messages.
      rows: where they come from.
      outputs: the columns that are outputs; None if nothing tells.
    """

    name: str
    rows: LogRows | TableRows
    outputs: Sequence[str] | None

    @property
    def kept(self) -> list[str]:
        """The columns that are features of the records."""
        others = {SPLIT, VARIANT, *(self.outputs or ())}
        return [name for name in self.rows.schema.names if name not in others]

    def compared(self, key: str) -> list[str]:
        """The columns that are compared: outputs, or if nothing tells, all but the key."""
        if self.outputs is not None:
            return list(self.outputs)
        return [n for n in self.rows.schema.names if n not in (SPLIT, VARIANT, key)]


def source_of(selection: Selection, name: str, prefers_logs: bool) -> RowSource:
    """Returns the rows of results of which at least one model ran.

    Args:
      selection: the results.
      name: of them, for messages.
      prefers_logs: whether PredictionLogs are read although there is a table.
    """
    is_log = prefers_logs and not selection.place.is_table and selection.has_logs
    rows = selection.log_rows() if is_log else selection.rows()
    assert rows is not None
    if isinstance(rows, LogRows):
        return RowSource(name, rows, rows.outputs)
    names = _outputs_by_summary(selection)
    if names is None and selection.has_logs:
        names = set(selection.log_rows().outputs)
    known = None if names is None else [own for own in rows.schema.names if own in names]
    return RowSource(name, rows, known)


def _outputs_by_summary(selection: Selection) -> set[str] | None:
    """Returns the columns of a table that are outputs, as the summary tells; None if it does not.

    Statistics name all outputs, if there is a record at all.
    """
    branches = {model: selection.branches[model] for model in selection.branches}
    has_prefix = names_models(branches) and not (selection.is_one_model or selection.is_ab_test)
    found: set[str] = set()
    for model, branch in branches.items():
        prefix = f"{model}/" if has_prefix else ""
        found |= {prefix + name for own in branch.statistics.values() for name in own}
    is_told = found or (branches and not any(own.total.examples_read for own in branches.values()))
    return found if is_told else None


@dataclass(frozen=True)
class JoinBy:
    """What tells that rows of two results are of the same record.

    Attributes:
      key: the column with the key; empty without one.
      columns: the columns of features that together identify a record; empty for its bytes.
    """

    key: str = ""
    columns: tuple[str, ...] = ()


def kind_of(kind: pa.DataType) -> str:
    """Returns what values of a type are to be compared as; empty if they identify nothing."""
    types = pa.types
    if is_list(kind) or types.is_struct(kind) or types.is_map(kind) or types.is_union(kind):
        return ""
    if types.is_boolean(kind):
        return "truth values"
    if types.is_integer(kind):
        return "whole numbers"
    if types.is_floating(kind):
        return "floats"
    is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind)
    if is_text or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return "text"
    return str(kind)
