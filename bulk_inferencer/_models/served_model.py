"""What a server's answers tell of its model, which may be replaced in the middle of a run."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from bulk_inferencer._models.predictor import Prediction
from bulk_inferencer.errors import EndpointError

_logger = logging.getLogger(__name__)


class ServedModel:
    """Notices that a server answers with another model than before. Several threads share it."""

    def __init__(self, where: str, outputs: Sequence[str], advice: str) -> None:
        """Watches a server.

        Args:
          where: the server, for messages.
          outputs: the names of the model's outputs; default: those of the first answer.
          advice: how to stay with one version.
        """
        self._where = where
        self._outputs = set(outputs)
        self._advice = advice
        self._versions: set[str] = set()
        self._lock = threading.Lock()

    def check(self, prediction: Prediction) -> Prediction:
        """Returns the prediction; warns of each version after the first one.

        Raises:
          EndpointError: the answer has other outputs than the model.
        """
        names = set(prediction.outputs)
        with self._lock:
            self._outputs = self._outputs or names
            before = sorted(self._versions)
            new = sorted(prediction.versions - self._versions)
            self._versions.update(new)
        if names != self._outputs:
            raise EndpointError(
                f"{self._where} answered with the outputs {', '.join(sorted(names)) or 'none'}, "
                f"but its model has {', '.join(sorted(self._outputs))}. Check whether the model "
                f"was replaced, and run again."
            )
        if before and new:
            _logger.warning(
                "%s answered with version %s of its model after version %s. The results hold "
                "predictions of both. %s",
                self._where,
                ", ".join(new),
                ", ".join(before),
                self._advice,
            )
        return prediction
