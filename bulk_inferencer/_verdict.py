"""Whether a run's predictions are as expected, from what it has written of them."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping

from bulk_inferencer import _files
from bulk_inferencer.errors import SettingsError, prefix_errors
from bulk_inferencer.job import Branch, InferenceJob
from bulk_inferencer.results.checks import Check
from bulk_inferencer.results.comparison import Comparison
from bulk_inferencer.results.judgement import judge
from bulk_inferencer.results.run_results import read
from bulk_inferencer.results.statistics import Statistics
from bulk_inferencer.results.summary import Summary

_logger = logging.getLogger(__name__)


def read_baselines(job: InferenceJob) -> dict[str, Statistics]:
    """Returns the statistics of earlier results, by the models that are compared with them.

    Raises:
      InputError: there are no results, or they are not complete.
      SettingsError: they are those of the job itself, or of several models, none of which has the
        same name.
    """
    baselines = {}
    for branch in job.open_branches:
        if branch.baseline:
            with prefix_errors(branch.label):
                baselines[branch.name] = _baseline(branch, job.outputs.summary)
    return baselines


def _baseline(branch: Branch, own_summary: str) -> Statistics:
    results = read(branch.baseline)
    found = results.selection.place.summary_folder
    same = _files.identities([found.rstrip("/"), own_summary.rstrip("/")])
    if found and len(set(same.values())) == 1:
        raise SettingsError(
            f"Branch.baseline is {branch.baseline}, the results of this very job, which cannot "
            f"drift from themselves. Name earlier results in another folder, or leave it out."
        )
    models = results.models
    if len(models) > 1 and branch.name not in models:
        raise SettingsError(
            f"Branch.baseline is {branch.baseline}, which holds the results of several models: "
            f"{', '.join(models)}. Name the folder of one of them."
        )
    model = branch.name if branch.name in models else next(iter(models), "")
    return Statistics({model: results.statistics.outputs.get(model, {})})


def with_verdict(
    job: InferenceJob,
    summary: Summary,
    statistics: Statistics,
    baselines: Mapping[str, Statistics],
) -> Summary:
    """Returns a summary of the job with a check for each expectation.

    How models differ is read from the outputs.
    """
    comparison = None
    if job.outputs.comparison and any(_compares(branch) for branch in job.branches):
        comparison = Comparison.read(job.outputs.comparison)
    branches = {}
    for branch in job.branches:
        own = summary.branches[branch.name]
        checks: tuple[Check, ...] = ()
        if branch.expectations is not None:
            checks = _reasons_not_to_bless(job, branch, summary)
            if branch.gate.is_open:
                checks += judge(
                    branch.expectations,
                    model=branch.name,
                    statistics=statistics,
                    comparison=comparison,
                    counts=own.total,
                    baseline=baselines.get(branch.name),
                )
        branches[branch.name] = dataclasses.replace(own, checks=checks)
    # In the order of the summary, where those that ran come first.
    return dataclasses.replace(
        summary, branches={name: branches[name] for name in summary.branches}
    )


def judged_again(
    job: InferenceJob, finished: Summary, baselines: Mapping[str, Statistics]
) -> Summary:
    """Returns the summary of results that are there, by what is expected of them now.

    It takes the place of the one that is there if that differs.
    """
    statistics = Statistics.read_if_any(job.outputs.summary) or Statistics()
    summary = with_verdict(job, finished, statistics, baselines)
    if any(own.checks != finished.branches[name].checks for name, own in summary.branches.items()):
        _logger.info("The results in %s are judged anew.", job.outputs.summary)
        summary.write(job.outputs.summary)
    return summary


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


def _reasons_not_to_bless(job: InferenceJob, branch: Branch, summary: Summary) -> tuple[Check, ...]:
    """Returns checks that are not met, whatever the predictions are like."""
    checks = []
    gate, reason = branch.gate, f"({branch.gate.reason.rstrip('.')})"
    if not gate.is_open:
        checks.append(Check("gate of the model", "open", f"closed {reason}", False))
    elif gate.is_overruled:
        checks.append(Check("gate of the model", "open", f"overruled {reason}", False))
    if gate.is_open and _reached_limit(job, summary):
        found = f"at most {job.limit:,}, since this is a trial"
        checks.append(Check("number of records from each split", "all of them", found, False))
    return tuple(checks)


def _reached_limit(job: InferenceJob, summary: Summary) -> bool:
    """Returns whether a run may have left out records of a split."""
    if job.limit is None:
        return False
    ran = [own.splits for own in summary.branches.values() if own.splits]
    for split in job.splits:
        counts = [splits[split].examples_read for splits in ran]
        read = sum(counts) + summary.unrouted.get(split, 0) if job.routing else max(counts)
        if read >= job.limit:
            return True
    return False
