"""What tells that records of two results are the same: a key, their bytes, or their features."""

from __future__ import annotations

from collections.abc import Sequence

from bulk_inferencer._checks import did_you_mean
from bulk_inferencer._formats.column_values import is_list
from bulk_inferencer.errors import InputError
from bulk_inferencer.results.export import some_of
from bulk_inferencer.results.log_rows import LogRows
from bulk_inferencer.results.row_source import JoinBy, RowSource, kind_of, source_of
from bulk_inferencer.results.selection import Selection


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
        _check_kinds(sources, key, [checked_key(source, key) for source in sources])
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
    return [source_of(own, f"'{name}' ({own.place.name})", prefers_logs) for own, name in pairs]


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


def checked_key(source: RowSource, key: str) -> str:
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
