"""Runs a command, and watches what it and all its descendants take."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_EVERY_SECONDS = 0.2
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Measured:
    """What a command took.

    Attributes:
      seconds: from its start to its end, with all imports.
      cpu_seconds: of all its processes, as last seen.
      peak_mib: the most memory that all its processes had together, with shared memory once.
    """

    seconds: float
    cpu_seconds: float
    peak_mib: float


def run(
    command: Sequence[str],
    folder: Path,
    variables: Mapping[str, str],
    timeout: float,
    servers: Sequence[int] = (),
) -> Measured:
    """Runs a command to its end.

    `servers` are processes that work for it: what they and their descendants take meanwhile counts.

    A crash does not count as a failure: with TensorFlow on its threads, Daft's process can crash
    when it exits, after all results are written. Without results, the comparison fails.

    Raises:
      RuntimeError: it failed, or took longer than `timeout` seconds.
    """
    log = folder / "log.txt"
    cpu: dict[int, float] = {}
    before = _trees(servers)
    peak = 0.0
    with open(log, "w") as output:
        started = time.monotonic()
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, **variables}
        )
        while True:
            try:
                code = process.wait(_EVERY_SECONDS)
                break
            except subprocess.TimeoutExpired:
                tree = _trees([process.pid, *servers])
                cpu |= tree
                peak = max(peak, sum(map(_mib, tree)))
                if time.monotonic() - started > timeout:
                    process.kill()
        seconds = time.monotonic() - started
    if code not in (0, -signal.SIGSEGV, -signal.SIGABRT):
        raise RuntimeError(f"{' '.join(command[:5])} ended with {code}:\n{_tail(log)}")
    return Measured(seconds, sum(own - before.get(pid, 0.0) for pid, own in cpu.items()), peak)


def _trees(roots: Sequence[int]) -> dict[int, float]:
    """Returns the CPU seconds of processes and of their descendants, by process ID."""
    children = defaultdict(list)
    seconds = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            text = Path("/proc", entry, "stat").read_text()
        except OSError:  # It has ended.
            continue
        # The name, in parentheses, may hold spaces.
        fields = text.rpartition(")")[2].split()
        children[int(fields[1])].append(int(entry))
        seconds[int(entry)] = (int(fields[11]) + int(fields[12])) / _TICKS
    found, waiting = {}, [*roots]
    while waiting:
        one = waiting.pop()
        found[one] = seconds.get(one, 0.0)
        waiting += children[one]
    return found


def _mib(process: int) -> float:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:  # It has ended.
        return 0.0
    # Memory that several processes share counts for each in proportion.
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-3000:]
