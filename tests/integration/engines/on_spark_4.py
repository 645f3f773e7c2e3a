"""Cases on Spark 4, which needs an environment of its own.

Takes the name of the case, `cluster` or `connect`, and an empty folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pyspark.sql import SparkSession

from bulk_inferencer import run
from bulk_inferencer.engines import Spark
from tests.integration.clusters.spark import connect_server, spark_cluster
from tests.integration.engines import behaviour
from tests.integration.engines.runs import job_in


def on_a_cluster(folder):
    """A standalone cluster of two workers."""
    with spark_cluster() as cluster:
        engine = Spark(cluster.master)
        local = behaviour.local_results(_new(folder / "local"))
        behaviour.scores_as_local_threads_do(engine, _new(folder / "scores"), local, workers=2)
        behaviour.survives(engine, _new(folder / "survives"), workers=2)


def by_spark_connect(folder):
    """A server of Spark Connect, which tries tasks again on its two threads."""
    with connect_server("local[2,4]") as address:
        engine = Spark(address)
        behaviour.survives(engine, _new(folder / "survives"), workers=2)
        behaviour.raises_errors_of_workers_once(engine, _new(folder / "raises"), workers=2)
        behaviour.refuses_a_folder_that_workers_do_not_share(engine, _new(folder / "refuses"))
        behaviour.stops_when_interrupted(engine, _new(folder / "stops"), workers=2)
        session = SparkSession.builder.remote(address).getOrCreate()
        run(job_in(_new(folder / "active")), Spark())
        assert session.range(3).count() == 3
        session.stop()


def _new(folder):
    folder.mkdir()
    return folder


if __name__ == "__main__":
    case = {"cluster": on_a_cluster, "connect": by_spark_connect}[sys.argv[1]]
    case(Path(sys.argv[2]))
