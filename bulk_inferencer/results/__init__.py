"""Reads what runs leave behind: summaries, comparisons and predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bulk_inferencer import _lazy

if TYPE_CHECKING:
    from bulk_inferencer.results.comparison import Comparison as Comparison
    from bulk_inferencer.results.reader import RecordPrediction as RecordPrediction
    from bulk_inferencer.results.reader import read_prediction_logs as read_prediction_logs
    from bulk_inferencer.results.reader import read_predictions as read_predictions
    from bulk_inferencer.results.run_results import Results as Results
    from bulk_inferencer.results.run_results import read as read
    from bulk_inferencer.results.summary import BranchSummary as BranchSummary
    from bulk_inferencer.results.summary import Counts as Counts
    from bulk_inferencer.results.summary import DamagedFile as DamagedFile
    from bulk_inferencer.results.summary import Reused as Reused
    from bulk_inferencer.results.summary import StageCounts as StageCounts
    from bulk_inferencer.results.summary import Summary as Summary

_MODULE_OF_NAME = {
    "BranchSummary": "bulk_inferencer.results.summary",
    "Comparison": "bulk_inferencer.results.comparison",
    "Counts": "bulk_inferencer.results.summary",
    "DamagedFile": "bulk_inferencer.results.summary",
    "RecordPrediction": "bulk_inferencer.results.reader",
    "Results": "bulk_inferencer.results.run_results",
    "Reused": "bulk_inferencer.results.summary",
    "StageCounts": "bulk_inferencer.results.summary",
    "Summary": "bulk_inferencer.results.summary",
    "read": "bulk_inferencer.results.run_results",
    "read_prediction_logs": "bulk_inferencer.results.reader",
    "read_predictions": "bulk_inferencer.results.reader",
}

__all__ = sorted(_MODULE_OF_NAME)

if not TYPE_CHECKING:
    __getattr__, __dir__ = _lazy.attach(__name__, _MODULE_OF_NAME)
