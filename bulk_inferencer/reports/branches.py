"""What each model of a run did, and whether models have names."""

from __future__ import annotations

from bulk_inferencer import _layout
from bulk_inferencer.results.run_results import Results
from bulk_inferencer.results.summary import BranchSummary


def branches_of(results: Results) -> dict[str, BranchSummary]:
    """Returns what each model that is read did; nothing if the results do not say."""
    summary = results.summary
    return {name: summary.branches[name] for name in results.models} if summary else {}


def names_models(results: Results) -> bool:
    """Returns whether models have names."""
    return results.summary is not None and _layout.names_models(results.summary.branches)


def is_whole(results: Results) -> bool:
    """Returns whether all splits and models of a run are read."""
    branches = results.summary.branches if results.summary else {}
    return _has_all_splits(results) and branches.keys() <= {*results.models}


def of_all_splits(results: Results) -> str:
    """Returns a remark for what is known of all splits together, if not all are read."""
    return "" if _has_all_splits(results) else "The numbers are those of all splits of the run."


def of_whole_run(results: Results) -> str:
    """Returns a remark for what is known of the whole run alone, if a part of it is read."""
    return "" if is_whole(results) else "The numbers are those of the whole run, not of this part."


def _has_all_splits(results: Results) -> bool:
    branches = results.summary.branches if results.summary else {}
    return {split for own in branches.values() for split in own.splits} <= {*results.splits}
