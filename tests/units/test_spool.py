from __future__ import annotations

import random

import pytest

from bulk_inferencer._units import spool as spool_module
from bulk_inferencer._units.spool import spooled

NUMBERED = [(i * i, bytes([i]) * (i % 7)) for i in range(50)]


@pytest.mark.parametrize("memory_bytes", [1 << 20, 20], ids=["memory", "disk"])
def test_comes_in_order_and_as_often_as_asked(monkeypatch, memory_bytes):
    monkeypatch.setattr(spool_module, "_MEMORY_BYTES", memory_bytes)
    shuffled = random.Random(0).sample(NUMBERED, k=len(NUMBERED))
    with spooled(iter(shuffled)) as spool:
        assert spool.last() == NUMBERED[-1]
        for _ in range(2):
            assert list(spool) == NUMBERED
