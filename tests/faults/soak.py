"""Watches this process over minutes of runs: memory, open files and threads have to stay flat.

python -m tests.faults.soak [--minutes 5]

Half of the time goes to many short runs, the other half to a long one. Ends with status 1 if
something grew.
"""

from __future__ import annotations

import argparse
import gc
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

from bulk_inferencer import InferenceJob, Outputs, SavedModel, run
from tests.helpers import example, save_linear, write_tfrecord

_FILES = 20  # of a short run
_SHORT_RECORDS, _LONG_RECORDS = 500, 20_000  # of a file
_SECONDS_BETWEEN_SAMPLES = 0.25
# What may differ between two quarters of the time: Python's and TensorFlow's allocators breathe.
_MOST_MORE_MB = 24
_MOST_MORE_FILES = _MOST_MORE_THREADS = 3
_FEWEST_SAMPLES = 8


class Sample(NamedTuple):
    """What a process holds at one moment."""

    megabytes: float
    files: int
    threads: int

    @classmethod
    def now(cls) -> Sample:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        megabytes = pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
        return cls(megabytes, len(os.listdir("/proc/self/fd")), threading.active_count())


def verdict(what: str, samples: list[Sample]) -> bool:
    """Prints how the second quarter of the samples compares with the last one; is it flat?"""
    quarter = len(samples) // 4
    if len(samples) < _FEWEST_SAMPLES:
        print(f"{what}: {len(samples)} samples are too few to tell. Give it more minutes.")
        return False
    early = Sample(*map(statistics.median, zip(*samples[quarter : 2 * quarter], strict=True)))
    late = Sample(*map(statistics.median, zip(*samples[-quarter:], strict=True)))
    more = Sample(*(b - a for a, b in zip(early, late, strict=True)))
    most = Sample(_MOST_MORE_MB, _MOST_MORE_FILES, _MOST_MORE_THREADS)
    is_flat = all(m <= limit for m, limit in zip(more, most, strict=True))
    print(
        f"{what}: memory {early.megabytes:.0f} -> {late.megabytes:.0f} MB, open files "
        f"{early.files:.0f} -> {late.files:.0f}, threads {early.threads:.0f} -> "
        f"{late.threads:.0f}: {'flat' if is_flat else 'GROWING'}"
    )
    return is_flat


def write_files(folder: Path, count: int, records: int) -> None:
    first = write_tfrecord(folder / "0.gz", [example(x=float(i)) for i in range(records)])
    for i in range(1, count):
        shutil.copy(first, folder / f"{i}.gz")


def score(folder: Path, inputs: str) -> float:
    """Scores all files of a folder, deletes the results, and returns how many seconds it took."""
    started = time.monotonic()
    outputs = Outputs.under(folder / "out")
    model = SavedModel(folder / "model")
    run(InferenceJob(splits={"s": [f"{folder}/{inputs}/*"]}, model=model, outputs=outputs))
    seconds = time.monotonic() - started
    shutil.rmtree(folder / "out")
    return seconds


def many_runs(folder: Path, seconds: float) -> list[Sample]:
    """Runs short jobs one after the other, and returns a sample after each."""
    write_files(folder / "short", _FILES, _SHORT_RECORDS)
    samples: list[Sample] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        score(folder, "short")
        gc.collect()
        samples.append(Sample.now())
    return samples


def long_run(folder: Path, files: int) -> list[Sample]:
    """Runs one job over many files; returns samples from all of its time."""
    write_files(folder / "long", files, _LONG_RECORDS)
    samples: list[Sample] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_SECONDS_BETWEEN_SAMPLES):
            samples.append(Sample.now())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        score(folder, "long")
    finally:
        ended.set()
        watcher.join()
    return samples


def main(minutes: float) -> bool:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_linear(folder / "model")
        samples = many_runs(folder, 30 * minutes)
        is_flat = verdict(f"{len(samples)} runs of {_FILES * _SHORT_RECORDS:,} records", samples)
        write_files(folder / "trial", _FILES, _LONG_RECORDS)
        files = int(30 * minutes * _FILES / score(folder, "trial"))
        samples = long_run(folder, files)
        return verdict(f"one run of {files * _LONG_RECORDS:,} records", samples) and is_flat


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=5)
    sys.exit(not main(parser.parse_args().minutes))
