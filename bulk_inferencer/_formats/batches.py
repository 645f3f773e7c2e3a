"""Batches: records that are read and scored together, bounded by number and by bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bulk_inferencer._checks import check_number
from bulk_inferencer._formats import tfrecord
from bulk_inferencer._formats.input_format import Chunk, InputFile, Reader, Unreadable
from bulk_inferencer._formats.rows import Rows, bytes_of, joined
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

    max_records: int = 16384
    max_bytes: int = 16 << 20
    first_records: int = 64
    max_record_bytes: int = tfrecord.MAX_RECORD_BYTES

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            advice = "Leave it out for the default."
            check_number(f"BatchBounds.{name}", value, advice, 1, whole=True)


@dataclass(frozen=True)
class Segment:
    """Where `count` consecutive records of a batch come from; see `Chunk`."""

    path: str
    first: int
    count: int
    before: Callable[[], int] = int  # which returns 0


@dataclass(frozen=True)
class Batch:
    """Records that are scored together.

    Attributes:
      records: serialized records, or `Rows`.
      segments: where they come from, in the same order.
      unreadable: those that no model can take, by index.
      stored_bytes: about how many bytes they take in their files, as they are stored.
    """

    records: Sequence[bytes]
    segments: tuple[Segment, ...]
    unreadable: Mapping[int, Unreadable] = field(default_factory=dict)
    stored_bytes: int = field(default=0, compare=False)

    def locate(self, index: int) -> tuple[str, int]:
        """Returns the file of the record at `index`, and its number within the file, from 0."""
        for segment in self.segments:
            if index < segment.count:
                return segment.path, segment.before() + segment.first + index
            index -= segment.count
        raise IndexError("no such record in this batch")

    def part(self, start: int, stop: int) -> Batch:
        """Returns the batch of the records from `start` to before `stop`."""
        count = len(self.records)
        if (start, stop) == (0, count):
            return self
        segments, first = [], 0
        for own in self.segments:
            begin, end = max(start, first), min(stop, first + own.count)
            if begin < end:
                segments.append(replace(own, first=own.first + begin - first, count=end - begin))
            first += own.count
        return Batch(
            self.records[start:stop],
            tuple(segments),
            {i - start: reason for i, reason in self.unreadable.items() if start <= i < stop},
            self.stored_bytes * stop // count - self.stored_bytes * start // count,
        )


class _Filling:
    """A batch that is being filled."""

    def __init__(self) -> None:
        self._parts: list[Sequence[bytes]] = []
        self._segments: list[Segment] = []
        self._unreadable: dict[int, Unreadable] = {}
        self.count = self.bytes = self._stored_bytes = 0

    def add(self, chunk: Chunk, start: int, stop: int, size: int) -> None:
        for index, reason in chunk.unreadable.items():
            if start <= index < stop:
                self._unreadable[self.count + index - start] = reason
        self._parts.append(chunk.records[start:stop])
        segment = Segment(chunk.path, chunk.first + start, stop - start, chunk.before)
        self._segments.append(segment)
        stored, count = chunk.stored_bytes, len(chunk.records)
        self._stored_bytes += stored * stop // count - stored * start // count
        self.count += stop - start
        self.bytes += size

    def batch(self) -> Batch:
        return Batch(
            joined(self._parts), tuple(self._segments), self._unreadable, self._stored_bytes
        )


def batches(
    chunks: Iterable[Chunk], bounds: BatchBounds, most_records: Callable[[], int] | None = None
) -> Iterator[Batch]:
    """Joins and cuts chunks into batches, in order and as large as the bounds allow.

    `most_records` may lower `bounds.max_records`. It is asked before each batch.
    """
    most_records = most_records or (lambda: bounds.max_records)
    most = min(bounds.max_records, most_records())
    filling = _Filling()
    for chunk in chunks:
        ends = _ends(chunk.records)
        start = 0
        while start < len(chunk.records):
            before = int(ends[start - 1]) if start else 0
            fitting = np.searchsorted(ends, before + bounds.max_bytes - filling.bytes, side="right")
            stop = min(int(fitting), start + most - filling.count)
            if stop <= start and not filling.count:
                stop = start + 1  # larger than max_bytes on its own
            if stop > start:
                filling.add(chunk, start, stop, int(ends[stop - 1]) - before)
            if stop < len(chunk.records) or filling.count == most:
                yield filling.batch()
                filling = _Filling()
                most = min(bounds.max_records, most_records())
            start = max(start, stop)
    if filling.count:
        yield filling.batch()


def _ends(records: Sequence[bytes]) -> np.ndarray:
    """Returns how many bytes there are up to each record's end; for rows, on average."""
    if isinstance(records, Rows):
        return np.arange(1, len(records) + 1) * bytes_of(records) // len(records)
    return np.cumsum(np.fromiter(map(len, records), np.int64, len(records)))


def read_batches(
    reader: Reader,
    files: Iterable[InputFile],
    bounds: BatchBounds,
    most_records: Callable[[], int] | None = None,
    *,
    on_damage: Callable[[str, InputError], None] | None = None,
    on_end: Callable[[int], None] = lambda more_bytes: None,
) -> Iterator[Batch]:
    """Yields the records of files as batches, in order; see `batches`.

    Args:
      reader: reads the files.
      files: the files, or parts of files.
      bounds: bounds of a batch and of a record.
      most_records: see `batches`.
      on_damage: is called with a file that cannot be read to its end, and the error. If it does not
        raise, the next file follows the records before the damage.
      on_end: is called at the end of each file, with how many of its bytes are not those of its
        records: with their `stored_bytes`, they are all.

    Raises:
      InputError: a file cannot be read to its end, and there is no `on_damage`.
    """
    return batches(_chunks(reader, files, bounds, on_damage, on_end), bounds, most_records)


def _chunks(
    reader: Reader,
    files: Iterable[InputFile],
    bounds: BatchBounds,
    on_damage: Callable[[str, InputError], None] | None,
    on_end: Callable[[int], None],
) -> Iterator[Chunk]:
    for file in files:
        rest = file.own_bytes
        try:
            for chunk in reader.read(file, bounds.max_bytes, bounds.max_record_bytes):
                if chunk.stored_bytes > rest:  # A part of a text ends after the end of a line.
                    chunk = replace(chunk, stored_bytes=rest)
                rest -= chunk.stored_bytes
                yield chunk
        except InputError as error:
            if on_damage is None:
                raise
            on_damage(file.path, error)
        on_end(rest)
