"""The documentation site: what its strict build cannot see by itself.

`make docs` makes the environment that builds it.
"""

from __future__ import annotations

import functools
import html
import http.server
import importlib
import json
import posixpath
import re
import shutil
import subprocess
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.browser import browser

__all__ = ["browser"]

ROOT = Path(__file__).parents[2]
MKDOCS = ROOT / ".cache/docs/bin/mkdocs"
PACKAGES = ("bulk_inferencer", "bulk_inferencer.beam", "bulk_inferencer.results")


def build(root, folder):
    if not MKDOCS.exists():
        pytest.skip("the environment that builds the site is not there: make docs")
    command = [MKDOCS, "build", "--site-dir", folder]
    env = {"PATH": "/usr/bin:/bin", "NO_MKDOCS_2_WARNING": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    """The pages by path, parsed; without those that show a file of the repository."""
    found = {path.relative_to(site).as_posix(): Parsed(path) for path in site.rglob("*.html")}
    assert len(found) > 80
    return found


class Parsed(HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.text = path.read_text(encoding="utf-8")
        self.ids, self.links, self.loads = set(), [], []
        self.feed(self.text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids.add(found.get("id"))
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag in ("link", "script", "img", "iframe"):
            self.loads += [found[key] for key in ("href", "src") if key in found]


@pytest.mark.slow
def test_every_exported_name_is_in_the_reference(pages):
    reference = {path: page for path, page in pages.items() if path.startswith("reference/")}
    headings = {anchor for page in reference.values() for anchor in page.ids}
    texts = " ".join(page.text for page in reference.values())
    for package in PACKAGES:
        for name in importlib.import_module(package).__all__:
            path = f"{package}.{name}"
            is_module = f"{path.rpartition('.')[2]}.html" in {Path(p).name for p in reference}
            is_same = re.search(rf"The same as (<code>[\w.]+</code>, )*<code>{path}</code>", texts)
            assert path in headings or is_same or is_module, path


@pytest.mark.slow
def test_private_modules_are_hidden(pages, site):
    for path, page in pages.items():
        if not path.startswith("files/"):
            assert "bulk_inferencer._" not in page.text, path
    assert "bulk_inferencer._" not in (site / "search/search_index.json").read_text()


@pytest.mark.slow
def test_signatures_show_what_private_names_stand_for(pages):
    signature = html.unescape(re.sub(r"<[^>]*>", "", pages["reference/predict.html"].text))
    for piece in ("output: str | PathLike[str],", 'compression: str = "GZIP",'):
        assert piece in signature, piece


@pytest.mark.slow
def test_names_in_the_text_link_to_the_reference(pages):
    linked = {
        "component.html": ("bulk_inferencer_pb2.html#dataspec", "DataSpec.compression"),
        "overview.html": ("read_predictions.html", "read_predictions"),
        "tables.html": ("results/read.html", "results.read"),
    }
    for path, (url, name) in linked.items():
        assert f'<a href="reference/{url}"><code>{name}</code></a>' in pages[path].text
    assert "<code>RunInference</code></a>" not in pages["beam.html"].text  # it may be Beam's


@pytest.mark.slow
def test_links_of_the_site_lead_to_what_is_there(pages, site):
    for path, page in pages.items():
        if path == "404.html":  # for a server that has the site at its root
            continue
        for link in page.links + page.loads:
            if "://" in link or link.startswith("data:"):
                continue
            file, _, anchor = link.partition("#")
            target = posixpath.normpath(posixpath.join(posixpath.dirname(path), file or path))
            target = target if file else path
            assert (site / target).exists(), (path, link)
            assert not anchor or anchor in pages[target].ids or anchor == "__codelineno", (
                path,
                link,
            )


@pytest.mark.slow
def test_pages_load_nothing_from_elsewhere(pages):
    for path, page in pages.items():
        assert not [url for url in page.loads if "://" in url], path


FAULTS = [
    ("docs/tables.md", "[x](nowhere.md)", "a link 'nowhere.md', but the target is not found"),
    ("docs/tables.md", "[x](models.md#nowhere)", "does not contain an anchor '#nowhere'"),
    ("docs/new.md", "# New", 'not included in the "nav" configuration:\n  - new.md'),
    (
        "bulk_inferencer/errors.py",
        'class New(Exception):\n    """Is new.\n\n    Args:\n      x: is no argument.\n    """',
        "Parameter 'x' does not appear in the function signature",
    ),
]


@pytest.fixture
def copied(tmp_path):
    """A copy of what the site is built from, to damage."""
    for name in ("bulk_inferencer", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for path in ROOT.iterdir():
        if not (tmp_path / path.name).exists() and path.name[0] != "." and path.name != "build":
            (tmp_path / path.name).symlink_to(path)
    return tmp_path


@pytest.mark.slow
def test_dead_links_pages_that_are_left_out_and_faults_in_docstrings_end_the_build(copied):
    for path, text, _ in FAULTS:
        with (copied / path).open("a") as file:
            file.write(f"\n\n{text}\n")
    done = build(copied, copied / "site")
    assert [said for _, _, said in FAULTS if said not in done.stderr] == []
    assert done.returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "said"),
    [
        (
            "bulk_inferencer._checks",
            "new of bulk_inferencer._checks is in no group: add '_checks' to GROUPS.",
        ),
        (
            "bulk_inferencer._gate",
            "bulk_inferencer._gate defines no class or function 'new', but it is exported.",
        ),
        ("bulk_inferencer._new", "bulk_inferencer._new is exported from, but it is not there."),
        (
            "bulk_inferencer.new",
            "bulk_inferencer.new is a module: name its page in WHOLE_MODULES.",
        ),
    ],
)
def test_exported_name_without_a_place_ends_the_build(copied, module, said):
    (copied / "bulk_inferencer/_checks.py").write_text("def new(): ...\n")
    with (copied / "bulk_inferencer/__init__.py").open("a") as file:
        file.write(f'\n_MODULE_OF_NAME = {{"new": "{module}"}}\n')
    done = build(copied, copied / "site")
    assert done.returncode == 1
    assert done.stderr.endswith(f"{said}\n")
    assert "Traceback" not in done.stderr


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address(site):
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def opened(browser, address):
    """Opens a page of the site: `opened("index.html", width=360, dark=True)`; nothing may fail."""
    contexts, wrong = [], []

    def open_it(path, width=1440, dark=False):
        scheme = "dark" if dark else "light"
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: said.type == "error" and wrong.append(said.text))
        page.on("request", lambda r: r.url.startswith(f"{address}/") or wrong.append(r.url))
        page.on("response", lambda r: r.status < 400 or wrong.append((r.status, r.url)))
        page.goto(f"{address}/{path}", wait_until="load")
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1440])
def test_search_finds_a_component(opened, width):
    page = opened("index.html", width)
    page.keyboard.press("f")
    page.keyboard.type("BranchInferencer")
    first = page.locator(".md-search-result__link").first
    assert first.inner_text().split("\n")[0].strip() == "BranchInferencer"
    first.click()
    page.wait_for_url("**/reference/BranchInferencer.html*")


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(
    "path", ["index.html", "component.html", "reference/predict.html", "reference/errors.html"]
)
def test_page_fits_into_the_window_of_a_phone_in_the_theme_of_the_reader(opened, path, dark):
    page = opened(path, width=360, dark=dark)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.get_attribute("body", "data-md-color-scheme") == ("slate" if dark else "default")


