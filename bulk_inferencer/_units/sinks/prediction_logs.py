"""PredictionLogs: one file for each unit and model."""

from __future__ import annotations

from dataclasses import dataclass

from bulk_inferencer import _layout
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.sinks.sink import RecordSink, ScoredBatch, Sink
from bulk_inferencer._units.unit_files import UnitFiles


def name_of(branch: str) -> str:
    """Returns the name of the sink that writes the predictions of a model."""
    return f"prediction_logs/{branch}"


@dataclass(frozen=True)
class PredictionLogs(Sink):
    """Writes the PredictionLogs of one model."""

    branch: str
    folder: str
    compression: str = _layout.GZIP

    @property
    def name(self) -> str:
        return name_of(self.branch)

    def file_name(self, split: str, shard: str) -> str:
        return _layout.prediction_logs(split, shard, self.compression)

    def open(self, unit: Unit, files: UnitFiles) -> RecordSink:
        name = self.file_name(unit.split, unit.shard_name)
        return RecordSink(files.open(self.folder, name, self.compression), self._logs)

    def _logs(self, scored: ScoredBatch) -> list[bytes]:
        return [log for piece in scored.branches[self.branch].scored for log in piece.logs]
