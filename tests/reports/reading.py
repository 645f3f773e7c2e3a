"""Reads what a page says, from its parts and from its HTML."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser


def section(page, key):
    """Returns a section of a page by its key."""
    (own,) = [section for section in page.sections if section.key == key]
    return own


def keys(page):
    return [section.key for section in page.sections]


def parts(owner, kind):
    """Returns the parts of a kind within a section or a group, at any depth."""
    found = []
    for part in owner.parts:
        found += [part] if part.kind == kind else []
        found += parts(part, kind) if part.kind == "group" else []
    return found


def texts(table):
    """Returns the texts of the rows of a table."""
    return [[cell.text for cell in row] for row in table.rows]


@dataclass
class Html(HTMLParser):
    """The elements of a page, its scripts, and its texts."""

    tags: dict[str, int] = field(default_factory=dict)
    scripts: list[str] = field(default_factory=list)
    text: str = ""

    def __post_init__(self):
        super().__init__()
        self._open = ""

    def handle_starttag(self, tag, attributes):
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self._open = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._open = ""

    def handle_data(self, data):
        if self._open == "script":
            self.scripts[-1] += data
        else:
            self.text += data


def parsed(text):
    """Returns what a browser finds in HTML."""
    found = Html()
    found.feed(text)
    return found


def plots(html):
    """Returns the plots of a parsed page."""
    return json.loads(html.scripts[0])
