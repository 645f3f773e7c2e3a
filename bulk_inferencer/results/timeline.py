"""What a run did when: a series of bounded length, to which series of other workers can be added.

time is cut into pieces of equal length, the same ones on all workers

    call of 60 records    |----------|
    pieces             |     20     |40   |      of which each gets its share

Where there would be too many pieces, each two neighbours become one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

MOST_POINTS = 200
# Powers of two, so that sums of them are exact.
_SHORTEST_SECONDS = 1 / 16
_CLOCK_SECONDS = 1e-6
_DIGITS = 6


@dataclass(frozen=True)
class Point:
    """A piece of time, and what was done in it.

    Attributes:
      seconds: when it begins, since the start of the run.
      duration: how many seconds of it the run was scoring.
      records: predictions made; not a whole number where a call reached into the next piece.
      calls: calls of the model, in the same way.
    """

    seconds: float
    duration: float
    records: float
    calls: float

    @property
    def records_per_second(self) -> float:
        """The rate."""
        return self.records / self.duration

    @property
    def batch_records(self) -> float:
        """How many records a call of the model took, on average; NaN if there was none."""
        return self.records / self.calls if self.calls else math.nan


@dataclass(frozen=True)
class Timeline:
    """When a run made its predictions, in at most 200 pieces of equal length.

    ```python
    for point in summary.timeline.points:
        print(point.seconds, point.records_per_second, point.batch_records)
    ```

    A record that two models score counts twice, as in `Summary.total`.

    Attributes:
      start: when the first piece begins, in seconds since the start of the run; in what workers
        report, since 1970.
      width: how many seconds each piece has.
      began: when scoring began; within the first piece.
      ended: when it ended; within the last piece.
      records: predictions made in each piece. A call of the model that took longer than a piece is
        spread over all that it touched, so these are no whole numbers.
      calls: calls of the model in each piece, spread in the same way.
    """

    start: float = 0.0
    width: float = _SHORTEST_SECONDS
    began: float = 0.0
    ended: float = 0.0
    records: tuple[float, ...] = ()
    calls: tuple[float, ...] = ()

    @property
    def points(self) -> tuple[Point, ...]:
        """The pieces in which the run was scoring, in order."""
        points = []
        for i, (records, calls) in enumerate(zip(self.records, self.calls, strict=True)):
            begin = max(self.began, self.start + i * self.width)
            end = min(self.ended, self.start + (i + 1) * self.width)
            if end > begin:
                points.append(Point(begin, end - begin, records, calls))
        return tuple(points)

    def since(self, start: float) -> Timeline:
        """Returns the series with times since `start` instead of 1970.

        If a clock is wrong, so that scoring began before that, it begins at 0.
        """
        shift = min(start, self.began)
        start, began, ended = (
            round(own - shift, _DIGITS) for own in (self.start, self.began, self.ended)
        )
        return replace(self, start=start, began=began, ended=ended)


class TimelineRecorder:
    """Gathers a `Timeline`, call by call or from others."""

    def __init__(self) -> None:
        self._width = _SHORTEST_SECONDS
        self._began, self._ended = math.inf, -math.inf
        self._done: dict[int, tuple[float, float]] = {}  # records and calls, by number of a piece

    def add(self, began: float, ended: float, records: int) -> None:
        """Adds a call of the model, with times in seconds since 1970."""
        ended = max(ended, began + _CLOCK_SECONDS)  # Clocks are coarse, and may be set back.
        self._make_room(began, ended, _SHORTEST_SECONDS)
        first, last = int(began // self._width), self._last(began, ended)
        if first == last:
            self._count(first, records, 1)
            return
        for number in range(first, last + 1):
            begin = max(began, number * self._width)
            share = (min(ended, (number + 1) * self._width) - begin) / (ended - began)
            self._count(number, records * share, share)

    def merge(self, other: Timeline) -> None:
        """Adds what another worker recorded."""
        if not other.records:
            return
        self._make_room(other.began, other.ended, other.width)
        for i, done in enumerate(zip(other.records, other.calls, strict=True)):
            self._count(int((other.start + i * other.width) // self._width), *done)

    def timeline(self) -> Timeline:
        """Returns all that was added."""
        if not self._done:
            return Timeline()
        first = int(self._began // self._width)
        numbers = range(first, self._last(self._began, self._ended) + 1)
        done = [self._done.get(number, (0.0, 0.0)) for number in numbers]
        return Timeline(
            start=first * self._width,
            width=self._width,
            began=self._began,
            ended=self._ended,
            records=tuple(round(records, _DIGITS) for records, _ in done),
            calls=tuple(round(calls, _DIGITS) for _, calls in done),
        )

    def _make_room(self, began: float, ended: float, width: float) -> None:
        """Makes pieces at least so wide, and wide enough for a stretch of time."""
        self._began, self._ended = min(self._began, began), max(self._ended, ended)
        while (
            self._width < width
            or self._last(self._began, self._ended) - self._began // self._width >= MOST_POINTS
        ):
            self._width *= 2
            narrow, self._done = self._done, {}
            for number, done in narrow.items():
                self._count(number // 2, *done)

    def _last(self, began: float, ended: float) -> int:
        """Returns the piece in which something ends: none that it only touches."""
        return max(int(began // self._width), math.ceil(ended / self._width) - 1)

    def _count(self, number: int, records: float, calls: float) -> None:
        before = self._done.get(number, (0.0, 0.0))
        self._done[number] = (before[0] + records, before[1] + calls)


def merged(timelines: Iterable[Timeline]) -> Timeline:
    """Returns what all workers did, with times since 1970 as theirs."""
    recorder = TimelineRecorder()
    for timeline in timelines:
        recorder.merge(timeline)
    return recorder.timeline()
