"""Tests that need clusters run with `make test-engines` only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.integration.engines import behaviour, table

_HERE = Path(__file__).parent
_RUNS_ALL = "TEST_ENGINES"  # set by `make test-engines`


def pytest_collection_modifyitems(items):
    if os.environ.get(_RUNS_ALL):
        return
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="run by make test-engines"))


@pytest.fixture(scope="session")
def local(tmp_path_factory):
    """Inputs, and what local threads make of them."""
    return behaviour.local_results(tmp_path_factory.mktemp("local"))


@pytest.fixture(scope="session")
def wide(tmp_path_factory):
    """400,000 records of 20 numbers, and what local threads make of them."""
    return behaviour.wide_results(tmp_path_factory.mktemp("wide"))


def pytest_sessionfinish(session, exitstatus):
    ran = {item.path for item in session.items}
    told = session.config.pluginmanager.get_plugin("terminalreporter").stats
    left_out = told.get("skipped") or told.get("deselected")
    is_whole = ran >= set(_HERE.glob("test_*.py")) and not left_out
    if os.environ.get(_RUNS_ALL) and exitstatus == pytest.ExitCode.OK and is_whole:
        table.write()
