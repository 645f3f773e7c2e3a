from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies as st
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._models.predictor import Prediction
from bulk_inferencer._models.scorer import Scorer
from bulk_inferencer._models.scoring import LogScorer
from bulk_inferencer._work import Work
from bulk_inferencer.beam.bundle import Bundle, RecordFailure, failed_record_error
from bulk_inferencer.beam.gathered import example_of
from tests.beam.helpers import value_of
from tests.helpers import Lengths, features_of


class Negated(Lengths):
    """Gives minus the length of each record; `bad...` and single bytes cannot be scored."""

    def predict(self, batch):
        if any(len(record) == 1 or record.startswith(b"bad") for record in batch):
            raise ValueError("of the second model")
        return Prediction({"length": -super().predict(batch).outputs["length"]})


def new_bundle(bounds=None, is_per_model=False):
    return Bundle(bounds or BatchBounds(), is_per_model)


def flushed(bundle, work=None, is_per_model=False):
    """Returns (handle, result) of each element, with lengths for logs, and what flush returned."""
    counts = []
    predictors = [Lengths(), Negated()] if is_per_model else [Lengths()]
    scorers = [LogScorer(Scorer(predictor)) for predictor in predictors]

    def flush():
        emit, fail = lambda *result: result, lambda *failure: failure
        counts.append((yield from bundle.flush(scorers, work or Work(), emit, fail)))

    return [(handle, _lengths(value)) for handle, value in flush()], *counts


def _lengths(value):
    if isinstance(value, PredictionLog):
        return value_of(value, "length")
    if type(value) in (tuple, list):
        return type(value)(map(_lengths, value))
    return value


def expected(handle, element, is_per_model):
    """Yields what should come of an element, one record at a time."""
    key, value = element if isinstance(element, tuple) else (None, element)
    scored = []
    for record in value if isinstance(value, list) else [value]:
        reason = "a bad record" if record.startswith(b"bad") else ""
        if is_per_model and len(record) == 1:
            reason = "of the second model"
        if reason:
            yield handle, RecordFailure(key, record, "ValueError", reason)
        else:
            scored.append((len(record), -len(record)) if is_per_model else len(record))
    if not isinstance(value, list):
        result = scored[0] if scored else None
    elif is_per_model:
        result = [length for length, _ in scored], [length for _, length in scored]
    else:
        result = scored
    if scored or value == []:
        yield handle, ((key, result) if isinstance(element, tuple) else result)


RECORD = st.sampled_from([b"", b"a", b"ab", b"abcd", b"bad", b"bad too"])
# Equal keys, None and tuples are keys as any others.
KEY = st.sampled_from(["a", "", None, 1, -1.5, True, b"k", ("t", 2), frozenset({3})])
ELEMENT = st.one_of(RECORD, st.tuples(KEY, RECORD), st.tuples(KEY, st.lists(RECORD, max_size=4)))
BOUNDS = st.builds(BatchBounds, st.integers(1, 6), st.integers(1, 20), st.integers(1, 6))


@hypothesis.settings(max_examples=50)
@hypothesis.given(
    elements=st.lists(ELEMENT, max_size=12), bounds=BOUNDS, is_per_model=st.booleans()
)
def test_every_element_gets_the_results_of_its_own_records_in_order(elements, bounds, is_per_model):
    bundle = new_bundle(bounds, is_per_model)
    results, read, failed = [], 0, 0
    for handle, element in enumerate([*elements, None]):
        if element is None or bundle.add(handle, element):
            found, counts = flushed(bundle, is_per_model=is_per_model)
            results += found
            read += counts[0]
            failed += counts[1]
    wanted = [
        result
        for handle, element in enumerate(elements)
        for result in expected(handle, element, is_per_model)
    ]
    assert repr(results) == repr(wanted)  # which tells a key of 1 from one of True
    values = [element[1] if isinstance(element, tuple) else element for element in elements]
    assert read == sum(len(value) if isinstance(value, list) else 1 for value in values)
    assert failed == sum(isinstance(result, RecordFailure) for _, result in wanted)


@pytest.mark.parametrize(
    ("bounds", "elements", "is_full"),
    [
        (BatchBounds(max_records=3), [b"a", b"b", b"c"], [False, False, True]),
        (BatchBounds(max_records=3), [b"a", ("k", [b"b", b"c", b"d"])], [False, True]),
        (BatchBounds(max_records=1), [("k", [])], [False]),
        (BatchBounds(max_bytes=5), [b"aa", ("k", b"bb"), b"", b"c"], [False, False, False, True]),
        (BatchBounds(max_bytes=5), [("k", [b"aaa", b"bb"])], [True]),
    ],
    ids=["records", "list", "empty list", "bytes", "bytes of a list"],
)
def test_batch_is_full_at_the_first_bound_that_is_reached(bounds, elements, is_full):
    bundle = new_bundle(bounds)
    assert [bundle.add(None, element) for element in elements] == is_full


def test_rows_and_serialized_records_are_scored_together_and_count_for_the_bounds():
    bundle = new_bundle(BatchBounds(max_records=6, max_bytes=28))
    row = {"x": 1.0, "n": None}
    elements = [b"ab", ("k", row), {"x": {}}, ("l", [{"x": 2.0}, {}, b"bad"])]
    is_full = [bundle.add(handle, element) for handle, element in enumerate(elements)]
    assert is_full == [False, False, False, True]
    found, counts = flushed(bundle)
    assert counts == (6, 2)
    one, two, none = (len(example_of({"n": None, "x": x})) for x in (1.0, 2.0, None))
    unfit = "column 'x' holds a dict, which a tf.Example cannot hold. Leave it out"
    assert found == [
        (0, 2),
        (1, ("k", one)),
        (2, RecordFailure(None, {"x": {}}, "ValueError", unfit)),
        (3, RecordFailure("l", b"bad", "ValueError", "a bad record")),
        (3, ("l", [two, none])),
    ]


class Integers(Lengths):
    """Scores no record with a float."""

    def predict(self, batch):
        values = [
            value for record in batch for own in features_of(record).values() for value in own
        ]
        if any(isinstance(value, float) for value in values):
            raise TypeError("a float")
        return super().predict(batch)


def test_float_costs_only_its_own_row_where_a_model_takes_whole_numbers():
    bundle, scorer = new_bundle(), LogScorer(Scorer(Integers()))
    for handle, number in enumerate([1, 2, 2.5, 3]):
        bundle.add(handle, {"n": number})
    emitted = bundle.flush([scorer], Work(), lambda *own: own, lambda *own: own)
    assert [handle for handle, own in emitted if isinstance(own, RecordFailure)] == [2]


def test_flush_scores_all_at_once_and_leaves_nothing():
    bundle, work = new_bundle(), Work()
    for record in (b"a", b"ab", b"abc"):
        assert not bundle.add(record, record)
    assert flushed(bundle, work) == ([(b"a", 1), (b"ab", 2), (b"abc", 3)], (3, 0))
    assert (work.batches, work.batch_records.max) == (1, 3)
    assert flushed(bundle, work) == ([], (0, 0))
    assert work.batches == 1


def test_error_says_how_to_get_failures_as_an_output():
    error = failed_record_error("b'bad'", RecordFailure(None, b"bad", "E", "why."), "with_failures")
    message = (
        "The record b'bad' could not be scored: E: why. Fix the record, or call with_failures() "
        "to get failures as a separate output."
    )
    assert str(error) == message
