"""The road of a record: here a unit is read, scored, written and counted.

    files -> batches -> ScoredBatch -> sinks -> shards, Manifest
             read       LogScorer      each takes every batch once

With several models, each batch goes to all of them, or its records are shared out:

                        -> LogScorer of five
    files -> batches                          -> ScoredBatch -> sinks
                        -> LogScorer of ten

Nothing here knows which engine runs it: a thread of a worker calls `run_unit`, and so can a loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bulk_inferencer._formats.batches import Batch, BatchBounds, read_batches
from bulk_inferencer._models.predictor import Model
from bulk_inferencer._models.scorer import Failed
from bulk_inferencer._models.scoring import LogScorer, ScoredRows
from bulk_inferencer._units.manifest import BranchAccount, Manifest
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.routing import Routes, SplitRouting
from bulk_inferencer._units.sinks.sink import BranchResult, ScoredBatch, Sink
from bulk_inferencer._units.unit_files import UnitFiles
from bulk_inferencer._work import Work

_ALL_TO_ALL = Routes(rows={}, keys=(), failed=())


@dataclass(frozen=True)
class Scoring:
    """The loaded models of a run, by name. All threads of a process share them.

    Without a `routing`, each record goes to all of them.
    """

    scorers: Mapping[str, LogScorer]
    bounds: BatchBounds
    routing: SplitRouting | None = None

    def score(self, batch: Batch, work: Mapping[str, Work]) -> ScoredBatch:
        """Returns what each model made of a batch; `work` counts what that takes, by model."""
        records = batch.records
        routes = self.routing.route(records) if self.routing else _ALL_TO_ALL
        branches = {}
        for name, scorer in self.scorers.items():
            rows = routes.rows.get(name)
            results = list(scorer.score(records, work[name], rows))
            branches[name] = BranchResult(
                examples_read=len(records if rows is None else rows),
                scored=[result for result in results if isinstance(result, ScoredRows)],
                failed=[result for result in results if isinstance(result, Failed)],
            )
        return ScoredBatch(batch, branches, routes.failed, routes.keys)


@dataclass(frozen=True)
class UnitTask:
    """What a worker needs to know to run units. An engine sends it there."""

    models: Mapping[str, Model]
    labels: Mapping[str, str]  # what messages about each model begin with
    record_format: str
    bounds: BatchBounds
    routing: SplitRouting | None
    sinks: tuple[Sink, ...]

    def load(self) -> LoadedTask:
        """Loads the models and what sinks need. Call it once per process.

        Raises:
          BulkInferencerError: see `Model.load`.
        """
        scorers = {
            name: LogScorer.load(model, self.record_format, self.bounds, self.labels[name])
            for name, model in self.models.items()
        }
        scoring = Scoring(scorers, self.bounds, self.routing)
        return LoadedTask(scoring, tuple(sink.loaded() for sink in self.sinks))


@dataclass(frozen=True)
class LoadedTask:
    """A task on a worker. All threads of a process share it."""

    scoring: Scoring
    sinks: tuple[Sink, ...]

    def run(self, unit: Unit, new_work: Callable[[], Work] = Work) -> Manifest:
        """Runs a unit; see `run_unit`."""
        return run_unit(unit, self.scoring, self.sinks, new_work)


def run_unit(
    unit: Unit, scoring: Scoring, sinks: Sequence[Sink], new_work: Callable[[], Work] = Work
) -> Manifest:
    """Scores every record of the unit's files, and hands each scored batch to the sinks.

    The shards get their final names, by one rename each, when the unit is complete. A second
    attempt writes the same records and replaces them.

    Raises:
      InputError: a file cannot be read.
      ModelError: the model fails whatever the records are.
      SettingsError: a column would overwrite an input feature.
    """
    started = time.monotonic()
    read = unrouted = 0
    branches = {name: BranchAccount(work=new_work()) for name in scoring.scorers}
    work = {name: account.work for name, account in branches.items()}
    with UnitFiles() as files:
        opened = {sink.name: sink.open(unit, files) for sink in sinks}
        for batch in read_batches((file.path for file in unit.files), scoring.bounds):
            scored = scoring.score(batch, work)
            read += len(batch.records)
            unrouted += len(scored.unrouted)
            for name, result in scored.branches.items():
                _count(branches[name], result)
            for sink in opened.values():
                sink.write(scored)
        accounts = {name: sink.close() for name, sink in opened.items()}
        files.commit()
    return Manifest(
        split=unit.split,
        index=unit.index,
        files=tuple(file.path for file in unit.files),
        examples_read=read,
        unrouted=unrouted,
        branches=branches,
        sinks=accounts,
        seconds=time.monotonic() - started,
    )


def _count(account: BranchAccount, result: BranchResult) -> None:
    account.examples_read += result.examples_read
    account.examples_failed += len(result.failed)
    for piece in result.scored:
        account.predictions_made += len(piece.rows)
        account.add(piece.prediction.versions, piece.prediction.stages)
