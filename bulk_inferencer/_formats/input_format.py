"""What reads input files: which format they have, into which parts they are cut, what is in them.

files -> InputFormat.reader -> Reader.parts -> InputFile, InputFile, ...   once, by a run
                               Reader.read  -> Chunk, Chunk, ...           by each unit
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias

import pyarrow as pa

from bulk_inferencer._formats.columns import ColumnView

# Which columns results keep: None for all scalars, or their names.
Kept: TypeAlias = tuple[str, ...] | None


@dataclass(frozen=True, order=True)
class Part:
    """A part of a file, for example some row groups of Parquet.

    Attributes:
      start: where it begins: the number of a row group, or of a byte.
      stop: where it ends, in the same unit; not included.
      bytes: about its size.
    """

    start: int
    stop: int
    bytes: int


@dataclass(frozen=True, order=True)
class InputFile:
    """A file of records, or a part of one.

    Attributes:
      path: where it is.
      bytes: the size of the whole file, as stored.
      modified: when it was last written, in seconds since 1970; 0 if the filesystem does not say.
      part: which part; None for all of it.
    """

    path: str
    bytes: int
    modified: float = 0.0
    part: Part | None = None

    @property
    def own_bytes(self) -> int:
        """The size of the part."""
        return self.part.bytes if self.part else self.bytes


class Unreadable(NamedTuple):
    """Why a row of a table could not be read: the kind of error, and the reason in a line."""

    error_type: str
    message: str


@dataclass(frozen=True)
class Chunk:
    """Consecutive records of one file.

    Attributes:
      path: the file.
      first: number of the first record, from 0, within what `before` counts.
      records: a list of bytes, or `Rows`.
      unreadable: those that could not be read, by their index. What stands for them is no record.
      before: counts the records that precede `first == 0` in the file. It may have to read the
        file, so only messages ask for it.
      stored_bytes: about how many bytes the records take in the file, as they are stored; 0 if
        nobody can tell. Progress shows it.
    """

    path: str
    first: int
    records: Sequence[bytes]
    unreadable: Mapping[int, Unreadable] = field(default_factory=dict)
    before: Callable[[], int] = int  # which returns 0
    stored_bytes: int = field(default=0, compare=False)


class Reader(Protocol):
    """Reads the files of a run. Engines pickle it and send it to workers."""

    @property
    def schema(self) -> pa.Schema | None:
        """The columns that are read, before `ColumnView`; None if records are no rows."""
        ...

    @property
    def record_format(self) -> str | None:
        """The format of the records, if the files decide about it; None if the job does."""
        ...

    @property
    def features(self) -> pa.Schema | None:
        """The columns that models see; None if records are no rows."""
        ...

    def parts(self, file: InputFile) -> list[InputFile]:
        """Returns the parts of a file that units may read side by side, in order."""
        ...

    def read(self, file: InputFile, max_bytes: int, max_record_bytes: int) -> Iterator[Chunk]:
        """Yields the records of a file, or of a part, in order.

        Args:
          file: what to read.
          max_bytes: about the most bytes in a chunk. A larger record is a chunk of its own.
          max_record_bytes: most bytes of one record.

        Raises:
          InputError: the file cannot be read to its end, or is not what was listed. All whole
            records before any damage come before the error.
        """
        ...


class InputFormat(Protocol):
    """The format of input files, and how to parse them."""

    def reader(self, files: Sequence[InputFile], view: ColumnView, kept: Kept) -> Reader:
        """Returns what reads the files, and decides what all workers must agree on, such as types.

        Args:
          files: all files of a run.
          view: what models see of tables.
          kept: which columns results keep.

        Raises:
          InputError: the files cannot be read, or lack a column.
          SettingsError: the format has no columns to choose from.
        """
        ...
