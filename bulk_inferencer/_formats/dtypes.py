"""Kinds of NumPy values, with bfloat16 among the floats."""

from __future__ import annotations

import numpy as np


def is_float(dtype: np.dtype) -> bool:
    """Returns whether values are floats of any width."""
    # bfloat16 comes from ml_dtypes, and NumPy says that its kind is "V", for "void".
    return dtype.kind == "f" or dtype.name == "bfloat16"


def is_number(dtype: np.dtype) -> bool:
    """Returns whether values are booleans, integers or floats, which have an order."""
    return dtype.kind in "biu" or is_float(dtype)
