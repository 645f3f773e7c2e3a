from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._models import scorer as scorer_module
from bulk_inferencer._models import usage
from bulk_inferencer._models.predictor import OutOfMemory, Prediction, RecordError
from bulk_inferencer._models.scorer import Failed, Scored, Scorer
from bulk_inferencer._work import Distribution, Work
from bulk_inferencer.errors import ModelError


class Predictor:
    """Scores a record with its length; refuses bad records and batches of too many bytes."""

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
        return Prediction({"length": np.array([len(record) for record in batch])})


def failures(results):
    return [result for result in results if isinstance(result, Failed)]


def assert_covered(results, records):
    """Every record stands in exactly one result, in order, with its own output."""
    found = []
    for result in results:
        if isinstance(result, Failed):
            assert result.index == len(found)
            found.append(len(records[result.index]))
        else:
            assert result.start == len(found)
            found += result.prediction.outputs["length"].tolist()
            assert result.stop == len(found)
    assert found == list(map(len, records))


def test_good_batch_is_scored_in_one_call_and_an_empty_one_in_none():
    predictor = Predictor()
    for records in ([b"a", b"bb"], []):
        assert_covered(list(Scorer(predictor).score(records)), records)
    assert predictor.sizes == [2]


@given(st.lists(st.sampled_from([b"", b"1", b"22", b"bad", b"too large"]), max_size=40))
def test_exactly_the_records_that_cannot_be_scored_fail_in_order(records):
    results = list(Scorer(Predictor(capacity=6)).score(records))
    expected = {b"bad": ("BadError", "it is bad"), b"too large": ("OutOfMemory", "too much")}
    assert failures(results) == [
        Failed(i, *expected[record]) for i, record in enumerate(records) if record in expected
    ]
    assert_covered(results, records)


@pytest.mark.parametrize("count", [1, 2, 7, 64, 1000, 4096])
def test_bad_records_cost_few_calls(count):
    for place in (0, count // 2, -1):
        records = [b""] * count
        records[place] = b"bad"
        predictor = Predictor()
        assert len(failures(Scorer(predictor).score(records))) == 1
        assert len(predictor.sizes) <= 2 * math.ceil(math.log2(count)) + 2
    predictor = Predictor(capacity=math.inf)
    assert len(failures(Scorer(predictor).score([b"bad"] * count))) == count
    assert len(predictor.sizes) == 2 * count - 1


def test_any_exception_but_an_error_of_ours_is_held_against_the_record():
    (failed,) = failures(Scorer(Predictor(error=KeyError("x"))).score([b"good", b"bad"]))
    assert failed == Failed(1, "KeyError", "'x'")
    assert failed.reason == "KeyError: 'x'"
    predictor = Predictor(error=ModelError("the model is wrong"))
    with pytest.raises(ModelError, match=r"^the model is wrong$"):
        list(Scorer(predictor).score([b"good"] * 10 + [b"bad"]))
    assert predictor.sizes == [11]


def test_batch_that_does_not_fit_is_halved_until_it_does_and_the_size_that_fits_is_kept():
    predictor, work = Predictor(capacity=3), Work()
    scorer, records = Scorer(predictor), [b"1"] * 16
    results = list(scorer.score(records, work))
    assert_covered(results, records)
    assert failures(results) == []
    assert predictor.sizes == [16, 8, 4, *[2] * 8]
    assert work.halvings == 3
    predictor.sizes.clear()
    assert_covered(list(scorer.score(records[:7])), records[:7])
    assert predictor.sizes == [2, 2, 2, 1]


def test_results_come_as_they_are_made():
    predictor = Predictor(capacity=2)
    results = Scorer(predictor).score([b"1"] * 4)
    assert isinstance(next(results), Scored)
    assert predictor.sizes == [4, 2]


class Timed(Predictor):
    """Its calls alone take time."""

    def __init__(self, monkeypatch, seconds_per_record, seconds_per_call=0.0, **settings):
        super().__init__(**settings)
        self.now = 0.0
        self.seconds_per_record = seconds_per_record
        self.seconds_per_call = seconds_per_call
        monkeypatch.setattr(scorer_module.time, "perf_counter", lambda: self.now)

    def predict(self, batch):
        self.now += self.seconds_per_call + self.seconds_per_record * len(batch)
        return super().predict(batch)


def test_calls_grow_at_their_pace_and_no_batch_is_larger_than_it_came(monkeypatch):
    predictor = Timed(monkeypatch, 0.01)  # 32 take longer than a quarter of a second
    scorer = Scorer(predictor, first_records=4)
    for count in (32, 50, 70):
        assert_covered(list(scorer.score([b""] * count)), [b""] * count)
    assert predictor.sizes == [4, 8, 16, 4, 32, 18, 32, 16, 16, 6]


def test_first_calls_wait_for_each_other_and_light_ones_do_not():
    met = []

    def predict(batch):
        try:
            both.wait(timeout)
        except threading.BrokenBarrierError:
            met.append("alone")
        else:
            met.append("both")
        return Prediction({})

    scorer = Scorer(SimpleNamespace(predict=predict))
    for seconds in (0.1, 60):
        both, timeout = threading.Barrier(2), seconds
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda record: list(scorer.score([record])), [b"1", b"2"]))
    assert met == ["alone", "alone", "both", "both"]


def test_work_of_a_batch_is_counted(monkeypatch):
    work = Work()
    list(Scorer(Timed(monkeypatch, 0.01, capacity=4)).score([b"1"] * 5, work))
    assert (work.batches, work.halvings) == (2, 1)
    assert work.batch_records == Distribution(2, 5, 2, 3)
    assert work.inference_milliseconds == Distribution(2, 50, 20, 30)


def test_loading_is_counted_once_however_often_the_model_is_called(monkeypatch):
    predictor = Timed(monkeypatch, 0)

    class Model:
        def load(self, record_format):
            predictor.now += 1.5
            self.record_format = record_format
            return predictor

    model, first, second = Model(), Work(), Work()
    with monkeypatch.context() as patch:
        resident = iter([1000, 4000])
        patch.setattr(usage, "resident_bytes", lambda: next(resident))
        scorer = Scorer.load(model, "FORMAT_TF_EXAMPLE", BatchBounds())
    for work in (first, second):
        list(scorer.score([b""], work))
    assert model.record_format == "FORMAT_TF_EXAMPLE"
    assert first.model_loads == 1
    assert first.model_load_milliseconds == Distribution(1, 1500, 1500, 1500)
    assert first.model_load_bytes == Distribution(1, 3000, 3000, 3000)
    assert second.model_loads == 0
