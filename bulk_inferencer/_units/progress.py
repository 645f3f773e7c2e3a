"""How far units are: workers say so in small files, and whoever started the run reads them.

worker    UnitProgress -> Heartbeat -> <manifests folder>/<key>.progress, while the unit runs
                                       its manifest beside it, once it has run
launcher                    Tally  <-  both, for all units

Both names begin with the unit's key, so that a second attempt does not count beside the first.
Where the batches of a unit go to several processes, see `process_progress`.
"""

from __future__ import annotations

import json
import logging
import posixpath
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, replace
from typing import Any, NamedTuple

from bulk_inferencer import _files
from bulk_inferencer._formats.batches import Batch
from bulk_inferencer._units.failure_watch import Attempt
from bulk_inferencer._units.manifest import BranchAccount, Manifest
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.run_file import RunIsOver, is_run_over, write_for_run
from bulk_inferencer.results import codec
from bulk_inferencer.results.timeline import TimelineRecorder

_logger = logging.getLogger(__name__)

_HEARTBEAT = ".progress"
_MANIFEST = ".json"
_LARGE = ("files", "sinks", "timeline")  # of a manifest
_PROCESS = "process-"  # which no key of a unit begins with
# Between two heartbeats.
_LOCAL_SECONDS = 0.25
_REMOTE_SECONDS = 5.0
_PATIENCE_SECONDS = 10.0  # with a filesystem that does not answer


@dataclass(frozen=True)
class Heartbeat:
    """What a unit has done so far, or several. Heartbeats can be added.

    Attributes:
      bytes_read: about how many bytes of its files, as they are stored.
      records: records that all models are done with.
      predicted: predictions of all models.
      failed: failures of all models, and records that reached none.
    """

    bytes_read: int = 0
    records: int = 0
    predicted: int = 0
    failed: int = 0

    def __add__(self, other: Heartbeat) -> Heartbeat:
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Heartbeat(*(a + b for a, b in pairs))


class _Batch(NamedTuple):
    """A batch that is being scored.

    Attributes:
      before: what the unit had done before it; only bytes and records.
      stored_bytes: see `Batch`.
      records: how many it has.
      results: how many results there will be, of all models.
      earlier_results: how many there were before it.
    """

    before: Heartbeat = Heartbeat()
    stored_bytes: int = 0
    records: int = 0
    results: int = 0
    earlier_results: int = 0


class UnitProgress:
    """How far a unit is. The thread that runs it counts; any thread may ask for a heartbeat."""

    def __init__(self) -> None:
        self.timeline = TimelineRecorder()
        self.batch_records = 0  # of the last call of a model
        self.is_run_over = False
        self._attempt: Attempt | None = None
        self._batch = _Batch()
        self._called = time.time()

    def begins(self, attempt: Attempt) -> None:
        """Begins with an attempt, which counts its results."""
        self._attempt = attempt
        self._called = time.time()

    def begins_batch(self, batch: Batch, models: int) -> None:
        """Begins with a batch, each record of which goes to so many models.

        Raises:
          RunIsOver: nobody wants the unit any more.
        """
        if self.is_run_over:
            raise RunIsOver
        count = len(batch.records)
        earlier = sum(self._results())
        self._batch = _Batch(self._batch.before, batch.stored_bytes, count, count * models, earlier)

    def called(self, records: int) -> None:
        """Counts a call of a model."""
        now = time.time()
        self.timeline.add(min(self._called, now), now, records)
        self._called, self.batch_records = now, records

    def ends_batch(self) -> None:
        """Ends with a batch: all models are done with it."""
        batch = self._batch
        done = Heartbeat(batch.stored_bytes, batch.records)
        self._batch = _Batch(batch.before + done)

    def ends_file(self, more_bytes: int) -> None:
        """Counts the bytes of a file that are not those of its records."""
        before = self._batch.before + Heartbeat(more_bytes)
        self._batch = self._batch._replace(before=before)

    def heartbeat(self) -> Heartbeat:
        """Returns what is done so far. Of a batch, what models have already returned counts."""
        batch = self._batch
        predicted, failed = self._results()
        done = predicted + failed - batch.earlier_results
        share = min(1.0, max(0, done) / batch.results) if batch.results else 0.0
        of_batch = Heartbeat(int(batch.stored_bytes * share), int(batch.records * share))
        return replace(batch.before + of_batch, predicted=predicted, failed=failed)

    def _results(self) -> tuple[int, int]:
        """Returns how many records were predicted and failed so far, by any model or none."""
        tallies = list(self._attempt.tallies.items()) if self._attempt else []
        predicted = sum(tally.scored for branch, tally in tallies if branch is not None)
        return predicted, sum(tally.failed for _, tally in tallies)


