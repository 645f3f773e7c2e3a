"""What a program says on stderr."""

from __future__ import annotations

import re

_IMPORTING = re.compile(r"WARNING: All log messages before absl::|[IWE]\d{4} \d\d:\d\d:")


def lines_of(text: str) -> list[str]:
    """Returns the lines, but for those that TensorFlow 2.21 writes when it is imported."""
    return [line for line in text.splitlines() if not _IMPORTING.match(line)]
