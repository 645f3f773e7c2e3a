"""How much CPU time and memory the process has used."""

from __future__ import annotations

import os
import re
import resource
import sys
import time

_PEAK = re.compile(rb"^VmHWM:\s*(\d+) kB", re.MULTILINE)


def cpu_seconds() -> float:
    """Returns how long all threads have run, and have been ready to run on a busy machine."""
    nanoseconds = 0
    try:
        for thread in os.listdir("/proc/self/task"):
            try:
                with open(f"/proc/self/task/{thread}/schedstat", "rb") as file:
                    ran, waited, _ = file.read().split()
            except (FileNotFoundError, ProcessLookupError):
                continue  # It has ended.
            nanoseconds += int(ran) + int(waited)
    except (OSError, ValueError):
        return time.process_time()
    return nanoseconds / 1e9


def resident_bytes() -> int:
    """Returns the memory that the process uses, or 0 if the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


def peak_bytes() -> int:
    """Returns the most memory that the process has used so far."""
    try:
        with open("/proc/self/status", "rb") as file:
            if found := _PEAK.search(file.read()):
                return int(found[1]) << 10
    except OSError:
        pass
    # On Linux, this would be what the parent process had used, if that was more.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10
