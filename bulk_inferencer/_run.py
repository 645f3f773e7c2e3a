"""The run of a job: checks it, plans units, hands them to an engine, and closes the books."""

from __future__ import annotations

import functools
import importlib.metadata
import logging
import platform
import posixpath
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from bulk_inferencer import __version__
from bulk_inferencer._layout import WORK_FOLDER
from bulk_inferencer._signatures import Signature, output_names
from bulk_inferencer._units.commit import all_or_nothing, close_books, make_folders
from bulk_inferencer._units.plan import InputFile, list_files, plan_units
from bulk_inferencer.engines import beam as beam_engine
from bulk_inferencer.errors import InputError, SettingsError, prefix_errors
from bulk_inferencer.job import Branch, InferenceJob, unit_task
from bulk_inferencer.results.summary import BranchSummary, Summary, stage_counts

if TYPE_CHECKING:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

_logger = logging.getLogger(__name__)

_LIBRARIES = ("tfx", "apache-beam", "tensorflow", "numpy")


def run(
    job: InferenceJob,
    options: PipelineOptions | Sequence[str] = (),
    make_pipeline: Callable[[], beam.Pipeline] | None = None,
) -> Summary:
    """Scores every record of the job's splits, and commits all results or none.

    If the gates of all models are closed, nothing is read, and the summary says why.

    ```python
    summary = run(job)
    summary.total.predictions_written
    ```

    Args:
      job: what to run.
      options: Beam's options. Arguments that name no runner get Beam's local one, with a thread
        per core.
      make_pipeline: makes the pipeline, instead of `options`.

    Returns:
      The summary, as written to `summary.json`.

    Raises:
      ModelError: the model, a signature or a tag does not exist, or cannot take the records.
      SettingsError: a column names an output that the model does not have, or a folder is not
        empty.
      InputError: files are missing, damaged or named twice.
      FailureLimitError: too many records failed.
      ReconciliationError: the counts or shards do not add up.
    """
    clock = _Clock()
    signatures = {branch.name: _check_branch(branch, job) for branch in job.open_branches}
    task = unit_task(job)
    inputs = _list_inputs(job) if signatures else {}
    units = plan_units(inputs)
    fingerprints = {branch.name: branch.model.fingerprint() for branch in job.open_branches}
    clock.lap("plan")
    with all_or_nothing(job.folders):
        make_folders(job.folders, task.sinks, list(inputs))
        run_units = functools.partial(
            beam_engine.run_units,
            work_folder=posixpath.join(job.outputs.summary, WORK_FOLDER),
            make_pipeline=make_pipeline or functools.partial(beam_engine.make_pipeline, options),
        )
        manifests = run_units(task, units) if units else []
        clock.lap("score")
        books = close_books(task, units, manifests, job.folders, job.failure_limit)
        clock.lap("commit")
        ran = {
            name: BranchSummary(
                splits=books.counts[name],
                gate=branch.gate,
                model_path=branch.model.uri,
                model_fingerprint=fingerprints[name],
                model_versions=books.accounts[name].model_versions,
                signature_names=tuple(signature.name for signature in signatures[name]),
                seconds=clock.laps,
                work=books.accounts[name].work,
                stages=stage_counts(_all_stages(signatures[name], books.accounts[name].stages)),
                versions=library_versions(),
            )
            for name, branch in ((branch.name, branch) for branch in job.open_branches)
        }
        kept_out = {
            branch.name: BranchSummary({}, branch.gate, branch.model.uri)
            for branch in job.branches
            if not branch.gate.is_open
        }
        routing = "split" if job.routing else "all"
        summary = Summary({**ran, **kept_out}, routing, books.unrouted if job.routing else {})
        summary.write(job.outputs.summary)
    _log_results(summary, inputs)
    return summary


def library_versions() -> dict[str, str]:
    """Returns the versions of Python and of the libraries that results depend on."""
    versions = {"bulk-inferencer": __version__, "python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            versions[library] = "not installed"
    return versions


def _check_branch(branch: Branch, job: InferenceJob) -> tuple[Signature, ...]:
    """Checks a model as far as that is possible without loading it, and returns its signatures."""
    with prefix_errors(branch.label):
        signatures = branch.model.check(job.record_format)
        available = output_names(signatures)
        for column in job.outputs.columns:
            if available and column.output not in available:
                raise SettingsError(
                    f"Column '{column.name}' needs the output '{column.output}', but "
                    f"{branch.model.uri} has {', '.join(available)}. Correct Outputs.columns."
                )
    return signatures


def _list_inputs(job: InferenceJob) -> dict[str, list[InputFile]]:
    inputs = {split: list_files(split, patterns) for split, patterns in job.splits.items()}
    for split, found in inputs.items():
        if not found and not job.allow_empty_splits:
            raise InputError(
                f"No files for split '{split}' match {', '.join(job.splits[split])}. Correct the "
                f"pattern, or set allow_empty_splits."
            )
    return inputs


def _all_stages(signatures: Sequence[Signature], ran: Mapping[str, int]) -> dict[str, int]:
    """Returns how many records each stage of a cascade ran for, also those that none reached."""
    return {stage: ran.get(stage, 0) for own in signatures for stage in own.stages}


def _log_results(summary: Summary, inputs: Mapping[str, Sequence[InputFile]]) -> None:
    ran = [branch for branch in summary.branches.values() if branch.splits]
    for branch in ran:
        _logger.info(
            "%s: %s read, %s predicted, %s failed; %s.",
            branch.model_path,
            f"{branch.total.examples_read:,}",
            f"{branch.total.predictions_written:,}",
            f"{branch.total.examples_failed:,}",
            branch.work,
        )
    for split, files in inputs.items():
        read = sum(branch.splits[split].examples_read for branch in ran)
        if not read + summary.unrouted.get(split, 0):
            _logger.warning("Split '%s' holds no records (files: %d).", split, len(files))


class _Clock:
    """Wall time of consecutive steps, in seconds."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = round(now - self._last, 3)
        self._last = now
