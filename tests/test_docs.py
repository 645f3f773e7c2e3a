"""The snippets of the pages in docs/ run, in order, and print what the pages say."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
PAGES = ("beam.md", "component.md", "preprocessing.md", "several_models.md")
# By a piece of the snippet, and why it is only compiled.
NOT_RUN = {
    "BulkInferencer(": "it needs a TFX pipeline; test_component_hooks.py and its kin run one",
    "BranchInferencer(": "it needs a TFX pipeline; test_several_models.py runs one",
    "CascadeInferencer(": "it needs a TFX pipeline; test_several_models.py runs one",
}


def snippets(page):
    """Yields each Python snippet of a page with the text block after it, or with nothing."""
    text = (DOCS / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert {language for language, _ in blocks} <= {"python", "text"}
    for (language, content), (next_language, next_content) in zip(
        blocks, [*blocks[1:], ("", "")], strict=True
    ):
        if language == "python":
            yield content, next_content if next_language == "text" else ""


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_snippets_print_what_the_page_says(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    names = {"__name__": "__main__"}
    for code, expected in snippets(page):
        compiled = compile(code, page, "exec")
        if any(piece in code for piece in NOT_RUN):
            continue
        if file := re.match(r"# (\w+)\.py\n", code):  # what a module holds is imported from there
            (tmp_path / f"{file[1]}.py").write_text(code)
            monkeypatch.delitem(sys.modules, file[1], raising=False)
            continue
        exec(compiled, names)
        # Sorted, since Beam promises no order.
        printed = capsys.readouterr().out
        assert sorted(printed.splitlines()) == sorted(expected.splitlines()), code


def test_snippets_that_are_not_run_are_in_the_pages():
    codes = [code for page in PAGES for code, _ in snippets(page)]
    for piece in NOT_RUN:
        assert [code for code in codes if piece in code], piece


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md")))
def test_linked_files_exist(page):
    links = re.findall(r"\]\(([^)#:]+)[^)]*\)", (DOCS / page).read_text(encoding="utf-8"))
    assert links
    for link in links:
        assert (DOCS / link).exists(), link
