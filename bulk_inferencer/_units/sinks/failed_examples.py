"""Failed examples: the records that could not be scored, to be fixed and scored again."""

from __future__ import annotations

from dataclasses import dataclass

from bulk_inferencer import _layout
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.sinks.sink import RecordSink, ScoredBatch, Sink
from bulk_inferencer._units.unit_files import UnitFiles


@dataclass(frozen=True)
class FailedExamples(Sink):
    """Writes each record that failed as it was read; once, however many models it failed in."""

    folder: str
    name = "failed_examples"

    def file_name(self, split: str, shard: str) -> str:
        return _layout.failed_examples(split, shard)

    def open(self, unit: Unit, files: UnitFiles) -> RecordSink:
        name = self.file_name(unit.split, unit.shard_name)
        return RecordSink(files.open(self.folder, name), _failed_records)


def _failed_records(scored: ScoredBatch) -> list[bytes]:
    rows = sorted({failed.index for failed, _ in scored.failures()})
    return [scored.batch.records[row] for row in rows]
