"""Protocol Buffers wire format, for whole batches at once.

A batch of messages that differ only in fixed-width values is one uint8 matrix, a row per message:

    constant | values of output a | constant | values of output b
    ---------+--------------------+----------+-------------------
    0a 05 .. | 00 00 80 3f        | 12 09 .. | 00 00 a0 40          record 0
    0a 05 .. | 00 00 00 40        | 12 09 .. | 00 00 20 41          record 1

so a batch costs a handful of numpy copies and no Python object per field.
Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

_LENGTH_DELIMITED = 2
_MAX_VARINT_BYTES = 10


def varint(value: int) -> bytes:
    """Returns `value` (0 to 2**64 - 1) as a base-128 varint of the least length."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def tag(field_number: int, wire_type: int = _LENGTH_DELIMITED) -> bytes:
    """Returns the tag that precedes a field's value."""
    return varint(field_number << 3 | wire_type)


def header(field_number: int, length: int) -> bytes:
    """Returns tag and length of a length-delimited field whose payload has `length` bytes."""
    return tag(field_number) + varint(length)


def field(field_number: int, payload: bytes) -> bytes:
    """Returns a whole length-delimited field: a string, bytes, message or packed values."""
    return header(field_number, len(payload)) + payload


def padded_varints(values: np.ndarray, width: int = _MAX_VARINT_BYTES) -> np.ndarray:
    """Encodes integers as varints that all take `width` bytes.

    Continuation bits with empty groups pad a varint to any length up to ten bytes; parsers read
    the same value, and a constant width is what lets values stand in the columns of a matrix.

    Args:
      values: integers or booleans of shape [n, k]; negative ones are sign-extended to 64 bits.
      width: bytes per value, at most 10; every value must fit in 7 * `width` bits.

    Returns:
      A uint8 array of shape [n, k * width].
    """
    if values.dtype != np.uint64:
        values = values.astype(np.int64)
    unsigned = values.astype(np.uint64, copy=False)[..., np.newaxis]
    shifts = np.arange(0, 7 * width, 7, dtype=np.uint64)
    groups = ((unsigned >> shifts) & np.uint64(0x7F)).astype(np.uint8)
    groups[..., :-1] |= 0x80
    return groups.reshape(len(values), -1)


def raw_bytes(values: np.ndarray) -> np.ndarray:
    """Returns the little-endian bytes of fixed-width `values` [n, ...] as uint8 [n, bytes]."""
    if values.dtype.byteorder == ">":
        values = values.astype(values.dtype.newbyteorder("<"))
    if values.size == 0:
        return np.empty((len(values), 0), np.uint8)
    contiguous = np.ascontiguousarray(values).reshape(len(values), -1)
    return contiguous.view(np.uint8)


def rows(parts: Iterable[bytes | np.ndarray], count: int) -> list[bytes]:
    """Concatenates `parts` once per row.

    Args:
      parts: constants, which every row gets, and uint8 arrays of shape [count, width].
      count: number of rows.

    Returns:
      `count` byte strings of equal length.
    """
    columns = [np.frombuffer(part, np.uint8) if isinstance(part, bytes) else part for part in parts]
    width = sum(column.shape[-1] for column in columns)
    matrix = np.empty((count, width), np.uint8)
    start = 0
    for column in columns:
        matrix[:, start : start + column.shape[-1]] = column
        start += column.shape[-1]
    return rows_of(matrix)


def field_rows(field_number: int, parts: Sequence[bytes | np.ndarray], count: int) -> list[bytes]:
    """Returns `rows` of `parts`, each as a whole length-delimited field."""
    width = sum(part.shape[1] if isinstance(part, np.ndarray) else len(part) for part in parts)
    return rows([header(field_number, width), *parts], count)


def rows_of(matrix: np.ndarray) -> list[bytes]:
    """Returns the rows of a uint8 array of shape [n, width] as n byte strings."""
    count, width = matrix.shape
    # A whole row as one opaque value: NumPy makes `bytes` of these without a loop in Python.
    return matrix.view(f"V{width}")[:, 0].tolist() if width else [b""] * count


def nested_headers(length: int, levels: Sequence[tuple[bytes, int]]) -> bytes:
    """Returns what precedes a payload that is the last field of messages within messages.

    Args:
      length: bytes of the payload.
      levels: from the inside out, the constant fields that precede the payload in its message,
        and the number of the field that holds the payload.

    Returns:
      Every constant, tag and length from the outermost level to the payload itself.
    """
    out = b""
    for before, number in levels:
        out = before + header(number, length + len(out)) + out
    return out
