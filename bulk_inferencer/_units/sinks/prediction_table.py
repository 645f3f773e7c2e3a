"""The prediction table: a row for each record that a model has scored.

    record  0  1  2  3        id  five/y  ten/y
    five    y  -  y  -         0       5     10
    ten     y  y  -  -         1            10
                               2       5

Record 3 is among the failures alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from bulk_inferencer import _layout
from bulk_inferencer._formats.batches import Batch
from bulk_inferencer._formats.example_columns import kept_columns
from bulk_inferencer._formats.partial import rows_with
from bulk_inferencer._formats.rows import taken
from bulk_inferencer._formats.table_schema import KEY, SPLIT, VARIANT, PredictionColumns
from bulk_inferencer._formats.table_values import column_of, spread
from bulk_inferencer._models.scorer import Failed
from bulk_inferencer._models.scoring import ScoredRows
from bulk_inferencer._units.manifest import Account
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.sinks.sink import UNFIT, OpenSink, ScoredBatch, Sink, Unfit
from bulk_inferencer._units.unit_files import TableShard, UnitFiles


@dataclass(frozen=True)
class PredictionTable(Sink):
    """Writes what models return as a table, with features of the inputs.

    Where a column has the key of a record, it is the file that the record is or, with
    `keys_are_routed_by`, what the record was routed by.
    """

    folder: str
    columns: PredictionColumns
    table_format: str
    keys_are_routed_by: bool = False
    name = "prediction_table"

    def file_name(self, split: str, shard: str) -> str:
        return _layout.prediction_table(split, shard, self.table_format)

    def open(self, unit: Unit, files: UnitFiles) -> _OpenPredictionTable:
        name = self.file_name(unit.split, unit.shard_name)
        shard = files.open_table(self.folder, name, self.table_format, self.columns.schema)
        return _OpenPredictionTable(shard, self, unit.split)

    def predictions_written(self, account: Account) -> Mapping[str, int]:
        return {branch: account.notes.get(branch, 0) for branch in self.columns.outputs}


class _Made(NamedTuple):
    """The rows of a batch, and what does not fit into them."""

    scored: ScoredBatch
    table: pa.Table
    unfit: Unfit


class _OpenPredictionTable(OpenSink):
    def __init__(self, shard: TableShard, settings: PredictionTable, split: str) -> None:
        self._shard = shard
        self._settings = settings
        self._split = split
        self._written: Counter[str] = Counter()
        self._made: _Made | None = None  # of the last batch

    def unfit(self, scored: ScoredBatch) -> Unfit:
        self._made = _Rows(self._settings, self._split, scored).make()
        return self._made.unfit

    def write(self, scored: ScoredBatch) -> None:
        if self._made is None or self._made.scored is not scored:
            self._made = _Rows(self._settings, self._split, scored).make()
        self._shard.write(self._made.table)
        self._made = None
        for branch, result in scored.branches.items():
            self._written[branch] += sum(len(piece.rows) for piece in result.scored)

    def close(self) -> Account:
        return Account((self._shard.close(),), dict(self._written))


class _Rows:
    """The rows that one batch becomes."""

    def __init__(self, settings: PredictionTable, split: str, scored: ScoredBatch) -> None:
        self._settings = settings
        self._columns = settings.columns
        self._split = split
        self._scored = scored
        self._rows_of = {
            branch: _joined([_as_array(piece.rows) for piece in result.scored])
            for branch, result in scored.branches.items()
        }
        every = list(self._rows_of.values())
        # Indexes in the batch, in ascending order.
        self._rows = every[0] if len(every) == 1 else np.unique(_joined(every))
        self._unfit: dict[str, dict[int, Failed]] = {}

    def make(self) -> _Made:
        columns = {**self._kept(), **self._outputs()}
        schema = self._columns.schema
        count = len(self._rows)
        if SPLIT in schema.names and SPLIT not in columns:
            columns[SPLIT] = pa.repeat(pa.scalar(self._split, pa.string()), count)
        if KEY in schema.names and KEY not in columns:
            columns[KEY] = self._keys(schema.field(KEY).type)
        if VARIANT in schema.names and VARIANT not in columns:
            columns[VARIANT] = self._variants()
        arrays = [columns[name] for name in schema.names]
        return _Made(self._scored, pa.table(arrays, schema=schema), self._unfit)

    def _kept(self) -> dict[str, pa.Array]:
        if not self._columns.kept:
            return {}
        records = self._scored.batch.records
        if len(self._rows) < len(records):
            records = taken(records, self._rows.tolist())
        table, unfit = kept_columns(records, self._columns.kept_schema)
        self._fail_everywhere(unfit)
        return dict(zip(table.column_names, table.columns, strict=True))

    def _outputs(self) -> dict[str, pa.Array]:
        """Returns the columns of outputs. In an A/B test, several models may fill one column."""
        parts: dict[str, list[tuple[np.ndarray, pa.Array]]] = {}
        for branch, columns in self._columns.outputs.items():
            own: dict[str, list[pa.Array]] = {name: [] for name in columns}
            for piece in self._scored.branches[branch].scored:
                self._check_names(branch, columns, piece)
                for name, values in own.items():
                    values.append(self._values(branch, name, columns[name], piece))
            for name, values in own.items():
                if values:
                    part = (self._rows_of[branch], _concat(values))
                    parts.setdefault(columns[name], []).append(part)
        names = {name for columns in self._columns.outputs.values() for name in columns.values()}
        return {name: self._placed(name, parts.get(name, [])) for name in names}

    def _values(self, branch: str, name: str, column: str, piece: ScoredRows) -> pa.Array:
        kind = self._columns.schema.field(column).type
        values = piece.prediction.outputs.get(name)
        if values is None:
            return pa.nulls(len(piece.rows), kind)
        made = column_of(values, kind)
        for i, reason in made.unfit.items():
            self._fail(branch, int(piece.rows[i]), f"Output '{name}': {reason}")
        return made.values

    def _check_names(self, branch: str, columns: Mapping[str, str], piece: ScoredRows) -> None:
        """Notes outputs that have no column, and columns without their output."""
        outputs, stages = piece.prediction.outputs, piece.prediction.stages
        if outputs.keys() == columns.keys():
            return
        for name in outputs.keys() - columns.keys():
            for i in np.flatnonzero(rows_with(outputs[name])).tolist():
                reason = f"Output '{name}' has no column: no record had it before the run"
                self._fail(branch, int(piece.rows[i]), reason)
        if all(stages.values()):  # Where a stage of a cascade did not run, its outputs are missing.
            for name in columns.keys() - outputs.keys():
                for row in piece.rows:
                    self._fail(branch, int(row), f"The model did not return output '{name}'")

    def _placed(self, name: str, parts: Sequence[tuple[np.ndarray, pa.Array]]) -> pa.Array:
        count = len(self._rows)
        if not parts:
            return pa.nulls(count, self._columns.schema.field(name).type)
        rows, values = _joined([own for own, _ in parts]), _concat([own for _, own in parts])
        if len(parts) == 1 and len(rows) == count:
            return values
        return spread(values, np.searchsorted(self._rows, rows), count)

    def _keys(self, kind: pa.DataType) -> pa.Array:
        if self._settings.keys_are_routed_by:
            keys = _objects([self._scored.keys[row] for row in self._rows])
        else:
            keys = _objects(_paths(self._scored.batch))[self._rows]
        made = column_of(keys, kind)
        self._fail_everywhere({i: f"The key: {reason}" for i, reason in made.unfit.items()})
        return made.values

    def _variants(self) -> pa.Array:
        names = pa.array(list(self._rows_of), pa.string())
        numbers = np.zeros(len(self._rows), np.int64)
        for number, rows in enumerate(self._rows_of.values()):
            numbers[np.searchsorted(self._rows, rows)] = number
        return names.take(pa.array(numbers))

    def _fail_everywhere(self, unfit: Mapping[int, str]) -> None:
        """Notes rows of the table that do not fit, whatever their models return."""
        for i, reason in unfit.items():
            row = int(self._rows[i])
            for branch, rows in self._rows_of.items():
                at = np.searchsorted(rows, row)
                if at < len(rows) and rows[at] == row:
                    self._fail(branch, row, reason)

    def _fail(self, branch: str, row: int, reason: str) -> None:
        self._unfit.setdefault(branch, {}).setdefault(row, Failed(row, UNFIT, reason))


def _as_array(rows: Sequence[int]) -> np.ndarray:
    if isinstance(rows, range):
        return np.arange(rows.start, rows.stop, rows.step)
    return np.asarray(rows, np.int64)


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _concat(arrays: Sequence[pa.Array]) -> pa.Array:
    return arrays[0] if len(arrays) == 1 else pa.concat_arrays(arrays)


def _objects(values: Sequence[bytes]) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _paths(batch: Batch) -> list[bytes]:
    """Returns the file of each record."""
    return [
        path
        for segment in batch.segments
        for path in [segment.path.encode(errors="backslashreplace")] * segment.count
    ]
