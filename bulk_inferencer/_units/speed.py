"""How fast a run is, and how long the rest of it will take."""

from __future__ import annotations

from typing import NamedTuple

from bulk_inferencer._units.progress import Heartbeat

_RATE_SECONDS = 10.0  # over which the rate is measured
_LEAST_SECONDS = 2.0  # of scoring, before anybody can tell how long the rest will take
MOST_SAMPLES = 256


class _Sample(NamedTuple):
    seconds: float  # on the monotonic clock
    done: Heartbeat


class Speed:
    """How fast a run is, by what it had done when."""

    def __init__(self) -> None:
        self._samples: list[_Sample] = []  # but for those that show nothing new

    def add(self, now: float, done: Heartbeat) -> None:
        """Adds what is done by now."""
        samples = self._samples
        if samples and samples[-1].done == done:
            if len(samples) == 1:  # Workers start, models load: scoring has not begun.
                samples[0] = _Sample(now, done)
            return
        samples.append(_Sample(now, done))
        if len(samples) > MOST_SAMPLES:
            del samples[1:-1:2]

    def records_per_second(self, now: float) -> float:
        """Returns the rate over about the last ten seconds."""
        return self._rate(now, _RATE_SECONDS)[0]

    def mean_records_per_second(self) -> float:
        """Returns the rate from the first to the last change."""
        if len(self._samples) < 2:
            return 0.0
        first, last = self._samples[0], self._samples[-1]
        return (last.done.records - first.done.records) / (last.seconds - first.seconds)

    def seconds_left(self, now: float, bytes_total: int) -> float | None:
        """Returns how long the rest of the bytes will take; None if nobody can tell yet."""
        if len(self._samples) < 2 or now - self._samples[0].seconds < _LEAST_SECONDS:
            return None
        elapsed = now - self._samples[0].seconds
        bytes_per_second = self._rate(now, max(_RATE_SECONDS, elapsed / 3))[1]
        if not bytes_per_second:
            return None
        last = self._samples[-1]
        left = (bytes_total - last.done.bytes_read) / bytes_per_second
        return max(0.0, left - (now - last.seconds))

    def _rate(self, now: float, seconds: float) -> tuple[float, float]:
        """Returns records and bytes per second over about the last seconds."""
        if len(self._samples) < 2:
            return 0.0, 0.0
        *earlier, before, last = self._samples
        older = [s for s in (*earlier, before) if s.seconds <= now - seconds]
        first = older[-1] if older else self._samples[0]
        # Not up to now: the next change is not due before as long a pause as the last one.
        end = max(last.seconds, now - (last.seconds - before.seconds))
        took = end - first.seconds
        records = last.done.records - first.done.records
        return records / took, (last.done.bytes_read - first.done.bytes_read) / took
