from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from bulk_inferencer._units.output_notes import OutputNotes
from bulk_inferencer.results import codec

NAN, INF = np.nan, np.inf


def notes(*calls):
    """Returns the notes about calls that returned these outputs."""
    found = OutputNotes()
    for outputs in calls:
        found.add(outputs)
    return found


@pytest.mark.parametrize(
    "dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16, np.complex64]
)
def test_records_with_a_nan_or_an_infinity_are_counted(dtype):
    bad = np.array([[1, 2], [NAN, INF], [3, -INF], [4, 5]], dtype)
    good = np.full((4, 2), np.finfo(np.float16).max, dtype)  # the sum is no float16
    found = notes({"a": bad, "b": good}, {"a": bad[:2], "b": good[:0]})
    assert found.not_finite == {"a": 3}


def test_outputs_without_floats_are_never_bad():
    values = [np.zeros(2, np.int64), np.ones(2, bool), np.array([b"nan", b"inf"], object)]
    assert notes(*({"a": array} for array in values)).not_finite == {}


def test_records_without_an_output_do_not_count():
    values = np.ma.MaskedArray([[NAN], [NAN], [1.0]], [[True], [False], [False]])
    nobody = np.ma.masked_all(3, object)
    found = notes({"a": values, "b": nobody}, {"a": nobody, "b": np.zeros((3, 2))})
    assert found.not_finite == {"a": 1}
    assert found.shapes == {"a": ((1,),), "b": ((2,),)}


def test_the_smallest_and_the_largest_shape_of_an_output_are_kept():
    shapes = {"same": [(4,), (4,), (4,)], "width": [(5,), (9,), (2,)], "none": [(), (), ()]}
    calls = [{name: np.zeros((3, *shapes[name][i])) for name in shapes} for i in range(3)]
    found = notes(*calls)
    assert found.shapes == {"same": ((4,),), "width": ((2,), (9,)), "none": ((),)}
    merged = notes(calls[0])
    for call in calls[1:]:
        merged.merge(notes(call))
    assert merged == found == codec.from_json(OutputNotes, codec.to_json(found))


def test_what_is_worth_a_word_is_said():
    calls = [{"y": np.full(n, NAN), "x": np.full((n, n), INF)} for n in (1000, 500)]
    values, shape = notes(*calls).warnings("Model 'm'")
    assert values == (
        "Model 'm': there are NaN or infinities in output 'y' of 1,500 records, 'x' of 1,500 "
        "records. They are in the results like all other values."
    )
    assert shape == (
        "Model 'm': the shape of output 'x' changes from call to call, between [500] and [1000]. "
        "So a record's values depend on which other records are in its call, and two runs may "
        "differ. Fix the shape in the signature, for example with to_tensor(shape=[None, 100])."
    )
    assert notes({"y": np.zeros(3)}).warnings("Model 'm'") == []
