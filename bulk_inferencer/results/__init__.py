"""Reads what runs leave behind: summaries, comparisons and predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bulk_inferencer import _lazy

if TYPE_CHECKING:
    from bulk_inferencer.results.checks import Check as Check
    from bulk_inferencer.results.comparison import Comparison as Comparison
    from bulk_inferencer.results.expectations import read_expectations as read_expectations
    from bulk_inferencer.results.histogram import Histogram as Histogram
    from bulk_inferencer.results.joined_results import JoinedComparison as JoinedComparison
    from bulk_inferencer.results.joined_results import compare_results as compare_results
    from bulk_inferencer.results.reader import RecordPrediction as RecordPrediction
    from bulk_inferencer.results.reader import read_prediction_logs as read_prediction_logs
    from bulk_inferencer.results.reader import read_predictions as read_predictions
    from bulk_inferencer.results.run_results import Results as Results
    from bulk_inferencer.results.run_results import read as read
    from bulk_inferencer.results.statistics import OutputStatistics as OutputStatistics
    from bulk_inferencer.results.statistics import Statistics as Statistics
    from bulk_inferencer.results.summary import BranchSummary as BranchSummary
    from bulk_inferencer.results.summary import Counts as Counts
    from bulk_inferencer.results.summary import DamagedFile as DamagedFile
    from bulk_inferencer.results.summary import OutputSummary as OutputSummary
    from bulk_inferencer.results.summary import Reused as Reused
    from bulk_inferencer.results.summary import StageCounts as StageCounts
    from bulk_inferencer.results.summary import Summary as Summary
    from bulk_inferencer.results.tfdv_statistics import to_tfdv as to_tfdv
    from bulk_inferencer.results.tfdv_statistics import write_tfdv as write_tfdv
    from bulk_inferencer.results.timeline import Timeline as Timeline

_MODULE_OF_NAME = {
    "BranchSummary": "bulk_inferencer.results.summary",
    "Check": "bulk_inferencer.results.checks",
    "Comparison": "bulk_inferencer.results.comparison",
    "Counts": "bulk_inferencer.results.summary",
    "DamagedFile": "bulk_inferencer.results.summary",
    "Histogram": "bulk_inferencer.results.histogram",
    "JoinedComparison": "bulk_inferencer.results.joined_results",
    "OutputStatistics": "bulk_inferencer.results.statistics",
    "OutputSummary": "bulk_inferencer.results.summary",
    "RecordPrediction": "bulk_inferencer.results.reader",
    "Results": "bulk_inferencer.results.run_results",
    "Reused": "bulk_inferencer.results.summary",
    "StageCounts": "bulk_inferencer.results.summary",
    "Statistics": "bulk_inferencer.results.statistics",
    "Summary": "bulk_inferencer.results.summary",
    "Timeline": "bulk_inferencer.results.timeline",
    "compare_results": "bulk_inferencer.results.joined_results",
    "read": "bulk_inferencer.results.run_results",
    "read_expectations": "bulk_inferencer.results.expectations",
    "read_prediction_logs": "bulk_inferencer.results.reader",
    "read_predictions": "bulk_inferencer.results.reader",
    "to_tfdv": "bulk_inferencer.results.tfdv_statistics",
    "write_tfdv": "bulk_inferencer.results.tfdv_statistics",
}

__all__ = sorted(_MODULE_OF_NAME)

if not TYPE_CHECKING:
    __getattr__, __dir__ = _lazy.attach(__name__, _MODULE_OF_NAME)
