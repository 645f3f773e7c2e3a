"""Requests on a clock of the test's own, so that nothing waits."""

from __future__ import annotations

import concurrent.futures
import logging
import statistics
import types

import pytest

from bulk_inferencer._models.predictor import RecordError
from bulk_inferencer._models.retries import Caller, Limits, TransientError
from bulk_inferencer.errors import EndpointError, SettingsError
from tests.helpers import exactly

BUSY = TransientError("busy")


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


def caller(time, limits=None, holds_back=False):
    """Returns a caller whose throttler holds requests back wherever it may, or never."""
    made = Caller("the server", limits or Limits(), time.clock, time.sleep)
    made._throttler._random = types.SimpleNamespace(uniform=lambda *_: float(not holds_back))
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


def no_answer(seconds, attempts, last):
    message = exactly(
        f"No answer from the server within {seconds} s; attempts: {attempts}, the last: {last}. "
        f"Check that the server is up and can take the load, or raise the time limit."
    )
    return pytest.raises(EndpointError, match=message)


@pytest.mark.parametrize("failures", [0, 2])
def test_request_that_fails_for_now_is_made_again(failures):
    time, server = Time(), Server(*[BUSY] * failures)
    assert caller(time).call(server) == "answer"
    assert (len(server.deadlines), len(time.pauses)) == (failures + 1, failures)
    assert server.deadlines[0] == 60


@pytest.mark.parametrize(
    "error", [RecordError("Kind", "why"), EndpointError("not found"), ValueError("a bug")]
)
def test_any_other_error_is_raised_at_once(error):
    time, server = Time(), Server(BUSY, error)
    with pytest.raises(type(error)) as raised:
        caller(time).call(server)
    assert raised.value is error
    assert len(server.deadlines) == 2


def test_time_that_requests_take_counts():
    time = Time()

    def stall(deadline_seconds):
        time.now += deadline_seconds
        raise TransientError("deadline exceeded", retry_after_seconds=40)

    with no_answer(250, 3, "deadline exceeded") as raised:
        caller(time, Limits(60, 250)).call(stall)
    assert isinstance(raised.value.__cause__, TransientError)
    assert time.now == 60 + 40 + 60 + 40 + 50  # the last one had as long as was left


def test_pauses_are_logged(caplog):
    with caplog.at_level(logging.INFO):
        caller(Time()).call(Server(TransientError("busy", retry_after_seconds=12.34)))
    assert caplog.messages == ["Attempt 1 at the server failed: busy. The next one is in 12.3 s."]


def test_pause_is_at_least_what_the_server_asks_for():
    time = Time()
    caller(time).call(Server(*(TransientError("busy", seconds) for seconds in (31, 45.5, 0))))
    assert time.pauses[:2] == [31, 45.5]
    assert time.pauses[2] <= 0.4


def test_server_that_asks_for_more_than_the_time_limit_is_not_waited_for():
    time, server = Time(), Server(TransientError("quota used up", retry_after_seconds=3600))
    with no_answer(600, 1, "quota used up"):
        caller(time).call(server)
    assert time.pauses == []


def test_pauses_double_up_to_a_bound_and_are_drawn_at_random():
    by_caller = []
    for _ in range(200):
        time = Time()
        caller(time).call(Server(*[TransientError("busy", retry_after_seconds=1e-9)] * 10))
        by_caller.append(time.pauses)
    bounds = [0.1 * 2**i for i in range(6)] + [5.0] * 4
    for pauses, bound in zip(zip(*by_caller, strict=True), bounds, strict=True):
        assert len(set(pauses)) == 200
        assert 0 <= min(pauses) < max(pauses) <= bound
        assert statistics.mean(pauses) == pytest.approx(bound / 2, rel=0.3)


def test_attempts_are_held_back_while_the_server_turns_most_down():
    time, server = Time(), Server(*[BUSY] * 4)
    assert caller(time, holds_back=True).call(server) == "answer"
    # One in two, however the dice fall: otherwise nobody would notice that the server is back.
    assert (len(server.deadlines), len(time.pauses)) == (5, 8)


def test_new_calls_are_held_back_too_and_not_later_on():
    time, server = Time(), Server()
    made = caller(time, holds_back=True)
    with pytest.raises(EndpointError):
        made.call(Server(TransientError("busy", retry_after_seconds=3600)))
    made.call(server)
    assert (len(server.deadlines), len(time.pauses)) == (1, 1)
    time.now += 61
    made.call(server)
    assert (len(server.deadlines), len(time.pauses)) == (2, 1)


def test_nothing_is_held_back_while_half_of_the_requests_succeed():
    time = Time()
    made = caller(time, holds_back=True)
    made.call(Server())
    for _ in range(50):
        made.call(Server(BUSY))
    assert len(time.pauses) == 50


def test_answer_that_a_record_is_bad_is_no_sign_of_overload():
    time = Time()
    made = caller(time, holds_back=True)
    for _ in range(50):
        with pytest.raises(RecordError):
            made.call(Server(RecordError("Kind", "why")))
    made.call(Server())
    assert time.pauses == []


def test_error_gives_the_reason_of_the_server_though_the_last_attempt_was_held_back():
    time = Time()
    server = Server(TransientError("busy", retry_after_seconds=10 - 1e-9))
    with no_answer(10, 1, "busy"):
        caller(time, Limits(1, 10), True).call(server)
    assert time.pauses == [10 - 1e-9]  # after which there was another attempt


def test_error_says_that_nothing_was_asked():
    made = caller(Time(), Limits(1e-9, 1e-9), True)
    made._throttler.throttle_request(0)
    with no_answer("1e-09", 0, "held back, since the server turns down most requests"):
        made.call(Server())


def test_calls_of_several_threads_are_all_answered_and_counted():
    time = Time()
    made = caller(time)
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        answers = threads.map(made.call, [Server(BUSY) for _ in range(400)])
        assert list(answers) == ["answer"] * 400
    assert len(time.pauses) == 400
    now_ms = int(time.now * 1000)
    assert made._throttler._all_requests.sum(now_ms) == 800
    assert made._throttler._successful_requests.sum(now_ms) == 400


def test_limits_that_contradict_each_other_are_refused():
    for first, total in ((0, 600), (-1, 600), (60, 59), (0, 0)):
        message = (
            f"Limits.request_seconds must be more than 0 and at most Limits.total_seconds, but "
            f"they are {first} and {total}. Correct one of them."
        )
        with pytest.raises(SettingsError, match=exactly(message)):
            Limits(first, total)
