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
    requests were turned down, new ones are held back on this side (`AdaptiveThrottler`).
    """

    def __init__(self, where: str, limits: Limits) -> None:
        """Describes the server.

        Args:
          where: the server, for messages.
          limits: how long to wait for it.
        """
        self._where = where
        self._limits = limits
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
        started = time.monotonic()

        def attempt() -> _Answer:
            now_ms = int(time.time() * 1000)
            with self._lock:
                is_held_back = self._throttler.throttle_request(now_ms)
            if is_held_back:
                raise PassingError("held back, since the server turns most requests down")
            left = self._limits.total_seconds - (time.monotonic() - started)
            answer = request(max(0.001, min(self._limits.request_seconds, left)))
            with self._lock:
                self._throttler.successful_request(now_ms)
            return answer

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(PassingError),
            stop=tenacity.stop_before_delay(self._limits.total_seconds),
            wait=_wait,
            before_sleep=self._log,
        )
        try:
            return retrying(attempt)
        except tenacity.RetryError as error:
            last = error.last_attempt
            raise EndpointError(
                f"Expected an answer from {self._where} within {self._limits.total_seconds:g} s, "
                f"got none in {last.attempt_number} attempts; the last: {last.exception()}. "
                f"Check that the server is up and can take the load, or raise the time limit."
            ) from last.exception()

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
