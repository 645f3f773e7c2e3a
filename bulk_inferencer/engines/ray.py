"""Units as tasks of a Ray cluster."""

from __future__ import annotations

import itertools
import logging
import os
import pickle
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bulk_inferencer import _extras
from bulk_inferencer._checks import check_number
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.progress import poll_seconds
from bulk_inferencer._units.worker import UnitWorker
from bulk_inferencer.engines import parcel
from bulk_inferencer.engines.engine import Engine, warn_of_idle_workers
from bulk_inferencer.engines.lookout import Lookout
from bulk_inferencer.engines.ray_nodes import Nodes
from bulk_inferencer.engines.ray_session import (
    check_address,
    check_session,
    line_of,
    opened_session,
    runtime_env_errors,
)
from bulk_inferencer.engines.ray_worker import unit_runner
from bulk_inferencer.errors import SettingsError, WorkerError

_logger = logging.getLogger(__name__)

_ADVICE = (
    "Install the same packages on every node, or let Ray bring them: Ray(runtime_env={'pip': "
    "[...]}) for packages by name, {'py_modules': [...]} for folders and wheels."
)
_AGAIN = "Run again, and what is finished is not scored again."
_OWN_VARIABLES = ("TF_CPP_MIN_LOG_LEVEL",)  # of the environment, which workers get too
# Ray starts processes for it that only this run has. They have its modules, its number of threads
# and the memory of its GPUs, which others would find there.
_RUN_VARIABLE = "BULK_INFERENCER_RUN"
_MOST_OF_A_NODE = 10_000
_MOST_TASKS = 4000  # that Ray has at a time, which take 6 KB each
_LOOK_SECONDS = 1.0
_CANCEL_SECONDS = 30.0


