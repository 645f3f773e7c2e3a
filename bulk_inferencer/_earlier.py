"""What earlier runs have left of the same job: results that are whole, or units to go on from."""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Mapping

from bulk_inferencer import _files
from bulk_inferencer._layout import STATISTICS_FILE
from bulk_inferencer._models.custom_ops import LIBRARIES_OF_OPS
from bulk_inferencer._preparation import Prepared
from bulk_inferencer._units.basis import Basis, NoBasisError, basis_of
from bulk_inferencer._units.commit import results_in
from bulk_inferencer._units.workspace import tidy
from bulk_inferencer._versions import library_versions, versions_of
from bulk_inferencer.errors import InputError
from bulk_inferencer.job import InferenceJob
from bulk_inferencer.results.reader import check_complete, check_complete_table
from bulk_inferencer.results.summary import Summary

_logger = logging.getLogger(__name__)


def basis_of_job(job: InferenceJob, prepared: Prepared) -> Basis | None:
    """Returns what the results depend on; None if that cannot be told, or nobody wants to know."""
    if not (prepared.inputs and (job.resumable or job.checkpoint)):
        return None
    task, fingerprints = prepared.task, prepared.fingerprints
    settings = {
        "how models are called": [task.models, task.bounds, task.record_format],
        "how inputs are read": [task.reader, *([] if job.limit is None else [job.limit])],
        "the routing": task.routing,
        "the outputs": task.sinks,
    }
    by_label = {b.label or "the model": fingerprints[b.name] for b in job.open_branches}
    versions = {**library_versions(), **versions_of(LIBRARIES_OF_OPS)}
    try:
        return basis_of(settings, by_label, versions, prepared.inputs)
    except NoBasisError as error:
        _logger.log(
            logging.WARNING if job.checkpoint else logging.INFO,
            "No later run can reuse what this one scores: %s.",
            error,
        )
        return None


def finished(job: InferenceJob, made_from: Mapping[str, str]) -> Summary | None:
    """Returns the summary of the same job, if it has already run and its results are whole."""
    summary = Summary.read_if_any(job.outputs.summary)
    if summary is None or not made_from or summary.made_from != made_from:
        return None
    counts = [c for branch in summary.branches.values() for c in branch.splits.values()]
    if any(job.failure_limit.is_exceeded(c.examples_failed, c.examples_read) for c in counts):
        return None
    if summary.damaged_files and not job.damaged_files.skip:
        return None
    try:
        for branch in job.open_branches:
            splits = summary.branches[branch.name].splits
            if branch.folder is not None:
                check_complete(branch.folder, splits)
            if job.outputs.table is not None:
                # The bytes that are counted are those of PredictionLogs, where there are any.
                check_complete_table(job.outputs.table, splits, check_bytes=branch.folder is None)
    except InputError:
        return None
    if not all(map(results_in, job.folders)) or not _can_be_judged(job):
        return None
    tidy(job.folders)
    _logger.warning(
        "The results of this job are in %s already. Nothing was scored.", job.outputs.summary
    )
    return summary


def _can_be_judged(job: InferenceJob) -> bool:
    """Returns whether results that are there say enough of themselves for what is expected."""
    if not any(branch.expectations is not None for branch in job.open_branches):
        return True
    return _files.exists(posixpath.join(job.outputs.summary, STATISTICS_FILE))
