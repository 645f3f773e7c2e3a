"""What work adds up to and how it reads. That scoring counts it: see models/test_scorer.py."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulk_inferencer._work import Distribution, Work


def distribution(values):
    made = Distribution()
    for value in values:
        made.add(value)
    return made


@given(st.lists(st.integers(-9, 9)), st.lists(st.integers(-9, 9)))
def test_merged_distributions_describe_the_values_of_both(some, others):
    values, merged = some + others, distribution(some)
    merged.merge(distribution(others))
    least, largest = min(values, default=0), max(values, default=0)
    assert merged == Distribution(len(values), sum(values), least, largest)
    assert merged == distribution(values)
    mean = sum(values) / len(values) if values else math.nan
    assert merged.mean == pytest.approx(mean, nan_ok=True)


def some_work():
    work = Work()
    work.loaded(0.25, 1 << 20)
    work.called(64, 640, 0.0104)
    work.called(4096, 8192, 0.03)
    work.halved()
    return work


def test_merged_work_is_all_of_it():
    work = some_work()
    work.merge(some_work())
    assert work == Work(
        batches=4,
        batch_records=Distribution(4, 8320, 64, 4096),
        batch_bytes=Distribution(4, 17664, 640, 8192),
        inference_milliseconds=Distribution(4, 80, 10, 30),
        halvings=2,
        model_loads=2,
        model_load_milliseconds=Distribution(2, 500, 250, 250),
        model_load_bytes=Distribution(2, 2 << 20, 1 << 20, 1 << 20),
    )


def test_work_reads_as_a_sentence():
    assert str(some_work()) == (
        "2 calls of the model, 64 to 4,096 records each (mean 2,080), 10 to 30 ms each (mean 20); "
        "model loaded 1 x, in 250 ms each; halved 1 x"
    )
    assert str(Work()) == "the model was not called"
