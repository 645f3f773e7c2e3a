"""The run of a job: checks it, plans units, hands them to an engine, and closes the books."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import time
from collections.abc import Callable, Mapping, Sequence

from bulk_inferencer._access import is_known
from bulk_inferencer._checks import check_kind
from bulk_inferencer._closing import log_results, summarize
from bulk_inferencer._earlier import basis_of_job, finished
from bulk_inferencer._models.paths import paths_of
from bulk_inferencer._preparation import Prepared, prepare
from bulk_inferencer._progress import Progress, Watch, watching
from bulk_inferencer._signals import ended_by_sigterm
from bulk_inferencer._units.basis import digest_of
from bulk_inferencer._units.commit import check_shards, close_books, final_names, placed
from bulk_inferencer._units.damaged_files import check_damaged_files
from bulk_inferencer._units.manifest import Manifest
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.run import UnitTask
from bulk_inferencer._units.sinks.failure_list import FailureList
from bulk_inferencer._units.sinks.statistics import PredictionStatistics
from bulk_inferencer._units.spot_check import draw
from bulk_inferencer._units.stop_sign import StopSign
from bulk_inferencer._units.worker import UnitWorker
from bulk_inferencer._units.workspace import Workspace, workspace
from bulk_inferencer._verdict import judged_again, log_verdict, read_baselines, with_verdict
from bulk_inferencer.engines.beam import Beam
from bulk_inferencer.engines.engine import Engine, run_units
from bulk_inferencer.engines.modules import read_modules
from bulk_inferencer.job import InferenceJob
from bulk_inferencer.results.statistics import Statistics
from bulk_inferencer.results.summary import Summary

_logger = logging.getLogger(__name__)


def run(
    job: InferenceJob,
    engine: Engine | None = None,
    restart: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Scores every record of the job's splits, and commits all results or none.

    If the gates of all models are closed, nothing is read, and the summary says why. If a run of
    the same job did not end, this one goes on where it stopped. If it did, its summary comes back.

    ```python
    summary = run(job)
    summary.total.predictions_written
    ```

    Args:
      job: what to run.
      engine: what spreads the work over workers: `engines.Beam`, `engines.Ray` or `engines.Spark`.
        Default: Beam's local runner, with a thread per core.
      restart: whether to delete what an unfinished run left, and to start anew.
      progress: is called about twice a second with how far the run is, from a thread of its own, at
        the start and at the end; where files are far away, less often. If it raises, the run ends
        with that error, and the next one goes on. Without it, a notebook shows a line that updates
        itself. In any case, the log has a line every ten seconds.

    Returns:
      The summary, as written to `summary.json`.

    Raises:
      ModelError: the model, a signature or a tag does not exist, or cannot take the records.
      SettingsError: a column or an expectation names an output that the model does not have, or a
        folder is not empty, or holds what an unfinished run of another job left.
      FolderInUseError: another run is writing to a folder.
      InputError: files are missing, damaged or named twice.
      FailureLimitError: too many records failed.
      ReconciliationError: the counts or shards do not add up.
    """
    check_kind("run's job", job, InferenceJob, "InferenceJob(splits=..., model=..., outputs=...)")
    engine = engine_or_default(engine)
    with watching(progress) as watch:
        return _watched_run(job, engine, restart, watch)


def engine_or_default(engine: Engine | None) -> Engine:
    """Returns an engine that was given, or the default one.

    Raises:
      SettingsError: it is something else, such as the name of one.
    """
    if engine is None:
        return Beam()
    check_kind("The engine", engine, Engine, "engines.Beam(), engines.Ray() or engines.Spark()")
    return engine


