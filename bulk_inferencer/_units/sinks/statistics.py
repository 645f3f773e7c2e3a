"""The statistics: what the outputs of each model are like, and why records failed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from bulk_inferencer._units.manifest import Account, Manifest
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.sinks.sink import OpenSink, ScoredBatch, Sink
from bulk_inferencer._units.unit_files import UnitFiles
from bulk_inferencer.results import codec
from bulk_inferencer.results.describe import ModelCounter
from bulk_inferencer.results.reasons import merged_reasons
from bulk_inferencer.results.statistics import Statistics

_MOST_REASONS_AT_ONCE = 10_000


@dataclass(frozen=True)
class PredictionStatistics(Sink):
    """Gathers statistics of predictions and failures, and writes `statistics.json` at the end."""

    folder: str
    name = "statistics"

    def open(self, unit: Unit, files: UnitFiles) -> _OpenStatistics:
        return _OpenStatistics(unit.split)

    def merged(self, notes: Statistics | None, manifests: Sequence[Manifest]) -> Statistics:
        parts = [codec.from_json(Statistics, own.sinks[self.name].notes) for own in manifests]
        return (notes or Statistics()).merge(*parts)

    def finish(
        self, splits: Sequence[str], manifests: Sequence[Manifest], notes: Statistics | None
    ) -> None:
        (notes or Statistics()).write(self.folder)


class _OpenStatistics(OpenSink):
    def __init__(self, split: str) -> None:
        self._split = split
        self._models: defaultdict[str, ModelCounter] = defaultdict(ModelCounter)
        self._failures: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def write(self, scored: ScoredBatch) -> None:
        for model, result in scored.branches.items():
            counter = self._models[model]
            for piece in result.scored:
                counter.add(len(piece.rows), piece.prediction.outputs.items())
        for failed, name in scored.failures():
            reasons = self._failures[name or ""]
            reasons[failed.reason] += 1
            if len(reasons) > _MOST_REASONS_AT_ONCE:
                self._failures[name or ""] = Counter(merged_reasons(reasons))

    def close(self) -> Account:
        split = self._split
        statistics = Statistics(
            outputs={model: {split: own.statistics()} for model, own in self._models.items()},
            failures={model: {split: merged_reasons(n)} for model, n in self._failures.items()},
        )
        return Account(notes=codec.to_json(statistics))
