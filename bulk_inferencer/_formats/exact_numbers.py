"""Whole numbers that floats would round, as ids are: what else a column of them can be."""

from __future__ import annotations

import re
from collections.abc import Collection

import pyarrow as pa

LARGEST_EXACT = 2**53  # Floats of 64 bits hold all whole numbers up to here.
_LARGEST = 2**64 - 1
_LONG = re.compile(rb"(?<![\d.])\d{16,}(?![\d.])")  # LARGEST_EXACT has 16 digits.


def has_long_numbers(content: bytes) -> bool:
    """Returns whether whole numbers that floats would round may be in a text."""
    return _LONG.search(content) is not None


def exact_type(numbers: Collection[int], are_all: bool) -> pa.DataType | None:
    """Returns the type for a column that is said to hold floats, and of which none is rounded.

    Args:
      numbers: the whole numbers in it, or at least those that floats would round.
      are_all: whether it holds no fractions.

    Returns:
      float64 or uint64; None if neither holds all values as they are.
    """
    largest = max(numbers, key=abs, default=0)
    if abs(largest) <= LARGEST_EXACT:
        return pa.float64()
    is_positive = min(numbers) >= 0
    return pa.uint64() if are_all and is_positive and largest <= _LARGEST else None
