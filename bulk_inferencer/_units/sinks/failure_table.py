"""The failures as a table, with the features of the inputs that the prediction table keeps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from bulk_inferencer import _layout
from bulk_inferencer._formats.example_columns import kept_columns
from bulk_inferencer._formats.rows import taken
from bulk_inferencer._formats.table_schema import (
    FILE,
    MODEL,
    REASON,
    RECORD,
    SPLIT,
    failure_columns,
)
from bulk_inferencer._units.manifest import Account
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.sinks.sink import OpenSink, ScoredBatch, Sink
from bulk_inferencer._units.unit_files import TableShard, UnitFiles


@dataclass(frozen=True)
class FailureTable(Sink):
    """Writes a row for each failure: file, record and reason, and features if the record has them.

    A feature that is named like one of the other columns becomes `input/<feature>`.

    `kept` is the schema of the kept features, as bytes.
    """

    folder: str
    kept: bytes
    table_format: str
    names_models: bool = False
    has_split: bool = False
    name = "failure_table"

    @cached_property
    def kept_schema(self) -> pa.Schema:
        """The kept features, under their own names."""
        return pa.ipc.read_schema(pa.py_buffer(self.kept))

    @cached_property
    def schema(self) -> pa.Schema:
        """All columns, in order."""
        fixed = failure_columns(self.has_split, self.names_models)
        kept = [
            own.with_name(f"input/{own.name}") if own.name in fixed.names else own
            for own in self.kept_schema
        ]
        return pa.schema([*fixed, *kept])

    def file_name(self, split: str, shard: str) -> str:
        return _layout.failure_table(split, shard, self.table_format)

    def open(self, unit: Unit, files: UnitFiles) -> _OpenFailureTable:
        name = self.file_name(unit.split, unit.shard_name)
        shard = files.open_table(self.folder, name, self.table_format, self.schema)
        return _OpenFailureTable(shard, self, unit.split)


class _OpenFailureTable(OpenSink):
    def __init__(self, shard: TableShard, settings: FailureTable, split: str) -> None:
        self._shard = shard
        self._settings = settings
        self._split = split

    def write(self, scored: ScoredBatch) -> None:
        failures = list(scored.failures())
        if not failures:
            return
        places = [scored.batch.locate(failed.index) for failed, _ in failures]
        fixed: dict[str, list[Any]] = {
            SPLIT: [self._split] * len(failures),
            FILE: [_text(file) for file, _ in places],
            RECORD: [record for _, record in places],
            REASON: [_text(failed.reason) for failed, _ in failures],
            MODEL: [branch for _, branch in failures],
        }
        schema, kept = self._settings.schema, self._settings.kept_schema
        columns: list[Any] = [
            fixed[name] for name in schema.names[: len(schema.names) - len(kept.names)]
        ]
        if kept.names:
            # What cannot be kept is null: perhaps it is the reason of the failure.
            rows = [failed.index for failed, _ in failures]
            columns += kept_columns(taken(scored.batch.records, rows), kept)[0].columns
        self._shard.write(pa.table(columns, schema=schema))

    def close(self) -> Account:
        return Account((self._shard.close(),))


def _text(value: str) -> str:
    """Returns what UTF-8 can hold of a text: names of files may not be text at all."""
    return value.encode(errors="backslashreplace").decode()
