"""Cases that take long run with `make test-faults` only, which also writes docs/reliability.md."""

from __future__ import annotations

import os

import pytest

from tests.faults import table

RUNS_ALL = "TEST_FAULTS"  # set by `make test-faults`
_ROWS = pytest.StashKey[list[table.Row]]()


def pytest_collection_modifyitems(items):
    if os.environ.get(RUNS_ALL):
        return
    for item in items:
        if item.get_closest_marker("faults"):
            item.add_marker(pytest.mark.skip(reason="run by make test-faults"))


@pytest.fixture
def reliability(request):
    """Ends a case: none of its predictions may be lost or doubled. Becomes a row of the table."""
    rows = request.session.stash.setdefault(_ROWS, [])

    def account(promise, case, lost, doubled):
        assert (lost, doubled) == (0, 0)
        file, name = request.path.name, request.node.originalname
        rows.append(table.Row(promise, case, file, name, lost, doubled))

    return account


def pytest_sessionfinish(session):
    rows = session.stash.get(_ROWS, [])
    # After a selection of cases, the table stays as it is.
    if os.environ.get(RUNS_ALL) and {row.test for row in rows} == table.cases():
        table.write(rows)
