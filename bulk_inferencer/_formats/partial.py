"""Outputs that only some of the records have.

They are masked arrays whose rows are masked as a whole:

    y      y       -       y       small/y and full/y of a cascade: the second
    -      full/y  full/y  -       model saw two of four records only

What encodes records gets groups of them that have the same outputs, as plain arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

Encode = Callable[[Sequence[bytes], Mapping[str, np.ndarray]], list[bytes]]


def rows_with(values: np.ndarray) -> np.ndarray:
    """Returns which records have an output.

    Args:
      values: an array of shape [n, ...], masked or not.

    Returns:
      Booleans of shape [n].
    """
    if not isinstance(values, np.ma.MaskedArray) or not values.size:
        return np.ones(len(values), bool)
    mask = np.broadcast_to(values.mask, values.shape)
    return ~mask.reshape(len(values), -1).all(axis=1)


def plain(values: np.ndarray) -> np.ndarray:
    """Returns an array without its mask; masked rows hold anything."""
    return values.data if isinstance(values, np.ma.MaskedArray) else values


def spread(parts: Sequence[tuple[np.ndarray, np.ndarray]], count: int) -> np.ndarray:
    """Returns one array from values of some of its rows; rows without any are masked.

    Args:
      parts: row numbers, of shape [k], and their values, of shape [k, ...] and of one dtype; no
        row stands in two parts.
      count: number of rows.
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
) -> list[bytes]:
    """Calls `encode` with records that have the same outputs, and restores their order.

    Args:
      encode: takes k records and their outputs, plain arrays of shape [k, ...], and returns k
        encoded records.
      records: n records.
      outputs: arrays of shape [n, ...] by name, masked or not.
    """
    if not any(isinstance(values, np.ma.MaskedArray) for values in outputs.values()):
        return encode(records, outputs)
    present = np.stack([rows_with(values) for values in outputs.values()], axis=1)
    encoded: list[bytes] = [b""] * len(records)
    for pattern in np.unique(present, axis=0):
        rows = np.flatnonzero((present == pattern).all(axis=1))
        of_group = {
            name: plain(values)[rows]
            for (name, values), is_present in zip(outputs.items(), pattern, strict=True)
            if is_present
        }
        for row, record in zip(rows, encode([records[i] for i in rows], of_group), strict=True):
            encoded[row] = record
    return encoded
