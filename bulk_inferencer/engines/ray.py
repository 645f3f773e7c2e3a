"""Units as tasks of a Ray cluster."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bulk_inferencer import _extras
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.worker import UnitWorker
from bulk_inferencer.engines import parcel
from bulk_inferencer.engines.engine import Engine
from bulk_inferencer.errors import WorkerError

_ADVICE = (
    "Install the same packages on every node, or let Ray do it: "
    "Ray(runtime_env={'pip': ['bulk-inferencer']})."
)


@dataclass(frozen=True)
class Ray(Engine):
    """Runs units as tasks of a Ray cluster.

    ```python
    run(job, engine=Ray("ray://head:10001", num_gpus=1))
    ```

    Attributes:
      address: the cluster's, as `ray.init` takes it. Default: that of `RAY_ADDRESS`, or the cluster
        that this process is connected to, or one of this machine alone.
      num_cpus: cores that a unit takes, which may be a fraction.
      num_gpus: GPUs that a unit takes, which may be a fraction.
      max_retries: how often a unit is tried again after its worker died.
      runtime_env: what Ray prepares on its workers, as `ray.init` takes it.
      options: Beam's options, which open files.
    """

    address: str | None = None
    num_cpus: float = 1
    num_gpus: float = 0
    max_retries: int = 3
    runtime_env: Mapping[str, Any] = field(default_factory=dict)
    options: Sequence[str] = ()

    def check(self) -> None:
        """See `Engine`."""
        _extras.require("ray", "ray", "engines.Ray")

    def run_units(self, worker: UnitWorker, units: Sequence[Unit]) -> None:
        """See `Engine`."""
        import ray
        from ray import cloudpickle

        ray.init(self.address, ignore_reinit_error=True, runtime_env=dict(self.runtime_env))
        cloudpickle.register_pickle_by_value(parcel)
        run = ray.remote(parcel.run_parcel).options(
            num_cpus=self.num_cpus,
            num_gpus=self.num_gpus,
            max_retries=self.max_retries,
            scheduling_strategy="SPREAD",
        )
        own = ray.put(tuple(parcel.pack(worker, _ADVICE, self.options)))
        waiting = [run.remote(own, [pickle.dumps(unit)]) for unit in units]
        while waiting:
            done, waiting = ray.wait(waiting)
            if problem := ray.get(done[0]):
                raise WorkerError(problem)
