"""How fast a run is, by what it had done when."""

from __future__ import annotations

import pytest

from bulk_inferencer._units.progress import Heartbeat
from bulk_inferencer._units.speed import MOST_SAMPLES, Speed


def speed_of(*done, at=1.0):
    """Returns the speed of a run that had done so many records, of 10 bytes, second by second."""
    speed = Speed()
    for second, records in enumerate(done):
        speed.add(second * at, Heartbeat(10 * records, records))
    return speed


def test_rate_is_that_of_the_last_ten_seconds_and_does_not_count_the_start():
    speed = speed_of(0, 0, 0, *range(100, 2100, 100), *range(2500, 8500, 500))
    assert speed.records_per_second(34) == pytest.approx(500)
    assert speed.mean_records_per_second() == pytest.approx(8000 / 32)
    assert speed.seconds_left(34, 100_000) == pytest.approx(2000 / 490, rel=0.1)


def test_rate_does_not_drop_to_zero_between_two_long_calls_but_falls_when_a_run_hangs():
    speed = speed_of(0, 100, 200, at=30)
    assert speed.records_per_second(60) == speed.records_per_second(89) == pytest.approx(100 / 30)
    assert speed.records_per_second(300) < 0.5
    assert speed.seconds_left(75, 4000) == pytest.approx(45)


def test_nobody_can_tell_the_time_left_before_something_is_scored():
    assert speed_of(0).seconds_left(9, 100) is None
    assert speed_of(0, 0, 0).seconds_left(9, 100) is None
    assert speed_of(0, 5).seconds_left(1, 100) is None
    assert speed_of(0, 5).seconds_left(2, 1000) == pytest.approx(18)
    assert speed_of(0, 0).records_per_second(9) == speed_of().mean_records_per_second() == 0


def test_memory_for_the_rate_is_bounded():
    speed = speed_of(*range(10_000))
    assert len(speed._samples) <= MOST_SAMPLES
    assert speed.records_per_second(9999) == pytest.approx(1)
    assert speed.mean_records_per_second() == pytest.approx(1)
