"""A run that is told to end cleans up first."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_busy: set[int] = set()  # threads that may be within a call of a model
_PATIENCE_SECONDS = 0.1


class Terminated(BaseException):
    """The process got SIGTERM, as from Kubernetes, systemd or `kill`."""


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Raises `Terminated` within `with` on SIGTERM, and ends the process after it.

    Does nothing where somebody else handles the signal, and outside the main thread, which alone
    can.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    is_noticed = threading.Event()

    def terminate(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # One is enough: let it clean up in peace.
        is_noticed.set()
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)
    try:
        with _woken_by_sigterm(is_noticed):
            yield
    except Terminated:
        # At once, without Python's own cleaning, which crashes threads that are in TensorFlow.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)
        raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def _woken_by_sigterm(is_noticed: threading.Event) -> Iterator[None]:
    """Sends SIGTERM to this thread, the main one, again and again until it notices.

    Python's handlers run in the main thread alone. A signal that comes right before this thread
    begins to wait for another one does not end that wait, which may last for hours.
    """
    main = threading.get_ident()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def wake() -> None:
        while number := os.read(reading, 1):
            while number[0] == signal.SIGTERM and not is_noticed.wait(_PATIENCE_SECONDS):
                signal.pthread_kill(main, signal.SIGTERM)

    thread = threading.Thread(target=wake, name="sigterm", daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        is_noticed.set()
        os.close(writing)
        thread.join()
        os.close(reading)


@contextmanager
def busy() -> Iterator[None]:
    """Marks a thread that may be within a call of a model, which cannot be interrupted."""
    thread = threading.get_ident()
    _busy.add(thread)
    try:
        yield
    finally:
        _busy.discard(thread)


def guard_exit() -> None:
    """Lets the process end even if a thread is within a call of a model then.

    Python would take down TensorFlow below that thread, which ends in a segmentation fault.
    """
    atexit.unregister(_end_if_busy)
    atexit.register(_end_if_busy)


def _end_if_busy() -> None:
    if _busy:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
