"""Whether a run's predictions are as expected, from what it has written of them."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping

from bulk_inferencer import _files
from bulk_inferencer._layout import STATISTICS_FILE
from bulk_inferencer.errors import SettingsError, prefix_errors
from bulk_inferencer.job import Branch, InferenceJob
from bulk_inferencer.results.checks import Check
from bulk_inferencer.results.comparison import Comparison
from bulk_inferencer.results.expectations import judge
from bulk_inferencer.results.run_results import read
from bulk_inferencer.results.statistics import Statistics
from bulk_inferencer.results.summary import BranchSummary, Summary

_logger = logging.getLogger(__name__)


def read_baselines(job: InferenceJob) -> dict[str, Statistics]:
    """Returns the statistics of earlier results, by the models that are compared with them.

    Raises:
      InputError: there are no results, or they are not complete.
      SettingsError: they are of several models, none of which has the same name.
    """
    baselines = {}
    for branch in job.open_branches:
        if branch.baseline:
            with prefix_errors(branch.label):
                baselines[branch.name] = _baseline(branch)
    return baselines


def _baseline(branch: Branch) -> Statistics:
    results = read(branch.baseline)
    models = results.models
    if len(models) > 1 and branch.name not in models:
        raise SettingsError(
            f"Branch.baseline is {branch.baseline}, which holds the results of several models: "
            f"{', '.join(models)}. Name the folder of one of them."
        )
    model = branch.name if branch.name in models else next(iter(models), "")
    return Statistics({model: results.statistics.outputs.get(model, {})})


def with_verdict(
    job: InferenceJob, summary: Summary, baselines: Mapping[str, Statistics]
) -> Summary:
    """Returns a summary of the job with a check for each expectation.

    The statistics of the predictions, and their comparison, are read from the outputs.
    """
    expected = [branch for branch in job.branches if branch.expectations is not None]
    statistics, comparison = Statistics(), None
    if any(branch.gate.is_open for branch in expected):
        statistics = Statistics.read(job.outputs.summary)
    if job.outputs.comparison and any(_compares(branch) for branch in expected):
        comparison = Comparison.read(job.outputs.comparison)
    branches = dict(summary.branches)
    for branch in job.branches:
        own = branches[branch.name]
        checks = _checks(branch, own, statistics, comparison, baselines.get(branch.name))
        branches[branch.name] = dataclasses.replace(own, checks=checks)
    return dataclasses.replace(summary, branches=branches)


def judged_again(
    job: InferenceJob, finished: Summary, baselines: Mapping[str, Statistics]
) -> Summary:
    """Returns the summary of results that are there, by what is expected of them now.

    It takes the place of the one that is there if that differs.
    """
    summary = with_verdict(job, finished, baselines)
    if any(own.checks != finished.branches[name].checks for name, own in summary.branches.items()):
        _logger.info("The results in %s are judged anew.", job.outputs.summary)
        summary.write(job.outputs.summary)
    return summary


def can_judge(job: InferenceJob) -> bool:
    """Returns whether results that are there say enough of themselves for what is expected."""
    if not any(branch.expectations is not None for branch in job.open_branches):
        return True
    return _files.exists(f"{job.outputs.summary.rstrip('/')}/{STATISTICS_FILE}")


def log_verdict(job: InferenceJob, summary: Summary) -> None:
    """Logs each expectation that is not met."""
    for branch in job.branches:
        checks = summary.branches[branch.name].checks
        name = branch.label or branch.model.uri or "The model"
        for check in checks:
            if not check.is_met:
                _logger.warning("%s does not meet an expectation. %s", name, check)
        if checks and all(check.is_met for check in checks):
            _logger.info("%s meets all expectations (%d).", name, len(checks))


def _compares(branch: Branch) -> bool:
    return branch.expectations is not None and bool(branch.expectations.baseline_model)


def _checks(
    branch: Branch,
    summary: BranchSummary,
    statistics: Statistics,
    comparison: Comparison | None,
    baseline: Statistics | None,
) -> tuple[Check, ...]:
    if branch.expectations is None:
        return ()
    gate, reason = branch.gate, f"({branch.gate.reason.rstrip('.')})"
    if not gate.is_open:
        return (Check("gate of the model", "open", f"closed {reason}", False),)
    checks = judge(
        branch.expectations,
        model=branch.name,
        statistics=statistics,
        comparison=comparison,
        counts=summary.total,
        baseline=baseline,
    )
    if gate.is_overruled:
        return (Check("gate of the model", "open", f"overruled {reason}", False), *checks)
    return checks
