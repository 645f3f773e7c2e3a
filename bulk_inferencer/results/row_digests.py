"""Which rows of two results are of the same record, by digests of what identifies them.

    values  b"r1" b"r2" b"r1"   --digests-->  [n, 2] uint64   --paired-->  rows of a, rows of b

A digest has 128 bits. Those of whole numbers are exact; of others, two may be the same by accident
once in 10**18 pairs of results with 10**10 rows each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bulk_inferencer._formats.table_texts import json_texts

# Two keys of SipHash; any others would do as well.
_HASH_KEYS = ("bulk inferencer1", "bulk inferencer2")
_FIELD_1 = 0x0A  # with a length
_BETWEEN = "\x1f"  # JSON has it nowhere


class Pairs(NamedTuple):
    """Rows of the same records.

    Attributes:
      a: row numbers in `a`, ascending.
      b: those of the same records in `b`.
      doubled: a row of `a` whose digest occurs again there; None if there is none.
      doubled_in_b: the same for `b`.
    """

    a: np.ndarray
    b: np.ndarray
    doubled: int | None
    doubled_in_b: int | None


def digests_of_objects(values: Sequence[bytes | str]) -> np.ndarray:
    """Returns the digests of texts or byte strings as uint64 of shape [n, 2]."""
    from pandas.util import hash_array

    array = np.empty(len(values), object)
    array[:] = values
    hashes = [hash_array(array, hash_key=key, categorize=False) for key in _HASH_KEYS]
    return np.stack(hashes, axis=1)


def digests_of_records(records: Sequence[bytes | None]) -> np.ndarray:
    """Returns the digests of serialized records.

    The features of a tf.Example are a map, which serializers write in any order: so the digest is
    that of the features in the order of their bytes.
    """
    return digests_of_objects([in_order(record or b"") for record in records])


def in_order(record: bytes) -> bytes:
    """Returns the features of a tf.Example in the order of their bytes; another record as it is."""
    entries: list[bytes] = []
    try:
        start, end = _payload(record, 0)
        if end != len(record):
            return record
        while start < end:
            first, (_, start) = start, _payload(record, start)
            entries.append(record[first:start])
    except (IndexError, ValueError):
        return record
    return b"".join(sorted(entries)) if start == end else record


def _payload(record: bytes, at: int) -> tuple[int, int]:
    """Returns where the payload of a message begins and ends, which is field 1."""
    if record[at] != _FIELD_1:
        raise ValueError
    size = shift = 0
    while True:
        at += 1
        byte = record[at]
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if at + 1 + size > len(record):
        raise ValueError
    return at + 1, at + 1 + size


def digests_of_column(column: pa.Array) -> np.ndarray:
    """Returns the digests of the values of a column: whole numbers, texts, bytes or others.

    Equal values have equal digests, whatever the width of their type. Nulls have any.
    """
    types, kind = pa.types, column.type
    if types.is_integer(kind) or types.is_boolean(kind):
        numbers = pc.fill_null(column, False if types.is_boolean(kind) else 0)
        values = numbers.to_numpy(zero_copy_only=False)
        is_negative = values < 0 if values.dtype.kind == "i" else np.zeros(len(values), bool)
        with np.errstate(over="ignore"):
            return np.stack([values.astype(np.uint64), is_negative.astype(np.uint64)], axis=1)
    if types.is_string(kind) or types.is_large_string(kind) or _is_bytes(kind):
        return digests_of_objects(
            pc.fill_null(column, "" if not _is_bytes(kind) else b"").to_pylist()
        )
    return digests_of_objects(json_texts(column).to_pylist())


def digests_of_columns(columns: Sequence[pa.Array]) -> np.ndarray:
    """Returns the digests of rows of several columns. Null is a value like any other."""
    texts = [json_texts(column) for column in columns]
    return digests_of_objects(pc.binary_join_element_wise(*texts, _BETWEEN).to_pylist())


def paired(a: np.ndarray, b: np.ndarray) -> Pairs:
    """Returns the rows of two results with equal digests; of equal ones, the first with the first.

    a  x y x      a     0  1  2
    b  y x x  ->  b     1  0  2
    """
    both = np.concatenate([a, b])
    is_b = np.repeat([False, True], [len(a), len(b)])
    occurrence = np.concatenate([_occurrences(a), _occurrences(b)])
    order = np.lexsort((is_b, occurrence, both[:, 1], both[:, 0]))
    ranked, nth, of_b = both[order], occurrence[order], is_b[order]
    is_pair = (ranked[1:] == ranked[:-1]).all(axis=1) & (nth[1:] == nth[:-1])
    is_pair &= of_b[1:] & ~of_b[:-1]
    first = np.flatnonzero(is_pair)
    rows_a, rows_b = order[first], order[first + 1] - len(a)
    by_a = np.argsort(rows_a)
    doubled = [
        int(np.argmax(own > 0)) if own.any() else None
        for own in (occurrence[: len(a)], occurrence[len(a) :])
    ]
    return Pairs(rows_a[by_a], rows_b[by_a], *doubled)


def _occurrences(digests: np.ndarray) -> np.ndarray:
    """Returns how many equal digests there are before each."""
    order = np.lexsort((digests[:, 1], digests[:, 0]))  # which keeps equal ones in order
    ranked = digests[order]
    numbers = np.arange(len(order))
    is_first = np.ones(len(order), bool)
    is_first[1:] = (ranked[1:] != ranked[:-1]).any(axis=1)
    starts = np.maximum.accumulate(np.where(is_first, numbers, 0))
    found = np.empty(len(order), np.int64)
    found[order] = numbers - starts
    return found


def _is_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    )
