"""The run of a job: checks it, plans units, hands them to an engine, and closes the books."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import itertools
import logging
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from bulk_inferencer import __version__
from bulk_inferencer._access import is_known
from bulk_inferencer._checks import check_kind
from bulk_inferencer._formats.column_values import check_features
from bulk_inferencer._formats.damage import check_size
from bulk_inferencer._formats.detect import format_of, named_format
from bulk_inferencer._formats.example_columns import kinds_of_records
from bulk_inferencer._formats.first_records import FirstRecords, of_files
from bulk_inferencer._formats.input_format import InputFile, Reader
from bulk_inferencer._formats.record_format import FORMAT_PROTO
from bulk_inferencer._formats.rows import as_list
from bulk_inferencer._models.custom_ops import LIBRARIES_OF_OPS
from bulk_inferencer._models.predictor import files_of, fitted
from bulk_inferencer._models.trial import output_types
from bulk_inferencer._progress import Progress, Watch, watching
from bulk_inferencer._signals import ended_by_sigterm
from bulk_inferencer._signatures import Signature, output_names
from bulk_inferencer._units.basis import Basis, NoBasisError, basis_of, digest_of
from bulk_inferencer._units.commit import (
    Books,
    check_shards,
    close_books,
    final_names,
    placed,
    results_in,
)
from bulk_inferencer._units.damaged_files import check_damaged_files
from bulk_inferencer._units.inputs import check_apart, list_files
from bulk_inferencer._units.plan import numbered
from bulk_inferencer._units.run import UnitTask
from bulk_inferencer._units.spot_check import draw
from bulk_inferencer._units.stop_sign import StopSign
from bulk_inferencer._units.tables import table_schema, table_sinks
from bulk_inferencer._units.workspace import tidy, workspace
from bulk_inferencer._verdict import (
    can_judge,
    judged_again,
    log_verdict,
    read_baselines,
    with_verdict,
)
from bulk_inferencer.engines import beam as beam_engine
from bulk_inferencer.errors import InputError, SettingsError, prefix_errors
from bulk_inferencer.job import Branch, InferenceJob, unit_task
from bulk_inferencer.results.expectations import check_outputs
from bulk_inferencer.results.reader import check_complete, check_complete_table
from bulk_inferencer.results.reasons import most_frequent
from bulk_inferencer.results.statistics import Statistics
from bulk_inferencer.results.summary import BranchSummary, Reused, Summary, stage_counts
from bulk_inferencer.results.timeline import merged

if TYPE_CHECKING:
    import apache_beam as beam
    import pyarrow as pa
    from apache_beam.options.pipeline_options import PipelineOptions

_logger = logging.getLogger(__name__)

_LIBRARIES = ("tfx", "apache-beam", "tensorflow", "numpy", "pyarrow")
# Enough to tell which features have one value per record.
_RECORDS_FOR_KINDS = 1000


def run(
    job: InferenceJob,
    options: PipelineOptions | Sequence[str] = (),
    make_pipeline: Callable[[], beam.Pipeline] | None = None,
    restart: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Scores every record of the job's splits, and commits all results or none.

    If the gates of all models are closed, nothing is read, and the summary says why. If a run of
    the same job did not end, this one goes on where it stopped. If it did, its summary comes back.

    ```python
    summary = run(job)
    summary.total.predictions_written
    ```

    Args:
      job: what to run.
      options: Beam's options. Arguments that name no runner get Beam's local one, with a thread
        per core.
      make_pipeline: makes the pipeline, instead of `options`, which then only open the files that
        the job names.
      restart: whether to delete what an unfinished run left, and to start anew.
      progress: is called about twice a second with how far the run is, from a thread of its own, at
        the start and at the end; where files are far away, less often. If it raises, the run ends
        with that error, and the next one goes on. Without it, a notebook shows a line that updates
        itself. In any case, the log has a line every ten seconds.

    Returns:
      The summary, as written to `summary.json`.

    Raises:
      ModelError: the model, a signature or a tag does not exist, or cannot take the records.
      SettingsError: a column or an expectation names an output that the model does not have, or a
        folder is not empty, or holds what an unfinished run of another job left.
      FolderInUseError: another run is writing to a folder.
      InputError: files are missing, damaged or named twice.
      FailureLimitError: too many records failed.
      ReconciliationError: the counts or shards do not add up.
    """
    check_kind("run's job", job, InferenceJob, "InferenceJob(splits=..., model=..., outputs=...)")
    if isinstance(options, str):
        raise SettingsError(f"run's options must be a list, not {options!r}. Write [{options!r}].")
    with watching(progress) as watch:
        return _watched_run(job, options, make_pipeline, restart, watch)


