"""How far a run is, on stderr: a display that updates itself on a terminal, and lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from bulk_inferencer.cli import terminal
from bulk_inferencer.results.amounts import counted, in_bytes, in_time

if TYPE_CHECKING:
    from bulk_inferencer._progress import Progress

Watch: TypeAlias = "Callable[[Progress], None]"

_SECONDS_BETWEEN_LINES = 5.0
_PHASES = {
    "preparing": "Preparing",
    "loading": "Loading the model",
    "scoring": "Scoring",
    "committing": "Writing the results",
    "done": "Done",
}


@contextlib.contextmanager
def watching(quiet: bool = False) -> Iterator[Watch]:
    """Yields what shows how far a run is.

    What the run's own code prints goes to stderr, since stdout is for results.
    """
    if quiet:
        with contextlib.redirect_stdout(sys.stderr):
            yield lambda progress: None
    elif terminal.is_terminal(stderr=True):
        with _display() as show:
            yield show
    else:
        with contextlib.redirect_stdout(sys.stderr):
            yield Lines(terminal.say)


class Lines:
    """Says how far a run is every few seconds."""

    def __init__(
        self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Takes what writes a line, and the clock."""
        self._say = say
        self._clock = clock
        self._last = clock()

    def __call__(self, progress: Progress) -> None:
        """Says how far the run is, if it is time to."""
        now = self._clock()
        if progress.phase == "done" or now - self._last < _SECONDS_BETWEEN_LINES:
            return
        self._last = now
        with contextlib.suppress(OSError):  # The run goes on if nobody reads any more.
            self._say(line_of(progress))


def line_of(progress: Progress) -> str:
    """Returns how far a run is, in a line."""
    parts = [in_time(progress.seconds), _PHASES[progress.phase]]
    if progress.bytes_total:
        parts.append(f"{progress.fraction_done:.0%}")
    return "  ".join([*parts, *details_of(progress), *_left(progress)])


def details_of(progress: Progress) -> list[str]:
    """Returns amounts, rate, failures and size of batches, as far as they are known."""
    parts = []
    if progress.bytes_total:
        parts.append(in_bytes(progress.bytes_done, progress.bytes_total))
    if progress.records:
        parts.append(counted(progress.records, "record"))
        parts.append(f"{progress.records_per_second:,.0f} per second")
        parts.append(f"{progress.failed:,} failed")
    if progress.batch_records:
        parts.append(f"batches of {progress.batch_records:,}")
    return parts


def _left(progress: Progress) -> list[str]:
    return [] if progress.seconds_left is None else [f"{in_time(progress.seconds_left)} left"]


@contextlib.contextmanager
def _display() -> Iterator[Watch]:
    from rich.live import Live

    console = terminal.console(stderr=True)
    shown = _Shown(console.encoding)
    live = Live(console=console, get_renderable=shown.render, refresh_per_second=8, transient=True)
    with live:
        yield shown


class _Shown:
    """The display: what the run does, a bar, and a line of numbers."""

    def __init__(self, encoding: str) -> None:
        from rich.spinner import Spinner

        self._spinner = Spinner("dots" if encoding.startswith("utf") else "line")
        self._started = time.monotonic()
        self._latest: Progress | None = None

    def __call__(self, progress: Progress) -> None:
        self._latest = progress

    def render(self) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        latest = self._latest
        phase = _PHASES[latest.phase if latest else "preparing"]
        first = Table.grid(padding=(0, 1))
        elapsed = Text(in_time(time.monotonic() - self._started), style="dim")
        if latest is None or not latest.bytes_total:
            first.add_row(self._spinner, phase, elapsed)
            return first
        bar = ProgressBar(total=1.0, completed=latest.fraction_done, width=36)
        share = f"{latest.fraction_done:.0%}"
        first.add_row(self._spinner, phase, bar, share, elapsed, *_left(latest))
        return Group(first, Text("  " + "  ".join(details_of(latest))))
