"""What tells that records of two results are the same: a key, their bytes, or their features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from bulk_inferencer._checks import did_you_mean
from bulk_inferencer._formats.column_values import is_list
from bulk_inferencer._formats.table_schema import SPLIT, VARIANT
from bulk_inferencer._layout import names_models
from bulk_inferencer.errors import InputError
from bulk_inferencer.results.export import some_of
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


@dataclass(frozen=True)
class JoinBy:
    """What tells that rows of two results are of the same record.

    Attributes:
      key: the column with the key; empty without one.
      columns: the columns of features that together identify a record; empty for its bytes.
    """

    key: str = ""
    columns: tuple[str, ...] = ()


def join_by(
    selections: Sequence[Selection], names: Sequence[str], key: str
) -> tuple[JoinBy, list[RowSource]]:
    """Returns what identifies a record in two results, and the rows of each.

    Args:
      selections: the results.
      names: what messages call them.
      key: the column with the key; empty for none.

    Raises:
      InputError: nothing does, or the key of one is something else than that of the other.
    """
    if key:
        sources = _sources(selections, names)
        _check_kinds(sources, key, [_checked_key(source, key) for source in sources])
        return JoinBy(key), sources
    if all(own.has_logs and not own.place.is_table for own in selections):
        sources = _sources(selections, names, prefers_logs=True)
        if all(isinstance(own.rows, LogRows) and own.rows.hold_records() for own in sources):
            return JoinBy(), sources
    sources = _sources(selections, names)
    return JoinBy(columns=_common_features(sources)), sources


def _sources(
    selections: Sequence[Selection], names: Sequence[str], prefers_logs: bool = False
) -> list[RowSource]:
    pairs = zip(selections, names, strict=True)
    return [_source_of(own, f"'{name}' ({own.place.name})", prefers_logs) for own, name in pairs]


def _source_of(selection: Selection, name: str, prefers_logs: bool) -> RowSource:
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
    branches = selection.branches
    has_prefix = names_models(branches) and not (selection.is_one_model or selection.is_ab_test)
    found: set[str] = set()
    for model, branch in branches.items():
        prefix = f"{model}/" if has_prefix else ""
        found |= {prefix + name for own in branch.statistics.values() for name in own}
    is_told = found or (branches and not any(own.total.examples_read for own in branches.values()))
    return found if is_told else None


def _common_features(sources: Sequence[RowSource]) -> tuple[str, ...]:
    """Returns the features that both results have, which may identify a record."""
    for source in sources:
        if source.outputs is None:
            raise InputError(
                f"Nothing tells which columns of {source.name} are features: it is a table without "
                f"the summary of its run. Set key to a column that tells records apart."
            )
    a, b = (source.rows.schema for source in sources)
    found = []
    for name in (own for own in sources[0].kept if own in sources[1].kept):
        kinds = [kind_of(schema.field(name).type) for schema in (a, b)]
        if all(kinds):
            _check_kinds(sources, name, kinds)
            found.append(name)
        elif a.field(name).type == b.field(name).type:
            found.append(name)
    if not found:
        raise InputError(
            f"Nothing tells which records of {sources[0].name} and {sources[1].name} are the same: "
            f"they hold no records, and have no feature in common. Keep a column that tells "
            f"records apart, in both runs, and set key to it."
        )
    return tuple(found)


def _checked_key(source: RowSource, key: str) -> str:
    """Returns what the key of results is, see `kind_of`.

    Raises:
      InputError: no column has its name, or it holds lists.
    """
    names = source.rows.schema.names
    if key not in names:
        raise InputError(
            f"The key '{key}' is no column of {source.name}, which has {some_of(names)}."
            f"{did_you_mean(key, names)} Name one that both have. A table has the features that "
            f"its run kept; of PredictionLogs, those that have a single value."
        )
    kind = source.rows.schema.field(key).type
    if not kind_of(kind):
        what = "lists" if is_list(kind) else str(kind)
        raise InputError(
            f"The key '{key}' of {source.name} holds {what}. Name a column with one value per "
            f"record."
        )
    return kind_of(kind)


def _check_kinds(sources: Sequence[RowSource], name: str, kinds: Sequence[str]) -> None:
    if kinds[0] != kinds[1]:
        is_what = [f"{kind} in {own.name}" for kind, own in zip(kinds, sources, strict=True)]
        raise InputError(
            f"'{name}' is {is_what[0]} but {is_what[1]}, so no values are the same. "
            f"Write it with the same type in the inputs of both, or join by another column with "
            f"key."
        )


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
