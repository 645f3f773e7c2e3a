"""What mkdocs.yml cannot say: the reference, the repository's files, and links to them."""

from __future__ import annotations

import functools
import re

from exports import (
    PACKAGE,
    WHOLE_MODULES,
    Export,
    ExportError,
    classes,
    constructors,
    first_line,
    groups,
    other_names,
)
from mentions import places, with_places
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url
from repository import OUTSIDE, ROOT, messages, page_of, shown_files, source_of, with_links

_REFERENCE = "reference"
_PROTO = "proto/bulk_inferencer/bulk_inferencer.proto"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Puts a page for each exported name where the navigation says `reference/`."""
    for entry in config.nav:
        for title, value in entry.items():
            if value == f"{_REFERENCE}/":
                try:
                    entry[title] = _navigation()
                except ExportError as error:
                    raise PluginError(str(error)) from error
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that do not lie in docs/."""
    sources = {path: (ROOT / path).read_text(encoding="utf-8") for path in OUTSIDE}
    pages = {f"docs/{f.src_uri}": f.content_string for f in files.documentation_pages()} | sources
    for path, content in sources.items():
        files.append(File.generated(config, page_of(path), content=content))
    for path, content in shown_files(pages).items():
        files.append(File.generated(config, page_of(path), content=content))
    for uri, content in _reference().items():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Makes links to files of the repository lead to their pages."""
    uri = page.file.src_uri
    return markdown if uri.startswith(f"{_REFERENCE}/") else with_links(markdown, source_of(uri))


def on_page_content(html: str, page: Page, **_: object) -> str:
    """Makes names link to the reference."""
    known = _places()

    def url_of(name: str) -> str | None:
        place = known.get(name) or known.get(name.partition(".")[0])  # DataSpec.compression
        url = f"{_REFERENCE}/{place}"
        return get_relative_url(url, page.url) if place and url != page.url else None

    return html if page.file.src_uri.startswith("files/") else with_places(html, url_of)


def on_post_page(output: str, **_: object) -> str:
    """Removes tooltips that name private modules."""
    return re.sub(r' title="[\w.]*\._[\w.]*"', "", output)


@functools.cache
def _messages() -> dict[str, str]:
    return messages((ROOT / _PROTO).read_text(encoding="utf-8"))


@functools.cache
def _places() -> dict[str, str]:
    return places(classes(f"{PACKAGE}.errors"), list(_messages()))


def _navigation() -> list:
    whole = [{title: f"{_REFERENCE}/{name}.md"} for name, title in WHOLE_MODULES.items()]
    return [
        f"{_REFERENCE}/index.md",
        *(
            {group: [{e.title: f"{_REFERENCE}/{e.page}"} for e in exports]}
            for group, exports in groups().items()
        ),
        *whole,
    ]


def _reference() -> dict[str, str]:
    """Returns the pages of the reference by their paths."""
    pages = {f"{_REFERENCE}/index.md": _index()}
    for exports in groups().values():
        for export in exports:
            pages[f"{_REFERENCE}/{export.page}"] = _page(export)
    for name, title in WHOLE_MODULES.items():
        path = f"{PACKAGE}.{name}"
        if name == "bulk_inferencer_pb2":
            parts = [f"## {message}\n\n{code}" for message, code in _messages().items()]
            body = "\n\n".join([f"# {path}", _MESSAGES, *parts])
        else:
            body = f'::: {path}\n    options: {{filters: ["!^_", "!^prefix_errors$"]}}\n'
        pages[f"{_REFERENCE}/{name}.md"] = f"---\ntitle: {title}\n---\n\n{body}"
    return pages


def _page(export: Export) -> str:
    others = [f"`{other.path}`" for other in other_names().get(export, ())]
    page = f"---\ntitle: {export.title}\n---\n\n::: {export.path}\n"
    if export.is_settings:
        members = constructors(export.module, export.name) or "false"
        page += f"    options: {{members: {members}}}\n"
    return f"{page}\nThe same as {', '.join(others)}.\n" if others else page


_MESSAGES = "The settings of the TFX components, as protocol buffers."


def _index() -> str:
    lines = ["# Reference", "", f"What can be imported from `{PACKAGE}`, and what it is for.", ""]
    others: dict[str, list[str]] = {}
    for first, further in other_names().items():
        for other in further:
            others.setdefault(other.package, []).append(f"[`{other.name}`]({first.page})")
    for group, exports in groups().items():
        lines += [f"## {group}", "", *(f"- [`{e.title}`]({e.page}): {e.says}" for e in exports), ""]
    lines += ["## More than one path", ""]
    for package, links in others.items():
        lines += [f"`{package}` also has {', '.join(links)}.", ""]
    lines += ["## Modules", ""]
    for name in WHOLE_MODULES:
        says = _MESSAGES if name.endswith("_pb2") else first_line(f"{PACKAGE}.{name}")
        lines.append(f"- [`{name}`]({name}.md): {says}")
    return "\n".join(lines)
