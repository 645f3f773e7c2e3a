"""What a run needs before it starts: its inputs, and models and tables as all workers have them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bulk_inferencer import _files
from bulk_inferencer._formats.column_values import check_features
from bulk_inferencer._formats.damage import check_size
from bulk_inferencer._formats.detect import format_of, named_format
from bulk_inferencer._formats.example_columns import kinds_of_records
from bulk_inferencer._formats.first_records import FirstRecords, of_files
from bulk_inferencer._formats.input_format import InputFile, Reader
from bulk_inferencer._formats.record_format import FORMAT_PROTO
from bulk_inferencer._formats.rows import as_list
from bulk_inferencer._models.predictor import files_of, fitted
from bulk_inferencer._models.trial import output_types
from bulk_inferencer._signatures import Signature, output_names
from bulk_inferencer._units.inputs import check_apart, list_files
from bulk_inferencer._units.run import UnitTask
from bulk_inferencer._units.tables import table_sinks
from bulk_inferencer.errors import SettingsError, prefix_errors
from bulk_inferencer.job import Branch, InferenceJob, unit_task
from bulk_inferencer.results.expectations import check_outputs

if TYPE_CHECKING:
    import pyarrow as pa

# Enough to tell which features have one value per record.
_RECORDS_FOR_KINDS = 1000


@dataclass(frozen=True)
class Prepared:
    """A job that has passed all checks that need no worker.

    Attributes:
      task: what workers need to know, but for where they leave their results.
      inputs: the files of each split, in parts; empty if no model may run.
      signatures: those that are called, by each model that may run.
    """

    task: UnitTask
    inputs: Mapping[str, Sequence[InputFile]]
    signatures: Mapping[str, Sequence[Signature]]

    @property
    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of each model's files, by model; empty where they were not read."""
        return {name: files.fingerprint for name, files in self.task.model_files.items()}


def prepare(job: InferenceJob) -> Prepared:
    """Lists the inputs of a job, and decides what must be the same on all workers.

    Raises:
      ModelError: a model, a signature or a tag does not exist, or cannot take the records.
      SettingsError: a column or an expectation names an output that the model does not have.
      InputError: files are missing, damaged or named twice.
    """
    signatures = _check_branches(job, job.record_format)
    task = dataclasses.replace(unit_task(job), limit=job.limit)
    if not signatures:  # Nothing is read where no model may run.
        return Prepared(task, {}, {})
    task, inputs = _with_inputs(task, job)
    if task.record_format != job.record_format:  # which the files decide, once they are listed
        signatures = _check_branches(job, task.record_format)
    first = of_files(task.reader, [file for files in inputs.values() for file in files])
    task = _with_tables(_fitted(task, first), job, signatures, first)
    model_files = {branch.name: files_of(branch.model) for branch in job.open_branches}
    return Prepared(dataclasses.replace(task, model_files=model_files), inputs, signatures)


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
    parts = {split: _files.in_parallel(reader.parts, own) for split, own in inputs.items()}
    return dataclasses.replace(task, reader=reader), {
        split: list(itertools.chain.from_iterable(own)) for split, own in parts.items()
    }


def _logs_hold_records(job: InferenceJob) -> bool:
    has_logs = any(branch.folder is not None for branch in job.open_branches)
    return has_logs and job.outputs.records_in_logs


def _fitted(task: UnitTask, first: FirstRecords) -> UnitTask:
    """Returns the task with each model as it is called for the records, decided for all workers."""
    models = {}
    for name, model in task.models.items():
        with prefix_errors(task.labels[name]):
            models[name] = fitted(model, task.record_format, first)
    return dataclasses.replace(task, models=models)


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
