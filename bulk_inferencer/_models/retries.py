"""Requests to servers: made again while that may help, held back while servers are overloaded."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import tenacity
from apache_beam.io.components.adaptive_throttler import AdaptiveThrottler

from bulk_inferencer.errors import EndpointError, SettingsError

_logger = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")

_THROTTLE_WINDOW_MS = 60_000
_THROTTLE_BUCKET_MS = 1_000
# Requests per accepted request, above which the throttler holds back.
_OVERLOAD_RATIO = 2.0
_HELD_BACK = "held back, since the server turns most requests down"
_FIRST_WAIT_SECONDS = 0.1
_LONGEST_WAIT_SECONDS = 30.0


@dataclass(frozen=True)
class Limits:
    """How long to wait for a server.

    Attributes:
      request_seconds: deadline of one request.
      total_seconds: how long a batch may take with all attempts and the pauses between them.

    Raises:
      SettingsError: a limit is not positive, or the total is less than one request.
    """

    request_seconds: float = 60.0
    total_seconds: float = 600.0

    def __post_init__(self) -> None:
        if not 0 < self.request_seconds <= self.total_seconds:
            raise SettingsError(
                f"Expected 0 < request_seconds <= total_seconds as limits, got "
                f"{self.request_seconds} and {self.total_seconds}. Correct them."
            )


class PassingError(Exception):
    """Raised by a request that may succeed when it is made again.

    Attributes:
      retry_after_seconds: how long the server asks to wait, if it says.
    """

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Caller:
    """Makes requests to one server. May be used from several threads.

    A request that fails for now is made again after a pause that grows exponentially, with full
    jitter, so that workers do not come back all at once. While more than half of the recent
    requests were turned down, attempts are held back on this side (`AdaptiveThrottler`), but never
    two of a call in a row: a server that is back has to be found.
    """

    def __init__(
        self,
        where: str,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Describes the server.

        Args:
          where: the server, for messages.
          limits: how long to wait for it.
          clock: returns the time in seconds.
          sleep: waits for some seconds.
        """
        self._where = where
        self._limits = limits
        self._clock = clock
        self._sleep = sleep
        self._throttler = AdaptiveThrottler(
            _THROTTLE_WINDOW_MS, _THROTTLE_BUCKET_MS, _OVERLOAD_RATIO
        )
        self._lock = threading.Lock()

    def call(self, request: Callable[[float], _Answer]) -> _Answer:
        """Returns what `request` returns.

        Args:
          request: is given its deadline in seconds, and raises `PassingError` where another
            attempt may help.

        Raises:
          EndpointError: no attempt succeeded within the time limit.
        """
        started = self._clock()
        total_seconds = self._limits.total_seconds
        requests = 0
        last = PassingError(_HELD_BACK)
        is_held_back = False

        def attempt() -> _Answer:
            nonlocal requests, last, is_held_back
            now = self._clock()
            is_held_back = self._is_overloaded(now) and not is_held_back
            if is_held_back:
                raise PassingError(_HELD_BACK)
            requests += 1
            left_seconds = total_seconds - (now - started)
            try:
                answer = request(max(0.001, min(self._limits.request_seconds, left_seconds)))
            except PassingError as error:
                last = error
                raise
            except Exception:
                self._was_answered(now)
                raise
            self._was_answered(now)
            return answer

        retrying = tenacity.Retrying(
            sleep=self._sleep,
            retry=tenacity.retry_if_exception_type(PassingError),
            stop=lambda state: self._clock() - started + state.upcoming_sleep >= total_seconds,
            wait=_wait,
            before_sleep=self._log,
        )
        try:
            return retrying(attempt)
        except tenacity.RetryError:
            raise EndpointError(
                f"Expected an answer from {self._where} within {total_seconds:g} s, got none; "
                f"attempts: {requests}, the last: {last}. Check that the server is up and can take "
                f"the load, or raise the time limit."
            ) from last

    def _is_overloaded(self, now: float) -> bool:
        """Counts a request, and returns whether it should be held back."""
        with self._lock:
            is_overloaded: bool = self._throttler.throttle_request(int(now * 1000))
        return is_overloaded

    def _was_answered(self, now: float) -> None:
        """Counts an answer, which may be that the request itself is at fault."""
        with self._lock:
            self._throttler.successful_request(int(now * 1000))

    def _log(self, state: tenacity.RetryCallState) -> None:
        assert state.outcome is not None  # an attempt has just failed
        assert state.next_action is not None  # and the pause before the next one is known
        _logger.info(
            "Attempt %d at %s: %s; the next one in %.1f s.",
            state.attempt_number,
            self._where,
            state.outcome.exception(),
            state.next_action.sleep,
        )


_backoff = tenacity.wait_random_exponential(_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS)


def _wait(state: tenacity.RetryCallState) -> float:
    """Returns seconds until the next attempt: those that the server asks for, at least."""
    assert state.outcome is not None  # an attempt has just failed
    error = state.outcome.exception()
    asked = error.retry_after_seconds if isinstance(error, PassingError) else None
    return max(asked or 0.0, _backoff(state))