def _watched_run(
    job: InferenceJob,
    engine: Engine,
    restart: bool,
    watch: Watch,
) -> Summary:
    """Runs a job; see `run`."""
    clock = _Clock()
    if job.open_branches:  # Closed gates need no cluster.
        engine.check()
    engine.check_paths(_paths_of_workers(job))
    engine.open_filesystems(_paths(job))
    modules = read_modules(job.modules if job.open_branches else ())
    prepared = prepare(job)
    for branch in job.open_branches:
        fingerprint = prepared.fingerprints[branch.name] or "unknown"
        _logger.info("Scoring with %s; fingerprint: %s.", branch.model.uri, fingerprint)
    basis = basis_of_job(job, prepared)
    made_from = {**basis.everything, "the folders": digest_of(job.folders)} if basis else {}
    baselines = read_baselines(job)
    if earlier := finished(job, made_from):
        summary = judged_again(job, earlier, baselines)
        log_verdict(job, summary)
        watch.was_done(summary)
        return summary
    clock.lap("plan")
    with (
        ended_by_sigterm(),
        workspace(job.folders, job.outputs.summary, basis, job.checkpoint, restart) as space,
    ):
        task = _task_in(space, job, prepared)
        units, reused = space.plan(task, prepared.inputs)
        _score(task, units, reused, engine, modules, watch)
        clock.lap("score")
        space.claims.check()
        gathered = space.gather(task, units, reused)
        manifests, notes = gathered.manifests, gathered.notes
        watch.commits(units, manifests)
        damaged_files = check_damaged_files(job.damaged_files, manifests)
        books = close_books(task, units, manifests, job.failure_limit, notes[FailureList.name])
        finals = final_names(task.sinks, units, manifests)
        with placed(finals, keeps_shards=bool(space.files_folder)):
            for sink in task.sinks:
                sink.finish(list(prepared.inputs), manifests, notes[sink.name])
            check_shards(finals, job.folders)
            clock.lap("commit")
            statistics = notes[PredictionStatistics.name] or Statistics()
            summary = summarize(
                job,
                prepared,
                gathered,
                books,
                reused=reused,
                made_from=made_from,
                damaged_files=damaged_files,
                statistics=statistics,
                seconds=clock.laps,
                started=watch.started,
            )
            summary = with_verdict(job, summary, statistics, baselines)
            space.claims.check()
            summary.write(job.outputs.summary)
    log_results(job, summary, prepared.inputs, books)
    log_verdict(job, summary)
    return summary


def _paths(job: InferenceJob) -> list[str]:
    """Returns all paths that a job names."""
    if not job.open_branches:
        return list(job.folders)
    uris = [branch.model.uri for branch in job.open_branches]
    return [
        *job.written_folders,
        *itertools.chain.from_iterable(job.splits.values()),
        *([job.outcomes] if job.outcomes else []),
        *(branch.baseline for branch in job.open_branches if branch.baseline),
        *(uri for uri in uris if is_known(uri)),  # Others are those of endpoints.
    ]


def _paths_of_workers(job: InferenceJob) -> list[str]:
    """Returns the paths that workers read and write; none if there is nothing to score."""
    if not job.open_branches:
        return []
    return [
        *job.written_folders,
        *itertools.chain.from_iterable(job.splits.values()),
        *itertools.chain.from_iterable(paths_of(branch.model) for branch in job.open_branches),
    ]


def _task_in(space: Workspace, job: InferenceJob, prepared: Prepared) -> UnitTask:
    """Returns the task with where units leave what they make, and the records to try first."""
    drawn = {
        split: draw(split, files, job.failure_limit.max_fraction)
        for split, files in prepared.inputs.items()
        if job.limit is None  # or it would read files that the run does not
    }
    return dataclasses.replace(
        prepared.task,
        drawn=drawn,
        run_file=space.run_file,
        manifests_folder=space.manifests_folder,
        files_folder=space.files_folder,
    )


def _score(
    task: UnitTask,
    units: Sequence[Unit],
    reused: Sequence[Manifest],
    engine: Engine,
    modules: Mapping[str, bytes],
    watch: Watch,
) -> None:
    """Hands the units that no earlier run has finished to the engine."""
    done = {manifest.key for manifest in reused}
    if todo := [unit for unit in units if unit.key not in done]:
        stop = StopSign.in_folder(task.manifests_folder)
        with watch.scoring(task.manifests_folder, units, reused, stop):
            run_units(engine, UnitWorker(task, stop, modules), todo)


class _Clock:
    """Wall time of consecutive steps, in seconds."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = round(now - self._last, 3)
        self._last = now
