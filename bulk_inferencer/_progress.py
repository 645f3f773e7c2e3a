"""How far a run is: for a callback, for a notebook, and as lines of the log.

A thread looks into the folder where units leave manifests and heartbeats, so that it does not
matter which engine runs them, and where.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

from bulk_inferencer._units.manifest import Manifest
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.progress import Tally, poll_seconds
from bulk_inferencer._units.speed import Speed
from bulk_inferencer._units.stop_sign import StopSign
from bulk_inferencer.errors import BulkInferencerError
from bulk_inferencer.results.amounts import in_whole_seconds
from bulk_inferencer.results.summary import Summary

_logger = logging.getLogger(__name__)

# What a run does, in this order; `Progress.phase`.
PREPARING = "preparing"
LOADING = "loading"
SCORING = "scoring"
COMMITTING = "committing"
DONE = "done"

_TICK_SECONDS = 0.5
_LOG_SECONDS = 10.0
_REST_PER_LOOK = 20  # A look into a folder of many units may take long.
_PATIENCE_SECONDS = 5.0  # with a callback that does not return, after an error


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    ```python
    predict("models/five_times", "data/*.parquet", "results", progress=print)
    ```

    What an earlier run had done before it was interrupted counts as done, too.

    Attributes:
      phase: what it does: `preparing` (checks and lists), `loading` (the model, on the workers),
        `scoring`, `committing` or `done`.
      seconds: how long it has been running.
      bytes_done: about how much of the input files is scored, as they are stored.
      bytes_total: their size; 0 while it is not known yet.
      records: records that were read and that all models are done with.
      predicted: predictions made. With several models, a record may have several.
      failed: failures.
      units_done: pieces of work that are finished.
      units: all pieces of work; 0 while they are not known yet.
      batch_records: how many records the last call of the model took; 0 before the first.
      records_per_second: over about the last ten seconds; at the end, over all of the scoring.
      seconds_left: until all records are scored; None as long as that cannot be told.
    """

    phase: str = PREPARING
    seconds: float = 0.0
    bytes_done: int = 0
    bytes_total: int = 0
    records: int = 0
    predicted: int = 0
    failed: int = 0
    units_done: int = 0
    units: int = 0
    batch_records: int = 0
    records_per_second: float = 0.0
    seconds_left: float | None = None

    @property
    def fraction_done(self) -> float:
        """The share of the input's bytes that is scored, from 0 to 1."""
        if self.phase == DONE:
            return 1.0
        return self.bytes_done / self.bytes_total if self.bytes_total else 0.0

    @property
    def records_expected(self) -> int | None:
        """About how many records there are in all; None as long as that cannot be told."""
        if self.phase == DONE:
            return self.records
        if not (self.records and self.bytes_done):
            return None
        return round(self.records * self.bytes_total / self.bytes_done)

    def __str__(self) -> str:
        records = f"{self.records:,} records"
        if self.phase == PREPARING:
            return f"preparing, {in_whole_seconds(self.seconds)} so far"
        if self.phase == LOADING:
            return f"loading the model, {in_whole_seconds(self.seconds)} so far"
        if self.phase == COMMITTING:
            return f"{records}, {self.failed:,} failed, putting the results in place"
        if self.phase == DONE:
            return f"{records}, {self.failed:,} failed, done"
        if expected := self.records_expected:
            records = f"{self.records:,} of about {expected:,} records"
        parts = [f"{records} ({int(100 * self.fraction_done)} %)"]
        parts.append(f"{self.records_per_second:,.0f} records/s")
        parts.append(f"{self.failed:,} failed")
        if self.seconds_left is not None:
            parts.append(f"{in_whole_seconds(self.seconds_left)} left")
        return ", ".join(parts)


class _State(NamedTuple):
    """What the run does, as its own thread says. Always replaced as a whole."""

    phase: str = PREPARING
    tally: Tally | None = None
    interval: float = _TICK_SECONDS
    stop: StopSign | None = None


