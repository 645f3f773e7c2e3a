"""Wire bytes are compared with what the official protos parse them to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tensorflow.core.example.feature_pb2 import BytesList, Int64List
from tensorflow.core.framework.tensor_pb2 import TensorProto

from bulk_inferencer._formats import wire

quick = settings(max_examples=50)


def parsed(rows):
    return [list(Int64List.FromString(wire.field(1, row.tobytes())).value) for row in rows]


@quick
@given(st.integers(0, 2**64 - 1))
def test_varint_parses_to_its_value(value):
    (found,) = Int64List.FromString(wire.tag(1, 0) + wire.varint(value)).value
    assert found % 2**64 == value


@pytest.mark.parametrize(("value", "length"), [(0, 1), (127, 1), (128, 2), (2**64 - 1, 10)])
def test_varint_is_as_short_as_it_can_be(value, length):
    assert len(wire.varint(value)) == length


@quick
@given(st.lists(st.binary(max_size=300), max_size=4))
def test_field_parses_to_its_payload(payloads):
    data = b"".join(wire.field(1, payload) for payload in payloads)
    assert list(BytesList.FromString(data).value) == payloads


@quick
@given(st.data())
@pytest.mark.parametrize(
    "dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "bool"]
)
def test_padded_varints_parse_to_their_values(dtype, data):
    values = data.draw(hnp.arrays(dtype, hnp.array_shapes(min_dims=2, max_dims=2)))
    assert parsed(wire.padded_varints(values)) == values.tolist()


@quick
@given(hnp.arrays("uint64", hnp.array_shapes(min_dims=2, max_dims=2)))
def test_padded_varints_of_64_bits_parse_to_their_values(values):
    rows = wire.padded_varints(values)
    found = [list(TensorProto.FromString(wire.field(17, r.tobytes())).uint64_val) for r in rows]
    assert found == values.tolist()


@quick
@given(st.data())
def test_padded_varints_keep_their_width(data):
    width = data.draw(st.integers(1, 10))
    largest = 2 ** min(63, 7 * width) - 1
    values = data.draw(hnp.arrays("int64", (2, 3), elements=st.integers(0, largest)))
    rows = wire.padded_varints(values, width)
    assert rows.shape == (2, 3 * width)
    assert parsed(rows) == values.tolist()


def test_raw_bytes_are_little_endian_and_in_the_order_of_the_rows():
    big_endian = np.array([[1, 2], [3, 4]], ">u2")
    assert wire.raw_bytes(big_endian).tolist() == [[1, 0, 2, 0], [3, 0, 4, 0]]
    transposed = np.arange(6, dtype=np.uint8).reshape(2, 3).T
    assert wire.raw_bytes(transposed).tolist() == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.parametrize("shape", [(3, 0), (3, 2, 0), (0, 2)])
def test_no_values_are_empty_rows(shape):
    assert wire.raw_bytes(np.empty(shape, np.int32)).shape == (shape[0], 0)
    assert wire.padded_varints(np.empty((4, 0), np.int32)).shape == (4, 0)


def test_rows_repeat_constants_and_take_one_row_of_each_array():
    columns = np.array([[1], [2]], np.uint8)
    assert wire.rows([b"a", columns, b"bc"], 2) == [b"a\x01bc", b"a\x02bc"]
    assert wire.rows([], 3) == [b"", b"", b""]
