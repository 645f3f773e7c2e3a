"""Reports as a browser shows them."""

from __future__ import annotations

import re

import pytest

from bulk_inferencer import reports
from tests.reports.conftest import KINDS, NASTY

pytestmark = pytest.mark.slow
both_themes = pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
KINDS_OF_RUNS = ("single", "branches", "ab_test", "cascade", "closed", "against")


@pytest.fixture(scope="module")
def pages(single, earlier, branches, ab_test, cascade, closed, tmp_path_factory):
    """The files of the reports by kind of run."""
    folder = tmp_path_factory.mktemp("pages")
    own = {"single": single, "branches": branches, "ab_test": ab_test, "cascade": cascade}
    for name, results in {**own, "closed": closed}.items():
        reports.write(results, folder / f"{name}.html")
    reports.write(single, folder / "against.html", earlier)
    return {name: folder / f"{name}.html" for name in KINDS_OF_RUNS}


def draw_all(opened):
    """Draws all plots, as for printing, and waits for them."""
    opened.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    opened.page.wait_for_function(
        "() => [...document.querySelectorAll('.plot')].every(own => 'drawn' in own.dataset)"
        " && (!window.Bokeh || Bokeh.documents.every(own => own.is_idle))"
    )


@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("kind", KINDS_OF_RUNS)
def test_page_is_whole_at_any_width(open_page, pages, kind, width):
    opened = open_page(pages[kind], width)
    draw_all(opened)
    assert (opened.errors, opened.requests, opened.overflow) == ([], [], 0)
    count = opened.page.locator(".plot").count()
    assert (count == 0) == (kind == "closed")
    drawn = opened.drawn_canvases()
    assert len(drawn) >= count
    assert opened.page.evaluate(_PLOTS_WITHOUT_PIXELS) == []


# The plots on whose canvases the first series leaves no pixel of its colour.
_PLOTS_WITHOUT_PIXELS = """() => {
  const style = getComputedStyle(document.documentElement);
  const digits = style.getPropertyValue("--series-1").match(/[0-9a-f]{2}/g);
  const wanted = digits.map(own => parseInt(own, 16));
  const canvases = (root) => [...root.querySelectorAll("*")].flatMap(
    own => [...(own instanceof HTMLCanvasElement ? [own] : []),
            ...(own.shadowRoot ? canvases(own.shadowRoot) : [])]);
  const has = (canvas) => {
    const {width, height} = canvas;
    if (!width || !height) return false;
    const data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
    let count = 0;
    for (let i = 0; i < data.length; i += 4)
      count += data[i + 3] > 200 && wanted.every((own, j) => Math.abs(data[i + j] - own) < 30);
    return count > 20;
  };
  const plots = [...document.querySelectorAll(".plot")];
  return plots.filter(own => !canvases(own).some(has)).map(own => own.id);
}"""


@both_themes
def test_texts_have_contrast(open_page, pages, dark):
    for kind in KINDS_OF_RUNS:
        opened = open_page(pages[kind], 1440, dark)
        draw_all(opened)
        texts = opened.page.evaluate(_TEXTS) + opened.page.evaluate(_LABELS)
        assert len(texts) > 10
        poor = [text for *colours, text in texts if contrast(*colours) < 4.5]
        assert poor == []


@both_themes
def test_series_have_contrast(open_page, pages, dark):
    opened = open_page(pages["single"], 1440, dark)
    found = opened.page.evaluate(
        "[1, 2, 3, 4, 5, 6].map(i => getComputedStyle(document.documentElement)"
        ".getPropertyValue(`--series-${i}`))"
    )
    card = opened.page.evaluate("getComputedStyle(document.querySelector('.card')).backgroundColor")
    assert all(contrast(own, [card]) >= 3 for own in found)


# The colour of each text, and the backgrounds that it stands on, the topmost first.
_TEXTS = """() => {
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walk.nextNode()) {
    const text = walk.currentNode.textContent.trim();
    let own = walk.currentNode.parentElement;
    if (!text || ["SCRIPT", "STYLE"].includes(own.tagName)) continue;
    const colour = getComputedStyle(own).color;
    const behind = [];
    for (; own; own = own.parentElement) {
      const style = getComputedStyle(own);
      const gradients = style.backgroundImage.match(/rgba?\\([^)]*\\)/g) || [];
      behind.push(...gradients, style.backgroundColor);
    }
    found.push([colour, behind, text]);
  }
  return found;
}"""

