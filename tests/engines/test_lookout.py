"""How launchers look whether a run is over."""

from __future__ import annotations

import pytest

from bulk_inferencer.engines import lookout
from bulk_inferencer.engines.lookout import Lookout


class Worker:
    """Raises or returns what a test wants, look by look."""

    def __init__(self, *looks):
        self._looks = list(looks)

    def is_over(self):
        look = self._looks.pop(0)
        if isinstance(look, Exception):
            raise look
        return look


DOWN = OSError("stale file handle")


def test_looks_that_fail_for_a_while_do_not_end_a_run(caplog):
    look = Lookout(Worker(False, DOWN, DOWN, False, DOWN, True))
    assert [look.is_over() for _ in range(6)] == [False, False, False, False, False, True]
    message = "Cannot see whether the run is over, so it goes on: stale file handle"
    assert caplog.messages == [message, message]


def test_looks_that_fail_for_too_long_end_it(monkeypatch):
    look = Lookout(Worker(DOWN, DOWN))
    assert not look.is_over()
    monkeypatch.setattr(lookout, "_PATIENCE_SECONDS", -1)
    with pytest.raises(OSError, match=r"^stale file handle$"):
        look.is_over()
