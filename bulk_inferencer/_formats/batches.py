"""Batches: records that are read and scored together, bounded by number and by bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from bulk_inferencer._checks import check_number
from bulk_inferencer._formats import tfrecord
from bulk_inferencer.errors import InputError


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
        for as long as a call takes less than a quarter of a second, or less than a second while
        doubling makes a record cheaper by a tenth, and the memory of the process stays within 1.25
        times what it was. A size that does not pay is given up again. Set it to `max_records` or
        more to start with full batches.
      max_record_bytes: most bytes of one record, at least 1. A file with a longer one counts as
        damaged: the number that says how long a record is may be wrong.

    Raises:
      SettingsError: a bound is not a whole number, or less than 1.
    """

    max_records: int = 4096
    max_bytes: int = 16 << 20
    first_records: int = 64
    max_record_bytes: int = tfrecord.MAX_RECORD_BYTES

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


def batches(
    chunks: Iterable[Chunk], bounds: BatchBounds, most_records: Callable[[], int] | None = None
) -> Iterator[Batch]:
    """Joins and cuts chunks into batches, in order and as large as the bounds allow.

    `most_records` may lower `bounds.max_records`. It is asked before each batch.
    """
    most_records = most_records or (lambda: bounds.max_records)
    most = min(bounds.max_records, most_records())
    records: list[bytes] = []
    segments: list[Segment] = []
    filled_bytes = 0
    for chunk in chunks:
        ends = np.cumsum(np.fromiter(map(len, chunk.records), np.int64, len(chunk.records)))
        start = 0
        while start < len(chunk.records):
            before = int(ends[start - 1]) if start else 0
            fitting = np.searchsorted(ends, before + bounds.max_bytes - filled_bytes, side="right")
            stop = min(int(fitting), start + most - len(records))
            if stop <= start and not records:
                stop = start + 1  # larger than max_bytes on its own
            if stop > start:
                records += chunk.records[start:stop]
                segments.append(Segment(chunk.path, chunk.first + start, stop - start))
                filled_bytes += int(ends[stop - 1]) - before
            if stop < len(chunk.records) or len(records) == most:
                yield Batch(records, tuple(segments))
                records, segments, filled_bytes = [], [], 0
                most = min(bounds.max_records, most_records())
            start = max(start, stop)
    if records:
        yield Batch(records, tuple(segments))


def read_batches(
    paths: Iterable[str],
    bounds: BatchBounds,
    most_records: Callable[[], int] | None = None,
    *,
    sizes: Mapping[str, int] | None = None,
    on_damage: Callable[[str, InputError], None] | None = None,
) -> Iterator[Batch]:
    """Yields the records of TFRecord files as batches, in order; see `batches`.

    Args:
      paths: the files.
      bounds: bounds of a batch and of a record.
      most_records: see `batches`.
      sizes: the bytes that files should have, by path.
      on_damage: is called with a file that cannot be read to its end, and the error. If it does not
        raise, the next file follows the records before the damage.

    Raises:
      InputError: a file cannot be read to its end, and there is no `on_damage`.
    """
    return batches(_chunks(paths, bounds, sizes or {}, on_damage), bounds, most_records)


def _chunks(
    paths: Iterable[str],
    bounds: BatchBounds,
    sizes: Mapping[str, int],
    on_damage: Callable[[str, InputError], None] | None,
) -> Iterator[Chunk]:
    for path in paths:
        first = 0
        chunks = tfrecord.read_chunks(
            path,
            bounds.max_bytes,
            max_record_bytes=bounds.max_record_bytes,
            listed_bytes=sizes.get(path),
        )
        try:
            for records in chunks:
                yield Chunk(path, first, records)
                first += len(records)
        except InputError as error:
            if on_damage is None:
                raise
            on_damage(path, error)
