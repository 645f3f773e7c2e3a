"""What a run says of itself at its end: its summary, and lines in the log."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from bulk_inferencer._formats.input_format import InputFile
from bulk_inferencer._preparation import Prepared
from bulk_inferencer._signatures import Signature
from bulk_inferencer._units.commit import Books
from bulk_inferencer._units.gathering import Gathered
from bulk_inferencer._units.manifest import Manifest
from bulk_inferencer._units.tables import table_schema
from bulk_inferencer._versions import library_versions
from bulk_inferencer.job import Branch, InferenceJob
from bulk_inferencer.results.reasons import most_frequent
from bulk_inferencer.results.statistics import Statistics
from bulk_inferencer.results.summary import (
    BranchSummary,
    DamagedFile,
    Reused,
    Summary,
    stage_counts,
)

_logger = logging.getLogger(__name__)


def summarize(
    job: InferenceJob,
    prepared: Prepared,
    gathered: Gathered,
    books: Books,
    *,
    reused: Sequence[Manifest],
    made_from: Mapping[str, str],
    damaged_files: tuple[DamagedFile, ...],
    statistics: Statistics,
    seconds: Mapping[str, float],
    started: float,
) -> Summary:
    """Returns the summary of a run that is not judged yet.

    Args:
      job: the job.
      prepared: what was prepared for it.
      gathered: what all units have left.
      books: what all units did together.
      reused: the manifests that earlier runs had left.
      made_from: digests of all that the results depend on.
      damaged_files: the files of which only a part was scored.
      statistics: those of the predictions.
      seconds: wall time by step.
      started: when the run began, in seconds since 1970.
    """
    return Summary(
        branches={
            branch.name: _branch_summary(branch, prepared, books, statistics, seconds)
            for branch in sorted(job.branches, key=lambda branch: not branch.gate.is_open)
        },
        routing="split" if job.routing else "all",
        unrouted=books.unrouted if job.routing else {},
        reused=Reused(len(reused), sum(manifest.examples_read for manifest in reused)),
        made_from=made_from,
        damaged_files=damaged_files,
        table_schema=table_schema(prepared.task.sinks),
        bytes_read=sum(manifest.bytes_read for manifest in gathered.manifests),
        input_bytes=sum(file.own_bytes for files in prepared.inputs.values() for file in files),
        timeline=gathered.timeline.since(started),
    )


def _branch_summary(
    branch: Branch,
    prepared: Prepared,
    books: Books,
    statistics: Statistics,
    seconds: Mapping[str, float],
) -> BranchSummary:
    if not branch.gate.is_open:
        return BranchSummary({}, branch.gate, branch.model.uri)
    account, called = books.accounts[branch.name], prepared.signatures[branch.name]
    return BranchSummary(
        splits=books.counts[branch.name],
        gate=branch.gate,
        model_path=branch.model.uri,
        model_fingerprint=prepared.fingerprints[branch.name],
        model_versions=account.model_versions,
        signature_names=tuple(signature.name for signature in called),
        seconds=seconds,
        work=account.work,
        stages=stage_counts(_all_stages(called, account.stages)),
        versions=library_versions(),
        not_finite=account.outputs.not_finite,
        statistics=statistics.summary_of(branch.name),
        failures=most_frequent(statistics.failures_of(branch.name)),
    )


def _all_stages(signatures: Sequence[Signature], ran: Mapping[str, int]) -> dict[str, int]:
    """Returns how many records each stage of a cascade ran for, also those that none reached."""
    return {stage: ran.get(stage, 0) for own in signatures for stage in own.stages}


def log_results(
    job: InferenceJob,
    summary: Summary,
    inputs: Mapping[str, Sequence[InputFile]],
    books: Books,
) -> None:
    """Logs what each model did, and what about inputs and outputs deserves a look."""
    for branch in job.branches:
        gate, name = branch.gate, branch.model.uri or branch.label or "The model"
        results = branch.folder or job.outputs.table
        if not gate.is_open:
            _logger.warning(
                "%s was not used, and %s stays empty. Gate: %s. %s",
                name,
                results,
                gate.verdict,
                gate.reason,
            )
            continue
        done = summary.branches[branch.name]
        _logger.info(
            "%s: %s records read, %s predicted, %s failed. Gate: %s. Results: %s. Work: %s.",
            name,
            f"{done.total.examples_read:,}",
            f"{done.total.predictions_written:,}",
            f"{done.total.examples_failed:,}",
            gate.verdict,
            results,
            done.work,
        )
    for file in summary.damaged_files:
        _logger.warning("Split '%s': the rest of a file was skipped. %s", file.split, file.reason)
    ran = [branch for branch in summary.branches.values() if branch.splits]
    for split, files in inputs.items():
        read = sum(branch.splits[split].examples_read for branch in ran)
        if not read + summary.unrouted.get(split, 0):
            count = len({file.path for file in files})
            _logger.warning("Split '%s' holds no records (files: %d).", split, count)
    for branch in job.open_branches:
        model = branch.label or branch.model.uri or "The model"
        for warning in books.accounts[branch.name].outputs.warnings(model):
            _logger.warning("%s", warning)
