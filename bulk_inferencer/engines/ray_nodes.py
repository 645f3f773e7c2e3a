"""The nodes of a Ray cluster, and how many units they have room for."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping

from bulk_inferencer.errors import WorkerError

_logger = logging.getLogger(__name__)


class Nodes:
    """Ends a run for whose units no node is large enough. Ray would wait for ever.

    Args:
      asked: what a unit takes of a node's resources, by name.
      seconds: how long to wait for a node that is large enough.
    """

    def __init__(self, asked: Mapping[str, float], seconds: float) -> None:
        self._asked = {name: amount for name, amount in asked.items() if amount}
        self._seconds = seconds
        self._since: float | None = None  # when there was none

    def places(self) -> int:
        """Returns how many units can run at a time."""
        return places_on(_resources(), self._asked)

    def check(self) -> None:
        """Checks that there is a node that is large enough; warns at first that there is none.

        Raises:
          WorkerError: there has been none for too long.
        """
        found = _resources()
        if places_on(found, self._asked):
            self._since = None
            return
        problem = (
            f"No node of the Ray cluster has {_shown(self._asked)}, which a unit takes: "
            f"{'; '.join(sorted(map(_shown, found))) or 'there are none'}."
        )
        if self._since is None:
            self._since = time.monotonic()
            if self._seconds:
                _logger.warning("%s Waiting %g s for one.", problem, self._seconds)
        if time.monotonic() - self._since >= self._seconds:
            raise WorkerError(
                f"{problem} Add nodes, or correct Ray's num_cpus and num_gpus. If the cluster "
                f"grows by itself, raise Ray's node_seconds, {self._seconds:g}. Run again, and "
                f"what is finished is not scored again."
            )


def places_on(nodes: Iterable[Mapping[str, float]], asked: Mapping[str, float]) -> int:
    """Returns how many units can run at a time.

    Args:
      nodes: what nodes have of resources, by name.
      asked: what each unit takes of them; at least one.
    """
    return sum(
        min(int(node.get(name, 0) / amount) for name, amount in asked.items()) for node in nodes
    )


def _resources() -> list[dict[str, float]]:
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _shown(resources: Mapping[str, float]) -> str:
    return " and ".join(f"{name}: {resources.get(name, 0):g}" for name in ("CPU", "GPU"))
