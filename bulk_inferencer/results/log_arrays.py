"""PredictionLogs as arrays, for many logs at once.

y of log 0  [1, 3]
y of log 1  [1, 2]  -->  rows (0, 2), values [2, 3]
y of log 2  [1, 3]       rows (1,),   values [1, 2]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from bulk_inferencer.results.alike_logs import Layout, UnknownLayoutError, layout_of, values_of
from bulk_inferencer.results.reader import prediction_of, record_of

# The numbers of k rows, in order, and their values, of shape [k, ...].
Part: TypeAlias = "tuple[np.ndarray, np.ndarray]"
# By output, and by dtype and row shape: row numbers, and arrays of their values.
_Found: TypeAlias = "dict[str, dict[Any, tuple[list[int], list[np.ndarray]]]]"

_MOST_LAYOUTS = 1 << 12
_MOST_TRIES = 8  # to find logs that are laid out alike, among those of one length


class Decoded(NamedTuple):
    """What some logs hold.

    Attributes:
      records: the serialized records; None where a log has none.
      outputs: the values of each output, in parts of one dtype and shape. Rows that are in no part
        do not have the output.
    """

    records: list[bytes | None]
    outputs: dict[str, list[Part]]


class LogDecoder:
    """Decodes PredictionLogs. Those that are laid out like earlier ones take little time."""

    def __init__(self) -> None:
        self._layouts: dict[int, Layout | None] = {}  # by the length of a log

    def decode(self, logs: Sequence[bytes | None]) -> Decoded:
        """Returns what serialized PredictionLogs hold; None stands for a row without a log."""
        records: list[bytes | None] = [None] * len(logs)
        found: _Found = {}
        of_length: dict[int, list[int]] = {}
        for row, log in enumerate(logs):
            if log is not None:
                of_length.setdefault(len(log), []).append(row)
        for length, rows in of_length.items():
            own = [log for row in rows if (log := logs[row]) is not None]
            for _ in range(_MOST_TRIES):
                rest = self._decode_alike(length, rows, own, records, found)
                own = [log for row in rest if (log := logs[row]) is not None]
                if not rest or len(rest) == len(rows):
                    break
                rows = rest
            for row in rest:
                _decode_proto(row, logs[row], records, found)
        return Decoded(records, {name: _joined(groups) for name, groups in found.items()})

    def _decode_alike(
        self,
        length: int,
        rows: list[int],
        logs: list[bytes],
        records: list[bytes | None],
        found: _Found,
    ) -> list[int]:
        """Decodes logs of one length that are laid out alike; returns the rows of the others."""
        matrix = np.frombuffer(b"".join(logs), np.uint8).reshape(len(logs), length)
        layout = self._layouts.get(length)
        if layout is None or (matrix[0, layout.is_fixed] != layout.fixed).any():
            try:
                layout = layout_of(logs[0])
            except UnknownLayoutError:
                return rows
            if len(self._layouts) >= _MOST_LAYOUTS:
                self._layouts.clear()
            self._layouts[length] = layout
        is_alike = (matrix[:, layout.is_fixed] == layout.fixed).all(axis=1)
        others = [row for row, alike in zip(rows, is_alike, strict=True) if not alike]
        if others:
            matrix = matrix[is_alike]
            logs = [log for log, alike in zip(logs, is_alike, strict=True) if alike]
            rows = [row for row, alike in zip(rows, is_alike, strict=True) if alike]
        values = {own.name: values_of(own, logs, matrix) for own in layout.outputs}
        if any(own is None for own in values.values()):
            return [*others, *rows]
        for name, array in values.items():
            assert array is not None
            _append(found, name, rows, array)
        if layout.record is not None:
            for row, log in zip(rows, logs, strict=True):
                records[row] = log[layout.record]
        return others


def _decode_proto(
    row: int, serialized: bytes | None, records: list[bytes | None], found: _Found
) -> None:
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    prediction = prediction_of(PredictionLog.FromString(serialized))
    records[row] = prediction.record
    for name, value in prediction.outputs.items():
        _append(found, name, [row], value[np.newaxis])


def _append(found: _Found, name: str, rows: list[int], values: np.ndarray) -> None:
    key = (values.dtype, values.shape[1:])
    of_rows, of_values = found.setdefault(name, {}).setdefault(key, ([], []))
    of_rows += rows
    of_values.append(values)


def _joined(groups: Mapping[Any, tuple[list[int], list[np.ndarray]]]) -> list[Part]:
    """Returns the values of an output, in the order of their rows."""
    parts = []
    for rows, values in groups.values():
        array = values[0] if len(values) == 1 else np.concatenate(values)
        order = np.array(rows)
        if (order[1:] < order[:-1]).any():
            by_row = np.argsort(order)
            order, array = order[by_row], array[by_row]
        parts.append((order, array))
    return parts


def records_of(logs: Sequence[bytes]) -> list[bytes | None]:
    """Returns the records that serialized PredictionLogs hold."""
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    return [record_of(PredictionLog.FromString(log)) for log in logs]
