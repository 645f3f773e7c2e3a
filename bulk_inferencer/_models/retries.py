"""Requests to servers: repeated while that may help, held back while a server is overloaded."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import tenacity
from apache_beam.io.components.adaptive_throttler import AdaptiveThrottler

from bulk_inferencer._checks import check_number
from bulk_inferencer.errors import EndpointError, SettingsError

_logger = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")

_THROTTLE_WINDOW_MS = 60_000
_THROTTLE_BUCKET_MS = 1_000
# The throttler holds requests back once there are more of them per accepted one than this.
_OVERLOAD_RATIO = 2.0
_HELD_BACK = "held back, since the server turns down most requests"
_FIRST_PAUSE_SECONDS = 0.1
# As long as gRPC needs to notice that a server is back; see `_CHANNEL_OPTIONS` of TFServing.
_LONGEST_PAUSE_SECONDS = 5.0


@dataclass(frozen=True)
class Limits:
    """How long to wait for a server.

    ```python
    Limits(request_seconds=10, total_seconds=120)
    ```

    Attributes:
      request_seconds: deadline of one request; over HTTP, the longest time without a byte.
      total_seconds: how long a batch may take, including all attempts and the pauses in between.

    Raises:
      SettingsError: a limit is not positive, or the total is shorter than one request.
    """

    request_seconds: float = 60.0
    total_seconds: float = 600.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            check_number(f"Limits.{name}", value, "Leave it out for the default.")
        if not 0 < self.request_seconds <= self.total_seconds:
            raise SettingsError(
                f"Limits.request_seconds must be more than 0 and at most Limits.total_seconds, but "
                f"they are {self.request_seconds} and {self.total_seconds}. Correct one of them."
            )


class TransientError(Exception):
    """Raised by a request that may succeed if it is repeated.

    Attributes:
      retry_after_seconds: how long the server asks to wait, if it says so.
    """

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Caller:
    """Makes requests to one server. Several threads may share it.

    After a transient error, the request is repeated. The pauses in between grow exponentially, with
    full jitter, so that workers do not all come back at once. If the server turned down more than
    half of the recent requests, some attempts are not sent (`AdaptiveThrottler`), but never two of
    a call in a row: otherwise nobody would notice that the server is back.
    """

    def __init__(
        self,
        where: str,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Watches over the calls of the server `where`. Tests replace `clock` and `sleep`."""
        self.where = where
        self.limits = limits
        self.clock = clock
        self._sleep = sleep
        self._throttler = AdaptiveThrottler(
            _THROTTLE_WINDOW_MS, _THROTTLE_BUCKET_MS, _OVERLOAD_RATIO
        )
        self._lock = threading.Lock()

    def call(self, request: Callable[[float], _Answer]) -> _Answer:
        """Returns what `request` returns.

        Args:
          request: takes its deadline in seconds, and raises `TransientError` if another attempt
            may help.

        Raises:
          EndpointError: no attempt succeeded within the time limit.
        """
        started = self.clock()
        total_seconds = self.limits.total_seconds
        requests = 0
        last = TransientError(_HELD_BACK)
        is_held_back = False

        def attempt() -> _Answer:
            nonlocal requests, last, is_held_back
            now = self.clock()
            is_held_back = self._is_overloaded(now) and not is_held_back
            if is_held_back:
                raise TransientError(_HELD_BACK)
            requests += 1
            left_seconds = total_seconds - (now - started)
            try:
                answer = request(max(0.001, min(self.limits.request_seconds, left_seconds)))
            except TransientError as error:
                last = error
                raise
            except Exception:
                self._was_answered(now)
                raise
            self._was_answered(now)
            return answer

        try:
            return self.keep_trying(attempt, total_seconds)
        except TransientError:
            raise EndpointError(
                f"No answer from {self.where} within {total_seconds:g} s; attempts: {requests}, "
                f"the last: {last}. Check that the server is up and can take the load, or raise "
                f"the time limit."
            ) from last

    def keep_trying(
        self,
        attempt: Callable[[], _Answer],
        seconds: float,
        longest_pause: float = _LONGEST_PAUSE_SECONDS,
        most: int | None = None,
    ) -> _Answer:
        """Returns what `attempt` returns, with pauses between attempts that fail for now.

        Args:
          attempt: raises `TransientError` if another attempt may help.
          seconds: how long to go on.
          longest_pause: what pauses grow to, in seconds, unless the server asks for more.
          most: how many attempts to make; default: as many as the time allows.

        Raises:
          TransientError: the error of the last attempt.
        """
        started = self.clock()
        backoff = tenacity.wait_random_exponential(_FIRST_PAUSE_SECONDS, longest_pause)

        def wait(state: tenacity.RetryCallState) -> float:
            assert state.outcome is not None  # an attempt has just failed
            error = state.outcome.exception()
            asked = error.retry_after_seconds if isinstance(error, TransientError) else None
            return max(asked or 0.0, backoff(state))

        def is_enough(state: tenacity.RetryCallState) -> bool:
            passed = self.clock() - started + state.upcoming_sleep
            return passed >= seconds or state.attempt_number == most

        retrying = tenacity.Retrying(
            sleep=self._sleep,
            retry=tenacity.retry_if_exception_type(TransientError),
            stop=is_enough,
            wait=wait,
            before_sleep=self._log,
            reraise=True,
        )
        return retrying(attempt)

    def _is_overloaded(self, now: float) -> bool:
        """Counts a request, and returns whether it should be held back."""
        with self._lock:
            is_overloaded: bool = self._throttler.throttle_request(int(now * 1000))
        return is_overloaded

    def _was_answered(self, now: float) -> None:
        """Counts an answer; an error that blames the request is one, too."""
        with self._lock:
            self._throttler.successful_request(int(now * 1000))

    def _log(self, state: tenacity.RetryCallState) -> None:
        assert state.outcome is not None  # an attempt has just failed
        assert state.next_action is not None  # and the pause before the next one is known
        _logger.info(
            "Attempt %d at %s failed: %s. The next one is in %.1f s.",
            state.attempt_number,
            self.where,
            state.outcome.exception(),
            state.next_action.sleep,
        )
