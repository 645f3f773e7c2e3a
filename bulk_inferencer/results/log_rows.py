"""PredictionLogs as rows of a table: typed columns for outputs, and for features of the records."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from bulk_inferencer._formats.table_schema import SPLIT, VARIANT
from bulk_inferencer._formats.table_values import column_of, spread
from bulk_inferencer._signatures import OutputType
from bulk_inferencer.errors import InputError
from bulk_inferencer.results import log_features
from bulk_inferencer.results.joined_logs import in_blocks, joined_logs
from bulk_inferencer.results.log_arrays import LogDecoder, Part
from bulk_inferencer.results.log_kinds import Kinds, WiderError
from bulk_inferencer.results.reader import serialized_logs
from bulk_inferencer.results.shards import Shard

_BLOCK_ROWS = 4096
_BLOCK_BYTES = 1 << 20  # as in the chunks that files are read in
_MOST_SAMPLED_UNITS = 16
_SAMPLED = 100  # rows of each

# A unit's PredictionLogs, by model; None where a model has none.
Unit = Mapping[str, "Shard | None"]


@dataclass(frozen=True)
class _Block:
    """Some rows: a log, or none, for each model."""

    split: str
    variant: str | None
    logs: Mapping[str, Sequence[bytes | None]]


@dataclass
class LogRows:
    """The rows that the PredictionLogs of a run stand for.

    Attributes:
      units: the files, unit by unit.
      is_alike: whether all models scored the same records, by split.
      prefixes: what precedes the outputs of each model.
      is_ab_test: whether each record went to one of the models, which becomes a column.
      has_split: whether the split becomes a column.
      kinds: what the columns are like; default: as some records of each unit tell.
    """

    units: Sequence[tuple[str, Unit]]
    is_alike: Mapping[str, bool]
    prefixes: Mapping[str, str]
    is_ab_test: bool = False
    has_split: bool = False
    kinds: Kinds | None = None

    @property
    def schema(self) -> pa.Schema:
        """The columns, as far as some records of each unit tell."""
        if self.kinds is None:
            self.kinds = self._sampled()
        return self.kinds.schema(self.has_split, self.is_ab_test)

    def tables(self, rows: int) -> Iterator[pa.Table]:
        """Yields the rows in tables of at most so many.

        Raises:
          WiderError: rows do not fit into the columns.
        """
        return (table for table, _ in self.tables_with_records(rows))

    def tables_with_records(self, rows: int) -> Iterator[tuple[pa.Table, list[bytes | None]]]:
        """Yields rows, see `tables`, each with the serialized record; None where logs hold none."""
        schema = self.schema
        assert self.kinds
        decoder = LogDecoder()
        for block in self._blocks(self.units, min(rows, _BLOCK_ROWS)):
            values = _Values(block, self.prefixes, decoder)
            yield values.table(self.kinds, schema), values.records

    @property
    def outputs(self) -> list[str]:
        """The columns that are outputs."""
        if self.kinds is None:
            self.kinds = self._sampled()
        return list(self.kinds.outputs)

    def hold_records(self) -> bool:
        """Returns whether the first log holds its record, so that all do; True without logs."""
        for _, records in itertools.islice(self.tables_with_records(1), 1):
            return records[0] is not None
        return True

    def rows(self) -> Iterator[dict[str, bytes | None]]:
        """Yields the serialized PredictionLogs of each record, by model."""
        for block in self._blocks(self.units, _BLOCK_ROWS):
            for logs in zip(*block.logs.values(), strict=True):
                yield dict(zip(block.logs, logs, strict=True))

    def count(self) -> int:
        """Returns the number of rows, by reading them."""
        return sum(
            len(next(iter(block.logs.values()))) for block in self._blocks(self.units, _BLOCK_ROWS)
        )

    def _blocks(self, units: Iterable[tuple[str, Unit]], size: int) -> Iterator[_Block]:
        for split, unit in units:
            if self.is_ab_test or len(unit) == 1:
                for model, shard in unit.items():
                    variant = model if self.is_ab_test else None
                    for logs in serialized_logs([shard] if shard else []):
                        for start in range(0, len(logs), size):
                            yield _Block(split, variant, {model: logs[start : start + size]})
            else:
                joined = joined_logs(unit, self.is_alike.get(split, False))
                for rows in in_blocks(joined, size, _BLOCK_BYTES):
                    logs_of = {model: [row[model] for row in rows] for model in unit}
                    yield _Block(split, None, logs_of)

    def _sampled(self) -> Kinds:
        kinds, decoder = Kinds(), LogDecoder()
        step = max(1, len(self.units) // _MOST_SAMPLED_UNITS)
        for split, unit in self.units[::step]:
            for model, shard in unit.items():
                for block in itertools.islice(self._blocks([(split, {model: shard})], _SAMPLED), 1):
                    kinds = _Values(block, self.prefixes, decoder).widened(kinds)
        return kinds


class _Values:
    """What the logs of a block hold."""

    def __init__(self, block: _Block, prefixes: Mapping[str, str], decoder: LogDecoder) -> None:
        self._split, self._variant = block.split, block.variant
        self.records: list[bytes | None] = []
        self._outputs: dict[str, list[Part]] = {}
        for model, logs in block.logs.items():
            found = decoder.decode(logs)
            self._take(found.records, model)
            for name, parts in sorted(found.outputs.items()):  # protos are in no order
                self._outputs[prefixes.get(model, "") + name] = parts

    def _take(self, records: list[bytes | None], model: str) -> None:
        if not self.records:
            self.records = records
            return
        for row, (known, own) in enumerate(zip(self.records, records, strict=True)):
            if known is None:
                self.records[row] = own
            elif own is not None and own != known:
                raise InputError(
                    f"The predictions of model '{model}' in split '{self._split}' are of other "
                    f"records than those of the models before it. Read one model at a time, with "
                    f"model."
                )

    def widened(self, kinds: Kinds) -> Kinds:
        """Returns what outputs and features are like, of these rows and of those before them."""
        features = log_features.joined(kinds.features, log_features.types_of(self.records))
        return dataclasses.replace(self._with_outputs(kinds), features=features)

    def _with_outputs(self, kinds: Kinds) -> Kinds:
        found = {
            column: {OutputType(_name_of(v.dtype), v.shape[1:]) for _, v in parts}
            for column, parts in self._outputs.items()
        }
        return kinds.with_outputs(found)

    def table(self, kinds: Kinds, schema: pa.Schema) -> pa.Table:
        """Returns the rows as a table.

        Raises:
          WiderError: they do not fit.
        """
        if (wider := self._with_outputs(kinds)) != kinds:
            changed = [c for c, own in wider.outputs.items() if kinds.outputs.get(c) != own]
            raise WiderError(wider, changed[0])
        count = len(self.records)
        columns = {
            column: _column(parts, count, schema.field(column).type)
            for column, parts in self._outputs.items()
        }
        if unfit := [column for column, array in columns.items() if array is None]:
            binary = kinds.binary | set(unfit)
            raise WiderError(dataclasses.replace(kinds, binary=binary), unfit[0])
        features, types = log_features.columns_of(self.records, kinds.features)
        if changed := [name for name, kind in types.items() if kinds.features[name] != kind]:
            raise WiderError(dataclasses.replace(kinds, features=types), changed[0])
        columns |= {kinds.columns_of_features[name]: array for name, array in features.items()}
        for column, value in ((SPLIT, self._split), (VARIANT, self._variant)):
            if column in schema.names and column not in columns:
                columns[column] = pa.array([value] * count, pa.string())
        return pa.table(
            [
                columns[own.name] if own.name in columns else pa.nulls(count, own.type)
                for own in schema
            ],
            schema=schema,
        )


def _column(parts: Sequence[Part], count: int, kind: pa.DataType) -> pa.Array | None:
    """Returns the values of an output; None if some do not fit, since they are no UTF-8."""
    columns = [column_of(values, kind) for _, values in parts]
    if any(column.unfit for column in columns):
        return None
    if len(columns) == 1 and len(columns[0].values) == count:
        return columns[0].values
    rows = np.concatenate([rows for rows, _ in parts])
    return spread(pa.concat_arrays([column.values for column in columns]), rows, count)


def _name_of(dtype: np.dtype) -> str:
    return "string" if dtype.kind == "O" else dtype.name
