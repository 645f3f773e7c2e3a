from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulk_inferencer.results import codec
from tests.helpers import calls_of, exactly

NAN, INF = math.nan, math.inf


@dataclass(frozen=True)
class Point:
    JSON_NAMES = ("x", "norm", "y")

    x: float
    y: float = 0.0

    @property
    def norm(self) -> float:
        return math.hypot(self.x, self.y)


@dataclass
class Everything:
    text: str = ""
    number: int = 0
    flag: bool = False
    anything: Any = None
    point: Point = field(default_factory=lambda: Point(0.0))
    maybe: Point | None = None
    old_maybe: Optional[float] = None  # noqa: UP045
    readable: bool | int | float | str | None = None
    points: tuple[Point, ...] = ()
    pair: tuple[str, Point] = ("", Point(0.0))
    rows: list[tuple[int, ...]] = field(default_factory=list)
    names: Sequence[str] = field(default_factory=list)
    by_name: Mapping[str, Mapping[str, Sequence[Point]]] = field(default_factory=dict)


def through_json(value):
    """Writes a value to strict JSON text and reads it back."""
    text = json.dumps(codec.to_json(value), allow_nan=False)
    return codec.from_json(type(value), json.loads(text))


FLOATS = st.floats(allow_nan=False) | st.just(NAN)
POINTS = st.builds(Point, FLOATS, FLOATS)
TEXT = st.text(max_size=3)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(-9, 9) | TEXT


lists = functools.partial(st.lists, max_size=2)
by_name = functools.partial(st.dictionaries, TEXT, max_size=2)


@settings(max_examples=20)
@given(
    st.builds(
        Everything,
        anything=SCALARS | lists(SCALARS | lists(SCALARS)) | by_name(lists(SCALARS)),
        point=POINTS,
        maybe=st.none() | POINTS,
        old_maybe=st.none() | FLOATS,
        readable=SCALARS,
        points=lists(POINTS).map(tuple),
        pair=st.tuples(TEXT, POINTS),
        rows=lists(lists(st.integers()).map(tuple)),
        names=lists(TEXT),
        by_name=by_name(by_name(lists(POINTS))),
    )
)
def test_fields_of_every_kind_survive_strict_json(value):
    # As text, since NaN differs from itself.
    assert repr(through_json(value)) == repr(value)


@pytest.mark.parametrize(("number", "text"), [(NAN, "nan"), (INF, "inf"), (-INF, "-inf")])
def test_float_that_json_does_not_have_is_text(number, text):
    assert codec.to_json(Point(1.0, number))["y"] == text
    assert codec.to_json({"a": [np.float64(number)]}) == {"a": [text]}
    # Not any NaN: `math.nan` equals itself within a tuple.
    assert (codec.from_json(float, text),) == (number,)
    assert codec.from_json(str, text) == text
    assert codec.from_json(int | float | str, text) == text


def test_float_may_stand_in_json_as_a_whole_number():
    found = codec.from_json(Point, {"x": 1, "y": 2})
    assert (type(found.x), found) == (float, Point(1.0, 2.0))


def test_listed_names_are_written_in_their_order_and_properties_are_ignored_when_read():
    written = codec.to_json(Point(3.0, 4.0))
    assert list(written.items()) == [("x", 3.0), ("norm", 5.0), ("y", 4.0)]
    found = codec.from_json(Point, {**written, "norm": 7.0, "from_the_future": []})
    assert found == Point(3.0, 4.0)


def test_missing_key_takes_the_default_if_there_is_one():
    assert codec.from_json(Point, {"x": 3.0}) == Point(3.0)
    assert codec.from_json(Everything, {}) == Everything()
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        codec.from_json(Point, {"y": 3.0})


def test_tuple_of_fixed_length_has_that_length():
    assert codec.from_json(tuple[str, Point], ["a", {"x": 1}]) == ("a", Point(1.0))
    assert codec.from_json(tuple[Point, ...], []) == ()
    with pytest.raises(ValueError, match="is longer than"):
        codec.from_json(tuple[str, str], ["a", "b", "c"])


@pytest.mark.parametrize("kind", [set[int], list, bytes, Point | int, Point | Everything | None])
def test_kind_that_json_cannot_tell_is_refused(kind):
    with pytest.raises(TypeError, match=exactly(f"cannot read {kind} from JSON")):
        codec.from_json(kind, [])


def test_types_are_looked_at_once_for_many_values():
    def read(count):
        return lambda: codec.from_json(tuple[Point, ...], [{"x": 1.0, "y": 2.0}] * count)

    read(1)()
    few, many = (calls_of(read(count)) for count in (1000, 2000))
    assert sum(many) - sum(few) < 10 * 1000
