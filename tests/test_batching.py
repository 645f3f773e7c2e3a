from __future__ import annotations

import itertools
import logging
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulk_inferencer._models import batching
from bulk_inferencer._models.batching import (
    Batch,
    BatchBounds,
    Chunk,
    Failed,
    Scored,
    Scorer,
    Segment,
    batches,
)
from bulk_inferencer._models.predictor import OutOfMemory, RecordError
from bulk_inferencer._work import Distribution, Work
from bulk_inferencer.errors import ModelError, SettingsError

# Bounds


@pytest.mark.parametrize("name", ["max_records", "max_bytes", "first_records"])
def test_bound_less_than_one_is_refused(name):
    message = (
        f"Expected a bound of at least 1, got 0 in BatchSpec.{name}. Leave it out for the default."
    )
    with pytest.raises(SettingsError, match=f"^{re.escape(message)}$"):
        BatchBounds(**{name: 0})


# Batches


@given(
    st.lists(st.lists(st.integers(0, 12), max_size=12), max_size=6),
    st.builds(BatchBounds, st.integers(1, 9), st.integers(1, 30)),
)
def test_batches_keep_every_record_in_order_within_the_bounds(sizes, bounds):
    chunks = [
        Chunk(f"file {i}", 10 * i, [bytes([i]) * size for size in chunk])
        for i, chunk in enumerate(sizes)
    ]
    found = list(batches(chunks, bounds))
    origins = [(c.path, c.first + i, r) for c in chunks for i, r in enumerate(c.records)]
    assert [(*b.locate(i), r) for b in found for i, r in enumerate(b.records)] == origins
    for batch in found:
        assert 1 <= len(batch.records) <= bounds.max_records
        assert len(batch.records) == 1 or sum(map(len, batch.records)) <= bounds.max_bytes
    for batch, following in itertools.pairwise(found):
        assert len(batch.records) == bounds.max_records or (
            sum(map(len, batch.records)) + len(following.records[0]) > bounds.max_bytes
        ), "a batch ended before it was full"


def test_batch_spans_files():
    chunks = [Chunk("a", 7, [b"1", b"2"]), Chunk("b", 0, [b"3", b"4"])]
    (first, second) = batches(chunks, BatchBounds(max_records=3))
    assert first == Batch([b"1", b"2", b"3"], (Segment("a", 7, 2), Segment("b", 0, 1)))
    assert second == Batch([b"4"], (Segment("b", 1, 1),))


def test_record_outside_of_a_batch_has_no_place():
    batch = Batch([b"1"], (Segment("a", 0, 1),))
    with pytest.raises(IndexError, match=r"^no such record in this batch$"):
        batch.locate(1)


# Scoring


class Predictor:
    """Scores a record with its length; says what to do about bad records and large batches."""

    signatures = ()
    input_name = ""

    def __init__(self, capacity=1000, error=None):
        self.capacity = capacity
        self.error = error or RecordError("BadError", "it is bad")
        self.sizes = []

    def predict(self, batch):
        self.sizes.append(len(batch))
        if sum(map(len, batch)) > self.capacity:
            raise OutOfMemory("too much")
        if any(record.startswith(b"bad") for record in batch):
            raise self.error
        return {"length": np.array([len(record) for record in batch])}


def failures(results):
    return [result for result in results if isinstance(result, Failed)]


def assert_covered(results, records):
    """Every record stands in exactly one result, in order, with its own output."""
    position = 0
    for result in results:
        if isinstance(result, Failed):
            assert result.index == position
            position += 1
        else:
            assert result.start == position
            lengths = [len(record) for record in records[result.start : result.stop]]
            assert result.outputs["length"].tolist() == lengths
            position = result.stop
    assert position == len(records)


def test_good_batch_is_scored_in_one_call():
    predictor = Predictor()
    (scored,) = Scorer(predictor).score([b"a", b"bb"])
    assert (scored.start, scored.stop, scored.outputs["length"].tolist()) == (0, 2, [1, 2])
    assert predictor.sizes == [2]


def test_no_records_are_no_call():
    predictor = Predictor()
    assert list(Scorer(predictor).score([])) == []
    assert predictor.sizes == []


