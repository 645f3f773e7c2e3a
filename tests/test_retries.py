"""Requests that are made again: on a clock of the test's own, so that nothing waits."""

from __future__ import annotations

import concurrent.futures
import logging
import statistics

import pytest

from bulk_inferencer._models.predictor import RecordError
from bulk_inferencer._models.retries import Caller, Limits, PassingError
from bulk_inferencer.errors import EndpointError, SettingsError
from tests.helpers import exactly


class Time:
    """Stands still but for pauses and slow requests."""

    def __init__(self):
        self.now = 0.0
        self.pauses = []

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds


class Chance:
    """What the throttler draws from: 0 holds a request back wherever it may, 1 never does."""

    def __init__(self, value):
        self.value = value

    def uniform(self, low, high):
        return self.value


def caller(time, limits=None, chance=1.0):
    made = Caller("the server", limits or Limits(), time.clock, time.sleep)
    made._throttler._random = Chance(chance)
    return made


class Server:
    """Fails with the errors that it is given, one after the other, and answers from then on."""

    def __init__(self, *errors):
        self.errors = iter(errors)
        self.deadlines = []

    def __call__(self, deadline_seconds):
        self.deadlines.append(deadline_seconds)
        for error in self.errors:
            raise error
        return "answer"


# Attempts


def test_answer_is_returned_without_a_pause():
    time, server = Time(), Server()
    assert caller(time).call(server) == "answer"
    assert (server.deadlines, time.pauses) == ([60.0], [])


def test_request_that_fails_for_now_is_made_again():
    time, server = Time(), Server(PassingError("busy"), PassingError("busy"))
    assert caller(time).call(server) == "answer"
    assert len(server.deadlines) == 3
    assert len(time.pauses) == 2


@pytest.mark.parametrize(
    "error", [RecordError("Kind", "why"), EndpointError("not found"), ValueError("a bug")]
)
def test_any_other_error_is_raised_at_once(error):
    time, server = Time(), Server(PassingError("busy"), error)
    with pytest.raises(type(error)) as raised:
        caller(time).call(server)
    assert raised.value is error
    assert len(server.deadlines) == 2


def test_attempts_end_with_the_time_limit():
    time, server = Time(), Server(*[PassingError("busy")] * 1000)
    with pytest.raises(EndpointError):
        caller(time, Limits(1, 100)).call(server)
    assert 70 < time.now < 100  # another pause of up to 30 s would have been too long
    assert len(server.deadlines) == len(time.pauses) + 1


def test_time_that_requests_take_counts():
    time = Time()

    def stall(deadline_seconds):
        time.now += deadline_seconds
        raise PassingError("deadline exceeded", retry_after_seconds=40)

    message = (
        "Expected an answer from the server within 250 s, got none; attempts: 3, the last: "
        "deadline exceeded. Check that the server is up and can take the load, or raise the time "
        "limit."
    )
    with pytest.raises(EndpointError, match=exactly(message)) as raised:
        caller(time, Limits(60, 250)).call(stall)
    assert isinstance(raised.value.__cause__, PassingError)
    assert time.now == 60 + 40 + 60 + 40 + 50  # the last one had as long as was left


def test_deadline_is_what_is_left_of_the_time_limit():
    server = Server(PassingError("busy", retry_after_seconds=70))
    caller(Time(), Limits(60, 100)).call(server)
    assert server.deadlines == [60, 30]


def test_pauses_are_told(caplog):
    with caplog.at_level(logging.INFO):
        caller(Time()).call(Server(PassingError("busy", retry_after_seconds=12.34)))
    assert caplog.messages == ["Attempt 1 at the server: busy; the next one in 12.3 s."]


# Pauses


def test_pause_is_at_least_what_the_server_asks_for():
    time = Time()
    errors = [PassingError("busy", seconds) for seconds in (31, 45.5, 0)]
    caller(time).call(Server(*errors))
    assert time.pauses[:2] == [31, 45.5]
    assert time.pauses[2] <= 0.4


def test_server_that_asks_for_more_than_the_time_limit_is_not_waited_for():
    time, server = Time(), Server(PassingError("quota used up", retry_after_seconds=3600))
    message = (
        "Expected an answer from the server within 600 s, got none; attempts: 1, the last: quota "
        "used up. Check that the server is up and can take the load, or raise the time limit."
    )
    with pytest.raises(EndpointError, match=exactly(message)):
        caller(time).call(server)
    assert time.pauses == []


