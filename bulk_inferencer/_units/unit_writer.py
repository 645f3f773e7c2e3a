"""What becomes of the scored batches of a unit: sinks write them, and accounts count them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from bulk_inferencer._models.scorer import Failed
from bulk_inferencer._units.failure_watch import Attempt
from bulk_inferencer._units.manifest import BranchAccount, Manifest
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.sinks.sink import BranchResult, OpenSink, ScoredBatch, Sink
from bulk_inferencer._units.unit_files import UnitFiles
from bulk_inferencer._work import Work
from bulk_inferencer.results.summary import DamagedFile
from bulk_inferencer.results.timeline import Timeline


class UnitWriter:
    """Takes the scored batches of one unit, in order, and makes its manifest of them."""

    def __init__(
        self,
        unit: Unit,
        sinks: Iterable[Sink],
        files: UnitFiles,
        work: Mapping[str, Work],
        attempt: Attempt,
    ) -> None:
        """Opens the sinks.

        Args:
          unit: the unit.
          sinks: what takes the batches.
          files: the files of the unit.
          work: what scoring takes, by model; whoever scores counts it.
          attempt: counts predictions that become failures here.
        """
        self._unit = unit
        self._attempt = attempt
        self._sinks = {sink.name: sink.open(unit, files) for sink in sinks}
        self._branches = {name: BranchAccount(work=own) for name, own in work.items()}
        self._read = self._unrouted = 0
        self._began = time.monotonic()

    def write(self, scored: ScoredBatch) -> ScoredBatch:
        """Writes and counts a batch; returns it without the predictions that a sink cannot hold."""
        scored = _fitting(scored, self._sinks.values(), self._attempt)
        self._read += len(scored.batch.records)
        self._unrouted += len(scored.unrouted)
        for name, result in scored.branches.items():
            _count(self._branches[name], result)
        for sink in self._sinks.values():
            sink.write(scored)
        return scored

    def close(
        self,
        damaged_files: Sequence[DamagedFile],
        bytes_read: int,
        timeline: Timeline,
        seconds_before: float = 0.0,
    ) -> Manifest:
        """Closes the sinks, and returns the manifest.

        Args:
          damaged_files: see `Manifest`.
          bytes_read: see `Manifest`.
          timeline: see `Manifest`.
          seconds_before: wall time that the unit took before its sinks were opened.
        """
        accounts = {name: sink.close() for name, sink in self._sinks.items()}
        return Manifest(
            split=self._unit.split,
            index=self._unit.index,
            files=self._unit.files,
            examples_read=self._read,
            unrouted=self._unrouted,
            branches=self._branches,
            sinks=accounts,
            seconds=seconds_before + time.monotonic() - self._began,
            damaged_files=tuple(damaged_files),
            key=self._unit.key,
            bytes_read=bytes_read,
            timeline=timeline,
        )


def _fitting(scored: ScoredBatch, sinks: Iterable[OpenSink], attempt: Attempt) -> ScoredBatch:
    """Makes failures of predictions that a sink cannot hold, so that no sink has them."""
    unfit: dict[str, dict[int, Failed]] = {}
    for sink in sinks:
        for branch, failures in sink.unfit(scored).items():
            unfit.setdefault(branch, {}).update(failures)
    for branch, failures in unfit.items():
        attempt.scored(branch, -len(failures))
        for failed in failures.values():
            attempt.failed(branch, failed, scored.batch)
    return scored.without(unfit) if unfit else scored


def _count(account: BranchAccount, result: BranchResult) -> None:
    account.examples_read += result.examples_read
    account.examples_failed += len(result.failed)
    for piece in result.scored:
        account.predictions_made += len(piece.rows)
        account.outputs.add(piece.prediction.outputs)
        account.add(piece.prediction.versions, piece.prediction.stages)
