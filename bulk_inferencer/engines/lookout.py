"""Whether a run is over, for launchers, which look many times in a long run."""

from __future__ import annotations

import logging
import time

from bulk_inferencer._units.worker import UnitWorker

_logger = logging.getLogger(__name__)

_PATIENCE_SECONDS = 120.0


class Lookout:
    """Looks whether a run is over. A filesystem that fails for a while does not end the run."""

    def __init__(self, worker: UnitWorker) -> None:
        self._worker = worker
        self._failing_since: float | None = None

    def is_over(self) -> bool:
        """Returns whether no more units of the run should start.

        Raises:
          Exception: whatever the filesystem has raised at each look for two minutes.
        """
        try:
            is_over = self._worker.is_over()
        except Exception as error:
            now = time.monotonic()
            if self._failing_since is None:
                self._failing_since = now
                _logger.warning("Cannot see whether the run is over, so it goes on: %s", error)
            if now - self._failing_since > _PATIENCE_SECONDS:
                raise
            return False
        self._failing_since = None
        return is_over
