"""What the whole of a run would take, as a trial of its first records lets expect."""

from __future__ import annotations

from dataclasses import dataclass

from bulk_inferencer.results.summary import Summary
from bulk_inferencer.results.timeline import Timeline


@dataclass(frozen=True)
class Estimate:
    """What a run of all records would take, at the rates of the first ones.

    Attributes:
      records: how many records there are.
      failed: how many of them would fail.
      seconds: how long it takes.
      bytes_read: the size of the input files.
      bytes_written: the size of the predictions.
      is_all: whether the trial has read all of them already.
      tried: how many records the trial has read.
    """

    records: int
    failed: int
    seconds: float
    bytes_read: int
    bytes_written: int
    is_all: bool = False
    tried: int = 0


def estimate(summary: Summary, limit: int, bytes_of_a_row: int = 0) -> Estimate | None:
    """Returns what the run of all records would take; None if the trial read nothing.

    What does not depend on the number of records counts once: time, such as that of loading the
    model, and bytes, such as the head of a file. The rate is that of the later half of the trial:
    at first, batches are small.

    Args:
      summary: that of the trial.
      limit: most records of a split in the trial.
      bytes_of_a_row: how large a file with a single prediction is.
    """
    total = summary.total
    if not (total.examples_read and summary.bytes_read):
        return None
    factor = max(1.0, summary.input_bytes / summary.bytes_read)
    splits = next(iter(summary.branches.values())).splits.values()
    written, once = total.bytes_written, 0
    if total.predictions_written > total.shards:  # Otherwise nothing tells what a second row takes.
        once = min(bytes_of_a_row * total.shards, written)
    spent = sum(next(iter(summary.branches.values())).seconds.values())
    scoring = min(spent, _seconds_at_later_rate(summary.timeline))
    return Estimate(
        records=round(total.examples_read * factor),
        failed=round(total.examples_failed * factor),
        seconds=spent - scoring + scoring * factor,
        bytes_read=summary.input_bytes,
        bytes_written=round(once + (written - once) * factor),
        is_all=summary.bytes_read >= summary.input_bytes
        or all(own.examples_read < limit for own in splits),
        tried=total.examples_read,
    )


def _seconds_at_later_rate(timeline: Timeline) -> float:
    """Returns how long all of a series would have taken at the rate of its later half."""
    half = sum(timeline.records) / 2
    done = 0.0
    for point in timeline.points:
        if done + point.records >= half:
            share = (half - done) / point.records if point.records else 0.0
            return 2 * (timeline.ended - point.seconds - share * point.duration)
        done += point.records
    return 0.0
