"""Pages that show what a run did, for people: one self-contained HTML file for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bulk_inferencer import _lazy

if TYPE_CHECKING:
    from bulk_inferencer.reports.report import page as page
    from bulk_inferencer.reports.report import write as write

_MODULE_OF_NAME = {
    "page": "bulk_inferencer.reports.report",
    "write": "bulk_inferencer.reports.report",
}

__all__ = sorted(_MODULE_OF_NAME)

if not TYPE_CHECKING:
    __getattr__, __dir__ = _lazy.attach(__name__, _MODULE_OF_NAME)
