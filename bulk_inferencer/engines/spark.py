"""Units as tasks of one Spark stage."""

from __future__ import annotations

import logging
import math
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import TypeVar

from bulk_inferencer import _extras
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.progress import poll_seconds
from bulk_inferencer._units.worker import UnitWorker
from bulk_inferencer.engines import parcel
from bulk_inferencer.engines.engine import Engine, warn_of_idle_workers
from bulk_inferencer.engines.lookout import Lookout
from bulk_inferencer.engines.spark_job import Job, job_in
from bulk_inferencer.engines.spark_session import (
    check_session,
    java_exit_code,
    opened_session,
    reason_of,
)
from bulk_inferencer.engines.spark_worker import task_runner
from bulk_inferencer.errors import SettingsError, WorkerError

_logger = logging.getLogger(__name__)

# Each for a session that takes the engine's conf, and for one that does not.
_ADVICE = {
    True: (
        "Install the same packages on every node, or ship an environment with spark.archives and "
        "spark.pyspark.python."
    ),
    False: "Install the same packages on the cluster, before its session starts.",
}
_PYTHON_ADVICE = {
    True: (
        "Name the Python that workers have: "
        "Spark(conf={'spark.pyspark.python': '/path/to/python'})."
    ),
    False: (
        "Name the Python that workers have, in PYSPARK_PYTHON or spark.pyspark.python, before the "
        "session starts."
    ),
}
_LOG_ADVICE = (
    "The stderr of its executors says more; Spark's web page shows it. Run again, and nothing that "
    "is finished is scored again."
)
_LOOK_SECONDS = 0.5
_WARN_SECONDS = 15.0
_CANCEL_SECONDS = 30.0
_JAVA_SECONDS = 5.0

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Spark(Engine):
    """Runs units as tasks of one Spark stage, without a shuffle, and without records as rows.

    ```python
    run(job, engine=Spark("spark://head:7077", conf={"spark.executor.memory": "4g"}))
    ```

    A task is one unit, or several where there are more than 1000 of them, and than 8 for each core.
    They run one after the other, and if a task is tried again, those that were finished are not
    scored again. A model is loaded once in each Python process of Spark's: as many as an executor
    has cores. They need memory beside that of the executor, which on YARN and Kubernetes is
    `spark.executor.memoryOverhead`. What they log is in the `stderr` of their executor, which
    Spark's web page shows.

    For GPUs, give each executor one: `conf={"spark.executor.resource.gpu.amount": "1",
    "spark.task.resource.gpu.amount": "1"}`.

    Attributes:
      master: the cluster's, as Spark takes it; `sc://...` is a server of Spark Connect. Default:
        the session that is active, as in a notebook of Databricks, or what `spark-submit` says.
      conf: Spark's configuration, by name, for the session that the run starts and stops. A session
        that is active stays as it is. A server of Spark Connect takes what can be set in a running
        session, such as most of `spark.sql.*`. Workers run the Python that `spark.pyspark.python`
        or `PYSPARK_PYTHON` names; else, on this machine and on a standalone cluster, the one of
        this process.
      options: Beam's options, which open files.
    """

    master: str | None = None
    conf: Mapping[str, str] = field(default_factory=dict)
    options: Sequence[str] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.master is not None and not (isinstance(self.master, str) and self.master):
            raise SettingsError(
                f"Spark's master must be text such as 'spark://head:7077', not {self.master!r}. "
                f"Leave it out to use the session that is active."
            )
        if not isinstance(self.conf, Mapping):
            raise SettingsError(
                f"Spark's conf must be a dict such as {{'spark.executor.memory': '4g'}}, not "
                f"{self.conf!r}."
            )
        for name, value in self.conf.items():
            if not (isinstance(name, str) and isinstance(value, str)):
                raise SettingsError(
                    f"Spark's conf has {name!r}: {value!r}, but both must be text. Write numbers "
                    f"as '4', and True as 'true'."
                )

    def check(self) -> None:
        """See `Engine`."""
        _extras.require("pyspark", "spark", "engines.Spark")
        check_session(self.master, self.conf)

    def run_units(self, worker: UnitWorker, units: Sequence[Unit]) -> None:
        """See `Engine`."""
        from pyspark import cloudpickle

        cloudpickle.register_pickle_by_value(parcel)
        with opened_session(self.master, self.conf) as session:
            own = tuple(parcel.pack(worker, _ADVICE[session.takes_conf], self.options))
            job = job_in(session.spark)
            # The largest ones first, so that all workers end at about the same time.
            largest_first = map(pickle.dumps, sorted(units, key=lambda unit: -unit.own_bytes))
            done = job.start(task_runner(parcel.run_parcel, own), list(largest_first))
            try:
                _wait(done, job, worker, units)
                if not done.done():
                    return  # The run is over, and knows why.
            finally:
                if not done.done():
                    _cancel(done, job)
            if error := done.exception():
                raise WorkerError(_message(error, session.takes_conf)) from error
            if problem := done.result():
                raise WorkerError(problem)


def _wait(done: Future[str], job: Job, worker: UnitWorker, units: Sequence[Unit]) -> None:
    """Returns when the job is done, or else when the run is over."""
    lookout = Lookout(worker)
    seconds = poll_seconds(worker.task.manifests_folder, _LOOK_SECONDS)
    patience = time.monotonic() + _WARN_SECONDS
    has_begun = False
    while wait([done], seconds).not_done and not lookout.is_over():
        if not has_begun and (has_begun := _answer(job.has_begun, False)):
            _warn_of_idle_workers(job, units)
        elif not has_begun and time.monotonic() > patience:
            patience = math.inf
            _logger.warning(
                "Spark has started nothing for %.0f s, and the run waits. Maybe no executor is "
                "free, or none has the cores and the memory that Spark's conf asks for. Spark's "
                "web page shows them.",
                _WARN_SECONDS,
            )
    if not has_begun and done.done() and not done.exception():  # before the first look
        _warn_of_idle_workers(job, units)


def _warn_of_idle_workers(job: Job, units: Sequence[Unit]) -> None:
    warn_of_idle_workers(units, _answer(job.cores, 0))


def _cancel(done: Future[str], job: Job) -> None:
    """Ends a job, and waits until its tasks have ended."""
    patience = time.monotonic() + _CANCEL_SECONDS
    while not done.done() and time.monotonic() < patience:
        _answer(job.cancel, None)  # once more, as Spark may not have had the job
        wait([done], _LOOK_SECONDS)
    while _answer(job.is_at_work, False) and time.monotonic() < patience:
        time.sleep(_LOOK_SECONDS)


def _answer(question: Callable[[], _Answer], otherwise: _Answer) -> _Answer:
    """Returns what Spark answers, or else `otherwise`."""
    try:
        return question()
    except Exception as error:  # noqa: BLE001, the job itself ends with an error that counts
        _logger.debug("Spark does not answer: %s", error)
        return otherwise


def _message(error: BaseException, takes_conf: bool) -> str:
    is_from_java = hasattr(error, "java_exception")  # which then is alive
    if (code := java_exit_code(0.0 if is_from_java else _JAVA_SECONDS)) is not None:
        return (
            f"Spark's own process of Java on this machine has died, with exit code {code}. Give it "
            f"more memory if there was too little, with spark.driver.memory. Run again, and "
            f"nothing that is finished is scored again."
        )
    reason = reason_of(error)
    advice = _PYTHON_ADVICE[takes_conf] if "Cannot run program" in reason else _LOG_ADVICE
    return f"Spark gave up, because of: {reason.rstrip('.')}. {advice}"
