from __future__ import annotations

import pyarrow as pa

from bulk_inferencer.results import display


def test_first_rows_are_a_table_with_a_title_and_their_number():
    rows = pa.table({"<id>": [1, None], "y": [0.123456789, 2.0], "text": ["a" * 99, "&"]})
    page = display.html("<A title>", rows, 1001)
    assert "<p><b>&lt;A title&gt;</b></p>" in page
    assert page.endswith("<p>1,001 rows \N{MULTIPLICATION SIGN} 3 columns</p></div>")
    for own in ("&lt;id&gt;", "0.123457", "2", "None", "&amp;", f"{'a' * 24}…{'a' * 25}"):
        assert f">{own}<" in page


def test_values_of_every_type_are_shown_in_short():
    shown = display.html(
        "",
        pa.table(
            {
                "vector": [[1.0] * 7],
                "matrix": [[[1, 2], [3, 4]]],
                "image": [bytes(10_000_000)],
                "day": pa.array([10_000_000], pa.date32()),
                "days": pa.array([[10_000_000]], pa.list_(pa.date32())),
                "struct": [{"a": 1}],
                "of_days": pa.StructArray.from_arrays([pa.array([10_000_000], pa.date32())], ["b"]),
            }
        ),
        1,
    )
    for own in (
        ">[1, 1, 1, 1, 1, ...]<",
        ">[[1, 2], [3, 4]]<",
        ">29349-01-26<",  # a date that Python cannot hold
        ">[29349-01-26]<",
        ">{&#x27;a&#x27;: 1}<",
        ">{&#x27;b&#x27;: &#x27;29349-01-26&#x27;}<",
    ):
        assert own in shown
    assert len(shown) < 3000


def test_of_many_columns_the_first_and_the_last_are_shown():
    page = display.html("", pa.table({f"column_{i}": [i] for i in range(100)}), 1)
    assert page.count("</th>") == 21
    assert ">column_9<" in page
    assert ">column_10<" not in page
    assert ">column_90<" in page
    assert "1 row \N{MULTIPLICATION SIGN} 100 columns" in page


def test_without_columns_there_is_no_table_but_a_reason():
    page = display.html("A title", pa.table({}), 0, "Because.")
    assert page == (
        '<div class="bulk-inferencer" style="overflow-wrap: anywhere"><p><b>A title</b></p>'
        "<p>Because.</p>"
        "<p>0 rows \N{MULTIPLICATION SIGN} 0 columns</p></div>"
    )


def test_without_rows_the_columns_are_shown():
    page = display.html("", pa.table({"x": pa.array([], pa.int64())}), 0)
    assert ">x</th>" in page
