"""PredictionLogs: one file for each unit and model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bulk_inferencer import _layout
from bulk_inferencer._units.manifest import Account
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.sinks.sink import RecordSink, ScoredBatch, Sink
from bulk_inferencer._units.unit_files import UnitFiles


def name_of(branch: str) -> str:
    """Returns the name of the sink that writes the predictions of a model."""
    return f"prediction_logs/{branch}"


@dataclass(frozen=True)
class PredictionLogs(Sink):
    """Writes the PredictionLogs of one model, with or without the records."""

    branch: str
    folder: str
    compression: str = _layout.GZIP
    with_records: bool = True

    @property
    def name(self) -> str:
        return name_of(self.branch)

    def file_name(self, split: str, shard: str) -> str:
        return _layout.prediction_logs(split, shard, self.compression)

    def open(self, unit: Unit, files: UnitFiles) -> RecordSink:
        name = self.file_name(unit.split, unit.shard_name)
        writer = files.open(self.folder, name, self.compression)
        needing = [self.branch] if self.with_records else []
        return RecordSink(writer, self._logs, lambda scored: needing)

    def _logs(self, scored: ScoredBatch) -> Sequence[bytes]:
        pieces = scored.branches[self.branch].scored
        logs = [p.logs if self.with_records else p.logs_without_records() for p in pieces]
        # Of a single call, as it nearly always is, nothing need be joined.
        return logs[0] if len(logs) == 1 else [log for own in logs for log in own]

    def predictions_written(self, account: Account) -> Mapping[str, int]:
        return {self.branch: sum(shard.records for shard in account.shards)}
