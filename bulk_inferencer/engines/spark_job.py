"""One Spark job whose tasks are units, in a session of either kind."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from bulk_inferencer.engines.spark_session import is_connect

_TASKS = 1000
_TASKS_PER_CORE = 8


Run = Callable[[Sequence[bytes]], str]


class Job(Protocol):
    """A job that is started once."""

    def start(self, run: Run, units: Sequence[bytes]) -> Future[str]:
        """Starts to call a function with the units of each task on a worker, and returns at once.

        Returns:
          what will be the first text that a call returns which is not empty, if any.
        """

    def cancel(self) -> None:
        """Ends the job, unless Spark is about to start it: then the next call does."""

    def cores(self) -> int:
        """Returns how many tasks can run at once on the workers that are there.

        That is known once the job has begun.
        """

    def has_begun(self) -> bool:
        """Returns whether a task has started."""

    def is_at_work(self) -> bool:
        """Returns whether a task is running; False if that cannot be told."""


def job_in(session: Any) -> Job:
    """Returns a job in a session."""
    return ConnectJob(session) if is_connect(session) else RddJob(session)


class RddJob:
    """A job in a session that has RDDs, which need no pyarrow."""

    def __init__(self, session: Any) -> None:
        self._context = session.sparkContext
        self._group = f"bulk_inferencer-{uuid.uuid4().hex}"
        self._is_cancelled = threading.Event()

    def start(self, run: Run, units: Sequence[bytes]) -> Future[str]:
        """See `Job`."""
        from pyspark import inheritable_thread_target

        def run_all() -> str:
            self._context.setJobGroup(self._group, "bulk_inferencer")  # for this thread
            tasks = _dealt_out(units, self.cores())
            texts = self._context.parallelize(tasks, len(tasks)).map(run).filter(bool)
            if self._is_cancelled.is_set():
                return ""
            return next(iter(texts.collect()), "")

        return _in_thread(inheritable_thread_target(run_all))

    def cancel(self) -> None:
        """See `Job`."""
        self._is_cancelled.set()
        self._context.cancelJobGroup(self._group)

    def cores(self) -> int:
        """See `Job`."""
        cores: int = self._context.defaultParallelism
        return cores

    def has_begun(self) -> bool:
        """See `Job`."""
        return any(s.numActiveTasks + s.numCompletedTasks for s in self._stages())

    def is_at_work(self) -> bool:
        """See `Job`."""
        return any(stage.numActiveTasks for stage in self._stages())

    def _stages(self) -> Iterator[Any]:
        tracker = self._context.statusTracker()
        for job in filter(None, map(tracker.getJobInfo, tracker.getJobIdsForGroup(self._group))):
            yield from filter(None, map(tracker.getStageInfo, job.stageIds))


class ConnectJob:
    """A job in a session of Spark Connect, which has data frames alone."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._tag = f"bulk_inferencer-{uuid.uuid4().hex}"
        self._is_cancelled = threading.Event()
        self._cores = 0

    def start(self, run: Run, units: Sequence[bytes]) -> Future[str]:
        """See `Job`."""

        def run_all() -> str:
            self._session.addTag(self._tag)  # for this thread
            self._cores = self._count_cores()
            # Every task gets all of them, and finds its own: a shuffle would take longer.
            tasks = _dealt_out(units, self._cores)

            def run_numbered(batches: Iterable[Any]) -> Iterator[Any]:
                import pyarrow as pa

                numbers = [number for batch in batches for number in batch.column(0).to_pylist()]
                texts = [run(tasks[number]) for number in numbers]
                column = pa.array(filter(None, texts), pa.string())
                yield pa.RecordBatch.from_arrays([column], ["text"])

            numbers = self._session.range(0, len(tasks), 1, len(tasks))
            texts = numbers.mapInArrow(run_numbered, "text string")
            if self._is_cancelled.is_set():
                return ""
            return next((row.text for row in texts.collect()), "")

        return _in_thread(run_all)

    def _count_cores(self) -> int:
        """Returns as many as the server makes partitions if nobody says how many.

        That takes a job, which would have to wait if the one with the units were running.
        """
        from pyspark.sql.functions import spark_partition_id

        partitions = self._session.range(10_000).select(spark_partition_id()).distinct()
        return len(partitions.collect())

    def cancel(self) -> None:
        """See `Job`."""
        self._is_cancelled.set()
        self._session.interruptTag(self._tag)

    def cores(self) -> int:
        """See `Job`."""
        return self._cores

    def has_begun(self) -> bool:
        """See `Job`."""
        return self._cores > 0  # which tasks have counted

    def is_at_work(self) -> bool:
        """See `Job`."""
        return False


def _dealt_out(units: Sequence[bytes], cores: int) -> list[Sequence[bytes]]:
    """Returns the units of each task: one, or several if there would be too many tasks.

    Each begins with one of the first units, which are the largest.
    """
    # Executors may be on their way, and so few cores are no reason for few tasks.
    count = min(len(units), max(_TASKS_PER_CORE * cores, _TASKS))
    return [units[number::count] for number in range(count)]


def _in_thread(function: Callable[[], str]) -> Future[str]:
    future: Future[str] = Future()

    def call() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001, it goes to whoever waits
            future.set_exception(error)

    threading.Thread(target=call, name="spark", daemon=True).start()
    return future
