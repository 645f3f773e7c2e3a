"""Units as tasks of one Spark stage."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bulk_inferencer import _extras
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.worker import UnitWorker
from bulk_inferencer.engines import parcel
from bulk_inferencer.engines.engine import Engine
from bulk_inferencer.errors import WorkerError

_ADVICE = (
    "Install the same packages on every node, or ship an environment with "
    "spark.archives and spark.pyspark.python."
)


@dataclass(frozen=True)
class Spark(Engine):
    """Runs units as tasks of one Spark stage.

    ```python
    run(job, engine=Spark("spark://head:7077"))
    ```

    Attributes:
      master: the cluster's, as Spark takes it. Default: the session that is active, as in a
        notebook of Databricks.
      conf: Spark's configuration, by name.
      options: Beam's options, which open files.
    """

    master: str | None = None
    conf: Mapping[str, str] = field(default_factory=dict)
    options: Sequence[str] = ()

    def check(self) -> None:
        """See `Engine`."""
        _extras.require("pyspark", "spark", "engines.Spark")

    def run_units(self, worker: UnitWorker, units: Sequence[Unit]) -> None:
        """See `Engine`."""
        from pyspark import cloudpickle
        from pyspark.sql import SparkSession

        builder = SparkSession.builder
        if self.master:
            builder = builder.master(self.master)
        for name, value in self.conf.items():
            builder = builder.config(name, value)
        context = builder.getOrCreate().sparkContext
        cloudpickle.register_pickle_by_value(parcel)
        own = tuple(parcel.pack(worker, _ADVICE, self.options))
        run = functools.partial(parcel.run_parcel, own)
        pickled = [[pickle.dumps(unit)] for unit in units]
        slices = min(len(units), 4 * context.defaultParallelism)
        problems = context.parallelize(pickled, slices).map(run).collect()
        if problem := next(filter(None, problems), ""):
            raise WorkerError(problem)
