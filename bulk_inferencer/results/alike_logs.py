"""PredictionLogs that are laid out alike, read as a matrix of bytes instead of one by one.

The logs of a model differ in little but the record and the values, if these have equal lengths:

    6: predict_log
       1: request     2: inputs   {1: name, 2: tensor {..., 8: RECORD}}
       2: response    1: outputs  {1: name, 2: tensor {1: dtype, 2: shape, 5: VALUES}}, ...

So of one log the positions of what is in capitals are found, and of all others of its length, it
is checked that they equal it everywhere else.
Sources: tensorflow_serving/apis/prediction_log.proto and tensorflow/core/framework/tensor.proto.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

_VARINT, _BYTES = 0, 2
_PREDICT_LOG, _CONTENT, _STRING = 6, 4, 8
_RAW = {_CONTENT, 5, 6, 11}  # fields whose bytes are those of the values
# By DataType: the dtype, and the field that holds values of this type. Others are left to protos.
_TYPES: dict[int, tuple[np.dtype, int]] = {
    1: (np.dtype(np.float32), 5),
    2: (np.dtype(np.float64), 6),
    3: (np.dtype(np.int32), 7),
    4: (np.dtype(np.uint8), 7),
    5: (np.dtype(np.int16), 7),
    6: (np.dtype(np.int8), 7),
    7: (np.dtype(object), _STRING),
    9: (np.dtype(np.int64), 10),
    10: (np.dtype(np.bool_), 11),
    17: (np.dtype(np.uint16), 7),
    19: (np.dtype(np.float16), 13),
    22: (np.dtype(np.uint32), 16),
    23: (np.dtype(np.uint64), 17),
}
_HALF = 13  # whose values are the bits of a float


class _Output(NamedTuple):
    """Where the values of an output are: a range of bytes, or one for each string."""

    name: str
    dtype: np.dtype
    row_shape: tuple[int, ...]
    field: int
    ranges: tuple[slice, ...]


class Layout(NamedTuple):
    """How the logs of one length are laid out.

    Attributes:
      is_fixed: which bytes are the same in all of them.
      fixed: these bytes.
      record: where the record is; None if there is none.
      outputs: where the values are.
    """

    is_fixed: np.ndarray
    fixed: np.ndarray
    record: slice | None
    outputs: tuple[_Output, ...]


class UnknownLayoutError(Exception):
    """A log that must be parsed as a proto."""


def layout_of(log: bytes) -> Layout:
    """Returns how a log is laid out.

    Raises:
      UnknownLayoutError: it is none of a prediction, or holds something unexpected.
    """
    try:
        return _layout_of(log)
    except (IndexError, ValueError, KeyError) as error:
        raise UnknownLayoutError from error


def _layout_of(log: bytes) -> Layout:
    predict_log = _only(log, slice(0, len(log)), _PREDICT_LOG)
    parts = _by_field(log, predict_log)
    (request,), (response,) = parts.pop(1), parts.pop(2)
    inputs = _by_field(log, request).get(2, [])
    outputs = _by_field(log, response).get(1, [])
    if parts or len(inputs) > 1:
        raise ValueError("unexpected fields")
    record = None
    for entry in inputs:
        (record,) = _by_field(log, _entry(log, entry)[1])[_STRING]
    found = tuple(_output_of(log, entry) for entry in outputs)
    if len({own.name for own in found}) < len(found):
        raise ValueError("an output is there twice")
    is_fixed = np.ones(len(log), bool)
    for own in [*([record] if record else []), *(r for out in found for r in out.ranges)]:
        is_fixed[own] = False
    return Layout(is_fixed, np.frombuffer(log, np.uint8)[is_fixed], record, found)


def _output_of(log: bytes, entry: slice) -> _Output:
    name, tensor = _entry(log, entry)
    fields = _by_field(log, tensor)
    ((data_type, _),) = [_varint(log, own.start) for own in fields.pop(1)]
    (shape,) = fields.pop(2)
    dims = [_by_field(log, own).get(1, []) for own in _by_field(log, shape).get(2, [])]
    _, *row_shape = [_varint(log, own[0].start)[0] if own else 0 for own in dims]
    dtype, field = _TYPES[data_type]
    size = math.prod(row_shape)
    ((found, ranges),) = fields.items() if size else ((field, []),)
    if found not in (field, _CONTENT) or (found == _CONTENT and field == _STRING):
        raise ValueError("values in a field for others")
    if size and len(ranges) != (size if field == _STRING else 1):
        raise ValueError("values that are left out, or not packed")
    if found in _RAW and size and ranges[0].stop - ranges[0].start != size * dtype.itemsize:
        raise ValueError("values that are left out")
    if found != _STRING and size and (ranges[0].stop - ranges[0].start) % size:
        raise ValueError("numbers of several lengths")
    return _Output(log[name].decode(), dtype, tuple(row_shape), found, tuple(ranges))


def values_of(output: _Output, logs: Sequence[bytes], rows: np.ndarray) -> np.ndarray | None:
    """Returns the values of an output in logs, of which `rows` are the bytes.

    They are None if the logs hold numbers of several lengths, which are laid out otherwise.
    """
    shape = (len(logs), *output.row_shape)
    if output.field == _STRING:
        strings = np.empty((len(logs), len(output.ranges)), object)
        for i, own in enumerate(output.ranges):
            strings[:, i] = [log[own] for log in logs]
        return strings.reshape(shape)
    if not output.ranges:
        return np.empty(shape, output.dtype)
    raw = np.ascontiguousarray(rows[:, output.ranges[0]])
    if output.field in _RAW:
        return raw.view(output.dtype).reshape(shape)
    encoded = raw.reshape(len(logs), math.prod(output.row_shape), -1)
    goes_on = encoded >= 0x80
    if not goes_on[..., :-1].all() or goes_on[..., -1].any():
        return None
    shifts = np.arange(encoded.shape[2], dtype=np.uint64) * np.uint64(7)
    numbers = ((encoded & 0x7F).astype(np.uint64) << shifts).sum(axis=2, dtype=np.uint64)
    if output.field == _HALF:
        return numbers.astype(np.uint16).view(output.dtype).reshape(shape)
    return numbers.astype(output.dtype).reshape(shape)


# The wire format, https://protobuf.dev/programming-guides/encoding


def _by_field(log: bytes, message: slice) -> dict[int, list[slice]]:
    """Returns where the fields of a message are, by number."""
    found: dict[int, list[slice]] = {}
    for number, own in _fields(log, message):
        found.setdefault(number, []).append(own)
    return found


def _fields(log: bytes, message: slice) -> Iterator[tuple[int, slice]]:
    position = message.start
    while position < message.stop:
        tag, position = _varint(log, position)
        if tag & 7 == _VARINT:
            _, stop = _varint(log, position)
        elif tag & 7 == _BYTES:
            length, position = _varint(log, position)
            stop = position + length
        else:
            raise ValueError("not packed")
        if stop > message.stop:
            raise ValueError("longer than its message")
        yield tag >> 3, slice(position, stop)
        position = stop


def _varint(log: bytes, position: int) -> tuple[int, int]:
    """Returns a number, and where it ends."""
    value = shift = 0
    while True:
        byte = log[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _only(log: bytes, message: slice, number: int) -> slice:
    ((found, own),) = _fields(log, message)
    if found != number:
        raise ValueError("another field")
    return own


def _entry(log: bytes, entry: slice) -> tuple[slice, slice]:
    """Returns where the key and the value of an entry of a map are."""
    fields = _by_field(log, entry)
    (key,), (value,) = fields[1], fields[2]
    return key, value
