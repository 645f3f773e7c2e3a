"""Files of the repository that pages link to: on the site, they are pages too."""

from __future__ import annotations

import itertools
import json
import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Pages that lie outside docs/, and where the site has them.
OUTSIDE = {
    "README.md": "overview.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
_ELSEWHERE = {"proto/bulk_inferencer/bulk_inferencer.proto": "reference/bulk_inferencer_pb2.md"}
_FILES = "files"
_LANGUAGES = {".ipynb": "json", ".proto": "protobuf", ".py": "python", ".sh": "sh", "": "text"}
# A search is for pages, not for code, and for notebooks only where no page says the same.
_NOT_FOUND = "---\nsearch:\n  exclude: true\n---\n\n"
_FOUND_LATE = "---\nsearch:\n  boost: 0.3\n---\n\n"
_FENCED = re.compile(r"^(`{3,}).*?^\1$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)(#[^)\s]*)?(?=\))")


def page_of(path: str) -> str:
    """Returns where the site has a file of the repository, which its path from the root names."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return {**OUTSIDE, **_ELSEWHERE}.get(path) or f"{_FILES}/{path}.md"


def source_of(page: str) -> str:
    """Returns the file of the repository that a page shows."""
    if page.startswith(f"{_FILES}/"):
        return page.removeprefix(f"{_FILES}/").removesuffix(".md")
    return {there: here for here, there in OUTSIDE.items()}.get(page, f"docs/{page}")


def shown_files(pages: dict[str, str]) -> dict[str, str]:
    """Returns a page for each file that pages link to, or that these link to in turn."""
    shown: dict[str, str] = {}
    while pages:
        paths = {path for source, page in pages.items() for path in linked(page, source)}
        pages = {path: page_about(path) for path in sorted(paths - shown.keys())}
        shown |= pages
    return shown


def linked(markdown: str, source: str) -> set[str]:
    """Returns the files outside docs/ that a page links to and that are no pages by themselves."""
    found = {_target(link[1], source) for link in _LINK.finditer(_FENCED.sub("", markdown))}
    return {path for path in found if page_of(path).startswith(f"{_FILES}/")}


def with_links(markdown: str, source: str) -> str:
    """Returns a page whose links lead to the pages of the site, from where the site has it."""
    here = posixpath.dirname(page_of(source))

    def replace(link: re.Match[str]) -> str:
        target = posixpath.relpath(page_of(_target(link[1], source)), here or ".")
        return target + (link[2] or "")

    pieces, end = [], 0
    for code in _FENCED.finditer(markdown):  # what looks like a link in a snippet is none
        pieces += [_LINK.sub(replace, markdown[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*pieces, _LINK.sub(replace, markdown[end:])])


def page_about(path: str) -> str:
    """Returns a page with the content of a file, or with the names in a folder."""
    file = ROOT / path
    if file.is_dir():
        names = sorted(entry.name for entry in file.iterdir() if entry.name[0] not in "._")
        return "\n".join([f"# {path}", "", *(f"- `{name}`" for name in names)])
    content = file.read_text(encoding="utf-8")
    if file.suffix == ".ipynb":
        return _FOUND_LATE + _notebook(json.loads(content))
    return f"{_NOT_FOUND}# {path}\n\n{_code(content, _LANGUAGES.get(file.suffix, 'text'))}"


def messages(proto: str) -> dict[str, str]:
    """Returns each message and enumeration of a .proto file, with the comment above it."""
    definition = re.compile(r"^(?://[^\n]*\n)*(?:message|enum) (\w+) \{\n.*?^\}", re.S | re.M)
    return {found[1]: _code(found[0], "protobuf") for found in definition.finditer(proto)}


def _target(link: str, source: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), link))


def _code(content: str, language: str) -> str:
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", content)), default=0))
    return f"{fence}{language}\n{content.rstrip()}\n{fence}"


def _notebook(notebook: dict) -> str:
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else _code(source, "python"))
        for is_printed, outputs in itertools.groupby(cell.get("outputs", []), key=_is_printed):
            if is_printed:  # also where it came in pieces
                parts.append(_code("".join("".join(o["text"]) for o in outputs), "text"))
            else:
                parts += [_output(output["data"]) for output in outputs]
    return "\n\n".join(parts)


def _is_printed(output: dict) -> bool:
    return output["output_type"] == "stream"


def _output(content: dict) -> str:
    data = {kind: "".join(lines) for kind, lines in content.items()}
    html = re.sub(r"<style.*?</style>", "", data.get("text/html", ""), flags=re.DOTALL)
    if "<iframe" in html:  # a file that the run writes, and the site does not have
        return ""
    if html:  # on one line, or Markdown would take an empty one for its end
        return f'<div class="output">{" ".join(html.split())}</div>'
    if "image/png" in data:
        return f"![Output of the cell above.](data:image/png;base64,{data['image/png'].strip()})"
    return _code(data.get("text/plain", ""), "text")
