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

import functools
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bulk_inferencer import _files
from bulk_inferencer._formats.batches import Batch, BatchBounds, read_batches
from bulk_inferencer._formats.input_format import Reader
from bulk_inferencer._formats.rows import joined
from bulk_inferencer._formats.tfrecord_reader import TFRecord
from bulk_inferencer._models.predictor import Files, Model, check_unchanged
from bulk_inferencer._models.scorer import Failed
from bulk_inferencer._models.scoring import LogScorer, ScoredRows
from bulk_inferencer._units.checkpoint import write_manifest
from bulk_inferencer._units.damaged_files import DamagedFiles, DamageList
from bulk_inferencer._units.failure_limit import FailureLimit
from bulk_inferencer._units.failure_watch import Attempt, FailureWatch
from bulk_inferencer._units.manifest import BranchAccount, Manifest
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.progress import UnitProgress, heartbeats
from bulk_inferencer._units.routing import Routes, SplitRouting
from bulk_inferencer._units.sinks.sink import BranchResult, OpenSink, ScoredBatch, Sink
from bulk_inferencer._units.spot_check import Drawn, Verdict, beginnings, judge, sample
from bulk_inferencer._units.unit_files import UnitFiles
from bulk_inferencer._work import Work
from bulk_inferencer.errors import OutputError, prefix_errors

# Predictions of a batch take no more memory than about this, however large outputs are.
_PREDICTION_BYTES = 64 << 20
_SOME_LOGS = 64  # whose mean size stands for all
_NO_LIMIT = FailureLimit(max_fraction=1)
_FAIL = DamagedFiles()
_TFRECORDS = TFRecord()
_ALL_TO_ALL = Routes(rows={}, keys=(), failed=())


@dataclass(frozen=True)
class Scoring:
    """The loaded models of a run, by name. All threads of a process share them.

    Without a `routing`, each record goes to all of them.
    """

    scorers: Mapping[str, LogScorer]
    bounds: BatchBounds
    routing: SplitRouting | None = None
    watch: FailureWatch = field(default_factory=lambda: FailureWatch(_NO_LIMIT))

    @property
    def models_per_record(self) -> int:
        """How many models a record goes to."""
        return 1 if self.routing else len(self.scorers)

    def score(
        self, batch: Batch, work: Mapping[str, Work], attempt: Attempt, progress: UnitProgress
    ) -> ScoredBatch:
        """Returns what each model made of a batch; `work` counts what that takes, by model.

        Raises:
          BulkInferencerError: see `run_unit`.
        """
        records = batch.records
        unreadable = [Failed(row, *reason) for row, reason in sorted(batch.unreadable.items())]
        # Without a routing, each model fails on what could not be read.
        shared = [] if self.routing else unreadable
        routes = self._routes(records, unreadable)
        attempt.scored(None, len(records) - len(routes.failed))
        for failed in routes.failed:
            attempt.failed(None, failed, batch)
        branches = {}
        for name, scorer in self.scorers.items():
            rows = routes.rows.get(name)
            scored = itertools.chain(shared, scorer.score(records, work[name], rows))
            results = list(_watched(scored, name, batch, attempt, progress))
            branches[name] = BranchResult(
                examples_read=len(shared) + len(records if rows is None else rows),
                scored=[result for result in results if isinstance(result, ScoredRows)],
                failed=sorted(
                    (result for result in results if isinstance(result, Failed)),
                    key=lambda failed: failed.index,
                ),
            )
        return ScoredBatch(batch, branches, routes.failed, routes.keys)

    def _routes(self, records: Sequence[bytes], unreadable: Sequence[Failed]) -> Routes:
        routes = self.routing.route(records) if self.routing else _ALL_TO_ALL
        if not unreadable:
            return routes
        bad = {failed.index for failed in unreadable}
        if not self.routing:
            readable = [row for row in range(len(records)) if row not in bad]
            return Routes(dict.fromkeys(self.scorers, readable), keys=(), failed=())
        return Routes(
            {name: [row for row in rows if row not in bad] for name, rows in routes.rows.items()},
            routes.keys,
            [*unreadable, *(failed for failed in routes.failed if failed.index not in bad)],
        )


@dataclass(frozen=True)
class UnitTask:
    """What a worker needs to know to run units. An engine sends it there."""

    models: Mapping[str, Model]
    labels: Mapping[str, str]  # what messages about each model begin with
    record_format: str
    bounds: BatchBounds
    routing: SplitRouting | None
    sinks: tuple[Sink, ...]
    reader: Reader = field(default_factory=TFRecord)
    failure_limit: FailureLimit = _NO_LIMIT
    damaged_files: DamagedFiles = _FAIL
    drawn: Mapping[str, Sequence[Drawn]] = field(default_factory=dict)  # by split; see `spot_check`
    model_files: Mapping[str, Files] = field(default_factory=dict)  # as the launcher found them
    claim: str = ""  # a file that is there for as long as the run goes on
    manifests_folder: str = ""  # where finished units leave their manifests
    files_folder: str = ""  # where their files wait; default: in the `.work` of their outputs
    limit: int | None = None  # most records of a unit

    def load(self) -> LoadedTask:
        """Loads the models and what sinks need. Call it once per process.

        Raises:
          BulkInferencerError: see `Model.load`.
        """
        every = [part for drawn in self.drawn.values() for part in drawn]
        elsewhere = functools.partial(beginnings, self.reader, every)
        scorers = {
            name: LogScorer.load(
                model, self.record_format, self.bounds, self.labels[name], elsewhere
            )
            for name, model in self.models.items()
        }
        for name, before in self.model_files.items():
            with prefix_errors(self.labels[name]):
                check_unchanged(self.models[name], before)
        spot_check = functools.partial(self._spot_check, scorers)
        watch = FailureWatch(self.failure_limit, self.labels, spot_check)
        scoring = Scoring(scorers, self.bounds, self.routing, watch)
        return LoadedTask(self, scoring, tuple(sink.loaded() for sink in self.sinks))

    def _spot_check(
        self, scorers: Mapping[str, LogScorer], split: str, branch: str
    ) -> Verdict | None:
        records = sample(self.reader, self.drawn.get(split, ()), self.bounds)
        if self.routing:
            read = [record for record in records if record is not None]
            records = [read[i] for i in self.routing.route(joined(read)).rows[branch]]
        return judge(records, scorers[branch].fails, self.failure_limit.max_fraction)