class Watch:
    """Tells how far a run is, from a thread of its own; see `watching`."""

    def __init__(self, show: Callable[[Progress], None] | None) -> None:
        self.started = time.time()
        self._show = show
        self._began = self._logged = time.monotonic()
        self._state = _State()
        self._earlier: Progress | None = None  # of a run that was done before
        self._speed = Speed()
        self._error: BaseException | None = None
        self._looks_wrong = False
        self._has_news = threading.Event()
        self._is_over = False
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)
        self._thread.start()

    @contextmanager
    def scoring(
        self, folder: str, units: Sequence[Unit], reused: Sequence[Manifest], stop: StopSign
    ) -> Iterator[None]:
        """Watches units within `with`.

        Args:
          folder: where they leave their manifests.
          units: all units of the run.
          reused: the manifests of those that earlier runs had finished.
          stop: what keeps further units from starting if the callback raises.

        Raises:
          Exception: what the callback raised.
        """
        tally = Tally(units, reused, folder)
        self._speed.add(time.monotonic(), tally.done)
        self._say(_State(LOADING, tally, poll_seconds(folder, _TICK_SECONDS), stop))
        try:
            self._raise_error()
            yield
        except BulkInferencerError:
            self._raise_error()
            raise
        finally:
            self._say(self._state._replace(stop=None))
        self._raise_error()

    def commits(self, units: Sequence[Unit], manifests: Sequence[Manifest]) -> None:
        """Says that all units are finished, and what they did.

        Raises:
          Exception: what the callback raised.
        """
        self._say(_State(COMMITTING, Tally(units, manifests)))
        self._raise_error()

    def was_done(self, summary: Summary) -> None:
        """Says that the run has nothing to do, since an earlier one had done it all."""
        unrouted = sum(summary.unrouted.values())
        read = [branch.total.examples_read for branch in summary.branches.values()]
        self._earlier = Progress(
            phase=DONE,
            bytes_done=summary.input_bytes,
            bytes_total=summary.input_bytes,
            records=sum(read) + unrouted if summary.routing == "split" else max(read, default=0),
            predicted=summary.total.predictions_written,
            failed=summary.total.examples_failed + unrouted,
        )

    def end(self, has_succeeded: bool) -> None:
        """Ends the thread, after a last call if the run has succeeded."""
        if has_succeeded:
            self._state = self._state._replace(phase=DONE)
        else:
            self._show = None
        self._is_over = True
        self._has_news.set()
        self._thread.join(None if has_succeeded else _PATIENCE_SECONDS)
        if has_succeeded:
            self._raise_error()
        elif self._error:
            _logger.warning("The callback for progress had failed before.", exc_info=self._error)

    def _say(self, state: _State) -> None:
        self._state = state
        self._has_news.set()

    def _raise_error(self) -> None:
        if error := self._error:
            self._error = None
            raise error

    def _watch(self) -> None:
        while True:
            is_over = self._is_over
            looked = self._look()
            if is_over:
                return
            self._has_news.wait(max(self._state.interval, _REST_PER_LOOK * looked))
            self._has_news.clear()

    def _look(self) -> float:
        """Looks how far the run is, and tells; returns how many seconds the look took."""
        state = self._state
        began = time.monotonic()
        if state.tally and state.phase == LOADING:
            self._update(state.tally)
        now = time.monotonic()
        progress = self._progress(state, now)
        if self._show and not self._error:
            try:
                self._show(progress)
            except BaseException as error:  # noqa: BLE001, `run` raises it
                self._fail(error)
        if now - self._logged >= _LOG_SECONDS and progress.phase != DONE:
            self._logged = now
            text = str(progress)
            _logger.info("%s.", text[:1].upper() + text[1:])
        return now - began

    def _update(self, tally: Tally) -> None:
        try:
            tally.update()
            self._looks_wrong = False
        except Exception:  # whatever a filesystem raises
            level = logging.DEBUG if self._looks_wrong else logging.INFO
            _logger.log(level, "Cannot see how far the run is at the moment.", exc_info=True)
            self._looks_wrong = True

    def _progress(self, state: _State, now: float) -> Progress:
        phase, tally, _, _ = state
        seconds = now - self._began
        if phase == DONE and self._earlier:
            return replace(self._earlier, seconds=seconds)
        if tally is None:
            return Progress(phase, seconds)
        if phase == LOADING and tally.is_scoring:
            phase = SCORING
        done = tally.done
        self._speed.add(now, done)
        is_scored = phase in (COMMITTING, DONE)
        return Progress(
            phase=phase,
            seconds=seconds,
            bytes_done=done.bytes_read,
            bytes_total=tally.bytes_total,
            records=done.records,
            predicted=done.predicted,
            failed=done.failed,
            units_done=tally.units_done,
            units=tally.units,
            batch_records=tally.batch_records,
            records_per_second=(
                self._speed.mean_records_per_second()
                if is_scored
                else self._speed.records_per_second(now)
            ),
            seconds_left=0.0 if is_scored else self._speed.seconds_left(now, tally.bytes_total),
        )

    def _fail(self, error: BaseException) -> None:
        self._error = error
        if stop := self._state.stop:
            try:
                stop.put_up(BulkInferencerError("The callback for progress failed."))
            except Exception:  # whatever a filesystem raises
                _logger.info("Units go on, although the callback failed.", exc_info=True)


@contextmanager
def watching(show: Callable[[Progress], None] | None) -> Iterator[Watch]:
    """Tells how far a run is within `with`: to a callback, or in a notebook; and in the log.

    The callback is called at once, about twice a second, and at the end.

    Raises:
      Exception: what the callback raised.
    """
    watch = Watch(show or _notebook_line())
    try:
        yield watch
    except BaseException:
        watch.end(has_succeeded=False)
        raise
    watch.end(has_succeeded=True)


def _notebook_line() -> Callable[[Progress], None] | None:
    """Returns what shows progress in a line of a notebook; None where there is no notebook."""
    ipython = sys.modules.get("IPython")
    kinds = type(ipython.get_ipython()).__mro__ if ipython else ()
    if all(kind.__name__ != "ZMQInteractiveShell" for kind in kinds):
        return None
    from IPython.display import display

    def content(progress: Progress) -> dict[str, str]:
        text = str(progress)
        return {"text/plain": text[:1].upper() + text[1:]}

    # Made by this thread, it belongs to the cell that called.
    line = display(content(Progress()), raw=True, display_id=True)

    def show(progress: Progress) -> None:
        line.update(content(progress), raw=True)

    return show
