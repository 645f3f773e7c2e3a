"""A Ray cluster of several nodes, each with an address of its own on loopback.

`python -m tests.integration.clusters.ray` starts one and prints its address.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import tempfile
from pathlib import Path

from tests.integration.clusters.processes import (
    free_port,
    pids_in_session,
    process,
    serve,
    wait_until,
)

_START = ("-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats")
_OBJECT_STORE_BYTES = 100 << 20
_ATTEMPTS = 3
# A token would lie in the home folder, for all clusters of this user. Busy machines start slowly.
_ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_agent_register_timeout_ms": "60000",
    "RAY_raylet_start_wait_time_s": "60",
    "RAY_local_fs_capacity_threshold": "1",  # of the disk: no complaints that it is almost full
}


class RayCluster:
    """A running cluster. Its head has no cores, so that it gets no work.

    Attributes:
      address: as `Ray` takes it.
      client_address: the same for Ray's client.
      head: the `subprocess.Popen` of the head.
      nodes: the `subprocess.Popen` of each node but the head.
      folder: logs of the nodes, and of all of Ray's processes below `s/`.
    """

    def __init__(self, folder, stack):
        self.folder = folder
        self.nodes = []
        self._stack = stack
        self._network = f"127.{random.randrange(1, 255)}.{random.randrange(255)}"
        self._last = 1
        # The head listens at them on all addresses of the machine.
        port, client_port = free_port(), free_port()
        self.address = f"{self._network}.1:{port}"
        self.client_address = f"ray://{self._network}.1:{client_port}"
        # Ray wants short paths for its sockets.
        head = ("--head", "--port", port, "--num-cpus", 0, "--temp-dir", folder / "s")
        head = (*head, "--ray-client-server-port", client_port, "--include-dashboard=false")
        self.head = self._start(1, sys.executable, *head)

    def __str__(self):
        return self.address

    def add_node(self, cpus=1, gpus=0, python=sys.executable):
        """Starts a node, which may have other packages than this process; returns it."""
        self._last += 1
        size = ("--num-cpus", cpus, "--num-gpus", gpus)
        node = self._start(self._last, python, "--address", self.address, *size)
        self.nodes.append(node)
        return node

    def node_of(self, pid):
        """Returns the node of a process."""
        (node,) = [own for own in self.nodes if pid in pids_in_session(own.pid)]
        return node

    def kill(self, node):
        """Kills a node with all of its processes, with -9."""
        while pids := pids_in_session(node.pid):
            for own in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(own, signal.SIGKILL)
        node.wait()
        if node in self.nodes:
            self.nodes.remove(node)

    def _start(self, number, python, *arguments):
        address = ("--node-ip-address", f"{self._network}.{number}")
        store = ("--object-store-memory", _OBJECT_STORE_BYTES)
        command = (python, *_START, *address, *store, *arguments)
        for left in reversed(range(_ATTEMPTS)):
            log = self.folder / f"node-{number}-{left}.log"
            with contextlib.ExitStack() as starting:
                node = starting.enter_context(process(command, _ENVIRONMENT, log))
                try:
                    wait_until(lambda own=log: "Ray runtime started" in own.read_text(), node, 90)
                except RuntimeError:  # It gives a busy machine 15 s for one of its processes.
                    if not left:
                        raise
                else:
                    self._stack.enter_context(starting.pop_all())
                    return node
        raise AssertionError("it has raised")


@contextlib.contextmanager
def ray_cluster(nodes=2, cpus=1, gpus=0):
    """Runs a head and nodes meanwhile, whose GPUs may be made up; yields a `RayCluster`."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp")))
        cluster = RayCluster(folder, stack)
        for _ in range(nodes):
            cluster.add_node(cpus, gpus)
        yield cluster


if __name__ == "__main__":
    serve(ray_cluster())
