"""How far those are who predict, where the batches of a unit go to several processes.

process   ProcessProgress -> <manifests folder>/process-<its own id>.progress
launcher  Tally           <- all of them

They are done with records before any unit is written. What units say later does not add to it.
"""

from __future__ import annotations

import math
import threading
import time

from bulk_inferencer._units.progress import Heartbeat, HeartbeatFile
from bulk_inferencer._units.sinks.sink import ScoredBatch


class ProcessProgress:
    """Counts what the threads of a process predict, and says so in a file now and then."""

    def __init__(self, folder: str, run_file: str = "") -> None:
        """Begins to count; without a folder or the file of the run, nobody is told."""
        self._file = HeartbeatFile.of_process(folder, run_file)
        self._lock = threading.Lock()
        self._done = Heartbeat()
        self._next = time.monotonic() if folder and run_file else math.inf

    def add(self, scored: ScoredBatch, batch_records: int) -> None:
        """Counts a batch; `batch_records` is how many records the last call of a model took."""
        pieces = [piece for result in scored.branches.values() for piece in result.scored]
        done = Heartbeat(
            bytes_read=scored.batch.stored_bytes,
            records=len(scored.batch.records),
            predicted=sum(len(piece.rows) for piece in pieces),
            failed=sum(1 for _ in scored.failures()),
        )
        with self._lock:
            self._done += done
            if time.monotonic() < self._next:
                return
            self._next = math.inf  # until it is written
            now = self._done
        # A thread of its own: a store that is slow, or does not answer, must not hold up the model.
        threading.Thread(
            target=self._write, args=(now, batch_records), name="heartbeats", daemon=True
        ).start()

    def _write(self, now: Heartbeat, batch_records: int) -> None:
        self._file.write(now, batch_records)
        with self._lock:
            self._next = time.monotonic() + self._file.interval
