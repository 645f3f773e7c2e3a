from __future__ import annotations

import numpy as np

from bulk_inferencer._models import usage

SIZE = 64 << 20


def test_memory_that_was_used_counts_until_it_is_freed_and_in_the_peak_for_ever():
    before = usage.resident_bytes()
    block = np.ones(SIZE, np.uint8)
    assert usage.resident_bytes() - before > SIZE // 2
    del block
    assert usage.resident_bytes() - before < SIZE // 2
    assert usage.peak_bytes() - before > SIZE // 2


def test_cpu_seconds_are_those_of_all_threads():
    before = usage.cpu_seconds()
    sum(range(1_000_000))
    assert usage.cpu_seconds() > before


def test_without_what_linux_tells_others_are_asked(monkeypatch):
    def no_file(*args):
        raise FileNotFoundError

    peak = usage.peak_bytes()
    monkeypatch.setattr(usage, "open", no_file, raising=False)
    monkeypatch.setattr(usage.os, "listdir", no_file)
    assert usage.resident_bytes() == 0
    assert usage.peak_bytes() >= peak // 2
    assert usage.cpu_seconds() > 0