def _watched_run(
    job: InferenceJob,
    options: PipelineOptions | Sequence[str],
    make_pipeline: Callable[[], beam.Pipeline] | None,
    restart: bool,
    watch: Watch,
) -> Summary:
    """Runs a job; see `run`."""
    clock = _Clock()
    beam_engine.open_filesystems(_paths(job), options, make_pipeline)
    signatures = _check_branches(job, job.record_format)
    task = dataclasses.replace(unit_task(job), limit=job.limit)
    inputs: Mapping[str, Sequence[InputFile]] = {}
    if signatures:
        task, inputs = _with_inputs(task, job)
    if task.record_format != job.record_format:  # which the files decide, once they are listed
        signatures = _check_branches(job, task.record_format)
    first = of_files(task.reader, [file for files in inputs.values() for file in files])
    task = _fitted(task, first)
    if signatures:
        task = _with_tables(task, job, signatures, first)
    model_files = {branch.name: files_of(branch.model) for branch in job.open_branches}
    fingerprints = {name: files.fingerprint for name, files in model_files.items()}
    for branch in job.open_branches:
        fingerprint = fingerprints[branch.name] or "unknown"
        _logger.info("Scoring with %s; fingerprint: %s.", branch.model.uri, fingerprint)
    basis = _basis(job, task, fingerprints, inputs)
    made_from = {**basis.everything, "the folders": digest_of(job.folders)} if basis else {}
    baselines = read_baselines(job)
    if finished := _finished(job, made_from):
        summary = judged_again(job, finished, baselines)
        log_verdict(job, summary)
        watch.was_done(summary)
        return summary
    clock.lap("plan")
    with (
        ended_by_sigterm(),
        workspace(job.folders, job.outputs.summary, basis, job.checkpoint, restart) as space,
    ):
        task = dataclasses.replace(
            task,
            model_files=model_files,
            drawn={
                s: draw(s, files, job.failure_limit.max_fraction)
                for s, files in inputs.items()
                if job.limit is None  # or it would read files that the run does not
            },
            claim=space.claims.path(job.outputs.summary),
            manifests_folder=space.manifests_folder,
            files_folder=space.files_folder,
        )
        units, reused = space.plan(task, inputs)
        done = {manifest.key for manifest in reused}
        if todo := [unit for unit in units if unit.key not in done]:
            make = make_pipeline or functools.partial(beam_engine.make_pipeline, options)
            stop = StopSign.in_folder(space.manifests_folder)
            with watch.scoring(space.manifests_folder, units, reused, stop):
                beam_engine.run_units(task, todo, make, stop)
        clock.lap("score")
        space.claims.check()
        manifests = numbered(units, space.finished())
        watch.commits(units, manifests)
        damaged_files = check_damaged_files(job.damaged_files, manifests)
        books = close_books(task, units, manifests, job.failure_limit)
        finals = final_names(task.sinks, units, manifests)
        with placed(finals, keeps_shards=bool(space.files_folder)):
            for sink in task.sinks:
                sink.finish(list(inputs), manifests)
            check_shards(finals, job.folders)
            clock.lap("commit")
            statistics = Statistics.read(job.outputs.summary)
            branches = {
                branch.name: _branch_summary(
                    branch, signatures, fingerprints, books, statistics, clock.laps
                )
                for branch in sorted(job.branches, key=lambda branch: not branch.gate.is_open)
            }
            summary = Summary(
                branches=branches,
                routing="split" if job.routing else "all",
                unrouted=books.unrouted if job.routing else {},
                reused=Reused(len(reused), sum(manifest.examples_read for manifest in reused)),
                made_from=made_from,
                damaged_files=damaged_files,
                table_schema=table_schema(task.sinks),
                bytes_read=sum(manifest.bytes_read for manifest in manifests),
                input_bytes=sum(file.own_bytes for files in inputs.values() for file in files),
                timeline=merged(
                    manifest.timeline for manifest in manifests if manifest.key not in done
                ).since(watch.started),
            )
            summary = with_verdict(job, summary, baselines)
            space.claims.check()
            summary.write(job.outputs.summary)
    _log_results(job, summary, inputs)
    log_verdict(job, summary)
    for branch in job.open_branches:
        model = branch.label or branch.model.uri or "The model"
        for warning in books.accounts[branch.name].outputs.warnings(model):
            _logger.warning("%s", warning)
    return summary


