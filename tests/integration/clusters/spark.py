"""A standalone Spark cluster of the pyspark that is installed, and a server of Spark Connect.

`python -m tests.integration.clusters.spark` starts a cluster and prints its address.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import tempfile
from pathlib import Path

from tests.integration.clusters.processes import (
    free_port,
    parent_of,
    pids_in_session,
    process,
    serve,
    wait_for_port,
    wait_until,
)


class SparkCluster:
    """A running cluster.

    Attributes:
      master: its address, such as `spark://127.0.0.1:7077`.
      workers: the `subprocess.Popen` of each worker, which is what Spark calls a node.
      folder: the logs of the master and of workers; those of executors are below `worker-0` and so
        on.
    """

    def __init__(self, folder, stack, env, worker_arguments):
        self.folder = folder
        self.workers = []
        self._env = env
        self._stack = stack
        self._worker_arguments = worker_arguments
        port = free_port()
        self.master = f"spark://127.0.0.1:{port}"
        master = self._start("master", "127.0.0.1", "master.Master", "--port", port)
        wait_for_port(port, master)

    def __str__(self):
        return self.master

    def add_worker(self):
        """Starts one more worker, and waits until the master knows it."""
        number = len(list(self.folder.glob("worker-*.log")))
        name = f"worker-{number}"
        own = ("--work-dir", self.folder / name, *self._worker_arguments, self.master)
        # Spark speculates on another host only.
        worker = self._start(name, f"127.0.0.{2 + number}", "worker.Worker", *own)
        wait_until(lambda: "Successfully registered" in worker.log.read_text(), worker)
        self.workers.append(worker)

    def executor_of(self, pid):
        """Returns the executor that a process of Python works for, which is its grandparent."""
        return parent_of(parent_of(pid))

    def kill_worker_of(self, pid):
        """Kills the worker of a process, and all that it started, as if its machine went down."""
        (worker,) = (own for own in self.workers if pid in pids_in_session(own.pid))
        for own in pids_in_session(worker.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(own, signal.SIGKILL)
        worker.wait()
        self.workers.remove(worker)

    def _start(self, name, host, kind, *arguments):
        place = ("--host", host, "--webui-port", 0)
        command = [_program("spark-class"), f"org.apache.spark.deploy.{kind}", *place, *arguments]
        env = {"SPARK_LOCAL_IP": host, **self._env, "SPARK_LOCAL_DIRS": str(self.folder / "local")}
        return self._stack.enter_context(process(command, env, self.folder / f"{name}.log"))


@contextlib.contextmanager
def spark_cluster(workers=2, cores=1, memory="3g", gpus=()):
    """Runs a master and workers meanwhile; yields a `SparkCluster`.

    Args:
      workers: how many.
      cores: of each worker.
      memory: of each worker.
      gpus: what each worker says that its GPUs are, such as `["0", "1"]`; it need not have them.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="spark-")))
        env = {"SPARK_DAEMON_MEMORY": "256m"}
        if gpus:
            script = folder / "gpus"
            script.write_text(
                f"#!/bin/sh\necho '{json.dumps({'name': 'gpu', 'addresses': gpus})}'\n"
            )
            script.chmod(0o755)
            gpu = "-Dspark.worker.resource.gpu"
            env["SPARK_WORKER_OPTS"] = f"{gpu}.amount={len(gpus)} {gpu}.discoveryScript={script}"
        size = ("--cores", cores, "--memory", memory)
        cluster = SparkCluster(folder, stack, env, size)
        for _ in range(workers):
            cluster.add_worker()
        yield cluster


@contextlib.contextmanager
def connect_server(master="local[2]"):
    """Runs a server of Spark Connect meanwhile, which comes with Spark 4; yields its address."""
    port = free_port()
    command = [
        _program("spark-submit"),
        "--class=org.apache.spark.sql.connect.service.SparkConnectServer",
        f"--master={master}",
        f"--conf=spark.connect.grpc.binding.port={port}",
        "--conf=spark.ui.enabled=false",
    ]
    env = {**_LOOPBACK, "PYSPARK_PYTHON": sys.executable}
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="spark-"))
        server = stack.enter_context(process(command, env, Path(folder, "connect.log")))
        wait_for_port(port, server)
        yield f"sc://127.0.0.1:{port}"


_LOOPBACK = {"SPARK_LOCAL_IP": "127.0.0.1"}


def _program(name):
    import pyspark

    return os.path.join(os.path.dirname(pyspark.__file__), "bin", name)


if __name__ == "__main__":
    serve(spark_cluster())
