"""Portable runners of Beam: its job service, Prism, and pools of workers in any environment.

`python -m tests.integration.clusters.beam` starts a job service and a pool, and prints the options
that run a pipeline there.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path

from tests.integration.clusters.processes import (
    free_port,
    pids_in_session,
    process,
    serve,
    wait_for_port,
)

# Made by `make .cache/beam/.ready`: Prism, and the program that starts a worker in a container.
_RUNNERS = "apache_beam.runners"
PROGRAMS = Path(__file__).parents[3] / ".cache/beam/bin"


class WorkerPool:
    """What starts workers when a runner asks for them.

    Attributes:
      address: where runners ask.
      log: the file to which the pool and its workers write.
    """

    def __init__(self, address, process):
        self.address = address
        self.log = process.log
        self._pid = process.pid

    def workers(self):
        """Returns the processes of all that it has started."""
        return [pid for pid in pids_in_session(self._pid) if pid != self._pid]


@contextlib.contextmanager
def job_service():
    """Runs Beam's portable job service meanwhile; yields its address."""
    port = free_port()
    command = [sys.executable, "-m", f"{_RUNNERS}.portability.local_job_service_main"]
    with _logged([*command, "--port", port], port):
        yield f"localhost:{port}"


@contextlib.contextmanager
def prism():
    """Runs Prism meanwhile; yields its address."""
    port = free_port()
    with _logged([PROGRAMS / "prism", "-job_port", port, "-serve_http=false"], port):
        yield f"localhost:{port}"


@contextlib.contextmanager
def worker_pool(python=sys.executable, boots=False, env=None):
    """Runs a pool whose workers run with the given Python meanwhile; yields a `WorkerPool`.

    Args:
      python: the interpreter of an environment that has Beam.
      boots: whether workers start as in a container of Beam's, which installs the packages that
        the pipeline brings. They go into the environment of `python`.
      env: environment variables for the workers.
    """
    port = free_port()
    # A pool starts the first `python` on PATH, which need not be the one that it runs with.
    path = f"{Path(python).parent}:{os.environ['PATH']}"
    env = {"PATH": path, "PYTHONPATH": "", **(env or {})}
    with tempfile.TemporaryDirectory(prefix="beam-worker-") as folder:
        # Workers import from the current folder, too, which may be a checkout of this package.
        command = ["env", "--chdir", folder, python, "-m", f"{_RUNNERS}.worker.worker_pool_main"]
        command += ["--service_port", port]
        if boots:
            command += ["--container_executable", _boot_program(folder)]
            env |= {"RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT": "1", "PIP_NO_BUILD_ISOLATION": "1"}
        with _logged(command, port, env) as started:
            yield WorkerPool(f"localhost:{port}", started)


def _boot_program(folder):
    """Returns Beam's program that starts a worker, with a folder for the packages it downloads."""
    program = Path(folder, "boot")
    container = f"{PROGRAMS}/container"
    program.write_text(f'#!/bin/sh\nexec {container} --semi_persist_dir={folder} "$@"\n')
    program.chmod(0o755)
    return program


def options(runner, pool):
    """Returns Beam's options for a runner and a pool, both by address."""
    return [
        "--runner=PortableRunner",
        f"--job_endpoint={runner}",
        "--environment_type=EXTERNAL",
        f"--environment_config={pool}",
    ]


@contextlib.contextmanager
def _logged(command, port, env=None):
    with (
        tempfile.TemporaryDirectory(prefix="beam-") as folder,
        process(command, env, Path(folder, "log")) as started,
    ):
        wait_for_port(port, started)
        yield started


@contextlib.contextmanager
def _both():
    with job_service() as runner, worker_pool() as pool:
        yield " ".join(options(runner, pool.address))


if __name__ == "__main__":
    serve(_both())