def _branch_summary(
    branch: Branch,
    signatures: Mapping[str, Sequence[Signature]],
    fingerprints: Mapping[str, str],
    books: Books,
    statistics: Statistics,
    seconds: Mapping[str, float],
) -> BranchSummary:
    if not branch.gate.is_open:
        return BranchSummary({}, branch.gate, branch.model.uri)
    account, called = books.accounts[branch.name], signatures[branch.name]
    return BranchSummary(
        splits=books.counts[branch.name],
        gate=branch.gate,
        model_path=branch.model.uri,
        model_fingerprint=fingerprints[branch.name],
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


def _basis(
    job: InferenceJob,
    task: UnitTask,
    fingerprints: Mapping[str, str],
    inputs: Mapping[str, Sequence[InputFile]],
) -> Basis | None:
    """Returns what the results depend on; None if that cannot be told, or nobody wants to know."""
    if not (inputs and (job.resumable or job.checkpoint)):
        return None
    settings = {
        "how models are called": [task.models, task.bounds, task.record_format],
        "how inputs are read": [task.reader, *([] if job.limit is None else [job.limit])],
        "the routing": task.routing,
        "the outputs": task.sinks,
    }
    by_label = {b.label or "the model": fingerprints[b.name] for b in job.open_branches}
    versions = {**library_versions(), **versions_of(LIBRARIES_OF_OPS)}
    try:
        return basis_of(settings, by_label, versions, inputs)
    except NoBasisError as error:
        _logger.log(
            logging.WARNING if job.checkpoint else logging.INFO,
            "No later run can reuse what this one scores: %s.",
            error,
        )
        return None


def _finished(job: InferenceJob, made_from: Mapping[str, str]) -> Summary | None:
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
    if not all(map(results_in, job.folders)) or not can_judge(job):
        return None
    tidy(job.folders)
    _logger.warning(
        "The results of this job are in %s already. Nothing was scored.", job.outputs.summary
    )
    return summary


def library_versions() -> dict[str, str]:
    """Returns the versions of Python and of the libraries that results depend on."""
    versions = {"bulk-inferencer": __version__, "python": platform.python_version()}
    return versions | versions_of(_LIBRARIES)


def versions_of(libraries: Iterable[str]) -> dict[str, str]:
    """Returns the versions of libraries; `not installed` for those that are not there."""
    versions = {}
    for library in libraries:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            versions[library] = "not installed"
    return versions


def _check_branches(job: InferenceJob, record_format: str) -> dict[str, tuple[Signature, ...]]:
    """Returns the signatures of each model that may run, after checks that need no loaded model."""
    return {b.name: _check_branch(b, job, record_format) for b in job.open_branches}


def _check_branch(branch: Branch, job: InferenceJob, record_format: str) -> tuple[Signature, ...]:
    with prefix_errors(branch.label):
        signatures = branch.model.check(record_format)
        available = output_names(signatures)
        for column in job.outputs.columns:
            if available and column.output not in available:
                raise SettingsError(
                    f"Column '{column.name}' needs the output '{column.output}', but "
                    f"{branch.model.uri} has {', '.join(available)}. Correct Outputs.columns."
                )
        if branch.expectations is not None:
            check_outputs(branch.expectations, available, branch.model.uri or "the model")
    return signatures


def _paths(job: InferenceJob) -> list[str]:
    """Returns all paths that a job names."""
    if not job.open_branches:
        return list(job.folders)
    uris = [branch.model.uri for branch in job.open_branches]
    return [
        *job.written_folders,
        *itertools.chain.from_iterable(job.splits.values()),
        *([job.outcomes] if job.outcomes else []),
        *(branch.baseline for branch in job.open_branches if branch.baseline),
        *(uri for uri in uris if is_known(uri)),  # Others are those of endpoints.
    ]


def _list_inputs(job: InferenceJob) -> dict[str, list[InputFile]]:
    check_apart(job.splits, job.written_folders)
    inputs = {
        split: list_files(split, patterns, job.allow_empty_splits)
        for split, patterns in job.splits.items()
    }
    if not job.damaged_files.skip:
        for file in itertools.chain.from_iterable(inputs.values()):
            check_size(file.path, file.bytes)
    return inputs


def _with_inputs(task: UnitTask, job: InferenceJob) -> tuple[UnitTask, dict[str, list[InputFile]]]:
    """Returns the task with what reads the inputs, and the inputs of each split in parts."""
    inputs = _list_inputs(job)
    files = list(itertools.chain.from_iterable(inputs.values()))
    given = job.input_format
    input_format = format_of(files) if given is None else named_format(given)
    settings = job.outputs.table_settings
    kept = settings.keep if job.outputs.table else ()
    reader = input_format.reader(files, job.view, kept)
    if reader.features:
        if task.routing:
            task.routing.check_columns(reader.features.names)
        if task.routing or job.outputs.output_examples or _logs_hold_records(job):
            check_features(reader.features)
    if reader.record_format:
        task = dataclasses.replace(task, record_format=reader.record_format)
    parts = {
        split: [part for file in own for part in reader.parts(file)]
        for split, own in inputs.items()
    }
    return dataclasses.replace(task, reader=reader), parts


def _logs_hold_records(job: InferenceJob) -> bool:
    has_logs = any(branch.folder is not None for branch in job.open_branches)
    return has_logs and job.outputs.records_in_logs


def _with_tables(
    task: UnitTask,
    job: InferenceJob,
    signatures: Mapping[str, Sequence[Signature]],
    first: FirstRecords,
) -> UnitTask:
    """Returns the task with the sinks of tables, whose columns are decided for all workers."""
    if job.outputs.table is None:
        return task
    types = {}
    expectations = {branch.name: branch.expectations for branch in job.open_branches}
    for name, model in task.models.items():
        with prefix_errors(task.labels[name]):
            types[name] = output_types(model, signatures[name], task.record_format, first)
            if expected := expectations[name]:
                check_outputs(expected, types[name], model.uri or "the model")
    sinks = table_sinks(
        job.outputs.table_settings,
        table=job.outputs.table,
        summary=job.outputs.summary,
        types=types,
        kept=_features(task.reader, first),
        routing=task.routing,
        names_models=job.names_models,
        splits=list(job.splits),
        has_keys=task.reader.record_format == FORMAT_PROTO,
    )
    return dataclasses.replace(task, sinks=(*task.sinks, *sinks))


def _features(reader: Reader, first: FirstRecords) -> pa.Schema | None:
    """Returns the columns of the inputs, or the features of their first records."""
    if reader.schema is not None:
        return reader.schema
    if reader.record_format == FORMAT_PROTO:  # whole files
        return None
    return kinds_of_records(as_list(first.batch(_RECORDS_FOR_KINDS)))


def _fitted(task: UnitTask, first: FirstRecords) -> UnitTask:
    """Returns the task with each model as it is called for the records, decided for all workers."""
    models = {}
    for name, model in task.models.items():
        with prefix_errors(task.labels[name]):
            models[name] = fitted(model, task.record_format, first)
    return dataclasses.replace(task, models=models)


def _all_stages(signatures: Sequence[Signature], ran: Mapping[str, int]) -> dict[str, int]:
    """Returns how many records each stage of a cascade ran for, also those that none reached."""
    return {stage: ran.get(stage, 0) for own in signatures for stage in own.stages}


def _log_results(
    job: InferenceJob, summary: Summary, inputs: Mapping[str, Sequence[InputFile]]
) -> None:
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


class _Clock:
    """Wall time of consecutive steps, in seconds."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = round(now - self._last, 3)
        self._last = now