@contextmanager
def heartbeats(
    folder: str, unit: Unit, progress: UnitProgress, run_file: str = ""
) -> Iterator[None]:
    """Writes how far a unit is into a file in a folder, within `with`, and deletes it at the end.

    Lets the unit know if its run is over. Does nothing without a folder. No error of the filesystem
    reaches the unit.
    """
    if not folder:
        yield
        return
    ended = threading.Event()
    path = posixpath.join(folder, unit.key + _HEARTBEAT)
    # A thread of its own: a store that is slow, or does not answer, must not hold up the unit.
    thread = threading.Thread(
        target=_beat, args=(path, progress, run_file, ended), name="heartbeats", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_PATIENCE_SECONDS)


def _beat(path: str, progress: UnitProgress, run_file: str, ended: threading.Event) -> None:
    file = HeartbeatFile(path, run_file)
    while not ended.wait(file.interval) and not progress.is_run_over:
        progress.is_run_over = file.write(progress.heartbeat(), progress.batch_records)
    file.delete()


class HeartbeatFile:
    """A file that says how far a unit is, or a process. No error of the filesystem gets out.

    Attributes:
      interval: how many seconds to wait before it is written again.
    """

    def __init__(self, path: str, run_file: str) -> None:
        """Names the file, and that of the run, without which it is not written."""
        self.interval = poll_seconds(path, _LOCAL_SECONDS)
        self._path = path
        self._run_file = run_file
        self._last: dict[str, int] | None = None
        self._has_failed = False

    @classmethod
    def of_process(cls, folder: str, run_file: str) -> HeartbeatFile:
        """Returns that of a process, in the folder of all heartbeats."""
        return cls(posixpath.join(folder, f"{_PROCESS}{uuid.uuid4().hex}{_HEARTBEAT}"), run_file)

    def write(self, heartbeat: Heartbeat, batch_records: int) -> bool:
        """Writes it if there is news, and returns whether the run is over.

        `batch_records` is the size of the last call of a model.
        """
        try:
            now = {**asdict(heartbeat), "batch_records": batch_records}
            if now == self._last:
                return is_run_over(self._run_file)
            self._last = now
            return not write_for_run(self._path, json.dumps(now).encode(), self._run_file)
        except Exception:  # whatever a filesystem raises
            _logger.log(
                logging.DEBUG if self._has_failed else logging.INFO,
                "Cannot write %s, so nobody sees how far this unit is.",
                self._path,
                exc_info=True,
            )
            self._has_failed = True
        return False

    def delete(self) -> None:
        """Deletes it, if it was written."""
        if self._last is not None:
            try:
                _files.delete(self._path)
            except Exception:  # whatever a filesystem raises
                _logger.info(
                    "Cannot delete %s. The end of the run will.", self._path, exc_info=True
                )


@contextmanager
def heartbeats_of_processes(folder: str) -> Iterator[None]:
    """Deletes them at the end of `with`, since a process does not know when it is done."""
    try:
        yield
    finally:
        try:
            for path in _files.matching(f"{_files.literal(folder)}/{_PROCESS}*"):
                _files.delete(path)
        except Exception:  # whatever a filesystem raises
            _logger.info("Cannot delete heartbeats in %s.", folder, exc_info=True)


def poll_seconds(folder: str, local: float) -> float:
    """Returns how often to write to a folder, or to look into it: `local` if it is on a disk."""
    return local if _files.is_local(folder) else max(local, _REMOTE_SECONDS)


@dataclass(frozen=True)
class _Finished:
    """What a manifest says of a unit, so far as it matters here."""

    examples_read: int
    unrouted: int
    branches: Mapping[str, BranchAccount]


