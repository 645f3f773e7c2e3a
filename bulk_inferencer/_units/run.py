"""The road of a record: here a unit is read, scored, written and counted.

    files -> batches -> ScoredBatch -> sinks -> shards, Manifest
             read       LogScorer      UnitWriter: each sink takes every batch once

With several models, each batch goes to all of them, or its records are shared out:

                        -> LogScorer of five
    files -> batches                          -> ScoredBatch -> sinks
                        -> LogScorer of ten

Nothing here knows which engine runs it: a thread of a worker calls `run_unit`, and so can a loop.
Where reading, scoring and writing have workers of their own, `stages` puts the same parts together.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bulk_inferencer._formats.batches import Batch, BatchBounds, read_batches
from bulk_inferencer._formats.input_format import Reader
from bulk_inferencer._formats.rows import joined
from bulk_inferencer._formats.tfrecord_reader import TFRecord
from bulk_inferencer._models.predictor import Files, Model, check_unchanged
from bulk_inferencer._models.scorer import Failed
from bulk_inferencer._models.scoring import LogScorer, ScoredRows
from bulk_inferencer._units.attempts import finish
from bulk_inferencer._units.damaged_files import DamagedFiles, DamageList
from bulk_inferencer._units.failure_limit import FailureLimit
from bulk_inferencer._units.failure_watch import Attempt, FailureWatch
from bulk_inferencer._units.manifest import Manifest
from bulk_inferencer._units.manifest_files import find_manifest
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.progress import UnitProgress, heartbeats
from bulk_inferencer._units.room import Room
from bulk_inferencer._units.routing import Routes, SplitRouting
from bulk_inferencer._units.run_file import RunIsOver, delete_empty_folders, is_run_over
from bulk_inferencer._units.sinks.sink import BranchResult, ScoredBatch, Sink
from bulk_inferencer._units.spot_check import Drawn, Verdict, beginnings, judge, sample
from bulk_inferencer._units.unit_files import UnitFiles
from bulk_inferencer._units.unit_writer import UnitWriter
from bulk_inferencer._work import Work
from bulk_inferencer.errors import prefix_errors

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
    run_file: str = ""  # is there for as long as the run wants its units
    manifests_folder: str = ""  # where finished units leave their manifests
    files_folder: str = ""  # where their files wait; default: in the `.work` of their outputs
    limit: int | None = None  # most records of a unit

    def load(self) -> LoadedTask:
        """Loads the models and what sinks need. Call it once per process.

        Raises:
          BulkInferencerError: see `Model.load`.
        """
        return LoadedTask(self, self.load_models(), self.load_sinks())

    def load_sinks(self) -> tuple[Sink, ...]:
        """Loads what sinks need; see `Sink.loaded`."""
        return tuple(sink.loaded() for sink in self.sinks)

    def load_models(self) -> Scoring:
        """Loads the models.

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
        return Scoring(scorers, self.bounds, self.routing, watch)

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
        return finished(
            task,
            unit,
            lambda progress: run_unit(
                unit,
                self.scoring,
                self.sinks,
                new_work,
                task.files_folder,
                task.damaged_files,
                task.reader,
                task.limit,
                progress,
            ),
        )


def finished(task: UnitTask, unit: Unit, run: Callable[[UnitProgress], Manifest]) -> Manifest:
    """Runs a unit by calling `run`, and leaves its manifest, which finishes it.

    Whoever started the run sees how far it is. If an earlier attempt has finished the unit, its
    manifest comes back, and `run` may not be called.

    Raises:
      RunIsOver: nobody wants the unit any more.
    """
    folder = task.manifests_folder
    if earlier := find_manifest(folder, unit.key):
        return earlier
    progress = UnitProgress()
    try:
        with heartbeats(folder, unit, progress, task.run_file):
            return finish(run(progress), folder, task.run_file)
    except Exception as error:
        if not is_run_over(task.run_file):
            raise
        delete_empty_folders(folder, [sink.folder for sink in task.sinks])
        raise RunIsOver from error


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
    progress = progress or UnitProgress()
    work = {name: new_work() for name in scoring.scorers}
    with scoring.watch.attempt(unit.split, unit.key) as attempt, UnitFiles(files_folder) as files:
        writer = UnitWriter(unit, sinks, files, work, attempt)
        damage = DamageList(damaged_files, unit.split)
        room = Room(scoring.bounds.first_records, limit)
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
            room.learn(writer.write(scored))
            room.took(len(batch.records))
            progress.ends_batch()
            if not room.records():
                break
        return writer.close(
            damage.found, progress.heartbeat().bytes_read, progress.timeline.timeline()
        )


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
