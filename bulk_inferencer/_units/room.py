"""How many records a batch may have, so that memory holds what becomes of them."""

from __future__ import annotations

from bulk_inferencer._units.sinks.sink import ScoredBatch

# Predictions of a batch take no more memory than about this, however large outputs are.
_PREDICTION_BYTES = 64 << 20
_SOME_LOGS = 64  # whose mean size stands for all


class Room:
    """How many records the next batch may have."""

    def __init__(self, first_records: int, limit: int | None = None) -> None:
        """Begins with so many in a batch; with a `limit`, so many in all batches."""
        self._fitting = first_records  # until it is known what their predictions take
        self._left = limit

    def records(self) -> int:
        """Returns how many the next batch may have; 0 after the last one."""
        return self._fitting if self._left is None else min(self._fitting, self._left)

    def took(self, records: int) -> None:
        """Counts the records of a batch."""
        if self._left is not None:
            self._left -= records

    def learn(self, scored: ScoredBatch) -> None:
        """Learns from the last predictions of each model, and from some of their PredictionLogs."""
        size = 1.0
        for result in scored.branches.values():
            for piece in result.scored[-1:]:
                arrays = sum(values.nbytes for values in piece.prediction.outputs.values())
                size += arrays / len(piece.rows)
                if logs := vars(piece).get("logs", ())[:_SOME_LOGS]:  # if a sink has made them
                    size += sum(map(len, logs)) / len(logs)
        self._fitting = max(1, int(_PREDICTION_BYTES / size))
