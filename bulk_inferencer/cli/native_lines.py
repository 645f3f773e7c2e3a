"""Keeps lines that TensorFlow's C++ and Spark's JVM write about themselves off the terminal.

They go to file descriptor 2, past Python, and some before any setting can stop them. A process of
its own drops them and passes on the rest, so that the last words of a crash arrive as well.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
from typing import Any

_ABOUT_ITSELF = re.compile(
    rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWE] "  # TensorFlow
    rb"|[IWE]\d{4} \d\d:\d\d:\d+\.\d+ "  # abseil: TensorFlow 2.17 and newer, gRPC
    rb"|WARNING: All log messages before absl::InitializeLog"
    rb"|To enable the following instructions:"
    rb"|\[libprotobuf (INFO|WARNING) "
    rb"|\d\d/\d\d/\d\d \d\d:\d\d:\d\d (INFO|WARN) "  # Spark, until it knows its level
    rb"|Setting (default|Spark) log level to |To adjust logging level use "
)


def filter_stderr() -> None:
    """Filters what this process and its children write to file descriptor 2 from now on.

    What Python writes to `sys.stderr` is not touched. Does nothing where that is something else.
    """
    if not _is_own(sys.stderr, 2) or threading.active_count() > 1:
        return
    real = os.dup(2)
    source, target = os.pipe()
    if not os.fork():
        try:
            os.close(target)
            _pass_on(source, real)
        finally:
            os._exit(0)
    os.close(source)
    os.dup2(target, 2)
    os.close(target)
    encoding = sys.stderr.encoding
    sys.stderr.flush()
    sys.stderr = os.fdopen(real, "w", 1, encoding=encoding, errors="backslashreplace")


def keep_stdout() -> None:
    """Lets what native code and children write to file descriptor 1 go to 2 from now on.

    `sys.stdout` stays where it is, for results alone.
    """
    if not _is_own(sys.stdout, 1):
        return
    sys.stdout.flush()
    real = os.dup(1)
    try:
        os.dup2(2, 1)
    except OSError:  # There is no stderr.
        os.close(real)
        return
    buffering = 1 if os.isatty(real) else -1
    sys.stdout = os.fdopen(real, "w", buffering, sys.stdout.encoding, "backslashreplace")


def is_about_itself(line: bytes) -> bool:
    """Returns whether a line is one that a library writes about itself."""
    return _ABOUT_ITSELF.match(line) is not None


def _is_own(stream: Any, descriptor: int) -> bool:
    try:
        return bool(stream.fileno() == descriptor)
    except (OSError, AttributeError):  # None, where a process has none
        return False


def _pass_on(source: int, target: int) -> None:
    """Copies lines until all writers are gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # They are for the writers.
        signal.signal(number, signal.SIG_IGN)
    for own in (0, 1, 2):
        with contextlib.suppress(OSError):
            os.close(own)
    rest = b""
    while chunk := os.read(source, 1 << 16):
        *lines, rest = (rest + chunk).split(b"\n")
        _write(target, b"".join(line + b"\n" for line in lines if not is_about_itself(line)))
    if not is_about_itself(rest):
        _write(target, rest)


def _write(target: int, content: bytes) -> None:
    with contextlib.suppress(OSError):  # Nobody reads any more; the writers must not notice.
        while content:
            content = content[os.write(target, content) :]