def test_pauses_double_up_to_a_bound_and_are_drawn_at_random():
    by_caller = []
    for _ in range(200):
        time = Time()
        caller(time).call(Server(*[PassingError("busy", retry_after_seconds=1e-9)] * 10))
        by_caller.append(time.pauses)
    bounds = [0.1 * 2**i for i in range(9)] + [30.0]
    for pauses, bound in zip(zip(*by_caller, strict=True), bounds, strict=True):
        assert len(set(pauses)) == 200
        assert 0 <= min(pauses) < max(pauses) <= bound
        assert statistics.mean(pauses) == pytest.approx(bound / 2, rel=0.3)


# Overload


def test_attempts_are_held_back_while_the_server_turns_most_down():
    time = Time()
    made = caller(time, chance=0.0)
    server = Server(*[PassingError("busy")] * 4)
    assert made.call(server) == "answer"
    # One in two, however the dice fall: a server that is back has to be found.
    assert (len(server.deadlines), len(time.pauses)) == (5, 8)


def test_new_calls_are_held_back_too_and_not_later_on():
    time = Time()
    made = caller(time, chance=0.0)
    with pytest.raises(EndpointError):
        made.call(Server(PassingError("busy", retry_after_seconds=3600)))
    server = Server()
    made.call(server)
    assert (len(server.deadlines), len(time.pauses)) == (1, 1)
    time.now += 61
    made.call(server)
    assert (len(server.deadlines), len(time.pauses)) == (2, 1)


def test_throttler_holds_back_at_random():
    time = Time()
    made = Caller("the server", Limits(), time.clock, time.sleep)
    failures = 0
    for _ in range(100):
        server = Server(PassingError("busy"), PassingError("busy"), PassingError("busy"))
        made.call(server)
        failures += len(server.deadlines) - 1
    held_back = len(time.pauses) - failures
    assert failures == 300
    assert 150 < held_back < 390  # all 400 requests might have been; about 280 are


def test_nothing_is_held_back_while_half_of_the_requests_succeed():
    time = Time()
    made = caller(time, chance=0.0)
    made.call(Server())
    for _ in range(50):
        made.call(Server(PassingError("busy")))
    assert len(time.pauses) == 50


def test_answer_that_a_record_is_bad_is_no_sign_of_overload():
    time = Time()
    made = caller(time, chance=0.0)
    for _ in range(50):
        with pytest.raises(RecordError):
            made.call(Server(RecordError("Kind", "why")))
    made.call(Server())
    assert time.pauses == []


def test_error_gives_the_reason_of_the_server_though_the_last_attempt_was_held_back():
    time = Time()
    made = caller(time, Limits(1, 10), chance=0.0)
    server = Server(PassingError("busy", retry_after_seconds=10 - 1e-9))
    message = (
        "Expected an answer from the server within 10 s, got none; attempts: 1, the last: busy. "
        "Check that the server is up and can take the load, or raise the time limit."
    )
    with pytest.raises(EndpointError, match=exactly(message)):
        made.call(server)
    assert time.pauses == [10 - 1e-9]  # after which there was another attempt


def test_error_says_that_nothing_was_asked():
    time = Time()
    made = caller(time, Limits(1e-9, 1e-9), chance=0.0)
    made._throttler.throttle_request(0)
    message = (
        "Expected an answer from the server within 1e-09 s, got none; attempts: 0, the last: "
        "held back, since the server turns most requests down. Check that the server is up and "
        "can take the load, or raise the time limit."
    )
    with pytest.raises(EndpointError, match=exactly(message)):
        made.call(Server())


# Threads


def test_calls_of_several_threads_are_all_answered_and_counted():
    time = Time()
    made = caller(time)

    def call(number):
        errors = iter([PassingError("busy")])

        def request(deadline_seconds):
            for error in errors:
                raise error
            return number

        return made.call(request)

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        assert list(threads.map(call, range(400))) == list(range(400))
    assert len(time.pauses) == 400
    now_ms = int(time.now * 1000)
    assert made._throttler._all_requests.sum(now_ms) == 800
    assert made._throttler._successful_requests.sum(now_ms) == 400


# Limits


@pytest.mark.parametrize("limits", [(0, 600), (-1, 600), (60, 59), (0, 0)])
def test_limits_that_contradict_each_other_are_refused(limits):
    message = (
        f"Expected 0 < request_seconds <= total_seconds as limits, got {limits[0]} and "
        f"{limits[1]}. Correct them."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        Limits(*limits)
