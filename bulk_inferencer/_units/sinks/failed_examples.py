"""Failed examples: the records that could not be scored, to be fixed and scored again."""

from __future__ import annotations

from dataclasses import dataclass

from bulk_inferencer import _layout
from bulk_inferencer._formats.rows import Rows, as_list, taken
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.sinks.sink import RecordSink, ScoredBatch, Sink
from bulk_inferencer._units.unit_files import UnitFiles


@dataclass(frozen=True)
class FailedExamples(Sink):
    """Writes each record that failed as it was read; once, however many models it failed in.

    A row of a table that cannot be read, or holds a value that no tf.Example can, is no record: it
    is in the lists of failures alone.
    """

    folder: str
    name = "failed_examples"

    def file_name(self, split: str, shard: str) -> str:
        return _layout.failed_examples(split, shard)

    def open(self, unit: Unit, files: UnitFiles) -> RecordSink:
        name = self.file_name(unit.split, unit.shard_name)
        return RecordSink(files.open(self.folder, name), _failed_records)


def _failed_records(scored: ScoredBatch) -> list[bytes]:
    failed = {failed.index for failed, _ in scored.failures()} - scored.batch.unreadable.keys()
    records = taken(scored.batch.records, sorted(failed))
    if isinstance(records, Rows) and (unfit := records.unfit()):
        records = records.take([row for row in range(len(records)) if row not in unfit])
    return as_list(records)
