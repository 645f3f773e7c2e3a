from __future__ import annotations

import logging

import pytest

from bulk_inferencer._models.pace import Pace, Took

MIB = 1 << 20
PEAK = 1000 * MIB


def sizes(pace, calls, took):
    """Returns the sizes of so many calls; `took` says what a call of a size takes."""
    found = []
    for _ in range(calls):
        found.append(pace.records)
        pace.called(pace.records, took(pace.records))
    return found


def timed(per_record, per_call=0.0):
    return lambda records: Took(per_call + per_record * records)


class Memory:
    """The memory of a process in which each record of a call takes some bytes."""

    def __init__(self, per_record, seconds, once=0, cores=2.0):
        self.per_record, self.seconds, self.cores = per_record, seconds, cores
        self.base, self.peak = PEAK + once, PEAK

    def __call__(self, records):
        before = self.peak
        self.peak = max(before, self.base + records * self.per_record)
        seconds = self.seconds * records
        return Took(seconds, self.cores * seconds, before, self.peak, self.peak)


@pytest.mark.parametrize(
    ("took", "first", "expected"),
    [
        (timed(1e-6), 64, [64, 128, 256, 512, 1024, 2048, 4096, 8192]),
        # Calls of 256 take longer than a quarter of a second, and make no record cheaper.
        (timed(0.001), 64, [64, 128, 256, 256, 128, 128, 128, 128]),
        (timed(0.01), 64, [64, 64, 128, 128, 64, 64, 64, 64]),
        (timed(0.02), 64, [64] * 8),  # more than a second
        # A server far away: 64 records take 0.94 s, 128 take 1.58 s, each of them a sixth less.
        (timed(0.01, per_call=0.3), 16, [16, 16, 32, 64, 128, 128, 128, 128]),
        (timed(0.01), 2**63 - 1, [2**63 - 1] * 8),
    ],
    ids=["quick", "not cheaper", "not cheaper at once", "long", "cheaper, then long", "no limit"],
)
def test_calls_grow_while_they_are_quick_or_make_records_cheaper_within_a_second(
    took, first, expected
):
    assert sizes(Pace(first), 8, took) == expected


def test_the_first_call_of_a_size_may_be_slow():
    seconds = iter([9, 0.01, 9, 0.01, 9, 0.01])  # TensorFlow compiles what it has not seen yet
    assert sizes(Pace(1), 6, lambda records: Took(next(seconds))) == [1, 1, 2, 2, 4, 4]


def test_a_model_that_is_slow_at_first_may_become_quick():
    pace = Pace(8)
    assert sizes(pace, 5, timed(5.0)) == [8] * 5
    assert sizes(pace, 3, timed(0.0)) == [8, 16, 32]


def test_calls_of_other_sizes_change_nothing():
    pace = Pace(64)
    for records in (63, 1, 65):
        pace.called(records, Took(0.0))
    assert pace.records == 64


@pytest.mark.parametrize(
    ("per_record", "seconds", "once", "expected"),
    [
        (16 << 10, 1e-6, 0, [2048, 4096, 8192, 16384, 16384]),
        # Quick, so that the first calls may owe their memory to TensorFlow: 128 take too much.
        (6 * MIB, 1e-3, 0, [64, 128, 64, 64]),
        (MIB, 1e-3, 900 * MIB, [64, 128, 256, 256]),
        # Slow, so that the memory of the first calls is due to their size.
        (8 * MIB, 1e-2, 0, [64, 64, 64, 64]),
    ],
    ids=["light", "heavy, seen late", "libraries", "heavy"],
)
def test_larger_calls_add_no_more_than_a_quarter_to_the_memory(per_record, seconds, once, expected):
    memory = Memory(per_record, seconds, once)
    assert sizes(Pace(expected[0]), len(expected), memory) == expected


def test_memory_that_calls_free_again_counts_too():
    pace = Pace(64)
    pace.called(64, Took(0.01, 0.01, PEAK, 2 * PEAK, PEAK))
    assert pace.records == 64


@pytest.mark.parametrize(
    ("memory", "waits"),
    [
        (Memory(8 * MIB, 0.01), [True] * 4),
        (Memory(MIB, 0.01), [True, False, False, False]),
        (Memory(8 * MIB, 1e-3), [False] * 4),
        (Memory(8 * MIB, 0.01, cores=1.0), [True, False, False, False]),
        (Memory(8 * MIB, 0.01, cores=0.1), [True, False, False, False]),
    ],
    ids=["heavy", "little memory", "quick", "one core", "a server"],
)
def test_calls_that_take_much_memory_and_several_cores_run_one_at_a_time(memory, waits):
    pace = Pace(64)
    assert pace.one_at_a_time
    found = []
    for _ in waits:
        pace.called(64, memory(64))
        found.append(pace.one_at_a_time)
    assert found == waits
    pace.called(3, Took(0.01))  # The rest of a batch is quick, whatever the model is.
    assert pace.one_at_a_time == waits[-1]


def test_calls_that_fail_do_not_wait_for_ever():
    pace = Pace(64)
    for _ in range(16):
        assert pace.learns_from(1)
        pace.failed()
    assert not pace.one_at_a_time
    assert not pace.learns_from(1)


def test_after_a_shortage_of_memory_calls_grow_back_and_ever_more_rarely(caplog):
    pace, fits = Pace(64), 100
    pace.called(64, Took(0.01))
    sizes_that_did_not_fit, calls, since = [], 0, []
    for _ in range(400):
        if pace.records > fits:
            sizes_that_did_not_fit.append(pace.records)
            since.append(calls)
            calls = 0
            with caplog.at_level(logging.WARNING):
                pace.did_not_fit(pace.records)
        else:
            calls += 1
            pace.called(pace.records, Took(0.01))
    assert sizes_that_did_not_fit == [128, 128, 128, 128]
    assert since == [0, 16, 64, 256]
    fits = 1000
    assert sizes(pace, 1200, timed(1e-4))[-1] == 2048  # the shortage has passed
    assert caplog.messages[0] == (
        "A batch of 128 records did not fit into memory. Batches have at most 64 records now, and "
        "more later on. If that happens in every run, set BatchBounds.max_records to 64."
    )


def test_after_a_shortage_slow_calls_grow_back_to_the_size_they_had():
    pace = Pace(64)
    for records in (64, 32, 64):  # Two threads, or two halvings of one batch.
        pace.did_not_fit(records)
    assert pace.records == 16
    found = sizes(pace, 40, timed(1.0))
    assert found == [16] * 16 + [32] * 16 + [64] * 8
