"""What `work.py` adds up and says; that scoring counts it: see test_batching.py."""

from __future__ import annotations

import dataclasses
import json
import math

from hypothesis import given
from hypothesis import strategies as st

from bulk_inferencer._work import Distribution, Work


def distribution(values):
    made = Distribution()
    for value in values:
        made.add(value)
    return made


@given(st.lists(st.integers(-9, 9), min_size=1))
def test_distribution_describes_its_values(values):
    made = distribution(values)
    assert (made.count, made.sum) == (len(values), sum(values))
    assert (made.min, made.max) == (min(values), max(values))
    assert math.isclose(made.mean, sum(values) / len(values))


@given(st.lists(st.integers(0, 9)), st.lists(st.integers(0, 9)))
def test_merged_distributions_are_that_of_all_values(some, others):
    merged = distribution(some)
    merged.merge(distribution(others))
    assert merged == distribution(some + others)


def test_distribution_of_nothing():
    made = Distribution()
    assert (made.count, made.sum, made.min, made.max) == (0, 0, 0, 0)
    assert math.isnan(made.mean)


def some_work():
    work = Work()
    work.loaded(0.25, 1 << 20)
    work.called(64, 0.0104)
    work.called(4096, 0.03)
    work.halved()
    return work


def test_merged_work_is_all_of_it():
    work = some_work()
    work.merge(some_work())
    assert (work.batches, work.halvings, work.model_loads) == (4, 2, 2)
    assert work.batch_records == Distribution(4, 8320, 64, 4096)
    assert work.inference_milliseconds == Distribution(4, 80, 10, 30)
    assert work.model_load_milliseconds == Distribution(2, 500, 250, 250)
    assert work.model_load_bytes == Distribution(2, 2 << 20, 1 << 20, 1 << 20)


def test_work_survives_json():
    text = json.dumps(dataclasses.asdict(some_work()))
    assert Work.from_dict(json.loads(text)) == some_work()


def test_work_in_words():
    assert str(some_work()) == (
        "2 calls of the model, 64 to 4,096 records each (mean 2,080), 10 to 30 ms each (mean 20); "
        "model loaded 1 x, in 250 ms each; halved 1 x"
    )
    assert str(Work()) == "the model was not called"
