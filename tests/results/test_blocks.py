from __future__ import annotations

import math

from bulk_inferencer.results.blocks import Bars, Value, as_html, as_text, grid, shortened

BARS = Bars((0.0, 1.0, 8.0), "from <0> to 2")
MIXED = grid(
    ("<name>", "count", "mean", "empty", "share", "bars"),
    [("<b>", 1234, 2.0, None, Value("12.5 %"), BARS), ("longer", 5, 1 / 3, None, None, None)],
)


def test_numbers_stand_at_the_right_and_words_at_the_left():
    assert as_text("A title", ["A line.", MIXED]) == (
        "A title\n\nA line.\n\n"
        "<name>  count      mean   share  bars\n"
        "<b>     1,234         2  12.5 %   ▁█\n"
        "longer      5  0.333333"
    )


def test_text_is_escaped_wherever_it_stands():
    page = as_html("<i>", ["<p>", MIXED])
    assert page.startswith(
        '<div class="bulk-inferencer" style="overflow-wrap: anywhere"><p><b>&lt;i&gt;</b></p>'
    )
    for own in ("<p>&lt;p&gt;</p>", "&lt;name&gt;</th>", "&lt;b&gt;</td>", ">from &lt;0&gt; to 2<"):
        assert own in page
    assert 'aria-label="from &lt;0&gt; to 2"' in page


def test_html_has_no_colours_of_its_own():
    page = as_html("A title", [MIXED])
    assert "background" not in page
    assert page.lower().count("color") == page.count('fill="currentColor"') == 1


def test_bars_are_as_high_as_their_share_of_the_highest_but_at_least_one_pixel():
    page = as_html("", [grid(["bars"], [[Bars((0, 1, 1000, 500), "")]])])
    assert page.count("<rect") == 3
    assert [f'height="{tall}"' in page for tall in (1, 22, 11)] == [True] * 3
    assert as_text("", [grid(["bars"], [[Bars((), "")], [Bars((0.0,), "")]])]) == "\n\nbars\n\n"


def test_size_of_what_is_shown_is_bounded():
    rows = [("x" * 10_000, Value("1" * 10_000))] * 10_000
    many = grid(("y" * 10_000, "z"), rows)
    assert len(as_html("t" * 10_000, ["u" * 10_000, many])) < 20_000
    assert as_text("", [many]).endswith("\nand 9,980 more")
    assert "<p>and 9,980 more</p>" in as_html("", [many])


def test_long_text_keeps_both_ends_and_is_one_line():
    assert shortened("a\n  b", 10) == "a b"
    assert shortened("0123456789", 10) == "0123456789"
    assert shortened("0123456789abc", 10) == "0123…89abc"
    assert len(shortened("a" * 1000, 10)) == 10


def test_numbers_that_are_not_finite_have_names():
    values = [[math.nan], [-math.inf], [1e300], [True]]
    assert as_text("", [grid(["x"], values)]).split() == ["x", "nan", "-inf", "1e+300", "1"]