@dataclass(frozen=True)
class LoadedTask:
    """A task on a worker. All threads of a process share it."""

    task: UnitTask
    scoring: Scoring
    sinks: tuple[Sink, ...]

    def run(self, unit: Unit, new_work: Callable[[], Work] = Work) -> Manifest:
        """Runs a unit and leaves its manifest, which finishes it; see `run_unit`."""
        task = self.task
        progress = UnitProgress()
        with heartbeats(task.manifests_folder, unit, progress, task.claim):
            manifest = run_unit(
                unit,
                self.scoring,
                self.sinks,
                new_work,
                task.files_folder,
                task.damaged_files,
                task.reader,
                task.limit,
                progress,
            )
            try:
                write_manifest(task.manifests_folder, manifest)
            except OutputError:
                for shard in manifest.shards:  # Nothing would find them again; they take up room.
                    _files.delete(shard.path)
                raise
        return manifest


def run_unit(
    unit: Unit,
    scoring: Scoring,
    sinks: Sequence[Sink],
    new_work: Callable[[], Work] = Work,
    files_folder: str = "",
    damaged_files: DamagedFiles = _FAIL,
    reader: Reader = _TFRECORDS,
    limit: int | None = None,
    progress: UnitProgress | None = None,
) -> Manifest:
    """Scores every record of the unit's files, and hands each scored batch to the sinks.

    With a `limit`, it stops after so many. The shards get their final names when the run commits. A
    second attempt writes the same records into files of its own.

    Raises:
      FailureLimitError: more records fail than may, in all units that this process has run.
      InputError: a file cannot be read to its end, and may not be skipped.
      ModelError: the model fails whatever the records are.
      SettingsError: a column would overwrite an input feature.
    """
    started = time.monotonic()
    read = unrouted = 0
    progress = progress or UnitProgress()
    branches = {name: BranchAccount(work=new_work()) for name in scoring.scorers}
    work = {name: account.work for name, account in branches.items()}
    with scoring.watch.attempt(unit.split, unit.key) as attempt, UnitFiles(files_folder) as files:
        opened = {sink.name: sink.open(unit, files) for sink in sinks}
        damage = DamageList(damaged_files, unit.split)
        room = _Room(scoring.bounds.first_records, limit)
        progress.begins(attempt)
        for batch in read_batches(
            reader,
            unit.files,
            scoring.bounds,
            room.records,
            on_damage=damage.add,
            on_end=progress.ends_file,
        ):
            progress.begins_batch(batch, scoring.models_per_record)
            scored = scoring.score(batch, work, attempt, progress)
            scored = _fitting(scored, opened.values(), attempt)
            read += len(batch.records)
            unrouted += len(scored.unrouted)
            for name, result in scored.branches.items():
                _count(branches[name], result)
            for sink in opened.values():
                sink.write(scored)
            room.learn(scored)
            progress.ends_batch()
            if not room.records():
                break
        accounts = {name: sink.close() for name, sink in opened.items()}
    return Manifest(
        split=unit.split,
        index=unit.index,
        files=unit.files,
        examples_read=read,
        unrouted=unrouted,
        branches=branches,
        sinks=accounts,
        seconds=time.monotonic() - started,
        damaged_files=damage.found,
        key=unit.key,
        bytes_read=progress.heartbeat().bytes_read,
        timeline=progress.timeline.timeline(),
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


def _watched(
    results: Iterator[ScoredRows | Failed],
    branch: str,
    batch: Batch,
    attempt: Attempt,
    progress: UnitProgress,
) -> Iterator[ScoredRows | Failed]:
    for result in results:
        if isinstance(result, Failed):
            attempt.failed(branch, result, batch)
        else:
            attempt.scored(branch, len(result.rows))
            progress.called(len(result.rows))
        yield result


def _count(account: BranchAccount, result: BranchResult) -> None:
    account.examples_read += result.examples_read
    account.examples_failed += len(result.failed)
    for piece in result.scored:
        account.predictions_made += len(piece.rows)
        account.outputs.add(piece.prediction.outputs)
        account.add(piece.prediction.versions, piece.prediction.stages)


class _Room:
    """How many records a batch may have, so that memory holds what becomes of them."""

    def __init__(self, first_records: int, limit: int | None) -> None:
        self._fitting = first_records  # until it is known what their predictions take
        self._left = limit

    def records(self) -> int:
        """Returns how many the next batch may have; 0 after the last one."""
        return self._fitting if self._left is None else min(self._fitting, self._left)

    def learn(self, scored: ScoredBatch) -> None:
        """Learns from the last predictions of each model, and from some of their PredictionLogs."""
        if self._left is not None:
            self._left -= len(scored.batch.records)
        size = 1.0
        for result in scored.branches.values():
            for piece in result.scored[-1:]:
                arrays = sum(values.nbytes for values in piece.prediction.outputs.values())
                size += arrays / len(piece.rows)
                if logs := vars(piece).get("logs", ())[:_SOME_LOGS]:  # if a sink has made them
                    size += sum(map(len, logs)) / len(logs)
        self._fitting = max(1, int(_PREDICTION_BYTES / size))
