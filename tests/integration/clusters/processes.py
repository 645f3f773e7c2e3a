"""Processes of a cluster, which end with the process that started them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path


@contextlib.contextmanager
def process(command, env=None, log=None):
    """Runs a command meanwhile; then ends it and all that it started, as far as in its session.

    They end as well if this process is killed, even with -9.

    Args:
      command: the program and its arguments.
      env: environment variables besides those of this process.
      log: the file to which it writes, after what is there. Default: nothing is kept.

    Yields:
      the `subprocess.Popen`, with the path of its log as `log`.
    """
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(open(log or os.devnull, "ab"))
        environment = {**os.environ, **(env or {})}
        started = subprocess.Popen(
            [*map(str, command)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        started.log = log
        # It reads until this process closes the pipe or dies, and then kills what is left.
        watcher = subprocess.Popen(
            [sys.executable, "-S", "-E", __file__, str(started.pid)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            yield started
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.wait(5)
            watcher.communicate()
            started.wait()


def pids_in_session(leader):
    """Returns the processes in the session of a process, which may have ended itself."""
    pids = map(int, filter(str.isdecimal, os.listdir("/proc")))
    return [pid for pid in pids if (status := status_of(pid)) and int(status[3]) == leader]


def status_of(pid):
    """Returns the fields of `/proc/PID/stat` after the name; none if the process has ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
        return [] if fields[0] == "Z" else fields
    return []


def parent_of(pid):
    """Returns the process that has started another one."""
    return int(status_of(pid)[1])


def free_port():
    """Returns a port of 127.0.0.1 that nothing listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for_port(port, process, seconds=180):
    """Waits until something listens at a port of 127.0.0.1.

    Raises:
      RuntimeError: the process has ended, or the time is over; shows the end of its log.
    """

    def listens():
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    wait_until(listens, process, seconds, f"nothing listens at port {port}")


def wait_until(is_so, process, seconds=180, problem="it is not ready"):
    """Waits until a condition is met.

    Raises:
      RuntimeError: the process has ended, or the time is over; shows the end of its log.
    """
    end = time.monotonic() + seconds
    while not is_so():
        has_ended = process.poll() is not None
        if has_ended or time.monotonic() > end:
            why = f"it ended with {process.returncode}" if has_ended else f"{seconds} s are over"
            log = Path(process.log).read_text()[-2000:] if process.log else ""
            raise RuntimeError(f"{process.args}: {problem}, and {why}.\n{log}")
        time.sleep(0.05)


def serve(cluster):
    """Starts a cluster, prints what the context manager yields, and waits for Ctrl-C or SIGTERM."""
    for number in (signal.SIGINT, signal.SIGTERM):  # A shell lets background jobs ignore Ctrl-C.
        signal.signal(number, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), cluster as address:
        print(address, flush=True)
        signal.pause()


def _kill_session(leader):
    while pids := pids_in_session(leader):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


if __name__ == "__main__":
    sys.stdin.read()
    _kill_session(int(sys.argv[1]))
