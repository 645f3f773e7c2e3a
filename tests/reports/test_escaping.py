"""Nothing that comes from data becomes a part of the page."""

from __future__ import annotations

import pytest

from bulk_inferencer import reports
from bulk_inferencer.reports import drawing
from tests.reports.conftest import KINDS, LONG, NASTY
from tests.reports.reading import parsed, plots

OURS = {
    *("html", "head", "meta", "title", "style", "body", "div", "header", "h1", "p", "span"),
    *("dl", "dt", "dd", "nav", "ul", "li", "a", "main", "section", "h2", "h3", "table", "thead"),
    *("tbody", "tfoot", "tr", "th", "td", "figure", "figcaption", "i", "footer", "script"),
}


@pytest.mark.parametrize("kind", ["single", "branches", "ab_test", "cascade"])
def test_names_and_values_stay_text(kind, request):
    check(reports.page(request.getfixturevalue(kind)))


def test_names_and_values_of_an_earlier_run_stay_text(single, earlier):
    check(reports.page(single, earlier))


def check(page):
    assert page.count("</script") == 3
    html = parsed(page.replace(drawing.script(), "", 1))
    assert set(html.tags) <= OURS
    assert len(html.scripts) == 3
    for text in (NASTY, KINDS[0], f"<b>&{LONG}", f"<i>&{LONG}"):
        assert text in html.text


def test_plots_hold_the_classes_as_they_are(single):
    html = parsed(reports.page(single).replace(drawing.script(), "", 1))
    assert not {"<", ">", "&", "\u2028"} & set(html.scripts[0])
    found = str(plots(html))
    assert all(kind[:100] in found or repr(str(kind))[1:-1] in found for kind in KINDS[:3])
