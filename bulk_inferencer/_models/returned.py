"""What functions of users return for a batch, checked and as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bulk_inferencer._models.predictor import reason_of, shown
from bulk_inferencer.errors import BulkInferencerError


def arrays(
    outputs: Any, count: int, returned: str, kind: type[BulkInferencerError]
) -> dict[str, np.ndarray]:
    """Returns outputs as arrays of shape [count, ...] by name; strings as objects of bytes.

    Args:
      outputs: what a function returned.
      count: how many records the batch has.
      returned: which function it was; the beginning of messages.
      kind: the type of errors.

    Raises:
      BulkInferencerError: it is no dict of arrays with a row for each record.
    """
    if not isinstance(outputs, Mapping):
        raise kind(
            f"{returned} an object of type {type(outputs).__name__}, not a dict of outputs. Return "
            f"{{name: array}}, with one row for each record."
        )
    found = {}
    for name, values in outputs.items():
        if not isinstance(name, str):
            raise kind(
                f"{returned} an output whose name is {shown(name)}, not a string. Give every "
                f"output a name."
            )
        try:
            found[name] = _array(values)
        except Exception as error:  # arrays of other libraries may raise anything
            raise kind(
                f"{returned} an output '{name}' that is not an array of numbers or strings: "
                f"{reason_of(error).message.rstrip('.')}. Pad rows to one length."
            ) from error
        if found[name].shape[:1] != (count,):
            raise kind(
                f"{returned} an output '{name}' of shape {found[name].shape} for a batch of "
                f"{count}. Return one row for each record."
            )
    return found


def _array(values: Any) -> np.ndarray:
    if isinstance(values, np.ma.MaskedArray):
        return values  # from a cascade: the masked rows belong to records without the output
    array = np.asarray(values)
    if array.dtype.kind in "mM":
        raise TypeError(f"it holds {array.dtype}")
    if array.dtype.kind not in "SUO":
        return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    # From the values as they came: NumPy's own strings lose zero bytes at their ends.
    strings = np.array(values, dtype=object)
    for index, value in np.ndenumerate(strings):
        if isinstance(value, str):
            strings[index] = value.encode()
        elif not isinstance(value, bytes):
            raise TypeError(f"one value is of type {type(value).__name__}")
    return strings
