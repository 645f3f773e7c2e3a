from __future__ import annotations

import re
from dataclasses import make_dataclass
from typing import NamedTuple

import apache_beam as beam
import pytest
import tensorflow as tf
from apache_beam.transforms.window import TimestampedValue
from apache_beam.typehints import typehints
from apache_beam.typehints.row_type import RowTypeConstraint
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from bulk_inferencer.beam.element_types import types_of
from bulk_inferencer.errors import SettingsError

Any, Iterable, List, Sequence, Tuple, Union = (
    getattr(typehints, name) for name in ("Any", "Iterable", "List", "Sequence", "Tuple", "Union")
)
Example, SequenceExample = tf.train.Example, tf.train.SequenceExample


class Pair(NamedTuple):
    x: float
    y: float


RECORD_TYPES = [bytes, Example, SequenceExample]
Dict, Mapping = typehints.Dict, typehints.Mapping
ROW_TYPES = [
    *(Dict[str, float], Mapping[str, Any], Dict[Any, Any], Dict[Union[str, int], float]),
    *(RowTypeConstraint.from_fields([("x", float)]), beam.Row, Pair, dict),
    make_dataclass("Point", ["x"]),
]


@pytest.mark.parametrize("record_type", [*RECORD_TYPES, *ROW_TYPES], ids=str)
def test_results_stand_where_records_stood(record_type):
    log, logs = PredictionLog, List[PredictionLog]
    for element_type, result, per_model in [
        (record_type, log, Tuple[log, log]),
        (Tuple[str, record_type], Tuple[str, log], Tuple[str, Tuple[log, log]]),
        *[
            (Tuple[int, values[record_type]], Tuple[int, logs], Tuple[int, Tuple[logs, logs]])
            for values in (List, Sequence, Iterable)
        ],
    ]:
        has_sequences = record_type is SequenceExample
        assert types_of(element_type, None, False) == (result, has_sequences)
        assert types_of(element_type, 2, False) == (per_model, has_sequences)


PAIR, BATCH, NONE = Tuple[str, bytes], Tuple[str, List[bytes]], type(None)
ONE, SEVERAL = Tuple[str, PredictionLog], Tuple[str, List[PredictionLog]]


@pytest.mark.parametrize(
    ("element_type", "result", "has_sequences"),
    [
        (Union[bytes, Example], PredictionLog, False),
        (Union[bytes, Dict[str, int], Pair, beam.Row], PredictionLog, False),
        (Union[tuple(RECORD_TYPES)], PredictionLog, True),
        (Tuple[str, Union[tuple(RECORD_TYPES)]], ONE, True),
        (Tuple[str, List[Union[bytes, Example]]], SEVERAL, False),
        (Tuple[str, List[Union[bytes, SequenceExample]]], SEVERAL, True),
        (Union[PAIR, Tuple[NONE, SequenceExample]], Union[ONE, Tuple[NONE, PredictionLog]], True),
        # A list that Beam has found to be empty is of an unknown type.
        (Union[BATCH, Tuple[str, List[Any]]], SEVERAL, False),
        (Tuple[str, Any], Tuple[str, Any], False),
        (Any, Any, False),
        (TimestampedValue, Any, False),
    ],
    ids=str,
)
def test_elements_of_several_types_and_of_unknown_ones(element_type, result, has_sequences):
    assert types_of(element_type, None, False) == (result, has_sequences)


@pytest.mark.parametrize(
    "element_type",
    [
        *(str, List[bytes], Tuple[bytes, ...], Tuple[str, int], Tuple[str, List[str]]),
        *(Tuple[str, Tuple[str, bytes]], Tuple[str, str, bytes], Dict[int, float], List[Pair]),
    ],
    ids=str,
)
def test_other_elements_are_refused_by_their_type(element_type):
    # Also where it is one of several.
    for given in (element_type, Union[PAIR, element_type]):
        with pytest.raises(SettingsError, match=rf", not {re.escape(str(element_type))}\. "):
            types_of(given, None, False)


def test_keyed_batches_alone_may_be_asked_for():
    assert types_of(BATCH, None, True) == (SEVERAL, False)
    for unknown in (Any, Tuple[str, Any], Tuple[str, List[Any]]):
        assert types_of(unknown, None, True) == types_of(unknown, None, False)
    for other in (bytes, PAIR, Union[BATCH, PAIR]):
        with pytest.raises(SettingsError, match="Elements must be"):
            types_of(other, None, True)