class Tally:
    """What all units of a run have done so far.

    Attributes:
      bytes_total: the size of their input.
      units: how many there are.
      batch_records: how many records one of the last calls of a model took.
      is_scoring: whether any worker has begun.
    """

    def __init__(
        self, units: Sequence[Unit], finished: Sequence[Manifest], folder: str = ""
    ) -> None:
        """Begins with units that are finished; what else is in the folder by now does not count."""
        self._folder = folder
        self._bytes = {unit.key: unit.own_bytes for unit in units}
        self.bytes_total = sum(self._bytes.values())
        self.units = len(units)
        self.batch_records = 0
        self.is_scoring = False
        self._finished_units: set[str] = set()
        self._finished = Heartbeat()
        for own in finished:
            self._finish(own.key, _Finished(own.examples_read, own.unrouted, own.branches))
        self._before = self._finished
        self._processes: dict[str, Heartbeat] = {}
        self._running: dict[str, Heartbeat] = {}
        self._seen = self._files() if folder else {}

    @property
    def done(self) -> Heartbeat:
        """What all units have done so far."""
        in_units = sum(self._running.values(), self._finished)
        # What processes have done is in their units too, but may be so much later.
        in_processes = sum(self._processes.values(), self._before)
        most = min(self.bytes_total, in_processes.bytes_read)  # A batch may have been done twice.
        return max(
            in_units,
            replace(in_processes, bytes_read=most),
            key=lambda own: (own.bytes_read, own.records),
        )

    @property
    def units_done(self) -> int:
        """How many units are finished."""
        return len(self._finished_units)

    def update(self) -> None:
        """Reads what has changed. Nothing that was done is taken back."""
        found = self._files()
        changed = [path for path, stored in found.items() if self._seen.get(path) != stored]
        is_local = _files.is_local(self._folder)
        read = map(_read, changed) if is_local else _files.in_parallel(_read, changed)
        # The heartbeat of a unit comes before its manifest.
        for path, values in sorted(zip(changed, read, strict=True), key=_is_manifest):
            if values is not None:
                self._seen[path] = found[path]
                self._take(*_name(path), values)

    def _files(self) -> dict[str, _files.Stored]:
        """Returns the files of units that are not finished."""
        return {
            path: stored
            for path, stored in _files.matching(f"{_files.literal(self._folder)}/*").items()
            if (name := _name(path))[1] in (_HEARTBEAT, _MANIFEST)
            and (name[0] in self._bytes or name[0].startswith(_PROCESS))
            and name[0] not in self._finished_units
        }

    def _take(self, key: str, ending: str, values: Mapping[str, Any]) -> None:
        self.is_scoring = True
        if ending == _MANIFEST:
            self._running.pop(key, None)
            self._finish(key, codec.from_json(_Finished, values))
            return
        self.batch_records = values["batch_records"] or self.batch_records
        new, old = codec.from_json(Heartbeat, values), self._running.get(key, Heartbeat())
        if key not in self._bytes:
            self._processes[key] = new
            return
        # A second attempt counts only from where the first one got to.
        self._running[key] = max(old, new, key=lambda own: (own.bytes_read, own.records))

    def _finish(self, key: str, finished: _Finished) -> None:
        if key in self._finished_units:  # by another attempt
            return
        self._finished_units.add(key)
        branches = finished.branches.values()
        self.batch_records = max(
            [self.batch_records, *(own.work.batch_records.max for own in branches)]
        )
        self._finished += Heartbeat(
            # All of its files, even if it may have skipped the rest of one.
            bytes_read=self._bytes[key],
            records=finished.examples_read,
            predicted=sum(own.predictions_made for own in branches),
            failed=finished.unrouted + sum(own.examples_failed for own in branches),
        )


def _name(path: str) -> tuple[str, str]:
    """Returns the key of a unit, and what kind of file of it this is."""
    key, dot, rest = posixpath.basename(path).partition(".")
    return key, dot + rest.rpartition(".")[2]


def _is_manifest(file: tuple[str, Any]) -> bool:
    return _name(file[0])[1] == _MANIFEST


def _read(path: str) -> Mapping[str, Any] | None:
    """Returns what is in a file; None if it has just been deleted, or is not whole."""
    try:
        with _files.open_to_read(path) as file:
            values = json.loads(file.read())
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(values, dict):
        return None
    # There may be thousands of them at once.
    return {name: own for name, own in values.items() if name not in _LARGE}