@pytest.mark.slow
def test_reader_changes_the_theme(opened):
    page = opened("index.html")
    page.locator("label[title=Dark]").click()
    assert page.get_attribute("body", "data-md-color-scheme") == "slate"


@pytest.fixture
def repository(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs/site"))
    yield importlib.import_module("repository")
    sys.modules.pop("repository")


def test_links_lead_from_where_the_site_has_a_page(repository):
    markdown = "[a](docs/tables.md#one-call) [b](#here) [c](https://d.e) [f](tests/x.py)"
    assert repository.with_links(markdown, "README.md") == (
        "[a](tables.md#one-call) [b](#here) [c](https://d.e) [f](files/tests/x.py.md)"
    )
    assert repository.with_links("[a](../README.md)", "docs/x.md") == "[a](overview.md)"


def test_what_looks_like_a_link_in_a_snippet_stays(repository):
    page = "```python\nf[0](x.py)\n```\n[a](../x.py)"
    assert repository.with_links(page, "docs/a.md") == (
        "```python\nf[0](x.py)\n```\n[a](files/x.py.md)"
    )
    assert repository.linked(page, "docs/a.md") == {"x.py"}


def test_notebook_is_a_page_with_its_outputs(repository, monkeypatch, tmp_path):
    printed = [{"output_type": "stream", "text": [line]} for line in ("one\n", "two\n")]
    table = {"text/html": ["<style>\n x\n</style>\n", "<table>\n\n</table>"], "text/plain": "t"}
    shown = [
        {"output_type": "execute_result", "data": data} for data in (table, {"text/plain": "5"})
    ]
    cells = [
        {"cell_type": "markdown", "source": ["# Five\n", "times"]},
        {"cell_type": "code", "source": "f(5)", "outputs": printed + shown},
    ]
    (tmp_path / "n.ipynb").write_text(json.dumps({"cells": cells}))
    monkeypatch.setattr(repository, "ROOT", tmp_path)
    assert repository.page_about("n.ipynb").partition("---\n\n")[2] == (
        "# Five\ntimes\n\n```python\nf(5)\n```\n\n```text\none\ntwo\n```\n\n"
        '<div class="output"><table> </table></div>\n\n```text\n5\n```'
    )


def test_snippet_with_a_fence_in_it_stays_whole(repository, monkeypatch, tmp_path):
    (tmp_path / "f.py").write_text("'```'\n")
    monkeypatch.setattr(repository, "ROOT", tmp_path)
    assert repository.page_about("f.py").endswith("````python\n'```'\n````")
