"""Failures by reason, in bounded memory: reasons that differ in details alone become one.

    ValueError: 'ab' is no number       1        ValueError: '…' is no number    902
    ValueError: 'cd' is no number       1   -->  ValueError: output 'y' is lost    1
    ...                               900        ValueError: output 'z' is lost    1
    ValueError: output 'y' is lost      1
    ValueError: output 'z' is lost      1

Details are numbers and quoted texts. A few variants stay apart, since they may be names.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

OTHER_REASONS = "Other reasons"
_MOST_REASONS = 1000
_MOST_VARIANTS = 5
_QUOTED = re.compile(r"(?<!\w)[bru]{0,2}(?:'.*?'|\".*?\")(?!\w)", re.DOTALL)
_NUMBER = re.compile(r"(?<![\w…])[-+]?(?:0x[0-9a-fA-F]+|\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?)(?!\w)")


def merged_reasons(*parts: Mapping[str, int]) -> dict[str, int]:
    """Returns failures by reason, the most frequent first, of several counts of them.

    There are at most 1,000 reasons. If there are more, the least frequent become one, so that the
    counts still add up.
    """
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(part)
    others = counts.pop(OTHER_REASONS, 0)
    ranked = _ranked(_without_details(counts))
    if len(ranked) + bool(others) > _MOST_REASONS:
        others += sum(count for _, count in ranked[_MOST_REASONS - 1 :])
        del ranked[_MOST_REASONS - 1 :]
    return dict(ranked) | ({OTHER_REASONS: others} if others else {})


def most_frequent(reasons: Mapping[str, int], count: int = 20) -> dict[str, int]:
    """Returns the most frequent reasons, and all others as one."""
    ranked = _ranked({own: n for own, n in reasons.items() if own != OTHER_REASONS})
    others = reasons.get(OTHER_REASONS, 0) + sum(n for _, n in ranked[count:])
    return dict(ranked[:count]) | ({OTHER_REASONS: others} if others else {})


def _ranked(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _without_details(counts: Mapping[str, int]) -> dict[str, int]:
    """Returns the counts with one reason for all that differ in details, if those are many.

    Whether they are depends on all of them together, so that counts can be merged in any grouping:
    what has become one reason already is among them, and takes the others in.
    """
    alike: dict[str, list[str]] = {}
    for reason in counts:
        alike.setdefault(general_form(reason), []).append(reason)
    found: dict[str, int] = {}
    for common, reasons in alike.items():
        if len(reasons) > _MOST_VARIANTS or common in reasons:
            found[common] = sum(counts[reason] for reason in reasons)
        else:
            found.update({reason: counts[reason] for reason in reasons})
    return found


def general_form(reason: str) -> str:
    """Returns a reason without its details, which has none left."""
    while (general := _NUMBER.sub("…", _QUOTED.sub("'…'", reason))) != reason:
        reason = general
    return general
