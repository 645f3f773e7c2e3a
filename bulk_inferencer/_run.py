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
from bulk_inferencer._layout import MANIFESTS_FILE
from bulk_inferencer._models.cascade import CascadeModel
from bulk_inferencer._models.hooks import HookedModel
from bulk_inferencer._models.predictor import Model
from bulk_inferencer._signatures import Signature, output_names
from bulk_inferencer._units.commit import all_or_nothing, close_books, make_folders
from bulk_inferencer._units.manifest import BranchAccount, Manifest
from bulk_inferencer._units.plan import InputFile, list_files, plan_units
from bulk_inferencer.engines import beam as beam_engine
from bulk_inferencer.errors import InputError, SettingsError, prefix_errors
from bulk_inferencer.job import Branch, InferenceJob
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
    running = job.open_branches
    signatures = {branch.name: _check_branch(branch, job) for branch in running}
    task = job.task()
    inputs = _list_inputs(job) if running else {}
    units = plan_units(inputs)
    fingerprints = {branch.name: branch.model.fingerprint() for branch in running}
    versions = library_versions()
    clock.lap("plan")
    with all_or_nothing(job.folders):
        make_folders(job.folders, task.sinks, list(inputs))
        run_units = functools.partial(
            beam_engine.run_units,
            manifests_file=posixpath.join(job.outputs.summary, MANIFESTS_FILE),
            make_pipeline=make_pipeline or functools.partial(beam_engine.make_pipeline, options),
        )
        manifests = run_units(task, units) if units else []
        manifests.sort(key=lambda manifest: (manifest.split, manifest.index))
        clock.lap("score")
        counts = close_books(task, units, manifests, job.folders, job.failure_limit)
        clock.lap("commit")
        branches = {}
        for branch in running:
            total = BranchAccount(stages=_stages(branch.model))
            for manifest in manifests:
                total.merge(manifest.branches[branch.name])
            branches[branch.name] = BranchSummary(
                splits=counts[branch.name],
                gate=branch.gate,
                model_path=branch.model.uri,
                model_fingerprint=fingerprints[branch.name],
                model_versions=total.model_versions,
                signature_names=tuple(s.name for s in signatures[branch.name]),
                seconds=clock.laps,
                work=total.work,
                stages=stage_counts(total.stages),
                versions=versions,
            )
        for branch in job.branches:
            if not branch.gate.is_open:
                branches[branch.name] = BranchSummary({}, branch.gate, branch.model.uri)
        summary = Summary(
            branches,
            routing="split" if job.routing else "all",
            unrouted=_unrouted(manifests) if job.routing else {},
        )
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


def _stages(model: Model) -> dict[str, int]:
    """Returns the stages of a cascade with no records each; those that none reached count too."""
    if isinstance(model, HookedModel):
        return {} if model.postprocess else _stages(model.model)
    stages = model.stages if isinstance(model, CascadeModel) else ()
    return dict.fromkeys((stage.name for stage in stages), 0)


def _unrouted(manifests: Sequence[Manifest]) -> dict[str, int]:
    splits = dict.fromkeys(manifest.split for manifest in manifests)
    return {split: sum(m.unrouted for m in manifests if m.split == split) for split in splits}


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
            _logger.warning("Split '%s' is empty: no record in %d files.", split, len(files))


class _Clock:
    """Wall time of consecutive steps, in seconds."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = round(now - self._last, 3)
        self._last = now
