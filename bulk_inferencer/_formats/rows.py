"""Rows of a table as records: columns as long as nobody asks for bytes.

table -> Rows -> columns                           for signatures that take tensors
              -> serialized tf.Examples, made once  for whoever asks for a record
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar, overload

import pyarrow as pa

from bulk_inferencer._formats.column_values import NoFeatureError
from bulk_inferencer._formats.columns import ColumnView
from bulk_inferencer._formats.table_examples import examples_of, unfit_rows

_Records = TypeVar("_Records", bound="Sequence[bytes]")


class Rows(Sequence[bytes]):
    """Consecutive rows of a table.

    As a sequence, they are their tf.Examples, which are made together when the first one is asked
    for. Slices share them, so that they are made once per batch however many ask.

    Pickled, they are the columns that were read, in Arrow's own format; what else there is can be
    made of these again.

    Attributes:
      source: every column that was read.
      view: what says what models see of them; None if they see all, as it is.
      columns: what models see: columns that are chosen, renamed and joined.
    """

    def __init__(self, source: pa.Table, view: ColumnView | None = None) -> None:
        self.source = source
        self.view = view
        self.columns = source if view is None else view.apply(source)
        # What makes the tf.Examples, if not these rows themselves: a reference to itself would
        # keep a table in memory until the garbage collector comes.
        self._whole: Rows | None = None
        self._start = 0
        self._examples: list[bytes] | None = None

    @classmethod
    def concat(cls, parts: Sequence[Rows]) -> Rows:
        """Returns the rows of all parts, which have the same columns."""
        if len(parts) == 1:
            return parts[0]
        joined = cls(pa.concat_tables([part.source for part in parts]))
        joined.view = parts[0].view
        joined.columns = (
            joined.source
            if all(part.columns is part.source for part in parts)
            else pa.concat_tables([part.columns for part in parts])
        )
        return joined

    @property
    def nbytes(self) -> int:
        """About how many bytes the rows take in memory."""
        return int(self.source.nbytes)

    def examples(self) -> list[bytes]:
        """Returns the rows as serialized tf.Examples.

        Raises:
          NoFeatureError: one of them can be none; see `unfit`.
        """
        if self._examples is None:
            try:
                whole = self if self._whole is None else self._whole
                examples = whole._examples or examples_of(whole.columns)
                whole._examples = examples
                self._examples = examples[self._start : self._start + len(self)]
            except NoFeatureError:  # perhaps of a row elsewhere in the batch
                self._examples = examples_of(self.columns)
        return self._examples

    def unfit(self) -> dict[int, str]:
        """Returns why rows can be no tf.Examples, by their index: a value is out of range."""
        return unfit_rows(self.columns)

    def take(self, indexes: Sequence[int]) -> Rows:
        """Returns the rows at these indexes, in this order."""
        taken = Rows(self.source.take(pa.array(indexes, pa.int64())))
        taken.view = self.view
        if self.columns is not self.source:
            taken.columns = self.columns.take(pa.array(indexes, pa.int64()))
        whole = self if self._whole is None else self._whole
        if whole._examples is not None:
            examples = self.examples()
            taken._examples = [examples[i] for i in indexes]
        return taken

    def __reduce__(self) -> tuple[Any, ...]:
        # Arrow pickles all of a table along with a slice of it (apache/arrow#26685).
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.source.schema) as stream:
            stream.write_table(self.source)
        return _unpickled, (sink.getvalue(), self.view)

    def __len__(self) -> int:
        return int(self.source.num_rows)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.examples())

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Rows: ...
    def __getitem__(self, index: int | slice) -> bytes | Rows:
        if not isinstance(index, slice):
            return self.examples()[index]
        start, stop, step = index.indices(len(self))
        if step != 1:
            return self.take(range(start, stop, step))
        if (start, stop) == (0, len(self)):
            return self
        count = max(0, stop - start)
        part = Rows(self.source.slice(start, count))
        part.view = self.view
        part.columns = (
            part.source if self.columns is self.source else self.columns.slice(start, count)
        )
        part._whole = self if self._whole is None else self._whole
        part._start = self._start + start
        return part


def _unpickled(content: pa.Buffer, view: ColumnView | None) -> Rows:
    with pa.ipc.open_stream(content) as stream:
        return Rows(stream.read_all(), view)


def bytes_of(records: Sequence[bytes]) -> int:
    """Returns how many bytes records take: serialized, or for rows, as columns."""
    return records.nbytes if isinstance(records, Rows) else sum(map(len, records))


def taken(records: Sequence[bytes], indexes: Sequence[int]) -> Sequence[bytes]:
    """Returns the records at these indexes, in this order; rows stay rows."""
    if isinstance(indexes, range) and indexes.step == 1:
        is_all = len(indexes) == len(records)
        return records if is_all else records[indexes.start : indexes.stop]
    if isinstance(records, Rows):
        return records.take(indexes)
    return [records[i] for i in indexes]


def joined(parts: Iterable[Sequence[bytes]]) -> Sequence[bytes]:
    """Returns the records of all parts in one; rows stay rows."""
    parts = list(parts)
    rows = [part for part in parts if isinstance(part, Rows)]
    if rows and len(rows) == len(parts):
        return Rows.concat(rows)
    return [record for part in parts for record in part]


def as_list(records: Sequence[bytes]) -> list[Any]:
    """Returns records as a list of bytes."""
    return records.examples() if isinstance(records, Rows) else list(records)
