"""Names in pages and docstrings that link to their place in the reference."""

from __future__ import annotations

import re
from collections.abc import Callable

from exports import PACKAGE, groups, other_names

_PIECE = re.compile(r"<(pre|a|h[1-6])\b.*?</\1>|<code>([\w.]+)</code>", re.DOTALL)


def places(errors: list[str], messages: list[str]) -> dict[str, str]:
    """Returns where each name is explained, by the forms in which people write it.

    A name of the topmost package may stand alone. `RunInference` alone may be Beam's own.
    """
    found = {name: f"bulk_inferencer_pb2.html#{name.lower()}" for name in messages}
    found |= {name: f"errors.html#{PACKAGE}.errors.{name}" for name in errors}
    for exports in groups().values():
        for first in exports:
            url = first.page.removesuffix(".md") + ".html"
            for export in (first, *other_names().get(first, ())):
                found |= {export.path: url, export.title: url}
    return found


def with_places(html: str, url_of: Callable[[str], str | None]) -> str:
    """Returns a page in which names in the text are links; not in headings, links and snippets."""

    def replace(piece: re.Match[str]) -> str:
        url = url_of(piece[2]) if piece[2] else None
        return f'<a href="{url}">{piece[0]}</a>' if url else piece[0]

    return _PIECE.sub(replace, html)
