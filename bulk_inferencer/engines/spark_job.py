"""One Spark job with a task for each unit, in a session of either kind."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from bulk_inferencer.engines.spark_session import is_connect

_CONNECT_TASKS = 1000


class Job(Protocol):
    """A job that is started once."""

    def start(self, run: Callable[[bytes], str], units: Sequence[bytes]) -> Future[str]:
        """Starts to call a function with each unit on a worker, and returns at once.

        Returns:
          what will be the first text that a call returns which is not empty, if any.
        """

    def cancel(self) -> None:
        """Ends the job, whose future then fails."""

    def cores(self) -> int:
        """Returns how many tasks can run at once on the workers that are there."""

    def has_begun(self) -> bool:
        """Returns whether a task has started; True if that cannot be told."""

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

    def start(self, run: Callable[[bytes], str], units: Sequence[bytes]) -> Future[str]:
        """See `Job`."""
        from pyspark import inheritable_thread_target

        def run_all() -> str:
            self._context.setJobGroup(self._group, "bulk_inferencer")  # for this thread
            texts = self._context.parallelize(units, len(units)).map(run).filter(bool).collect()
            return next(iter(texts), "")

        return _in_thread(inheritable_thread_target(run_all))

    def cancel(self) -> None:
        """See `Job`."""
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
        from pyspark.sql.functions import spark_partition_id

        self._session = session
        self._tag = f"bulk_inferencer-{uuid.uuid4().hex}"
        # As many as the server makes if nobody says how many. A job too, which would have to wait
        # once the other one runs.
        partitions = session.range(10_000).select(spark_partition_id()).distinct()
        self._cores = len(partitions.collect())

    def start(self, run: Callable[[bytes], str], units: Sequence[bytes]) -> Future[str]:
        """See `Job`."""
        # Every task gets all units, among which it finds its own: a shuffle would take longer.
        count = min(len(units), _CONNECT_TASKS)

        def run_numbered(batches: Iterable[Any]) -> Iterator[Any]:
            import pyarrow as pa

            numbers = [number for batch in batches for number in batch.column(0).to_pylist()]
            texts = [run(unit) for number in numbers for unit in units[number::count]]
            column = pa.array(filter(None, texts), pa.string())
            yield pa.RecordBatch.from_arrays([column], ["text"])

        def run_all() -> str:
            self._session.addTag(self._tag)  # for this thread
            numbers = self._session.range(0, count, 1, count)
            rows = numbers.mapInArrow(run_numbered, "text string").collect()
            return next((row.text for row in rows), "")

        return _in_thread(run_all)

    def cancel(self) -> None:
        """See `Job`."""
        self._session.interruptTag(self._tag)

    def cores(self) -> int:
        """See `Job`."""
        return self._cores

    def has_begun(self) -> bool:
        """See `Job`."""
        return True

    def is_at_work(self) -> bool:
        """See `Job`."""
        return False


def _in_thread(function: Callable[[], str]) -> Future[str]:
    future: Future[str] = Future()

    def call() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001, it goes to whoever waits
            future.set_exception(error)

    threading.Thread(target=call, name="spark", daemon=True).start()
    return future
