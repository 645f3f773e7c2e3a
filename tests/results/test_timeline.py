"""When a run did what: bounded, and the same in whatever order workers are put together."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulk_inferencer.results import codec
from bulk_inferencer.results.timeline import (
    MOST_POINTS,
    Timeline,
    TimelineRecorder,
    merged,
)

NOW = 1.7e9


def recorded(*calls):
    recorder = TimelineRecorder()
    for began, ended, records in calls:
        recorder.add(NOW + began, NOW + ended, records)
    return recorder.timeline()


def test_call_is_spread_over_the_time_that_it_took():
    timeline = recorded((0, 0.125, 20), (0.125, 0.1875, 30), (0.25, 0.25, 5)).since(NOW)
    assert timeline.records == (10, 10, 30, 0, 5)
    assert timeline.calls == (0.5, 0.5, 1, 0, 1)
    first, _, _, pause, last = timeline.points
    assert (last.seconds, last.records) == (0.25, 5)
    assert (first.seconds, first.duration, first.records_per_second) == (0, 1 / 16, 160)
    assert first.batch_records == 20
    assert (pause.seconds, pause.records) == (0.1875, 0)
    assert math.isnan(pause.batch_records)


def test_first_and_last_point_last_as_long_as_the_run_was_scoring_in_them():
    points = recorded((0.05, 0.08, 90)).since(NOW).points
    assert [point.seconds for point in points] == [0.05, 0.0625]
    assert [point.duration for point in points] == pytest.approx([0.0125, 0.0175], abs=1e-5)
    assert [point.records_per_second for point in points] == pytest.approx([3000, 3000], rel=1e-3)


calls = st.lists(
    st.tuples(st.floats(0, 5000), st.floats(0, 300), st.integers(1, 10**6)), max_size=20
)


@given(st.lists(calls, max_size=4), st.randoms())
def test_timelines_of_workers_add_up_in_any_order_to_at_most_200_points(workers, random):
    timelines = [recorded(*((t, t + d, n) for t, d, n in own)) for own in workers]
    total = merged(timelines)
    assert len(total.records) <= MOST_POINTS
    count = sum(map(len, workers))
    assert sum(total.calls) == pytest.approx(count, abs=1e-3)
    records = sum(n for own in workers for *_, n in own)
    assert sum(total.records) == pytest.approx(records, abs=1e-3)
    random.shuffle(timelines)
    other = merged([merged(timelines[:2]), *timelines[2:]])
    assert (other.start, other.width, other.ended) == (total.start, total.width, total.ended)
    assert other.records == pytest.approx(total.records, abs=1e-3)


def test_clocks_that_are_wrong_move_nothing_before_the_start_of_the_run():
    assert recorded((-7, -6, 10)).since(NOW).points[0].seconds == 0
    assert recorded((2, 1, 10)).since(NOW).records == (10,)  # set back within a call


def test_timeline_comes_back_from_json_and_may_be_empty():
    for timeline in (recorded((0, 3.3, 1000)), Timeline()):
        assert codec.from_json(Timeline, codec.to_json(timeline)) == timeline
    assert merged([]) == Timeline()
    assert Timeline().points == ()
