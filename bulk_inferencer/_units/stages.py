"""The road of a record in three stages, of which only one needs an accelerator.

    Unit -> read    -> (0, batch), (64, batch), ..., (n, end)
            predict -> (0, scored), (64, scored), ..., (n, end)    anywhere, in any order
            write   -> shards, Manifest                            all of a unit, on one worker

These are the parts of `run_unit`, which does all of it at once. What one stage hands to the next is
bytes, each with a number: how many records of the unit come before it. So whoever writes sees
whether any are missing.

A reader cannot know what predictions take, so it fills batches up to their bounds, and whoever
predicts cuts them further, by what it has learned from the predictions that it has made. Each stage
holds one batch at a time in memory.

Nothing here knows which engine it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeAlias

from bulk_inferencer._formats.batches import read_batches
from bulk_inferencer._units.damaged_files import DamageList
from bulk_inferencer._units.failure_watch import Attempt, FailureWatch
from bulk_inferencer._units.manifest import Manifest
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.process_progress import ProcessProgress
from bulk_inferencer._units.progress import UnitProgress, poll_seconds
from bulk_inferencer._units.room import Room
from bulk_inferencer._units.run import UnitTask, finished
from bulk_inferencer._units.sinks.sink import ScoredBatch
from bulk_inferencer._units.spool import Spool, spooled
from bulk_inferencer._units.stage_codec import (
    Encoders,
    EndOfUnit,
    ReadBatch,
    ScoredPart,
    decode,
    encode,
)
from bulk_inferencer._units.unit_files import UnitFiles
from bulk_inferencer._units.unit_writer import UnitWriter
from bulk_inferencer._units.worker import UnitWorker
from bulk_inferencer._work import Work
from bulk_inferencer.errors import ReconciliationError

# What goes from stage to stage: a number, and a value of `stage_codec`.
Numbered: TypeAlias = tuple[int, bytes]


def without_models(worker: UnitWorker) -> UnitWorker:
    """Returns who reads and writes, without models: pickled, it needs no module of theirs."""
    return replace(worker, task=replace(worker.task, models={}, model_files={}, drawn={}))


def read(worker: UnitWorker, unit: Unit) -> Iterator[Numbered]:
    """Yields the batches of a unit, and its end; stops early if the run is over.

    Raises:
      WorkerError: see `UnitWorker`.
    """
    with worker.at_work(_as_it_is) as task:
        if task:
            yield from _read(task, unit)


def predict(
    worker: UnitWorker, key: str, numbered: Numbered, new_work: Callable[[], Work] = Work
) -> Iterator[Numbered]:
    """Yields the predictions for a batch, in one part or more; nothing if the run is over.

    The end of a unit goes on as it is. `key` is that of the unit.

    Raises:
      WorkerError: see `UnitWorker`.
    """
    number, content = numbered
    value = decode(content)
    if isinstance(value, EndOfUnit):
        yield numbered
        return
    assert isinstance(value, ReadBatch)
    with worker.at_work(_Predictors, poll_seconds(worker.stop.path, 0.0)) as predictors:
        if predictors:
            yield from predictors.score(key, number, value, new_work)


def write(worker: UnitWorker, numbered: Iterable[Numbered]) -> Manifest | None:
    """Writes a unit, of which all parts must be here, and returns its manifest.

    Returns None if the run is over.

    Raises:
      WorkerError: see `UnitWorker`.
    """
    with worker.at_work(_Sinks) as sinks:
        if sinks:
            with spooled(numbered) as spool:
                return sinks.write(spool)
    return None


def _as_it_is(task: UnitTask) -> UnitTask:
    return task


def _read(task: UnitTask, unit: Unit) -> Iterator[Numbered]:
    began = time.monotonic()
    number = 0
    progress = UnitProgress()
    damage = DamageList(task.damaged_files, unit.split)
    room = Room(task.bounds.max_records, task.limit)
    for batch in read_batches(
        task.reader,
        unit.files,
        task.bounds,
        room.records,
        on_damage=damage.add,
        on_end=progress.ends_file,
    ):
        progress.begins_batch(batch, 0)
        yield number, encode(ReadBatch(unit.split, batch))
        number += len(batch.records)
        room.took(len(batch.records))
        progress.ends_batch()
        if not room.records():
            break
    bytes_read = progress.heartbeat().bytes_read
    yield number, encode(EndOfUnit(unit, damage.found, bytes_read, time.monotonic() - began))


class _Predictors:
    """The loaded models of a process."""

    def __init__(self, task: UnitTask) -> None:
        self._scoring = task.load_models()
        self._room = Room(task.bounds.first_records)
        self._progress = ProcessProgress(task.manifests_folder, task.run_file)

    def score(
        self, key: str, number: int, read: ReadBatch, new_work: Callable[[], Work]
    ) -> Iterator[Numbered]:
        scoring, start, count = self._scoring, 0, len(read.batch.records)
        # By its number, since a batch may come again if an engine repeats it.
        with scoring.watch.attempt(read.split, f"{key}-{number}") as attempt:
            while start < count:
                began = time.monotonic()
                batch = read.batch.part(start, min(count, start + self._room.records()))
                work = {name: new_work() for name in scoring.scorers}
                progress = UnitProgress()
                progress.begins(attempt)
                scored = scoring.score(batch, work, attempt, progress)
                self._room.learn(scored)
                self._progress.add(scored, progress.batch_records)
                timeline = progress.timeline.timeline()
                part = ScoredPart(scored, work, timeline, time.monotonic() - began)
                yield number + start, encode(part)
                start += len(batch.records)


class _Sinks:
    """The sinks of a process."""

    def __init__(self, task: UnitTask) -> None:
        self._task = task
        self._sinks = task.load_sinks()
        self._encoders: Encoders = {}
        self._watch = FailureWatch(task.failure_limit, task.labels)

    def write(self, spool: Spool) -> Manifest:
        number, content = spool.last()
        end = decode(content)
        if not isinstance(end, EndOfUnit):
            raise _incomplete(number)
        return finished(self._task, end.unit, lambda progress: self._write(end, spool, progress))

    def _write(self, end: EndOfUnit, spool: Spool, progress: UnitProgress) -> Manifest:
        task, unit = self._task, end.unit
        models_per_record = 1 if task.routing else len(task.labels)
        work = {name: Work() for name in task.labels}
        seconds, done = end.seconds, 0
        with (
            self._watch.attempt(unit.split, unit.key) as attempt,
            UnitFiles(task.files_folder) as files,
        ):
            writer = UnitWriter(unit, self._sinks, files, work, attempt)
            progress.begins(attempt)
            for number, content in spool:
                if number != done:
                    raise _incomplete(done)
                part = decode(content, self._encoders)
                if isinstance(part, EndOfUnit):
                    continue  # It is the last one.
                assert isinstance(part, ScoredPart)
                progress.begins_batch(part.scored.batch, models_per_record)
                _count(part.scored, attempt)
                writer.write(part.scored)
                for name, own in part.work.items():
                    work[name].merge(own)
                progress.timeline.merge(part.timeline)
                seconds += part.seconds
                done += len(part.scored.batch.records)
                progress.ends_batch()
            return writer.close(
                end.damaged_files, end.bytes_read, progress.timeline.timeline(), seconds
            )


def _count(scored: ScoredBatch, attempt: Attempt) -> None:
    """Counts what became of a batch, as `Scoring.score` does while it scores."""
    attempt.scored(None, len(scored.batch.records) - len(scored.unrouted))
    for name, result in scored.branches.items():
        attempt.scored(name, sum(len(piece.rows) for piece in result.scored))
    for failed, branch in scored.failures():
        attempt.failed(branch, failed, scored.batch)


def _incomplete(number: int) -> ReconciliationError:
    return ReconciliationError(
        f"Records of a unit were lost or came twice on their way from one step of the job to the "
        f"next, the first of them with number {number}. Nothing was committed. Run again."
    )