@dataclass(frozen=True)
class Ray(Engine):
    """Runs units as tasks of a Ray cluster.

    ```python
    run(job, engine=Ray("head:6379", num_gpus=1))
    ```

    Ray starts a process for each unit that runs, and uses it again for others: each loads a model
    once. No other run uses these processes, and they end with the run. If a process or a node dies,
    its units run again elsewhere, and so does a unit that fails with an `OSError`, as network
    filesystems raise. Other errors end the run.

    A session that this process has already is used and left as it is; else the run connects, and
    disconnects at its end. Runs in several threads share the session that the first one opens, with
    its `runtime_env`.

    What workers log goes to Ray's logs and, as far as Ray takes it there, to where the run was
    started, at the level of this process's logger `bulk_inferencer`.

    Attributes:
      address: the cluster's, as `ray.init` takes it: of its head, such as `head:6379`, or of its
        server for clients, `ray://head:10001`. Default: the one that `RAY_ADDRESS` names; else the
        one that was last started on this machine by `ray start`; else one that is started here, for
        this run alone, as `local` always does.
      num_cpus: cores that a unit takes, which may be a fraction. TensorFlow uses as many threads.
      num_gpus: GPUs that a unit takes, which may be a fraction. Units see no others.
      max_retries: how often a unit runs again after its process or its node died, or after an
        `OSError`; -1 for without end.
      node_seconds: how long to wait for a node that is large enough for a unit, such as one with
        GPUs, where there is none. A cluster that grows by itself may need minutes.
      runtime_env: what Ray prepares on workers, as `ray.init` takes it.
      options: Beam's options, which open files.

    Raises:
      SettingsError: a setting is not valid.
    """

    address: str | None = None
    num_cpus: float = 1
    num_gpus: float = 0
    max_retries: int = 3
    node_seconds: float = 60
    runtime_env: Mapping[str, Any] = field(default_factory=dict)
    options: Sequence[str] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_address(self.address)
        advice = "Leave it out for the default."
        check_number("Ray's num_cpus", self.num_cpus, advice, 0, _MOST_OF_A_NODE)
        check_number("Ray's num_gpus", self.num_gpus, advice, 0, _MOST_OF_A_NODE)
        check_number("Ray's max_retries", self.max_retries, advice, -1, whole=True)
        check_number("Ray's node_seconds", self.node_seconds, advice, 0)
        if not self.num_cpus and not self.num_gpus:
            raise SettingsError(
                "Ray's num_cpus and num_gpus are both 0, so a node would run all units at once. "
                "Leave out num_cpus, or set num_gpus."
            )
        if self.num_gpus > 1 and self.num_gpus % 1:
            raise SettingsError(
                f"Ray's num_gpus must be a part of a GPU or a whole number of them, not "
                f"{self.num_gpus!r}."
            )
        if not isinstance(self.runtime_env, Mapping):
            raise SettingsError(
                f"Ray's runtime_env must be a dict such as {{'pip': ['scikit-learn']}}, not "
                f"{self.runtime_env!r}."
            )
        variables = self.runtime_env.get("env_vars") or {}
        if not isinstance(variables, Mapping):
            raise SettingsError(
                f"Ray's runtime_env must have a dict such as {{'LANG': 'C'}} as env_vars, not "
                f"{variables!r}."
            )

    def check(self) -> None:
        """See `Engine`."""
        _extras.require("ray", "ray", "engines.Ray")
        check_session(self.address)

    def run_units(self, worker: UnitWorker, units: Sequence[Unit]) -> None:
        """See `Engine`."""
        import ray

        variables = self.runtime_env.get("env_vars") or {}
        of_run = {
            **self.runtime_env,
            "env_vars": {**variables, _RUN_VARIABLE: uuid.uuid4().hex},
        }
        with opened_session(self.address, of_run) as runtime_env:
            nodes = Nodes({"CPU": self.num_cpus, "GPU": self.num_gpus}, self.node_seconds)
            warn_of_idle_workers(units, nodes.places())
            try:
                _run(self._tasks(worker, units, runtime_env), worker, nodes)
            except ray.exceptions.RayError as error:
                _logger.info("This error ends the run.", exc_info=error)
                is_of_unit = isinstance(error, ray.exceptions.RayTaskError)
                if is_of_unit and not isinstance(error.cause, ray.exceptions.RayError):
                    raise error.cause from None
                raise self._explained(error) from error
            except ConnectionError as error:  # of Ray's client
                raise WorkerError(
                    f"The connection to the Ray cluster was lost: {line_of(error)}. {_AGAIN}"
                ) from error
            except SystemError as error:
                # What Ray makes of an exception that the handler of a signal raises.
                raise error.__cause__ or error from None

    def _explained(self, error: Exception) -> WorkerError:
        """Returns what to raise for an error of Ray's."""
        from ray import exceptions

        if isinstance(error, exceptions.RayTaskError):  # whose cause Ray has replaced
            return WorkerError(
                f"A unit failed with an error that cannot be sent here: {line_of(error.cause)}. "
                f"Correct what raises it. The log of this run has its traceback, at level INFO."
            )
        if isinstance(error, exceptions.RuntimeEnvSetupError):
            return WorkerError(
                f"Ray cannot prepare its workers: {line_of(error.error_message)}. Correct Ray's "
                f"runtime_env."
            )
        died = (
            exceptions.WorkerCrashedError,
            exceptions.NodeDiedError,
            exceptions.OutOfMemoryError,
        )
        if isinstance(error, died):
            return WorkerError(
                f"Ray gave up a unit: {line_of(error)}. Its process or its node died more often "
                f"than Ray's max_retries, {self.max_retries}, allows. Memory may have run out. "
                f"{_AGAIN}"
            )
        if isinstance(error, exceptions.TaskCancelledError):
            return WorkerError(f"Somebody has cancelled a unit: {line_of(error)}. {_AGAIN}")
        return WorkerError(
            f"Ray gave up a unit: {line_of(error)}. See whether the cluster is well, and Ray's "
            f"logs. {_AGAIN}"
        )

    def _tasks(
        self, worker: UnitWorker, units: Sequence[Unit], runtime_env: Mapping[str, Any]
    ) -> Iterator[Any]:
        """Hands units to Ray, one with each step, and yields the references of their tasks."""
        import ray
        from ray import cloudpickle

        cloudpickle.register_pickle_by_value(parcel)
        # TensorFlow has no regard for the threads that Ray allows by OMP_NUM_THREADS.
        environment = {"TF_NUM_INTRAOP_THREADS": str(max(1, int(self.num_cpus)))}
        environment |= {name: os.environ[name] for name in _OWN_VARIABLES if name in os.environ}
        level = logging.getLogger("bulk_inferencer").getEffectiveLevel()
        run_unit: Any = ray.remote(
            num_cpus=self.num_cpus,
            num_gpus=self.num_gpus,
            max_calls=0,  # or a process that has a GPU would end after each unit
            max_retries=self.max_retries,
            retry_exceptions=[OSError],  # as network filesystems raise, and those of Beam
            scheduling_strategy="SPREAD",
        )(unit_runner(parcel.run_parcel, environment, level))
        if runtime_env:
            with runtime_env_errors():
                run_unit = run_unit.options(runtime_env=dict(runtime_env))
        shared = ray.put(tuple(parcel.pack(worker, _ADVICE, self.options)))
        for unit in units:
            yield run_unit.remote(shared, pickle.dumps(unit))


def _run(tasks: Iterator[Any], worker: UnitWorker, nodes: Nodes) -> None:
    """Returns when all tasks have ended, or the run is over and what was left has been ended."""
    import ray

    seconds = poll_seconds(worker.task.manifests_folder, _LOOK_SECONDS)
    lookout = Lookout(worker)
    waiting: list[Any] = []
    try:
        while True:
            waiting.extend(itertools.islice(tasks, _MOST_TASKS - len(waiting)))
            if not waiting or lookout.is_over():
                return
            done, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=seconds)
            if problem := next(filter(None, ray.get(done)), ""):
                raise WorkerError(problem)
            if not done:
                nodes.check()
    finally:
        # Without the check, Ray would start a cluster here where the connection is lost.
        if waiting and ray.is_initialized():
            _cancel(waiting)


def _cancel(tasks: list[Any]) -> None:
    """Ends the processes of tasks, and waits for that."""
    import ray

    for task in tasks:
        ray.cancel(task, force=True)
    _, left = ray.wait(tasks, num_returns=len(tasks), timeout=_CANCEL_SECONDS)
    if left:
        _logger.warning("%d units did not end within %g s.", len(left), _CANCEL_SECONDS)
