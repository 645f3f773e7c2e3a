from __future__ import annotations

import ml_dtypes
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bulk_inferencer._formats.table_schema import column_type
from bulk_inferencer._formats.table_values import column_of
from bulk_inferencer._signatures import OutputType

DTYPES = [
    *("float16", "float32", "float64", "bfloat16", "bool"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
]
shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)


def text(*values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


@st.composite
def outputs(draw, counts=st.integers(0, 4)):  # noqa: B008
    """Draws values [k, ...] of any dtype, some of whose rows may be masked."""
    shape = (draw(counts), *draw(shapes))
    dtype = draw(st.sampled_from([*DTYPES, "string"]))
    if dtype == "bfloat16":
        values = draw(hnp.arrays("uint16", shape)).view(ml_dtypes.bfloat16)
    elif dtype == "string":
        elements = st.text(max_size=5).map(str.encode)
        values = np.array(draw(hnp.arrays(object, shape, elements=elements, fill=st.nothing())))
    else:
        values = draw(hnp.arrays(dtype, shape))
    mask = draw(hnp.arrays(bool, shape[:1]))
    if mask.any():
        own = np.broadcast_to(mask.reshape(-1, *[1] * (len(shape) - 1)), shape)
        values = np.ma.MaskedArray(values, own)
    return OutputType(dtype, shape[1:]), values


def plain(values):
    """Returns values as lists, with NaN as the text of it, which equals itself."""
    if isinstance(values, (list, np.ndarray)):
        return [plain(own) for own in values]
    if isinstance(values, bytes):
        return values.decode()
    return repr(values) if values != values else values


@given(outputs())
def test_column_holds_the_rows_of_the_array(output):
    kind, values = output
    column = column_of(values, column_type("y", kind))
    assert column.unfit == {}
    expected = []
    wider = {"float16": np.float32, "bfloat16": np.float32}.get(kind.dtype)
    for row in values:
        is_masked = bool(np.ma.getmaskarray(row).all()) and row.size > 0
        own = np.ma.getdata(row)
        own = own.astype(wider) if wider else own
        flat = own.reshape(-1)[0:1].tolist() if all(n == 1 for n in kind.row_shape) else None
        value = plain(own.tolist()) if flat is None else plain(flat)[0]
        expected.append(None if is_masked else value)
    assert plain(column.values.to_pylist()) == expected
    column.values.validate(full=True)


@pytest.mark.parametrize(
    ("values", "kind", "kept", "reasons"),
    [
        (
            np.array([1.0, 2.5, np.nan]), pa.int64(), [1, None, None],
            [
                "2.5 does not fit, since its column holds int64",
                "nan does not fit, since its column holds int64",
            ],
        ),
        (np.array([2**53 + 1, 5]), pa.float64(), [None, 5.0],
            ["9007199254740993 does not fit, since its column holds double"]),
        (np.array([300, -1, 7]), pa.uint8(), [None, None, 7],
            [
                "300 does not fit, since its column holds uint8",
                "-1 does not fit, since its column holds uint8",
            ]),
        (np.array([-1, 1]), pa.uint64(), [None, 1],
            ["-1 does not fit, since its column holds uint64"]),
        (np.array([2**63, 1], np.uint64), pa.int64(), [None, 1],
            ["9223372036854775808 does not fit, since its column holds int64"]),
        (np.array([2.0**63, -(2.0**63)]), pa.int64(), [None, -(2**63)],
            ["9.223372036854776e+18 does not fit, since its column holds int64"]),
        (np.array([2**63 - 1, 1]), pa.float64(), [None, 1.0],
            ["9223372036854775807 does not fit, since its column holds double"]),
        (np.array([[1.5, 2], [3, 4]]), pa.list_(pa.int32()), [None, [3, 4]],
            ["1.5 does not fit, since its column holds int32"]),
        (np.array([1, 2], complex), pa.float64(), [None, None],
            ["it is complex128, but its column holds double"] * 2),
        (np.ones((2, 3)), pa.float64(), [None, None],
            ["it has shape [3], but its column holds double"] * 2),
        (np.ones(1), pa.list_(pa.float64()), [None],
            ["it has shape [], but its column holds list<item: double>"]),
        (text(b"1"), pa.float64(), [None], ["it is text, but its column holds double"]),
        (np.array([1]), pa.string(), [None], ["it is int64, but its column holds string"]),
        (
            text(b"a", b"\xff", None, 3), pa.string(), ["a", None, None, None],
            [
                "b'\\xff' is not UTF-8; name the column in TableSettings.binary",
                "it is of type NoneType, but its column holds string",
                "it is of type int, but its column holds string",
            ],
        ),
        (
            np.array([[b"a", b"b"], [b"\xff", b"c"]], object), pa.list_(pa.string()),
            [["a", "b"], None],
            ["b'\\xff' is not UTF-8; name the column in TableSettings.binary"],
        ),
    ],
)  # fmt: skip
def test_row_that_does_not_fit_is_null_and_has_a_reason(values, kind, kept, reasons):
    column = column_of(values, kind)
    assert column.values.to_pylist() == kept
    assert column.values.type == kind
    assert list(column.unfit) == [i for i, value in enumerate(kept) if value is None]
    assert list(column.unfit.values()) == reasons


def test_values_of_another_dtype_fit_where_the_column_can_hold_them():
    assert column_of(np.array([1.0, np.inf, np.nan]), pa.float32()).unfit == {}
    assert column_of(np.array([[1], [2]]), pa.float32()).values.to_pylist() == [1.0, 2.0]
    assert column_of(np.array([1, 2], ">f8"), pa.float64()).values.to_pylist() == [1.0, 2.0]
    assert column_of(np.ones((1, 5)), pa.list_(pa.float64())).values.to_pylist() == [[1.0] * 5]
    assert column_of(text(b"\xff"), pa.binary()).values.to_pylist() == [b"\xff"]


@pytest.mark.parametrize("dtype", [np.int64, object])
@pytest.mark.parametrize("shape", [(3,), (3, 2)])
def test_column_without_any_value_is_null(dtype, shape):
    kind = pa.string() if dtype is object else pa.float32()
    kind = pa.list_(kind) if len(shape) > 1 else kind
    column = column_of(np.ma.masked_all(shape, dtype), kind)
    assert (column.values.to_pylist(), column.unfit) == ([None] * 3, {})


def test_rows_that_do_not_fit_are_told_apart_from_those_without_a_value():
    values = np.ma.MaskedArray([9.5, 2.0, 3.5], [1, 0, 0])
    column = column_of(values, pa.int64())
    assert column.values.to_pylist() == [None, 2, None]
    assert list(column.unfit) == [2]
