"""Records that are scored together, whether they are serialized or rows.

bytes, bytes, ...  ->  list[bytes]  ->  PredictionLogs, in the order of the records
row, row, ...      ->  Rows         ->
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bulk_inferencer._formats.rows import Rows
from bulk_inferencer._models.scorer import Failed
from bulk_inferencer._models.scoring import LogScorer
from bulk_inferencer._work import Work
from bulk_inferencer.beam.elements import Record
from bulk_inferencer.beam.value_columns import Table, tables_of


def example_of(row: Mapping[str, Any]) -> bytes:
    """Returns a row as a serialized tf.Example.

    Raises:
      ValueError: a value does not fit.
    """
    tables, unfit = tables_of([row])
    if unfit:
        raise ValueError(unfit[0].message)
    return _records_of(tables[0])[0]


@dataclass(frozen=True)
class _Part:
    """Records of which a model takes all in one form; see `Table` for `is_widened`."""

    indexes: Sequence[int]
    records: Sequence[bytes]
    is_widened: bool = False


class Gathered:
    """The records of a batch, for any number of models."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records
        self._failed: list[Failed] = []
        rows = [index for index, own in enumerate(records) if not isinstance(own, bytes)]
        if not rows:  # the usual case, in which nothing is copied
            self._parts = [_Part(range(len(records)), records)]  # type: ignore[arg-type]
            return
        self._parts = self._parts_of_rows(rows)
        others = [index for index, own in enumerate(records) if isinstance(own, bytes)]
        if others:
            self._parts.append(_Part(others, [records[i] for i in others]))  # type: ignore[misc]

    def logs(self, scorer: LogScorer, work: Work) -> list[bytes | Failed]:
        """Returns a serialized PredictionLog or a failure for each record, in order.

        Raises:
          BulkInferencerError: the model fails, and no record is at fault.
        """
        if len(self._parts) == 1 and not self._failed and not self._parts[0].is_widened:
            return scorer.logs(self._parts[0].records, work)
        found: dict[int, bytes | Failed] = {own.index: own for own in self._failed}
        for part in self._parts:
            found |= _scored(part, scorer, work)
            failed = [index for index in part.indexes if isinstance(found[index], Failed)]
            if part.is_widened and failed:
                # Numbers of other records made floats of theirs, which the model may not take.
                for own in self._parts_of_rows(failed, widen=False):
                    found |= _scored(own, scorer, work)
        return [found[index] for index in range(len(self._records))]

    def _parts_of_rows(self, rows: Sequence[int], *, widen: bool = True) -> list[_Part]:
        dicts = [self._records[index] for index in rows]
        tables, unfit = tables_of(dicts, widen=widen)  # type: ignore[arg-type]
        self._failed += [Failed(rows[i], *reason) for i, reason in unfit.items()]
        return [
            _Part([rows[i] for i in table.indexes], _records_of(table), table.is_widened)
            for table in tables
        ]


def _records_of(table: Table) -> Sequence[bytes]:
    # Without columns, it has no rows either, and their tf.Examples have no features.
    return Rows(table.columns) if table.columns.num_columns else [b""] * len(table.indexes)


def _scored(part: _Part, scorer: LogScorer, work: Work) -> Iterator[tuple[int, bytes | Failed]]:
    return zip(part.indexes, scorer.logs(part.records, work), strict=True)
