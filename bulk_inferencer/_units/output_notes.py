"""What is worth a word about the outputs of a model: NaN, infinities, and shapes that change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bulk_inferencer._formats.dtypes import is_float
from bulk_inferencer._formats.partial import plain, rows_with


@dataclass
class OutputNotes:
    """Notes about all predictions of a model.

    Attributes:
      not_finite: how many records have a NaN or an infinity, by output; none where none has.
      shapes: the smallest and the largest shape of one record's values, by output.
    """

    not_finite: dict[str, int] = field(default_factory=dict)
    shapes: dict[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)

    def add(self, outputs: Mapping[str, np.ndarray]) -> None:
        """Adds what one call returned, arrays of shape [n, ...] by output."""
        for name, values in outputs.items():
            if isinstance(values, np.ma.MaskedArray):
                present = rows_with(values)
                if not present.any():
                    continue
                values = plain(values)[present]
            self._note(name, _not_finite(values), [values.shape[1:]])

    def merge(self, other: OutputNotes) -> None:
        """Adds the notes about other predictions of the model."""
        for name, shapes in other.shapes.items():
            self._note(name, other.not_finite.get(name, 0), shapes)

    def warnings(self, model: str) -> list[str]:
        """Returns what the user should know; `model` begins each text."""
        found = []
        if self.not_finite:
            counts = ", ".join(f"'{name}' of {n:,} records" for name, n in self.not_finite.items())
            found.append(
                f"{model}: there are NaN or infinities in output {counts}. They are in the results "
                f"like all other values."
            )
        for name, shapes in self.shapes.items():
            if len(shapes) > 1:
                smallest, largest = map(list, shapes)
                found.append(
                    f"{model}: the shape of output '{name}' changes from call to call, between "
                    f"{smallest} and {largest}. So a record's values depend on which other records "
                    f"are in its call, and two runs may differ. Fix the shape in the signature, "
                    f"for example with to_tensor(shape=[None, 100])."
                )
        return found

    def _note(self, name: str, not_finite: int, shapes: Sequence[tuple[int, ...]]) -> None:
        if not_finite:
            self.not_finite[name] = self.not_finite.get(name, 0) + not_finite
        known = self.shapes.get(name, ())
        if not set(shapes) <= set(known):
            ordered = sorted({*known, *shapes})
            self.shapes[name] = tuple(dict.fromkeys((ordered[0], ordered[-1])))


def _not_finite(values: np.ndarray) -> int:
    """Returns how many of n records have a NaN or an infinity among their values [n, ...]."""
    if not (is_float(values.dtype) or values.dtype.kind == "c"):
        return 0
    with np.errstate(all="ignore"):
        # One pass without a temporary array. It is not finite either if finite values overflow.
        if np.isfinite(values.sum()):
            return 0
        finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    return len(values) - int(np.count_nonzero(finite))
