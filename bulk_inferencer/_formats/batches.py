"""Batches: records that are read and scored together, bounded by number and by bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from bulk_inferencer._checks import check_number
from bulk_inferencer._formats import tfrecord


@dataclass(frozen=True)
class BatchBounds:
    """The size of a batch, which ends at whichever bound it reaches first.

    ```python
    BatchBounds(max_records=1024)
    ```

    Attributes:
      max_records: most records in a batch, at least 1.
      max_bytes: most bytes of serialized records in a batch, at least 1. A record that is larger
        than this is a batch of its own.
      first_records: most records in the first call of the model, at least 1. The size then doubles
        for as long as a call takes less than a quarter of a second, or doubling makes a record
        cheaper by a tenth. Set it to `max_records` or more to start with full batches.

    Raises:
      SettingsError: a bound is not a whole number, or less than 1.
    """

    max_records: int = 4096
    max_bytes: int = 16 << 20
    first_records: int = 64

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            advice = "Leave it out for the default."
            check_number(f"BatchBounds.{name}", value, advice, 1, whole=True)


@dataclass(frozen=True)
class Chunk:
    """Consecutive records of one file; `first` is the number of the first one, from 0."""

    path: str
    first: int
    records: list[bytes]


@dataclass(frozen=True)
class Segment:
    """Where `count` consecutive records of a batch come from; see `Chunk`."""

    path: str
    first: int
    count: int


@dataclass(frozen=True)
class Batch:
    """Records that are scored together.

    Attributes:
      records: serialized records.
      segments: where they come from, in the same order.
    """

    records: list[bytes]
    segments: tuple[Segment, ...]

    def locate(self, index: int) -> tuple[str, int]:
        """Returns the file of the record at `index`, and its number within the file, from 0."""
        for segment in self.segments:
            if index < segment.count:
                return segment.path, segment.first + index
            index -= segment.count
        raise IndexError("no such record in this batch")


def batches(chunks: Iterable[Chunk], bounds: BatchBounds) -> Iterator[Batch]:
    """Joins and cuts chunks into batches, in order and as large as the bounds allow."""
    records: list[bytes] = []
    segments: list[Segment] = []
    filled_bytes = 0
    for chunk in chunks:
        ends = np.cumsum(np.fromiter(map(len, chunk.records), np.int64, len(chunk.records)))
        start = 0
        while start < len(chunk.records):
            before = int(ends[start - 1]) if start else 0
            fitting = np.searchsorted(ends, before + bounds.max_bytes - filled_bytes, side="right")
            stop = min(int(fitting), start + bounds.max_records - len(records))
            if stop <= start and not records:
                stop = start + 1  # larger than max_bytes on its own
            if stop > start:
                records += chunk.records[start:stop]
                segments.append(Segment(chunk.path, chunk.first + start, stop - start))
                filled_bytes += int(ends[stop - 1]) - before
            if stop < len(chunk.records) or len(records) == bounds.max_records:
                yield Batch(records, tuple(segments))
                records, segments, filled_bytes = [], [], 0
            start = max(start, stop)
    if records:
        yield Batch(records, tuple(segments))


def read_batches(paths: Iterable[str], bounds: BatchBounds) -> Iterator[Batch]:
    """Yields the records of TFRecord files as batches, in order.

    Raises:
      InputError: a file cannot be read.
    """
    return batches(_chunks(paths, bounds), bounds)


def _chunks(paths: Iterable[str], bounds: BatchBounds) -> Iterator[Chunk]:
    for path in paths:
        first = 0
        for records in tfrecord.read_chunks(path, bounds.max_bytes):
            yield Chunk(path, first, records)
            first += len(records)
