"""Cases on Spark 4, which needs an environment of its own.

Takes the name of the case, `cluster` or `connect`, and an empty folder.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from bulk_inferencer import run
from bulk_inferencer.engines import Spark
from bulk_inferencer.errors import SettingsError
from tests.helpers import exactly
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
        local = behaviour.local_results(_new(folder / "local"))
        behaviour.scores_as_local_threads_do(engine, _new(folder / "scores"), local, workers=2)
        behaviour.survives(engine, _new(folder / "survives"), workers=2)
        behaviour.raises_errors_of_workers_once(engine, _new(folder / "raises"), workers=2)
        behaviour.refuses_a_folder_that_workers_do_not_share(engine, _new(folder / "refuses"))
        behaviour.stops_when_interrupted(engine, _new(folder / "stops"), workers=2)
        message = (
            "Spark's conf has spark.executor.memory='2g', which a server of Spark Connect does not "
            "take from a session. Leave it out, and set it where the server starts."
        )
        with pytest.raises(SettingsError, match=exactly(message)):
            run(job_in(_new(folder / "conf")), Spark(address, {"spark.executor.memory": "2g"}))
        assert "SPARK_CONNECT_MODE_ENABLED" not in os.environ
        run(job_in(_new(folder / "classic")), Spark("local[2]"))
        session = SparkSession.builder.remote(address).getOrCreate()
        run(job_in(_new(folder / "active")), Spark())
        assert session.range(3).count() == 3
        session.stop()
        behaviour.assert_five_times(folder / "active/out")


def _new(folder):
    folder.mkdir()
    return folder


if __name__ == "__main__":
    case = {"cluster": on_a_cluster, "connect": by_spark_connect}[sys.argv[1]]
    case(Path(sys.argv[2]))
