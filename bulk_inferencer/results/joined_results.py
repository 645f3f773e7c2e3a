"""Two results side by side: those of the same records are compared, whoever made them and when.

a  id  y        b  id  y        both   1  3
    1  5            3  30  -->  only a  2
    2  10           1  5
    3  15
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from bulk_inferencer import _files
from bulk_inferencer._checks import check_number
from bulk_inferencer.errors import InputError, SettingsError
from bulk_inferencer.results import display_joined
from bulk_inferencer.results.blocks import Block, Shown
from bulk_inferencer.results.comparison import Comparison
from bulk_inferencer.results.join_by import JoinBy, RowSource, join_by
from bulk_inferencer.results.joined_rows import JoinedRows, array_of, stored
from bulk_inferencer.results.outcomes import MatchedKeys, Outcomes, read_outcomes
from bulk_inferencer.results.row_store import RowStore
from bulk_inferencer.results.run_results import Results, read

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class JoinedComparison(Shown):
    """Two results side by side.

    ```python
    joined = bulk_inferencer.results.compare_results("monday", "tuesday", key="id")
    joined.only["a"], joined.comparison.pairs[0].outputs["y"].agreement
    ```

    Of each result, `both`, `only` and `failed` add up to the records that its run has read.

    Attributes:
      names: what the results are called.
      comparison: how their outputs differ, of the records that both have; and the outcomes of each.
      both: the number of these records.
      only: further records that were predicted, by name: those that the other result lacks, because
        its run failed on them or did not read them.
      failed: records that no model of the run could predict, by name.
      joined_by: the columns by which records were joined; empty if it was by the record itself.
    """

    names: tuple[str, str]
    comparison: Comparison
    both: int
    only: Mapping[str, int]
    failed: Mapping[str, int]
    joined_by: tuple[str, ...] = ()

    def records_read(self, name: str) -> int:
        """Returns how many records the run of a result has read."""
        return self.both + self.only[name] + self.failed[name]

    def _title(self) -> str:
        return display_joined.title(self)

    def _blocks(self) -> Iterator[Block]:
        return display_joined.blocks(self)


def compare_results(
    a: Any,
    b: Any,
    *,
    key: str | None = None,
    outcomes: str | os.PathLike[str] = "",
    names: tuple[str, str] = ("a", "b"),
    most_different: int = 10,
) -> JoinedComparison:
    """Compares two results record by record, as BranchInferencer compares models.

    ```python
    joined = compare_results("monday", read("branches", model="ten"), key="id")
    ```

    Without a key, a record is joined with the same record: the same bytes, of PredictionLogs that
    hold the records; else the same values in all columns of features that both results have. Of
    several equal records, the first goes with the first. With a key, each record must have its own;
    one without a key is in one of the results only.

    All outputs are compared that both have. Those that only one has, or that differ in type or
    length, stand in `not_compared` with the reason. The columns of several models in one result
    have names such as `five/y`; read it with `model` to compare one of them, whose output is `y`.

    In `most_different`, `file` is the folder of the first result, and `record` the number of its
    row there, from 0; `keys` holds the key, or up to five features.

    It takes about 512 MB of memory at most, beside what reading takes. Outputs of more than 128 MB
    go through files in the folder for temporary files (`TMPDIR`), and memory holds a 256th of them
    at a time.

    Args:
      a: results, or what `read` takes.
      b: see there.
      key: the column that tells records apart, which both have.
      outcomes: a CSV file with the columns `key` and `value`: what came of each key. Needs `key`.
        The comparison holds the mean for each result, of the keys that it has predicted.
      names: what to call the results.
      most_different: how many records to keep for each output.

    Raises:
      InputError: no model ran; results do not have the key, or the same key twice; keys of one are
        text, and of the other numbers; without a key, nothing tells which records are the same; or
        files are damaged.
      SettingsError: the names are the same, or outcomes have no key to be found by.
    """
    check_number("most_different", most_different, "Use 0 to keep none.", 0, whole=True)
    if len(set(names)) != 2:
        raise SettingsError(f"names must be two different names, not {names!r}.")
    if outcomes and not key:
        raise SettingsError(
            f"The outcomes in {os.fspath(outcomes)} are found by a key. Set key to the column that "
            f"holds it."
        )
    both = [own if isinstance(own, Results) else read(own) for own in (a, b)]
    for name, own in zip(names, both, strict=True):
        if not own.has_run:
            raise InputError(
                f"There is nothing to compare: no model of '{name}' ({own.name}) ran. "
                f"{own.gate.reason}"
            )
    by, sources = join_by([own.selection for own in both], names, key or "")
    table = read_outcomes(_files.as_path("outcomes", outcomes)) if outcomes else None
    matched = [MatchedKeys(table) for _ in both] if table else []
    with tempfile.TemporaryDirectory(prefix="bulk_inferencer-") as folder:
        stores = []
        for i, source in enumerate(sources):
            stores.append(_stored(source, by, i, folder, matched[i : i + 1]))
            _check_count(both[i], stores[i].count)
        joined = JoinedRows(sources, by, names, both[0].name, most_different)
        comparison, count = joined.compare(stores)
    if table:
        _warn_without_outcomes(table, by.key, matched)
        outcome_of_name = {n: own.outcome() for n, own in zip(names, matched, strict=True)}
        comparison = Comparison(comparison.pairs, outcome_of_name)
    rows = [store.count for store in stores]
    return JoinedComparison(
        names=names,
        comparison=comparison,
        both=count,
        only={name: own - count for name, own in zip(names, rows, strict=True)},
        failed={
            n: _failed(*own) for n, own in zip(names, zip(both, rows, strict=True), strict=True)
        },
        joined_by=(by.key,) if by.key else by.columns,
    )


def _stored(
    source: RowSource, by: JoinBy, side: int, folder: str, matched: Sequence[MatchedKeys]
) -> RowStore:
    def see(table: pa.Table) -> None:
        for own in matched:
            own.add(array_of(table[by.key]))

    def store() -> RowStore:
        return RowStore(tempfile.mkdtemp(dir=folder))

    return stored(source, by, side, store, see)


def _check_count(results: Results, found: int) -> None:
    expected = results.known_length
    if expected not in (None, found):
        raise InputError(
            f"The summary of {results.name} says that there are {expected} records, but its files "
            f"hold {found}. Restore the files, or run into another folder."
        )


def _failed(results: Results, rows: int) -> int:
    """Returns how many records no model of a run could predict."""
    selection = results.selection
    if results.summary is None:
        return 0
    if len(selection.open_models) > 1 and not selection.is_ab_test:
        totals = [selection.counts_of(model).values() for model in selection.open_models]
        return max(sum(own.examples_read for own in counts) for counts in totals) - rows
    return results.counts.examples_failed + sum(selection.unrouted.values())


def _warn_without_outcomes(table: Outcomes, key: str, matched: Sequence[MatchedKeys]) -> None:
    if table.keys and not any(own.outcome().count for own in matched):
        _logger.warning(
            "No key in %s is a value of %s in the results, so there are no outcomes to report.",
            table.path,
            key,
        )
