"""The rows of two results, joined and compared part by part.

RowSource --stored--> RowStore with the columns digest, row, id/..., out/... --> Comparison
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bulk_inferencer.errors import InputError
from bulk_inferencer.results.classes import readable
from bulk_inferencer.results.column_arrays import Flat, pieces
from bulk_inferencer.results.compare import compare_rows
from bulk_inferencer.results.comparison import Comparison, Readable
from bulk_inferencer.results.join_by import JoinBy, RowSource, kind_of
from bulk_inferencer.results.log_kinds import WiderError
from bulk_inferencer.results.log_rows import LogRows
from bulk_inferencer.results.row_digests import (
    digests_of_column,
    digests_of_columns,
    digests_of_records,
    paired,
)
from bulk_inferencer.results.row_store import DIGEST, PARTS, RowStore, digest_column, digests_in

# Names of columns in a store.
ROW, ID, OUT = "row", "id/", "out/"
_MOST_SHOWN = 5  # columns that identify a record to a person
_ROWS = 1 << 13
_WITHOUT_KEY = (1 << 64) - 1  # what digests of keys do not have, but by accident


def stored(
    source: RowSource,
    by: JoinBy,
    side: int,
    make_store: Callable[[], RowStore],
    see: Callable[[pa.Table], None] = lambda table: None,
) -> RowStore:
    """Returns all rows with their digests.

    Args:
      source: the rows.
      by: what identifies a record.
      side: 0 for the first results, 1 for the second.
      make_store: makes an empty store; called again where columns must be wider.
      see: is called with each table of rows, as they are in the results.
    """
    while True:
        store = make_store()
        try:
            for table, records in _tables(source, by):
                see(table)
                store.add(_to_store(source, by, side, table, records, store.count))
        except WiderError as error:
            assert isinstance(source.rows, LogRows)
            source.rows.kinds = error.kinds
            continue
        store.finish()
        return store


def _tables(source: RowSource, by: JoinBy) -> Iterator[tuple[pa.Table, Sequence[bytes | None]]]:
    if by == JoinBy():
        assert isinstance(source.rows, LogRows)
        yield from source.rows.tables_with_records(_ROWS)
        return
    for table in source.rows.tables(_ROWS):
        yield table, ()


def _to_store(
    source: RowSource,
    by: JoinBy,
    side: int,
    table: pa.Table,
    records: Sequence[bytes | None],
    start: int,
) -> pa.Table:
    numbers = np.arange(start, start + table.num_rows)
    if by.key:
        keys = array_of(table[by.key])
        digests = digests_of_column(keys)
        if keys.null_count:  # Nothing is the same as what has no key.
            is_null = keys.is_null().to_numpy(zero_copy_only=False)
            digests[is_null, 0] = numbers[is_null]
            digests[is_null, 1] = _WITHOUT_KEY - side
        shown = [by.key]
    else:
        shown = [n for n in source.kept if kind_of(table.schema.field(n).type)][:_MOST_SHOWN]
        if by.columns:
            digests = digests_of_columns([_comparable(table[name]) for name in by.columns])
        else:
            digests = digests_of_records(records)
    columns = {
        DIGEST: digest_column(digests),
        ROW: pa.array(numbers),
        **{f"{ID}{name}": table[name] for name in shown},
        **{f"{OUT}{name}": table[name] for name in source.compared(by.key)},
    }
    return pa.table(columns)


def _comparable(column: pa.ChunkedArray) -> pa.Array:
    """Returns values so that equal ones of results with other types have the same text."""
    array, types = array_of(column), pa.types
    if types.is_floating(array.type):  # Records hold float32. Minus zero becomes zero.
        return pc.add(pc.cast(array, pa.float32(), safe=False), pa.scalar(0.0, pa.float32()))
    if types.is_string(array.type):
        return array.view(pa.binary())
    return array.view(pa.large_binary()) if types.is_large_string(array.type) else array


def array_of(column: pa.ChunkedArray) -> pa.Array:
    """Returns a column in one piece."""
    chunks = column.chunks or [pa.array([], column.type)]
    return chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks)


@dataclass(frozen=True)
class JoinedRows:
    """Compares rows of the same records.

    Attributes:
      sources: where the rows come from.
      by: what identifies a record.
      names: of the results.
      folder: of the first results.
      most_different: how many records to keep for each output.
    """

    sources: Sequence[RowSource]
    by: JoinBy
    names: tuple[str, str]
    folder: str
    most_different: int

    def compare(self, stores: Sequence[RowStore]) -> tuple[Comparison, int]:
        """Returns the comparison, and the number of records that both have.

        Raises:
          InputError: a key occurs twice in one of the results.
        """
        comparison, count = Comparison(), 0
        for a, b in _parts(*stores):
            pairs = paired(digests_in(a), digests_in(b))
            if self.by.key:
                self._check_is_unique(self.sources[0], a, pairs.doubled)
                self._check_is_unique(self.sources[1], b, pairs.doubled_in_b)
            count += len(pairs.a)
            for start in range(0, len(pairs.a), _ROWS):
                part = slice(start, start + _ROWS)
                rows_a, rows_b = (pa.array(own[part]) for own in (pairs.a, pairs.b))
                comparison = comparison.merge(self._compare(a.take(rows_a), b.take(rows_b)))
        return comparison, count

    def _compare(self, a: pa.Table, b: pa.Table) -> Comparison:
        """Compares the rows of two tables one by one, those of equal lengths at once."""
        numbers = a[ROW].to_numpy()
        ids = [name for name in a.column_names if name.startswith(ID)]
        columns = [_outputs(name, own) for name, own in zip(self.names, (a, b), strict=True)]
        comparison = Comparison()
        for rows, arrays in pieces({**columns[0], **columns[1]}, a.num_rows):

            def locate(i: int, rows: np.ndarray = rows) -> tuple[str, int]:
                return self.folder, int(numbers[rows[i]])

            def keys_of(i: int, rows: np.ndarray = rows) -> dict[str, list[Readable]]:
                return {name.removeprefix(ID): _readable(a[name][int(rows[i])]) for name in ids}

            outputs = {
                name: {output: arrays[name, output] for _, output in own}
                for name, own in zip(self.names, columns, strict=True)
            }
            part = compare_rows(outputs, locate, keys_of, self.most_different)
            comparison = comparison.merge(part)
        return comparison

    def _check_is_unique(self, source: RowSource, rows: pa.Table, doubled: int | None) -> None:
        if doubled is not None:
            value = rows[f"{ID}{self.by.key}"][doubled].as_py()
            raise InputError(
                f"The key '{self.by.key}' of {source.name} is not unique: {value!r} occurs more "
                f"than once. Name a column that tells records apart, or read one split or model."
            )


def _parts(a: RowStore, b: RowStore) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Yields the rows of two results in parts, with equal digests in the same one."""
    if a.schema is None or b.schema is None:
        return
    if not (a.is_on_disk or b.is_on_disk):
        yield a.whole(), b.whole()
        return
    for number in range(PARTS):
        yield a.part(number), b.part(number)


def _outputs(name: str, rows: pa.Table) -> dict[tuple[str, str], Flat]:
    columns = [own for own in rows.column_names if own.startswith(OUT)]
    return {(name, own.removeprefix(OUT)): Flat(array_of(rows[own])) for own in columns}


def _readable(value: pa.Scalar) -> list[Readable]:
    found = value.as_py()
    if found is None:
        return []
    return [readable(found if isinstance(found, (bytes, bool, int, float)) else str(found))]
