"""Values as short texts, and columns that fit into a terminal."""

from __future__ import annotations

import datetime as dt
import io

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bulk_inferencer.cli.cells import Column, columns_of, float_texts, rows_of, text_of
from bulk_inferencer.cli.tables import fitted, print_table

NAN, INF = float("nan"), float("inf")


def printed(columns, width=80, encoding="utf-8"):
    """Returns the lines that a table is printed as, and the columns that are left out."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=width, markup=False, highlight=False, emoji=False)
    left_out = print_table(console, columns)
    file.flush()
    lines = file.buffer.getvalue().decode(encoding).splitlines()
    return [line.rstrip() for line in lines], left_out


# Values


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([5.0, 10.0], ["5.0", "10.0"]),
        ([1.0, 10.5, 1 / 3], ["1.000", "10.500", "0.333"]),
        ([0.1 + 0.2, -100.25], ["0.30", "-100.25"]),
        ([0.0, 0.00502, 0.0904523], ["0.000000", "0.005020", "0.090452"]),
        ([1e-9, 1.0], ["1e-09", "1"]),
        ([123456789.123], ["1.23457e+08"]),
        ([None, NAN, -INF, 2.5], [None, "NaN", "-inf", "2.5"]),
        ([], []),
    ],
)
def test_floats_of_a_column_have_the_digits_that_matter(values, texts):
    assert float_texts(values) == texts


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([0.1, 1 / 3, 2.0, 4.0], "[0.1, 0.3333, 2, 4]"),
        (list(range(1064)), "[0, 1, 2, … 1,061 more]"),
        ([[1.0] * 5, [], ["a"]], '[[1, 1, 1, … 2 more], [], ["a"]]'),
        ([None, NAN], "[null, NaN]"),
        (b"text \xc3\xa4", "text ä"),
        (b"\xff\xd8" * 6000, r"\xff\xd8\xff\xd8\xff\xd8\xff\xd8… (12.0 kB)"),
        (b"\xff", r"\xff (1 byte)"),
        ("two\nlines\tof [red]text", r"two\nlines\tof [red]text"),
        ("\x1b[31mred\x07\x9b", r"\x1b[31mred\x07\x9b"),
        ("left\u202eright", r"left\u202eright"),
        ("a" * 1000, "a" * 200),
        (True, "True"),
    ],
)  # fmt: skip
def test_a_value_is_a_short_text_on_one_line_that_controls_no_terminal(value, text):
    assert text_of(value) == text


def test_times_that_python_cannot_hold_are_shown():
    far = pa.array([2**60], pa.int64()).cast(pa.timestamp("s"))
    days = pa.array([dt.date(2026, 1, 2)])
    (at,) = columns_of(pa.table({"at": days}))
    assert at.texts == ["2026-01-02"]
    (at,) = columns_of(pa.table({"at": far}))
    assert at.texts[0]


def test_rows_for_json_hold_what_json_can():
    table = pa.table(
        {
            "x": pa.array([NAN, 0.1], pa.float32()),
            "raw": pa.array([b"\xff", None]),
            "of": pa.array([{"a": 1}, None]),
        }
    )
    assert rows_of(table) == [
        {"x": "NaN", "raw": "/w==", "of": "{'a': 1}"},
        {"x": 0.1, "raw": None, "of": None},
    ]


# Tables

NAME = Column("name", ["short", "a name that is much longer than that"])
SCORE = Column("score", ["0.5", "-10.25"], is_number=True)


def test_numbers_are_never_cut_and_texts_end_in_dots():
    lines, left_out = printed([NAME, SCORE], 24)
    assert lines == [
        "name               score",
        "short                0.5",
        "a name that is…   -10.25",
    ]
    assert left_out == []
    assert printed([NAME, SCORE])[0][2] == "a name that is much longer than that  -10.25"


def test_paths_are_cut_at_their_start_and_dates_not_at_all():
    path = Column("where", ["/a/long/way/to/results"], keeps_end=True)
    when = Column("when", ["2026-01-02 03:04"], is_whole=True)
    assert printed([when, path], 28)[0][1] == "2026-01-02 03:04  …o/results"


def test_columns_in_the_middle_are_left_out_where_there_is_no_room():
    columns = [Column(f"column{i}", [f"value {i}"]) for i in range(9)]
    lines, left_out = printed(columns, 30)
    assert lines == ["column0  column7  column8", "value 0  value 7  value 8"]
    assert left_out == [f"column{i}" for i in range(1, 7)]


def test_column_that_tells_least_goes_first():
    columns = [Column(name, ["value"], goes_first=name == "c") for name in "abc"]
    assert printed(columns, 14) == (["a      b", "value  value"], ["c"])


def test_letters_that_the_terminal_lacks_are_written_otherwise():
    columns = [Column("long", ["a long text"]), Column("v", ["[1, … 2 more]"])]
    assert printed(columns, 28, "ascii")[0][1] == "a long text  [1, ... 2 more]"
    assert printed(columns, 25, "ascii")[0][1] == "a long text  [1, ... 2..."


def test_wide_letters_take_their_room_and_nulls_are_shown():
    lines, _ = printed([Column("a", ["日本語です", None]), SCORE], 16)
    assert lines[1:] == ["日本語…      0.5", "null      -10.25"]


@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.integers(0, 60), st.booleans()), min_size=1, max_size=9
    ),
    st.integers(20, 120),
)
def test_columns_fill_the_width_as_far_as_they_need_it(shapes, width):
    columns = [Column("n" * name, ["t" * text], number) for name, text, number in shapes]
    shown, widths = fitted(columns, width)
    used = sum(widths) + 2 * (len(widths) - 1)
    assert used <= width
    wanted = [max(len(own.name), len(own.texts[0]), 1) for own in shown]
    assert all(own <= most for own, most in zip(widths, wanted, strict=True))
    if widths != wanted:
        assert used == width or len(shown) < len(columns)
