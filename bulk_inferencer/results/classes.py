"""The class of a record by an output, and how values become text."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bulk_inferencer._formats import dtypes
from bulk_inferencer.results.comparison import Readable


def flat(array: np.ndarray) -> np.ndarray:
    """Returns [n, ...] as [n, k] without a mask, floats of every width as float64."""
    data = rows_of(array)
    return data.astype(np.float64) if dtypes.is_float(data.dtype) else data


def rows_of(array: np.ndarray) -> np.ndarray:
    """Returns [n, ...] as [n, k] without a mask."""
    data = np.asarray(array)
    return data.reshape(len(data), math.prod(data.shape[1:]))


def classes_of(values: np.ndarray) -> np.ndarray | None:
    """Returns the classes of n records with values [n, k], see `flat`, as [n]; None without any.

    What they are is said in `OutputComparison`.
    """
    has_floats = values.dtype.kind == "f"
    if values.shape[1] == 1 and not has_floats:
        return values[:, 0]
    if values.shape[1] > 1 and has_floats:
        return values.argmax(axis=1)
    return None


def readable(value: Any) -> Readable:
    """Returns a value of `ndarray.tolist` as JSON can hold it."""
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value
