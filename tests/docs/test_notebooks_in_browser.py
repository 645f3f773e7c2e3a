"""What notebooks show of our objects, as a browser shows it."""

from __future__ import annotations

from pathlib import Path

import nbconvert
import nbformat
import numpy as np
import pyarrow as pa
import pytest

from bulk_inferencer import predict
from bulk_inferencer._gate import BLESSED, Decision
from bulk_inferencer.results.comparison import (
    Comparison,
    DifferentRecord,
    OutputComparison,
    PairComparison,
    confusion_table,
)
from bulk_inferencer.results.describe import describe
from bulk_inferencer.results.statistics import Statistics
from bulk_inferencer.results.summary import BranchSummary, Counts, Summary
from tests.reports.test_in_browser import _TEXTS, contrast

pytestmark = pytest.mark.slow

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "five_times_table.ipynb"
NASTY = "<script>window.wasRun = true</script>" + "very_long_name" * 40
NOT_OURS = dict.fromkeys(("mathjax_url", "require_js_url", "jquery_url"), "data:text/javascript,")

both_themes = pytest.mark.parametrize("theme", ["light", "dark"])
every_width = pytest.mark.parametrize("width", [360, 1440])


@pytest.fixture
def open_notebook(open_page, tmp_path, monkeypatch):
    """Opens a notebook as JupyterLab shows it, without the scripts that it gets from elsewhere."""

    def open_it(notebook, width, theme):
        # Its templates lie beside it, which need not be where the interpreter is.
        monkeypatch.setenv(
            "JUPYTER_PATH", str(Path(nbconvert.__file__).parents[4] / "share/jupyter")
        )
        exporter = nbconvert.HTMLExporter(theme=theme, **NOT_OURS)
        page = tmp_path / f"{theme}.html"
        page.write_text(exporter.from_notebook_node(notebook)[0], encoding="utf-8")
        return open_page(page, width)

    return open_it


def model(features):
    """Returns an output with a nasty name and nasty values, and a vector."""
    count = len(features["x"])
    return {
        f"y{NASTY}": np.array([NASTY.encode()] * count, object),
        "vector": np.ones((count, 1000)),
    }


@pytest.fixture(scope="module")
def nasty_notebook(tmp_path_factory):
    """Results, a summary, a comparison and statistics, whose names and values are nasty."""
    table = pa.table({"x": [1.0, 2.0], NASTY: [NASTY] * 2})
    results = predict(
        model, table, tmp_path_factory.mktemp("results") / NASTY.replace("/", "")[:200]
    )
    branch = BranchSummary(
        {NASTY: Counts(10, 8, 2)}, Decision(BLESSED, NASTY), NASTY, failures={NASTY: 2}
    )
    different = DifferentRecord(1.0, NASTY, 1, {NASTY: [NASTY]}, {"five": [NASTY], "ten": [1.0]})
    classes = confusion_table(("five", "ten"), {("a", NASTY[:200]): 1})
    output = OutputComparison(1, 1, 1, 1, 1.0, 1.0, classes, (different,), 1)
    statistics = {NASTY: describe(np.arange(99.0)), "b": describe(np.array([NASTY[:200]], object))}
    objects = (
        results,
        Summary({NASTY: branch, "ten": branch}),
        Comparison((PairComparison(("five", "ten"), {NASTY: output}, {NASTY: NASTY}),)),
        Statistics({NASTY: {NASTY: statistics}}, {NASTY: {NASTY: {NASTY: 3}}}),
    )
    cells = [nbformat.v4.new_code_cell("own", outputs=[_output(own)]) for own in objects]
    return nbformat.v4.new_notebook(cells=cells)


def _output(own):
    data = {"text/html": own._repr_html_(), "text/plain": repr(own)}
    return nbformat.v4.new_output("display_data", data=data)


# How far what is in each of the outputs stands out of it, unless it scrolls.
_OVERFLOWS = """[...document.querySelectorAll(".bulk-inferencer")].map(
  own => own.scrollWidth - own.clientWidth)"""


@every_width
@both_themes
def test_names_of_any_kind_stay_text_within_their_outputs(
    open_notebook, nasty_notebook, width, theme
):
    opened = open_notebook(nasty_notebook, width, theme)
    assert (opened.errors, opened.requests, opened.overflow) == ([], [], 0)
    assert opened.page.evaluate(_OVERFLOWS) == [0] * 4
    assert opened.page.evaluate("window.wasRun") is None
    tables = opened.page.locator(".bulk-inferencer table")
    assert [own.is_visible() for own in tables.all()] == [True] * tables.count()
    assert tables.count() >= 9
    assert opened.page.locator(".bulk-inferencer svg rect").count() == 20


@every_width
@both_themes
def test_notebook_is_whole_and_its_texts_have_contrast(open_notebook, width, theme):
    opened = open_notebook(nbformat.read(NOTEBOOK, as_version=4), width, theme)
    assert (opened.errors, opened.requests, opened.overflow) == ([], [], 0)
    assert set(opened.page.evaluate(_OVERFLOWS)) == {0}
    outputs = opened.page.locator(".bulk-inferencer")
    texts = [text for own in outputs.all() for text in own.evaluate(_TEXTS_OF_ONE)]
    assert len(texts) > 100
    assert [text for *colours, text in texts if contrast(*colours) < 4.5] == []


_TEXTS_OF_ONE = _TEXTS.replace("() =>", "(own_root) =>").replace("document.body", "own_root")
