"""Some records of a run, to see which features they have before the run starts."""

from __future__ import annotations

import contextlib
import copy
import itertools
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
from google.protobuf.message import DecodeError

from bulk_inferencer._formats.column_values import kinds_of_columns
from bulk_inferencer._formats.example import Kind, kinds_of_features
from bulk_inferencer._formats.input_format import InputFile, Reader, Unreadable
from bulk_inferencer._formats.rows import Rows, bytes_of, joined, taken
from bulk_inferencer._formats.tfrecord import MAX_RECORD_BYTES
from bulk_inferencer.errors import InputError

_logger = logging.getLogger(__name__)

_MOST_FILES = 8
_MOST_PER_CHUNK = 20
_MOST_RECORDS = 1000
_MOST_MAPPED = 50
_MOST_BYTES = 64 << 20
_CHUNK_BYTES = 1 << 20


class FirstRecords:
    """Some records of a run, which are read no further than somebody asks."""

    def __init__(
        self,
        read: Callable[[], Iterator[Sequence[bytes]]],
        also: Iterable[str] = (),
        appended: Callable[[Sequence[bytes]], Sequence[bytes]] | None = None,
        columns: pa.Schema | None = None,
    ) -> None:
        """Begins to read.

        Args:
          read: begins to read the records, some at a time. What was read is kept.
          also: names of features that the records will have.
          appended: returns those of some records that can have these features, with them; default:
            they have them already.
          columns: the columns that models see, if the records are rows of tables.
        """
        beginning = itertools.tee(read(), 1)[0]  # A copy begins here, and shares what was read.
        self._read: Callable[[], Iterator[Sequence[bytes]]] = partial(copy.copy, beginning)
        self.columns = columns
        self._also = (*also, *(columns.names if columns is not None else ()))
        self._appended = appended or (lambda records: records)
        self._unread = itertools.chain.from_iterable(self._read())
        self._features: dict[str, Kind | None] = dict.fromkeys(self._also)
        if columns is not None:
            self._features |= kinds_of_columns(columns)
        self.count = 0

    def batch(self, most_records: int) -> Sequence[bytes]:
        """Returns the first of them as a batch; rows of tables stay rows."""
        parts: list[Sequence[bytes]] = []
        missing = most_records
        for records in self._read():
            parts.append(records[:missing])
            missing -= len(parts[-1])
            if not missing:
                break
        return self._appended(joined(parts))

    def having(self, names: Collection[str]) -> set[str]:
        """Returns those of the names of which a record has a feature."""
        wanted = set(names)
        while self.columns is None and not wanted <= self._features.keys():
            try:
                record = next(self._unread)
            except StopIteration:
                break
            self.count += 1
            with contextlib.suppress(DecodeError):  # no tf.Example, which the run itself will say
                self._features = {**kinds_of_features(record), **self._features}
        return wanted & self._features.keys()

    @property
    def seen(self) -> dict[str, Kind | None]:
        """The features of the records that were read, by name; None if their kind is not known."""
        return dict(self._features)

    def with_features(
        self, names: Iterable[str], append: Callable[[Sequence[bytes]], Sequence[bytes]]
    ) -> FirstRecords:
        """Returns the same records with further features.

        `append` makes them, without the records that it cannot make them for. It is called only if
        somebody asks for more than the names.
        """
        before = self._appended
        return FirstRecords(
            self._read, (*self._also, *names), lambda records: append(before(records))
        )

    def mapped(self, function: Callable[[list[bytes]], Any]) -> FirstRecords:
        """Returns what a function makes of a few of them, without those that it cannot take."""
        read, appended = self._read, self._appended

        def mapped() -> Iterator[list[bytes]]:
            for record in itertools.islice(itertools.chain.from_iterable(read()), _MOST_MAPPED):
                try:
                    made = [own for one in appended([record]) for own in function([one])]
                except Exception as error:  # noqa: BLE001, a user's function may raise anything
                    _logger.info("A record was left out before the run: %r", error)
                    continue
                yield [own for own in made if isinstance(own, bytes)]

        return FirstRecords(mapped)


def of_batch(records: Sequence[bytes]) -> FirstRecords:
    """Returns some of the records of a batch."""
    columns = records.columns.schema if isinstance(records, Rows) else None
    return FirstRecords(lambda: iter([_some_of(records, {})]), columns=columns)


def of_files(reader: Reader, files: Sequence[InputFile]) -> FirstRecords:
    """Returns some of the records of some files, spread over both.

    The beginning of each file comes before the rest, so that little is read where files are alike.
    """
    return FirstRecords(lambda: _read_some(reader, files), columns=reader.features)


def _read_some(reader: Reader, paths: Sequence[InputFile]) -> Iterator[Sequence[bytes]]:
    files = [
        reader.read(file, _CHUNK_BYTES, MAX_RECORD_BYTES) for file in _spread(paths, _MOST_FILES)
    ]
    read_records = read_bytes = 0
    while files and read_bytes < _MOST_BYTES and read_records < _MOST_RECORDS:
        for file in list(files):
            try:
                chunk = next(file)
            except (StopIteration, InputError):  # a damaged file, which the run itself will name
                files.remove(file)
                continue
            read_bytes += bytes_of(chunk.records)
            some = _some_of(chunk.records, chunk.unreadable)
            read_records += len(some)
            yield some


def _some_of(records: Sequence[bytes], unreadable: Mapping[int, Unreadable]) -> Sequence[bytes]:
    indexes = _spread(range(len(records)), _MOST_PER_CHUNK)
    return taken(records, [index for index in indexes if index not in unreadable])


def _spread(values: Sequence[Any], most: int) -> list[Any]:
    """Returns at most so many of the values, at equal distances, with the first and the last."""
    if len(values) <= most:
        return list(values)
    return [values[i * (len(values) - 1) // (most - 1)] for i in range(most)]
