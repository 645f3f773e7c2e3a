"""Pages in a headless Chromium, with what went wrong in them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest


@dataclass
class Opened:
    """A page that is open, what it wrote to the console as an error, and what it asked for.

    `page` is playwright's; `requests` are those over a network, which are refused.
    """

    page: Any
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    @property
    def overflow(self):
        """By how many pixels the page is wider than its window."""
        return self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )

    def drawn_canvases(self):
        """Returns for each canvas, also in shadow roots, how many of its pixels are not clear."""
        return self.page.evaluate(_DRAWN)


_DRAWN = """() => {
  const found = [];
  const visit = (root) => {
    for (const element of root.querySelectorAll("*")) {
      if (element.shadowRoot) visit(element.shadowRoot);
      if (!(element instanceof HTMLCanvasElement) || !element.width || !element.height) continue;
      const pixels = element.getContext("2d").getImageData(0, 0, element.width, element.height);
      found.push(pixels.data.filter((value, i) => i % 4 === 3 && value > 0).length);
    }
  };
  visit(document);
  return found;
}"""


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium. Of a module, since other tests cannot run their own event loops beside."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Opens a file or a URL: `open_page(path, width=360, dark=True)` gives an `Opened`."""
    contexts = []

    def open_it(path_or_url, width=1440, dark=False, height=900):
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
        )
        contexts.append(context)
        opened = Opened(context.new_page())

        def refuse(route):
            opened.requests.append(route.request.url)
            route.abort()

        own = str(path_or_url)
        url = own if "://" in own else Path(own).resolve().as_uri()
        context.route(lambda asked: not asked.startswith(("file:", "data:", "blob:")), refuse)
        opened.page.on("pageerror", lambda error: opened.errors.append(str(error)))
        opened.page.on(
            "console",
            lambda message: message.type == "error" and opened.errors.append(message.text),
        )
        opened.page.goto(url, wait_until="load")
        opened.page.wait_for_function(
            "() => !window.Bokeh || Bokeh.documents.every(own => own.is_idle)"
        )
        return opened

    yield open_it
    for context in contexts:
        context.close()
