"""The table of docs/engines.md says what the tests of engines test."""

from __future__ import annotations

import re

from tests.integration.engines import table


def test_table_says_what_tests_call_and_nothing_else():
    found = table.read()
    versions = {
        place.package: line.split(" | ")[1]
        for place, line in zip(table.PLACES.values(), found[2:], strict=True)
    }
    assert all(re.fullmatch(r"\d+\.\d+(\.\d+)?", version) for version in versions.values())
    assert found == table.lines(versions)


def test_each_engine_has_results_and_crashes_in_the_table():
    for place, calls in table.proved().items():
        assert "scores_as_local_threads_do" in calls, place
        assert calls & {"survives", "fails_cleanly"}, place
