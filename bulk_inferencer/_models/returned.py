"""What functions of users return for a batch, checked and as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from bulk_inferencer._checks import doubled
from bulk_inferencer._models.predictor import reason_of, shown
from bulk_inferencer.errors import BulkInferencerError


def arrays(
    outputs: Any, count: int, returned: str, kind: type[BulkInferencerError]
) -> dict[str, np.ndarray]:
    """Returns outputs as arrays of shape [count, ...] by name; strings as objects of bytes.

    Args:
      outputs: what a function returned; the columns of a DataFrame are outputs.
      count: how many records the batch has.
      returned: which function it was; the beginning of messages.
      kind: the type of errors.

    Raises:
      BulkInferencerError: it is no dict of arrays with a row for each record.
    """
    if is_frame(outputs):
        is_arrow = isinstance(outputs, (pa.Table, pa.RecordBatch))
        names = outputs.schema.names if is_arrow else list(outputs.columns)
        if twice := doubled(map(str, names)):
            raise kind(f"{returned} several columns named {twice}. Give each a name of its own.")
        outputs = {name: outputs[name] for name in names}
    if not isinstance(outputs, Mapping):
        raise kind(
            f"{returned} an object of type {type(outputs).__name__}, not a dict of outputs. Return "
            f"{{name: array}}, with one row for each record."
        )
    if not outputs:
        raise kind(f"{returned} no outputs. Return {{name: array}}, with one row for each record.")
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
                f"{reason_of(error).message.rstrip('.')}. {_advice(error)}"
            ) from error
        if found[name].shape[:1] != (count,):
            raise kind(
                f"{returned} an output '{name}' of shape {found[name].shape} for a batch of "
                f"{count}. Return one row for each record."
            )
    return found


def is_frame(outputs: Any) -> bool:
    """Returns whether it is a DataFrame, or a table with columns, of any library."""
    return hasattr(outputs, "columns") and hasattr(outputs, "__getitem__")


class _NoArrayError(TypeError):
    """What an array holds that it must not, and what to do."""

    def __init__(self, message: str, advice: str) -> None:
        super().__init__(message)
        self.advice = advice


def _array(values: Any) -> np.ndarray:
    if isinstance(values, np.ma.MaskedArray):
        return values  # from a cascade: the masked rows belong to records without the output
    array = np.asarray(values)
    if array.dtype.kind in "mM":
        micros = f"{array.dtype.name.partition('[')[0]}[us]"
        raise _NoArrayError(
            f"it holds {array.dtype}",
            f"Return microseconds, with astype('{micros}').astype('int64'), or text.",
        )
    if array.dtype.kind not in "SUO":
        return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    # From the values as they came: NumPy's own strings lose zero bytes at their ends.
    strings = np.array(values, dtype=object)
    for index, value in np.ndenumerate(strings):
        if isinstance(value, str):
            strings[index] = value.encode()
        elif not isinstance(value, bytes):
            raise _about_objects(strings.ravel().tolist())
    return strings


def _about_objects(values: Sequence[Any]) -> _NoArrayError:
    """Returns what is wrong about values that are not all text."""
    other = next(value for value in values if not isinstance(value, (str, bytes)))
    if any(value is None for value in values):
        return _NoArrayError("one value is None", "Where there is none, return NaN or empty text.")
    if isinstance(other, (list, tuple, np.ndarray)):
        advice = "Pad rows to one length."
    elif all(isinstance(value, (bool, int, float, np.number, np.bool_)) for value in values):
        advice = "Give the array a dtype of numbers, such as with astype('float64')."
    else:
        advice = (
            "Return numbers alone, or text alone. What has several parts can be several outputs."
        )
    return _NoArrayError(f"one value is of type {type(other).__name__}", advice)


def _advice(error: Exception) -> str:
    if isinstance(error, _NoArrayError):
        return error.advice
    if "inhomogeneous" in str(error):
        return "Pad rows to one length."
    return "Return an array of NumPy."