@given(st.lists(st.booleans(), max_size=40))
def test_exactly_the_bad_records_fail_in_order(is_bad):
    records = [b"bad" if bad else b"good" for bad in is_bad]
    results = list(Scorer(Predictor()).score(records))
    assert failures(results) == [
        Failed(i, "BadError", "it is bad") for i, bad in enumerate(is_bad) if bad
    ]
    assert_covered(results, records)


@pytest.mark.parametrize("count", [1, 2, 7, 64, 1000, 4096])
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_one_bad_record_costs_few_calls(count, place):
    records = [b""] * count
    records[{"first": 0, "middle": count // 2, "last": -1}[place]] = b"bad"
    predictor = Predictor()
    assert len(failures(Scorer(predictor).score(records))) == 1
    assert len(predictor.sizes) <= 2 * math.ceil(math.log2(count)) + 2


def test_all_bad_records_cost_less_than_two_calls_each():
    predictor = Predictor()
    assert len(failures(Scorer(predictor).score([b"bad"] * 100))) == 100
    assert len(predictor.sizes) == 199


def test_any_exception_of_a_model_is_held_against_the_record():
    results = list(Scorer(Predictor(error=KeyError("x"))).score([b"good", b"bad"]))
    assert failures(results) == [Failed(1, "KeyError", "'x'")]


def test_model_error_is_raised_at_once():
    predictor = Predictor(error=ModelError("the model is wrong"))
    with pytest.raises(ModelError, match=r"^the model is wrong$"):
        list(Scorer(predictor).score([b"good"] * 10 + [b"bad"]))
    assert predictor.sizes == [11]


# Memory


def test_batch_that_does_not_fit_is_halved_until_it_does():
    predictor = Predictor(capacity=3)
    records = [b"1"] * 16
    results = list(Scorer(predictor).score(records))
    assert predictor.sizes[:4] == [16, 8, 4, 2]
    assert len(predictor.sizes) < 16
    assert failures(results) == []
    assert_covered(results, records)


def test_size_that_fits_is_kept_for_later_batches():
    predictor = Predictor(capacity=3)
    scorer = Scorer(predictor)
    list(scorer.score([b"1"] * 8))
    assert scorer.safe_records == 2
    predictor.sizes.clear()
    records = [b"1"] * 7
    assert_covered(list(scorer.score(records)), records)
    assert predictor.sizes == [2, 2, 2, 1]


def test_halvings_are_counted_and_logged(caplog):
    work = Work()
    with caplog.at_level(logging.WARNING):
        list(Scorer(Predictor(capacity=1)).score([b"1"] * 4, work))
    assert work.halvings == 3
    assert caplog.messages[-1] == (
        "A batch did not fit into memory; from now on batches have at most 1 records. Set "
        "BatchSpec.max_records to start with that."
    )


def test_record_that_does_not_fit_alone_is_a_failure():
    records = [b"1", b"too large", b"1"]
    results = list(Scorer(Predictor(capacity=2)).score(records))
    assert failures(results) == [Failed(1, "OutOfMemory", "too much")]
    assert_covered(results, records)


@given(st.lists(st.sampled_from([b"", b"1", b"22", b"bad", b"too large"]), max_size=30))
def test_records_survive_any_mixture_of_errors(records):
    results = list(Scorer(Predictor(capacity=6)).score(records))
    expected = [i for i, record in enumerate(records) if record in (b"bad", b"too large")]
    assert [failed.index for failed in failures(results)] == expected
    assert_covered(results, records)


def test_results_come_as_they_are_made():
    predictor = Predictor(capacity=2)
    results = Scorer(predictor).score([b"1"] * 4)
    assert isinstance(next(results), Scored)
    assert predictor.sizes == [4, 2]


# The size of a call


class Clock:
    """Time that passes only while the model is called."""

    def __init__(self, monkeypatch, seconds_per_record, seconds_per_call=0.0):
        self.now = 0.0
        self.seconds_per_record = seconds_per_record
        self.seconds_per_call = seconds_per_call
        monkeypatch.setattr(batching.time, "perf_counter", lambda: self.now)

    def predict(self, batch):
        self.now += self.seconds_per_call + self.seconds_per_record * len(batch)


class Timed(Predictor):
    def __init__(self, clock, **settings):
        super().__init__(**settings)
        self._clock = clock

    def predict(self, batch):
        self._clock.predict(batch)
        return super().predict(batch)


def test_calls_grow_up_to_the_batch_while_they_are_quick(monkeypatch):
    predictor = Timed(Clock(monkeypatch, 1e-6))
    scorer = Scorer(predictor, first_records=4)
    records = [b""] * 32
    assert_covered(list(scorer.score(records)), records)
    assert predictor.sizes == [4, 8, 16, 4]
    list(scorer.score(records))
    list(scorer.score(records))
    assert predictor.sizes[4:] == [32, 32]


def test_calls_stop_growing_when_they_are_slow_and_records_get_no_cheaper(monkeypatch):
    predictor = Timed(Clock(monkeypatch, 0.03))
    scorer = Scorer(predictor, first_records=2)
    list(scorer.score([b""] * 40))
    # 16 take half a second, and each record as much as one of 8.
    assert predictor.sizes == [2, 4, 8, 16, 10]
    list(scorer.score([b""] * 40))
    assert predictor.sizes[5:] == [16, 16, 8]


def test_slow_calls_grow_while_records_get_cheaper(monkeypatch):
    predictor = Timed(Clock(monkeypatch, 0.01, seconds_per_call=0.3))  # as a server far away
    scorer = Scorer(predictor, first_records=1)
    list(scorer.score([b""] * 511))
    assert predictor.sizes == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    # A record took 0.0123 s in a call of 128, and 0.0112 s in one of 256.
    list(scorer.score([b""] * 512))
    assert predictor.sizes[9:] == [256, 256]


def test_slow_first_call_is_no_reason_not_to_grow(monkeypatch):
    clock = Clock(monkeypatch, 1e-6)
    predictor = Timed(clock)
    scorer = Scorer(predictor, first_records=2)
    clock.seconds_per_record = 1.0  # as when TensorFlow compiles what it has not seen yet
    list(scorer.score([b""] * 2))
    clock.seconds_per_record = 1e-6
    list(scorer.score([b""] * 12))
    assert predictor.sizes == [2, 4, 8]


def test_calls_do_not_grow_past_what_fits_into_memory(monkeypatch):
    predictor = Timed(Clock(monkeypatch, 1e-6), capacity=5)
    scorer = Scorer(predictor, first_records=2)
    records = [b"1"] * 40
    assert_covered(list(scorer.score(records)), records)
    assert predictor.sizes == [2, 4, 8, 4, 4, *[4] * 6, 2]
    assert scorer.safe_records == 4


# Work


def test_work_of_a_batch_is_counted(monkeypatch):
    work = Work()
    scorer = Scorer(Timed(Clock(monkeypatch, 0.01), capacity=4))
    list(scorer.score([b"1"] * 5, work))
    assert (work.batches, work.halvings) == (2, 1)
    assert work.batch_records == Distribution(2, 5, 2, 3)
    assert work.inference_milliseconds == Distribution(2, 50, 20, 30)


def test_loading_is_counted_once_however_often_the_model_is_called(monkeypatch):
    clock = Clock(monkeypatch, 0)

    class Model:
        def load(self, record_format):
            clock.now += 1.5
            self.record_format = record_format
            return Predictor()

    model, first, second = Model(), Work(), Work()
    resident = iter([1000, 4000])
    monkeypatch.setattr(batching, "_resident_bytes", lambda: next(resident))
    scorer = Scorer.load(model, "FORMAT_TF_EXAMPLE", BatchBounds())
    for work in (first, second):
        list(scorer.score([b""], work))
    assert model.record_format == "FORMAT_TF_EXAMPLE"
    assert first.model_loads == 1
    assert first.model_load_milliseconds == Distribution(1, 1500, 1500, 1500)
    assert first.model_load_bytes == Distribution(1, 3000, 3000, 3000)
    assert second.model_loads == 0


def test_memory_of_this_process_is_known():
    assert batching._resident_bytes() > 10 << 20
