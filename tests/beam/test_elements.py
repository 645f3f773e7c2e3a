from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple, Optional

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf

from bulk_inferencer.beam.elements import bytes_of_record, record_of, records_of, scored_form
from bulk_inferencer.errors import SettingsError
from tests.helpers import exactly, example, sequence_example

EXAMPLE, SEQUENCE = example(x=1.0), sequence_example(x=2.0)
PROTOS = [tf.train.Example.FromString(EXAMPLE), tf.train.SequenceExample.FromString(SEQUENCE)]


class House(NamedTuple):
    rooms: int
    price: Optional[float]  # noqa: UP045, the form in which Beam's own documentation has it


class Number(NamedTuple):
    x: np.float32


class Unknown(NamedTuple):
    x: NotImported  # noqa: F821


@dataclass
class Point:
    x: float


@pytest.mark.parametrize(
    ("value", "serialized"),
    [(b"any", b"any"), *zip(PROTOS, [EXAMPLE, SEQUENCE], strict=True)],
    ids=["bytes", "Example", "SequenceExample"],
)
def test_record_is_serialized_alone_and_with_a_key(value, serialized):
    assert record_of(value) == serialized
    assert records_of(value) == serialized
    assert records_of((None, value)) == serialized
    for values in ([value, b""], iter([value, b""])):
        assert records_of(("k", values)) == [serialized, b""]
    assert records_of(("k", ())) == []


ROWS = [
    ({"x": 1}, {"x": 1}),
    (OrderedDict(x=1), {"x": 1}),
    (beam.Row(x=1, y="a"), {"x": 1, "y": "a"}),
    (House(3, None), {"rooms": 3, "price": None}),
    (Point(1.5), {"x": 1.5}),
]


@pytest.mark.parametrize(("row", "values"), ROWS, ids=lambda own: type(own).__name__)
def test_row_stays_what_it_is_until_it_is_scored_as_its_values(row, values):
    """A NamedTuple of two fields is a row, too, not a key and its record."""
    assert records_of(row) is record_of(row) is records_of((None, row)) is row
    assert records_of(("k", [row, b""])) == [row, b""]
    assert scored_form(row) == values


def test_whole_number_in_a_field_of_floats_is_a_float():
    for row in (House(3, 4), Number(4), Point(4), Unknown(4)):
        *_, number = scored_form(row).values()
        assert (type(number), number) == (int if isinstance(row, Unknown) else float, 4)


def test_size_of_a_record_counts_its_values():
    assert [bytes_of_record(own) for own in (b"abc", *PROTOS)] == [3, len(EXAMPLE), len(SEQUENCE)]
    row = {
        "number": 1.5,
        "none": None,
        "text": "abc",
        "list": [1, b"ab"],
        "array": np.zeros((2, 3)),
    }
    assert bytes_of_record(row) == 8 + 8 + 3 + (8 + 2) + 48
    assert bytes_of_record(Point(1.5)) == 8


@pytest.mark.parametrize(
    ("element", "got"),
    [
        (1.5, "float"),
        (None, "NoneType"),
        ([b""], "list"),
        ((), "()"),
        (("k", 5), "(str, int)"),
        (("k", "l", b""), "(str, str, bytes)"),
        (("k",), "(str)"),
        (("k", [b"", "text"]), "str"),
        (House, "type"),
    ],
    ids=str,
)
def test_other_element_is_refused(element, got):
    message = (
        f"Elements must be records, alone, as (key, record) or as (key, [record, ...]), not {got}. "
        f"A record is bytes, a tf.train.Example, a tf.train.SequenceExample, a dict with text as "
        f"keys, a beam.Row, a NamedTuple or a dataclass. Convert other elements with beam.Map."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        records_of(element)
