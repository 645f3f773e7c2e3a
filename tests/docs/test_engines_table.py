"""The table of docs/engines.md says what the tests of engines test."""

from __future__ import annotations

from tests.integration.engines import table


def test_table_says_what_tests_call_and_nothing_else():
    assert table.read() == table.lines()


def test_each_engine_has_crashes_in_the_table():
    for place, calls in table.proved().items():
        crashes = {"survives", "fails_cleanly", "goes_on_elsewhere"}
        assert calls & crashes, place


def test_each_cluster_has_results_in_the_table():
    for place in table.PLACES.keys() - {"threads"}:
        assert "scores_as_local_threads_do" in table.proved()[place], place
