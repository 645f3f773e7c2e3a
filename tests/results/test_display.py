from __future__ import annotations

import importlib.util

import pyarrow as pa
import pytest

from bulk_inferencer.results import display

ROWS = pa.table(
    {"<id>": [1, None], "y": [0.123456789, 2.0], "v": [[1.0] * 7, None], "text": ["a" * 99, "&"]}
)


@pytest.fixture
def no_pandas(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


def test_rows_are_shown_without_pandas_too(no_pandas):
    page = display.html("<A title>", ROWS, 1001)
    assert page.startswith("<div><p><b>&lt;A title&gt;</b></p><table ")
    assert "<th>&lt;id&gt;</th><th>y</th>" in page
    assert (
        f"<tr><th>0</th><td>1</td><td>0.123457</td><td>[1, 1, 1, 1, 1, ...]</td>"
        f"<td>{'a' * 47}...</td></tr>"
        f"<tr><th>1</th><td>None</td><td>2</td><td>None</td><td>&amp;</td></tr>" in page
    )
    assert page.endswith("<p>1,001 rows \N{MULTIPLICATION SIGN} 4 columns</p></div>")


def test_rows_are_shown_as_pandas_shows_them():
    page = display.html("A title", ROWS, 1)
    assert "<th>&lt;id&gt;</th>" in page
    assert "<td>0.123457</td>" in page
    assert page.endswith("<p>1 row \N{MULTIPLICATION SIGN} 4 columns</p></div>")


def test_without_columns_there_is_no_table_but_a_reason():
    page = display.html("A title", pa.table({}), 0, "Because.")
    assert page == (
        "<div><p><b>A title</b></p><p>Because.</p>"
        "<p>0 rows \N{MULTIPLICATION SIGN} 0 columns</p></div>"
    )
