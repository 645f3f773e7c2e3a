"""File patterns, as Beam writes them, and what matches them on a disk.

`*` and `?` stand for characters of one name, `[...]` for one of several, `**` for anything at all,
`/` included.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Sequence

_TOKEN = re.compile(r"(\*\*|\*|\?|\[!?[^/][^]/]*\])")
_OF_A_SET = re.compile(r"([\\\[^&~|])")  # what has a meaning of its own within [...]
_WILDCARD = re.compile(r"[*?[]")
_SCHEME = re.compile(r"\s*([a-zA-Z][-a-zA-Z0-9+.]*)://")


def scheme_of(path: str) -> str:
    """Returns the scheme of a path as Beam reads it, such as `gs`; empty for a path on a disk."""
    found = _SCHEME.match(path)
    return found[1] if found else ""


def has_wildcard(text: str) -> bool:
    """Returns whether a pattern, or a part of one, may match something else than itself."""
    return bool(_WILDCARD.search(text))


def fixed_folder(pattern: str) -> str:
    """Returns what a pattern begins with: the folders before its first wildcard, up to a `/`."""
    before = _WILDCARD.split(pattern, maxsplit=1)[0]
    return before[: before.rfind("/") + 1]


@functools.lru_cache(maxsize=1024)
def compiled(pattern: str) -> re.Pattern[str]:
    """Returns a regular expression that matches, with `fullmatch`, what a pattern matches."""
    return re.compile("".join(map(_translated, _TOKEN.split(pattern))), re.DOTALL)


def _translated(token: str) -> str:
    if token == "**":
        return ".*"
    if token in ("*", "?"):
        return "[^/]" + token.replace("?", "")
    if not _TOKEN.fullmatch(token):
        return re.escape(token)
    is_negated = token[1] == "!" and len(token) > 3
    members = _OF_A_SET.sub(r"\\\1", token[2:-1] if is_negated else token[1:-1])
    one_of = f"[^/{members}]" if is_negated else f"[{members}]"
    try:
        re.compile(one_of)
    except re.error:  # such as [z-a], which is no set: it stands for itself
        return re.escape(token)
    return one_of


def files_on_disk(pattern: str, follow_links: bool = True) -> Iterator[str]:
    """Yields the paths that match and are no folders, in any order.

    Unlike Beam's own listing of a disk, it looks only where something can match, follows links to
    folders, and keeps links that lead nowhere and names with a backslash.

    Raises:
      OSError: a folder cannot be read, so that nobody knows what is in it.
    """
    folder = fixed_folder(pattern)
    segments = [segment for segment in pattern[len(folder) :].split("/") if segment]
    if segments:
        yield from _matches(folder, segments, follow_links)


def _matches(folder: str, segments: Sequence[str], follow_links: bool) -> Iterator[str]:
    segment, *rest = segments
    is_match = compiled("/".join(segments) if "**" in segment else segment).fullmatch
    if "**" in segment:
        for path in _below(folder, follow_links, (os.path.realpath(folder or "."),)):
            if is_match(path[len(folder) :]):
                yield path
        return
    if has_wildcard(segment):
        names = [entry.name for entry in _entries(folder) if is_match(entry.name)]
    else:
        names = [segment]
    for path in (folder + name for name in names):
        if rest:
            yield from _matches(path + "/", rest, follow_links)
        elif os.path.lexists(path) and not os.path.isdir(path):
            yield path


def _below(folder: str, follow_links: bool, within: tuple[str, ...]) -> Iterator[str]:
    """Yields all files below a folder; `within` has the real paths of the folders around them."""
    for entry in _entries(folder):
        path = folder + entry.name
        if not entry.is_dir():
            yield path
        elif follow_links or not entry.is_symlink():
            real = os.path.realpath(path) if entry.is_symlink() else f"{within[-1]}/{entry.name}"
            if real not in within:  # A link to a folder around it would go round in circles.
                yield from _below(path + "/", follow_links, (*within, real))


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder or ".") as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):  # It may have just been deleted.
        return []
