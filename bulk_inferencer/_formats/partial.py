"""Outputs that only some of the records have: masked arrays in which whole rows are masked.

    record   0  1  2  3
    small/y  y  y  y  y    a cascade in which two of four records
    full/y   -  y  y  -    went on to the second model

Encoders get groups of records that have the same outputs, as plain arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

Encode = Callable[[Sequence[bytes], Mapping[str, np.ndarray]], Sequence[bytes]]


def rows_with(values: np.ndarray) -> np.ndarray:
    """Returns which records have an output of shape [n, ...], as booleans of shape [n]."""
    if not isinstance(values, np.ma.MaskedArray) or not values.size:
        return np.ones(len(values), bool)
    mask = np.broadcast_to(values.mask, values.shape)
    return ~mask.reshape(len(values), -1).all(axis=1)


def plain(values: np.ndarray) -> np.ndarray:
    """Returns an array without its mask; the values of masked rows mean nothing."""
    return values.data if isinstance(values, np.ma.MaskedArray) else values


def spread(parts: Sequence[tuple[np.ndarray, np.ndarray]], count: int) -> np.ndarray:
    """Puts values into the rows that they belong to, and masks those of `count` rows without any.

    Each part has row numbers of shape [k] and the values of these rows, of shape [k, ...]. All
    parts have one dtype and no rows in common.
    """
    values = parts[0][1]
    if len(values) == count:
        return values
    mask = np.ones((count, *values.shape[1:]), bool)
    data = np.zeros(mask.shape, values.dtype)
    for rows, values in parts:
        data[rows] = plain(values)
        mask[rows] = ~rows_with(values).reshape(-1, *[1] * (values.ndim - 1))
    return np.ma.MaskedArray(data, mask) if mask.any() else data  # type: ignore[no-untyped-call]


def encode_groups(
    encode: Encode, records: Sequence[bytes], outputs: Mapping[str, np.ndarray]
) -> Sequence[bytes]:
    """Encodes n records, with one call of `encode` for each group that has the same outputs.

    The outputs are arrays of shape [n, ...] by name, masked or not. `encode` gets k records and
    those outputs that they have, as plain arrays of shape [k, ...].
    """
    if not any(isinstance(values, np.ma.MaskedArray) for values in outputs.values()):
        return encode(records, outputs)
    present = np.stack([rows_with(values) for values in outputs.values()], axis=1)
    encoded: list[bytes] = [b""] * len(records)
    for pattern in np.unique(present, axis=0):
        rows = np.flatnonzero((present == pattern).all(axis=1))
        names = [name for name, is_present in zip(outputs, pattern, strict=True) if is_present]
        group = {name: plain(outputs[name])[rows] for name in names}
        for row, record in zip(rows, encode([records[i] for i in rows], group), strict=True):
            encoded[row] = record
    return encoded
