"""Some records of a run, to see which features they have before the run starts."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from google.protobuf.message import DecodeError

from bulk_inferencer._formats.example import Kind, kinds_of_features
from bulk_inferencer._formats.tfrecord import read_chunks
from bulk_inferencer.errors import InputError

_logger = logging.getLogger(__name__)

_MOST_FILES = 8
_MOST_PER_CHUNK = 20
_MOST_RECORDS = 1000
_MOST_MAPPED = 50
_MOST_BYTES = 64 << 20


class FirstRecords:
    """Some records of a run, which are read no further than somebody asks."""

    def __init__(self, read: Callable[[], Iterator[bytes]], also: Iterable[str] = ()) -> None:
        """Begins to read.

        Args:
          read: begins to read the records, each time anew.
          also: names of features that the records will have.
        """
        self._read = read
        self._also = tuple(also)
        self._unread = read()
        self._features: dict[str, Kind | None] = dict.fromkeys(self._also)
        self.count = 0

    def having(self, names: Collection[str]) -> set[str]:
        """Returns those of the names of which a record has a feature."""
        wanted = set(names)
        while not wanted <= self._features.keys():
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

    def with_features(self, names: Iterable[str]) -> FirstRecords:
        """Returns the same records with further features."""
        return FirstRecords(self._read, (*self._also, *names))

    def mapped(self, function: Callable[[list[bytes]], Any]) -> FirstRecords:
        """Returns what a function makes of a few of them, without those that it cannot take."""
        read = self._read

        def mapped() -> Iterator[bytes]:
            for record in itertools.islice(read(), _MOST_MAPPED):
                try:
                    made = function([record])
                except Exception as error:  # noqa: BLE001, a user's function may raise anything
                    _logger.info("A record was left out before the run: %r", error)
                    continue
                yield from (own for own in made if isinstance(own, bytes))

        return FirstRecords(mapped, self._also)


def of_batch(records: Sequence[bytes]) -> FirstRecords:
    """Returns some of the records of a batch."""
    return FirstRecords(lambda: iter(_spread(records, _MOST_PER_CHUNK)))


def of_files(paths: Sequence[str]) -> FirstRecords:
    """Returns some of the records of some TFRecord files, spread over both.

    The beginning of each file comes before the rest, so that little is read where files are alike.
    """
    return FirstRecords(lambda: _read_some(paths))


def _read_some(paths: Sequence[str]) -> Iterator[bytes]:
    files = [read_chunks(path) for path in _spread(paths, _MOST_FILES)]
    read_records = read_bytes = 0
    while files and read_bytes < _MOST_BYTES and read_records < _MOST_RECORDS:
        for file in list(files):
            try:
                chunk = next(file)
            except (StopIteration, InputError):  # a damaged file, which the run itself will name
                files.remove(file)
                continue
            read_bytes += sum(map(len, chunk))
            for record in _spread(chunk, _MOST_PER_CHUNK):
                read_records += 1
                yield record


def _spread(values: Sequence[Any], most: int) -> list[Any]:
    """Returns at most so many of the values, at equal distances, with the first and the last."""
    if len(values) <= most:
        return list(values)
    return [values[i * (len(values) - 1) // (most - 1)] for i in range(most)]
