"""Rows that are read back by their digests: in memory, or in files if they are many."""

from __future__ import annotations

import itertools
import os

import numpy as np
import pyarrow as pa

DIGEST = "digest"
PARTS = 256
_MOST_BYTES = 128 << 20


class RowStore:
    """Rows with a column `digest`, of 16 bytes each.

    Those of equal digests are in the same part, in the order in which they were added.
    """

    def __init__(self, folder: str) -> None:
        """Keeps rows in memory as long as they are few, and then in files in the folder."""
        self._folder = folder
        self._tables: list[pa.Table] = []
        self._bytes = 0
        self._writers: dict[int, pa.RecordBatchStreamWriter] = {}
        self._schema: pa.Schema | None = None
        self.count = 0

    @property
    def schema(self) -> pa.Schema | None:
        """The columns; None if nothing was added."""
        return self._schema

    @property
    def is_on_disk(self) -> bool:
        """Whether the rows are in files."""
        return bool(self._writers)

    def add(self, table: pa.Table) -> None:
        """Adds rows."""
        self._schema = self._schema or table.schema
        self.count += table.num_rows
        self._tables.append(table)
        self._bytes += table.nbytes
        if self._bytes > _MOST_BYTES or (self._writers and len(self._tables) > 8):
            self._spill()

    def finish(self) -> None:
        """Closes the files; nothing is added after it."""
        if self._writers and self._tables:
            self._spill()
        if self._writers:
            for writer in self._writers.values():
                writer.close()

    def whole(self) -> pa.Table:
        """Returns all rows in one piece, of a store in memory to which some were added."""
        self._tables = [pa.concat_tables(self._tables).combine_chunks()]
        return self._tables[0]

    def part(self, number: int) -> pa.Table:
        """Returns the rows of a part, from 0 to `PARTS` - 1."""
        if not self.is_on_disk:
            table = self.whole()
            return table.filter(pa.array(_parts(table) == number)).combine_chunks()
        if number not in self._writers:
            assert self.schema is not None
            return self.schema.empty_table()
        with pa.memory_map(self._path(number)) as file:
            return pa.ipc.open_stream(file).read_all().combine_chunks()

    def _spill(self) -> None:
        table = pa.concat_tables(self._tables).combine_chunks()
        self._tables, self._bytes = [], 0
        parts = _parts(table)
        order = np.argsort(parts, kind="stable")
        table, ends = table.take(pa.array(order)), np.searchsorted(parts[order], range(PARTS + 1))
        for number, (start, end) in enumerate(itertools.pairwise(ends)):
            if end > start:
                if number not in self._writers:
                    writer = pa.ipc.new_stream(self._path(number), table.schema)
                    self._writers[number] = writer
                self._writers[number].write_table(table.slice(start, end - start))

    def _path(self, number: int) -> str:
        return os.path.join(self._folder, f"{number}.arrow")


def digest_column(digests: np.ndarray) -> pa.Array:
    """Returns digests, uint64 of shape [n, 2], as a column of 16 bytes each."""
    data = pa.py_buffer(np.ascontiguousarray(digests, np.uint64))
    return pa.Array.from_buffers(pa.binary(16), len(digests), [None, data])


def digests_in(table: pa.Table) -> np.ndarray:
    """Returns the digests of rows, as uint64 of shape [n, 2]."""
    column = table[DIGEST].combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # as Arrow 10 returns it
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    if not len(column):
        return np.zeros((0, 2), np.uint64)
    data = np.frombuffer(column.buffers()[1], np.uint64).reshape(-1, 2)
    return data[column.offset : column.offset + len(column)]


def _parts(table: pa.Table) -> np.ndarray:
    digests = digests_in(table)
    # Digests of whole numbers are these numbers: neighbours must not fill a part each.
    mixed = (digests[:, 0] ^ digests[:, 1]) * np.uint64(0x9E3779B97F4A7C15)
    return (mixed >> np.uint64(56)).astype(np.int64)
