"""The table of docs/reliability.md names every case, and an account finds what it should."""

from __future__ import annotations

import re

import pytest

from bulk_inferencer import run
from tests.faults import account, table
from tests.faults.child import RECORDS, job_in, write_inputs
from tests.helpers import read_tfrecord, write_tfrecord


def test_table_names_every_case_and_no_other():
    rows = table.read()
    assert {row.test for row in rows} == table.cases()
    assert {(row.lost, row.doubled) for row in rows} == {(0, 0)}


def test_every_fault_ends_with_an_account():
    named = {case.partition("::")[0] for case in table.cases()}
    assert named == {path.name for path in table.FOLDER.glob("test_*.py")}


def test_every_promise_is_a_heading_and_has_a_fault():
    page = table.PAGE.read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", page, re.MULTILINE)
    promises = {row.promise for row in table.read()}
    assert promises == set(account.PROMISES)
    assert [promise for promise in headings if promise in promises] == list(account.PROMISES)


def test_table_reads_as_it_was_written(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{table.BEGIN}old\n{table.END}after\n")
    monkeypatch.setattr(table, "PAGE", page)
    second, first = account.PROMISES[1], account.PROMISES[0]
    rows = [table.Row(second, "fault", "test_x.py", "test_y", 0, 0)]
    rows.append(rows[0]._replace(promise=first, lost=12))
    for _ in range(2):
        table.write([*rows, *rows])
    assert table.read() == rows[::-1]
    assert page.read_text().startswith("before\n")
    assert page.read_text().endswith(f"{table.END}after\n")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda records: records, (0, 0)),
        (lambda records: records[2:], (2, 0)),
        (lambda records: [*records, records[0]], (0, 1)),
        (lambda records: [records[1], records[1]], (9, 1)),
    ],
    ids=["all", "two lost", "one twice", "both"],
)
def test_account_counts_what_is_lost_and_what_is_there_twice(tmp_path, change, expected):
    write_inputs(tmp_path)
    run(job_in(tmp_path))
    (shard,) = (tmp_path / "out/inference_result").glob("*-00000-of-*")
    write_tfrecord(shard, change(read_tfrecord(shard)))
    (tmp_path / "out/summary/summary.json").unlink()  # It knows better.
    found = account.lost_and_doubled(RECORDS, tmp_path / "out/inference_result")
    assert found == expected
