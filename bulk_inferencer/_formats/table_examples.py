"""Columns of a table as serialized tf.Examples, for whole batches at once.

A row is pieces of bytes. Those whose width does not change from row to row lie side by side in a
matrix. Text and lists lie between such matrices, and Arrow joins the pieces of each row:

    matrix                          text    matrix                         text
    --------------------------------+-------+------------------------------+------
    length | x: 1.5 | y: 2.5 | name: | ada   | z: 0.5 | town:              | paris     row 0
    length | x: 0.5 | y:  -  | name: | grace | z: 1.0 | town:              | rome      row 1

Where a row's part of a matrix is shorter than that of others (a null, a shorter length), a mask
leaves out the cells that it does not need. Lengths are as short as they can be, and integers take
ten bytes, so that a row has the same bytes in whatever batch it comes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bulk_inferencer._formats import wire
from bulk_inferencer._formats.column_values import (
    FLOAT32,
    INT64,
    STRING,
    NoFeatureError,
    Values,
    check_features,
    item_type,
    text_buffers,
    text_of,
    values_of,
)
from bulk_inferencer.errors import InputError

_LIST_FIELDS = {STRING: 1, FLOAT32: 2, INT64: 3}
_WIDTHS = {FLOAT32: 4, INT64: 10}
_KEY, _VALUE, _PACKED = wire.tag(1), wire.tag(2), wire.tag(1)
_LARGEST_INT64 = 2**63 - 1
_BLOCK_BYTES = 4 << 20  # so that a block stays near the processor
_WIDE = 64  # bytes of cells without a mask that are worth a piece of their own


class _Cells(NamedTuple):
    """Some columns of a matrix.

    Attributes:
      values: the bytes of all rows; or uint8 or float32 of shape [n, k].
      keep: which cells belong to the row, of shape [n, bytes], and how many; None for all.
    """

    values: bytes | np.ndarray
    keep: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def width(self) -> int:
        own = self.values
        return len(own) if isinstance(own, bytes) else own.shape[1] * own.itemsize

    @property
    def lengths(self) -> np.ndarray | int:
        return self.width if self.keep is None else self.keep[1]


_Piece: TypeAlias = "_Cells | pa.LargeBinaryArray"


def examples_of(table: pa.Table) -> list[bytes]:
    """Returns each row as a serialized tf.Example.

    Whole numbers, booleans and times become int64, floats and decimals float, text and bytes
    bytes, lists repeated values. A null or an empty list becomes a feature without values, a null
    among floats NaN; any other null inside a list is left out.

    Raises:
      InputError: see `check_features`.
      NoFeatureError: see `values_of`; or a number is too large for int64.
    """
    count = len(table)
    if not count:
        return []
    check_features(table.schema)
    if not table.num_columns:
        return [b""] * count
    block = max(1, _BLOCK_BYTES * count // max(1, table.nbytes))
    examples: list[bytes] = []
    for start in range(0, count, block):
        examples += _examples(table.slice(start, block))
    return examples


def unfit_rows(table: pa.Table) -> dict[int, str]:
    """Returns why rows can be no tf.Examples, by their index.

    A value does not fit into int64, or the type of a column has no place in them.
    """
    unfit: dict[int, str] = {}
    try:
        check_features(table.schema)
    except InputError as error:
        return dict.fromkeys(range(len(table)), str(error))
    for name, column in zip(table.column_names, table.columns, strict=True):
        if _may_overflow(item_type(column.type)):
            _find_unfit(name, column, 0, len(table), unfit)
    return unfit


def _find_unfit(
    name: str, column: pa.ChunkedArray, start: int, stop: int, unfit: dict[int, str]
) -> None:
    """Adds rows from `start` to `stop`, which are halved where one does not fit."""
    try:
        _check_int64(name, values_of(name, column.slice(start, stop - start)))
    except NoFeatureError as error:
        if stop - start == 1:
            unfit.setdefault(start, str(error))
            return
        middle = (start + stop) // 2
        _find_unfit(name, column, start, middle, unfit)
        _find_unfit(name, column, middle, stop, unfit)


def _may_overflow(kind: pa.DataType) -> bool:
    types = pa.types
    is_coarse = types.is_timestamp(kind) or types.is_duration(kind)
    is_coarse = is_coarse and kind.unit in ("s", "ms")
    return is_coarse or types.is_date(kind) or types.is_uint64(kind)


def _check_int64(name: str, values: Values) -> None:
    flat = values.flat
    if values.dtype == INT64 and flat.dtype == np.uint64 and flat.max(initial=0) > _LARGEST_INT64:
        raise NoFeatureError(
            f"column '{name}' holds {flat.max()}, which is too large for the int64 of a "
            f"tf.Example; leave it out with columns=, or make it text"
        )


def _examples(table: pa.Table) -> list[bytes]:
    pieces: list[_Piece] = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        pieces += _feature(name, values_of(name, column))
    sizes: np.ndarray | int = 0
    for piece in pieces:
        sizes = sizes + (piece.lengths if isinstance(piece, _Cells) else _lengths(piece))
    start = _Cells(wire.tag(1)), _varints(sizes)
    return _rows([*start, *pieces], len(table))


def _feature(name: str, values: Values) -> list[_Piece]:
    """Returns an entry of the map from names to features."""
    key = wire.field(1, name.encode())
    if values.size == 0:
        return [_Cells(_header(key, values.dtype, 0))]
    if values.dtype == STRING:
        return _text_feature(key, values)
    width = _WIDTHS[values.dtype]
    if values.size:
        packed = _packed(name, values).reshape(len(values), -1)
        return [_Cells(_header(key, values.dtype, values.size * width)), _Cells(packed)]
    counts = values.counts
    has = counts > 0
    size = int(counts.max())
    if not (counts[has] == size).all():
        data = _packed(name, values).reshape(-1).view(np.uint8)
        cells = _lengths_of_list(key, values.dtype, counts * width, has)
        return [*cells, text_of(values.offsets * width, data)]
    # As rows of one width, of which those without values leave out a part.
    packed = _packed(name, values)
    spread = np.zeros((len(values), size * packed.shape[1]), packed.dtype)
    spread[has] = packed.reshape(-1, spread.shape[1])
    full, empty = _header(key, values.dtype, size * width), _header(key, values.dtype, 0)
    header = np.frombuffer(full + empty.ljust(len(full), b"\0"), np.uint8).reshape(2, -1)
    is_own = np.arange(len(full)) < np.array([[len(full)], [len(empty)]])
    which = (~has).astype(np.intp)
    lengths = np.where(has, len(full), len(empty))
    return [
        _Cells(header.take(which, 0), (is_own.take(which, 0), lengths)),
        _only(has, _Cells(spread)),
    ]


def _text_feature(key: bytes, values: Values) -> list[_Piece]:
    counts = values.counts
    has = counts > 0
    starts, data = text_buffers(values.flat)
    if counts.max() == 1:
        text = text_of(starts[values.offsets], data)
        return [*_lengths_of_list(key, STRING, _lengths(text), has), text]
    lengths = np.diff(starts)
    items = _joined([_Cells(_PACKED), _varints(lengths), values.flat], len(lengths))
    starts, data = text_buffers(items)
    lists = text_of(starts[values.offsets], data)
    return [*_lengths_of_list(key, STRING, _lengths(lists), has, is_packed=False), lists]


def _header(key: bytes, dtype: str, size: int) -> bytes:
    """Returns what precedes `size` bytes of packed values; all of the entry if there are none."""
    if not size:
        return wire.field(1, key + wire.header(2, 0))
    values = wire.header(1, size)
    feature = wire.header(_LIST_FIELDS[dtype], len(values) + size) + values
    value = wire.header(2, len(feature) + size) + feature
    return wire.header(1, len(key) + len(value) + size) + key + value


def _lengths_of_list(
    key: bytes, dtype: str, sizes: np.ndarray, has: np.ndarray, is_packed: bool = True
) -> list[_Cells]:
    """Returns what precedes payloads of [n] sizes, in rows that have values.

    Of a text or packed numbers, the length comes first; several texts have a length each.
    """
    inner = sizes + 1 + _varint_lengths(sizes) if is_packed else sizes
    feature = np.where(has, inner + 1 + _varint_lengths(inner), 0)
    entry = len(key) + 1 + _varint_lengths(feature) + feature
    list_tag = wire.tag(_LIST_FIELDS[dtype])
    cells = [_Cells(wire.tag(1)), _varints(entry), _Cells(key + _VALUE), _varints(feature)]
    rest = [_Cells(list_tag), _varints(inner)]
    if is_packed:
        rest += [_Cells(_PACKED), _varints(sizes)]
    return cells + (rest if has.all() else [_only(has, own) for own in rest])


def _only(has: np.ndarray, cells: _Cells) -> _Cells:
    """Returns cells that belong to some rows only."""
    keep = np.repeat([[False], [True]], cells.width, 1).take(has, 0)
    if cells.keep is not None:
        keep &= cells.keep[0]
    return _Cells(cells.values, (keep, has * cells.lengths))


def _packed(name: str, values: Values) -> np.ndarray:
    """Returns the bytes of each value, as float32 of shape [m, 1] or uint8 of shape [m, 10]."""
    flat = values.flat
    if values.dtype == FLOAT32:
        with np.errstate(over="ignore"):  # float32 says infinity, too
            return flat.astype("<f4", copy=False).reshape(-1, 1)
    _check_int64(name, values)
    return wire.padded_varints(flat.reshape(-1, 1))


def _varints(values: np.ndarray | int) -> _Cells:
    """Returns lengths of at most four bytes of 7 bits each, as short as they can be."""
    if isinstance(values, int):
        return _Cells(wire.varint(values))
    low, high = int(values.min()), int(values.max())
    if low == high:
        return _Cells(wire.varint(low))
    width = len(wire.varint(high))
    if width == 1:
        return _Cells(values.astype(np.uint8)[:, np.newaxis])
    rest = values[:, np.newaxis] >> np.arange(0, 7 * (width + 1), 7)
    is_more = rest[:, 1:] > 0
    cells = (rest[:, :-1] & 0x7F | is_more * 0x80).astype(np.uint8)
    keep = np.concatenate([np.ones((len(values), 1), bool), is_more[:, :-1]], 1)
    return _Cells(cells, None if keep.all() else (keep, _varint_lengths(values)))


def _varint_lengths(values: np.ndarray) -> np.ndarray:
    lengths = np.ones(len(values), np.int64)
    bound, high = 0x80, int(values.max(initial=0))
    while high >= bound:
        lengths += values >= bound
        bound <<= 7
    return lengths


def _lengths(text: pa.LargeBinaryArray) -> np.ndarray:
    return np.diff(text_buffers(text)[0])


def _rows(pieces: Sequence[_Piece], count: int) -> list[bytes]:
    joined = _joined(pieces, count)
    if isinstance(joined, np.ndarray):
        return wire.rows_of(joined)
    return joined.to_numpy(zero_copy_only=False).tolist()


def _joined(pieces: Sequence[_Piece], count: int) -> np.ndarray | pa.LargeBinaryArray:
    """Returns the pieces of each row in one; as a matrix, if all rows have one width."""
    arrays: list[pa.LargeBinaryArray] = []
    for piece in _in_runs(pieces):
        if not isinstance(piece, list):
            arrays.append(piece)
            continue
        matrix, keep = _matrix(piece, count)
        if keep is not None:
            offsets = np.zeros(count + 1, np.int64)
            np.cumsum(sum(own.lengths for own in piece), out=offsets[1:])
            arrays.append(text_of(offsets, matrix[keep]))
        elif len(piece) == len(pieces):
            return matrix
        else:
            arrays.append(text_of(np.arange(count + 1) * matrix.shape[1], matrix))
    separator = pa.scalar(b"", pa.large_binary())
    return arrays[0] if len(arrays) == 1 else pc.binary_join_element_wise(*arrays, separator)


def _in_runs(pieces: Sequence[_Piece]) -> list[Any]:
    """Returns text as it is, and lists of the cells that lie side by side.

    Many cells without a mask are apart from those with one, since a mask takes time for each cell.
    """
    groups = [list(own) for _, own in itertools.groupby(pieces, _is_masked)]
    runs: list[Any] = []
    for sort, alike in itertools.groupby(groups, _sort_of):
        own = list(itertools.chain.from_iterable(alike))
        runs += own if sort == "text" else [own]
    return runs


def _is_masked(piece: _Piece) -> bool | None:
    return piece.keep is not None if isinstance(piece, _Cells) else None


def _sort_of(group: Sequence[_Piece]) -> str:
    is_masked = _is_masked(group[0])
    if is_masked is None:
        return "text"
    is_wide = not is_masked and sum(cells.width for cells in group) > _WIDE
    return "plain" if is_wide else "masked"


def _matrix(cells: Sequence[_Cells], count: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the cells side by side, uint8 of shape [count, width], and which of them to keep."""
    template = [c.values if isinstance(c.values, bytes) else bytes(c.width) for c in cells]
    row = np.frombuffer(b"".join(template), np.uint8)
    matrix = np.empty((count, len(row)), np.uint8)
    matrix[:] = row
    is_masked = any(own.keep is not None for own in cells)
    keep = np.ones(matrix.shape, bool) if is_masked else None
    start = 0
    for own in cells:
        if isinstance(own.values, np.ndarray):
            _put(own.values, matrix, start)
        if keep is not None and own.keep is not None:
            _put(own.keep[0], keep, start)
        start += own.width
    return matrix, keep


def _put(values: np.ndarray, matrix: np.ndarray, start: int) -> None:
    """Writes an array of shape [n, k] into the columns of a matrix of bytes that begin at `start`.

    Floats are cast on the way. NumPy is slow with rows of a few bytes each, so others are written
    as one opaque value per row.
    """
    if values.dtype.kind != "f":
        values = np.ascontiguousarray(values)
        values = values.view(f"V{values.shape[1] * values.itemsize}")
    dtype = np.dtype("<f4") if values.dtype.kind == "f" else values.dtype
    strides = (matrix.shape[1], dtype.itemsize)
    np.ndarray(values.shape, dtype, matrix, start, strides)[...] = values