# The same of the labels of the plots' axes.
_LABELS = """() => {
  const card = getComputedStyle(document.querySelector(".card") || document.body).backgroundColor;
  const models = window.Bokeh ? Bokeh.documents.flatMap(own => [...own._all_models.values()]) : [];
  return models.filter(own => own.type && own.type.endsWith("Axis")).flatMap(own => [
    [own.major_label_text_color.value || own.major_label_text_color, [card], `ticks of ${own.id}`],
    [own.axis_label_text_color.value || own.axis_label_text_color, [card], `label of ${own.id}`],
  ]);
}"""


def rgba(colour):
    """Returns red, green and blue from 0 to 255, and alpha from 0 to 1."""
    if colour.strip().startswith("#"):
        digits = colour.strip()[1:]
        return (*(int(digits[i : i + 2], 16) for i in (0, 2, 4)), 1.0)
    numbers = [float(own) for own in re.findall(r"[\d.]+", colour)]
    if colour.startswith("color(srgb"):
        numbers[:3] = [255 * own for own in numbers[:3]]
    return (*numbers[:3], numbers[3] if len(numbers) > 3 else 1.0)


def over(layers):
    """Returns the colour of layers on each other, the topmost first, on white."""
    seen = (255.0, 255.0, 255.0)
    for *colour, alpha in map(rgba, reversed(layers)):
        seen = tuple(
            alpha * own + (1 - alpha) * below for own, below in zip(colour, seen, strict=True)
        )
    return seen


def luminance(colour):
    """Returns the relative luminance of WCAG 2."""
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (own / 255 for own in colour)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(colour, behind):
    """Returns the contrast of WCAG 2 of a colour on layers of others."""
    a, b = luminance(over([colour, *behind])), luminance(over(behind))
    return (max(a, b) + 0.05) / (min(a, b) + 0.05)


def test_contrast_is_that_of_wcag():
    assert contrast("#777777", ["rgb(255, 255, 255)"]) == pytest.approx(4.478, abs=0.001)
    assert contrast("#000000", ["rgba(0, 0, 0, 0)"]) == 21


def test_plots_change_with_the_theme(open_page, pages):
    opened = open_page(pages["single"], 1440)
    draw_all(opened)
    light = opened.page.evaluate(_LABELS)
    opened.page.emulate_media(color_scheme="dark")
    opened.page.wait_for_function(f"() => ({_LABELS})()[0][0] !== {light[0][0]!r}")
    dark = opened.page.evaluate(_LABELS)
    assert {own[0] for own in light}.isdisjoint({own[0] for own in dark})
    assert opened.page.evaluate(_PLOTS_WITHOUT_PIXELS) == []


_NEXT_FRAMES = "() => new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))"


def test_values_show_under_the_pointer(open_page, pages):
    opened = open_page(pages["single"], 1440)
    draw_all(opened)
    plots = opened.page.locator(".plot")
    shown = []
    for i in range(plots.count()):
        plots.nth(i).scroll_into_view_if_needed()
        box = plots.nth(i).bounding_box()
        for y in range(20, int(box["height"]) - 40, 12):
            opened.page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + y)
            opened.page.evaluate(_NEXT_FRAMES)
            shown += opened.page.locator(".tip").all_inner_texts()
    assert any(KINDS[0] in text for text in shown)
    assert any(re.search(r"\d %", text) for text in shown)
    assert (opened.errors, opened.requests) == ([], [])
    assert opened.page.locator("script").count() == 3


def test_script_in_a_feature_stays_text(open_page, pages):
    opened = open_page(pages["single"])
    assert opened.page.locator("script").count() == 3
    assert opened.page.get_by_text(NASTY, exact=True).count() == 1
    assert opened.page.locator("td", has_text=NASTY).count() >= 2


def test_links_lead_to_their_sections(open_page, pages):
    opened = open_page(pages["branches"])
    links = opened.page.locator("nav a")
    for i in range(links.count()):
        key = links.nth(i).get_attribute("href")
        assert opened.page.locator(key).count() == 1
