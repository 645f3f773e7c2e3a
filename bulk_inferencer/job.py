"""Everything that one run needs, and the run itself. No TFX here."""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import itertools
import logging
import os
import platform
import posixpath
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from bulk_inferencer import __version__, errors, files
from bulk_inferencer.beam.run_units import RunUnits, WriteManifests
from bulk_inferencer.errors import (
    BulkInferencerError,
    FailureLimitError,
    InputError,
    SettingsError,
)
from bulk_inferencer.formats.example import Column
from bulk_inferencer.models.batching import BatchBounds
from bulk_inferencer.models.predictor import (
    FORMAT_PROTO,
    FORMAT_TF_EXAMPLE,
    RECORD_FORMATS,
    Model,
)
from bulk_inferencer.results.summary import SUMMARY_FILE, Counts, Summary
from bulk_inferencer.signatures import Signature, output_prefix
from bulk_inferencer.units.manifest import Manifest, add_up, check_shards
from bulk_inferencer.units.plan import Unit, list_files, plan_units
from bulk_inferencer.units.run import WORK_FOLDER, Outputs
from bulk_inferencer.work import Work

_logger = logging.getLogger(__name__)

_MANIFESTS_FILE = "manifests.jsonl"
_LIBRARIES = ("tfx", "apache-beam", "tensorflow", "numpy")
_COPY_BUFFER_BYTES = 8 << 20

NO_BLESSING = "no_blessing"


@dataclass(frozen=True)
class FailureLimit:
    """How many records of one split may fail; exceeding either limit fails the run.

    Attributes:
      max_count: most records, or None for no limit.
      max_fraction: largest share of the records, from 0 to 1.

    Raises:
      SettingsError: a limit is out of its range.
    """

    max_count: int | None = None
    max_fraction: float = 0.01

    def __post_init__(self) -> None:
        if self.max_count is not None and self.max_count < 0:
            raise SettingsError(
                f"Expected at least 0 in FailureLimit.max_count, got {self.max_count}. Leave it "
                f"out for no limit."
            )
        if not 0 <= self.max_fraction <= 1:
            raise SettingsError(
                f"Expected a fraction from 0 to 1 in FailureLimit.max_fraction, got "
                f"{self.max_fraction}. One percent is 0.01."
            )


@dataclass(frozen=True)
class InferenceJob:
    """One run: which records, which model, where to.

    Attributes:
      splits: file patterns of TFRecord files by split. Patterns are those of Beam's
        `FileSystems`.
      model: the model.
      outputs: the folders to write, which must be empty or not exist.
      record_format: `FORMAT_TF_EXAMPLE`, `FORMAT_TF_SEQUENCE_EXAMPLE` or, for anything else that
        the signature takes as a string, `FORMAT_PROTO`.
      bounds: bounds of a batch.
      failure_limit: how many records may fail.
      allow_empty_splits: whether patterns may match no file, and the split is then empty.
      gate: `blessed`, `not_blessed` or `no_blessing`, for the summary.
      gate_reason: why, in a sentence.

    Raises:
      SettingsError: a setting contradicts another.
    """

    splits: Mapping[str, Sequence[str]]
    model: Model
    outputs: Outputs
    record_format: str = FORMAT_TF_EXAMPLE
    bounds: BatchBounds = field(default_factory=BatchBounds)
    failure_limit: FailureLimit = field(default_factory=FailureLimit)
    allow_empty_splits: bool = False
    gate: str = NO_BLESSING
    gate_reason: str = "No blessing was asked for."

    def __post_init__(self) -> None:
        if not isinstance(self.splits, Mapping):
            raise SettingsError(
                f"Expected lists of file patterns by split, got {self.splits!r}. Name the split: "
                f"{{'unlabelled': ['data/*.tfrecord.gz']}}."
            )
        if not self.splits:
            raise SettingsError("Expected at least one split, got none. Name the files to score.")
        for split, patterns in self.splits.items():
            if isinstance(patterns, str):
                raise SettingsError(
                    f"Expected a list of file patterns for split '{split}', got the string "
                    f"{patterns!r}. Put it into a list."
                )
        if isinstance(self.model, str):
            raise SettingsError(
                f"Expected a model, got the string {self.model!r}. Give SavedModel({self.model!r})."
            )
        if self.record_format not in RECORD_FORMATS:
            raise SettingsError(
                f"Expected one of {', '.join(RECORD_FORMATS)} as record format, got "
                f"{self.record_format}. Convert the examples to one of them."
            )
        if bool(self.outputs.columns) != bool(self.outputs.output_examples):
            raise SettingsError(
                "Expected output_examples and columns together, got one of them. Name the "
                "outputs that become features in OutputExampleSpec."
            )
        if self.outputs.output_examples and self.record_format == FORMAT_PROTO:
            raise SettingsError(
                f"Output examples need {RECORD_FORMATS[0]} or {RECORD_FORMATS[1]} records to add "
                f"features to, got {FORMAT_PROTO}. Leave out output_example_spec."
            )


def run(
    job: InferenceJob,
    options: PipelineOptions | Sequence[str] = (),
    make_pipeline: Callable[[], beam.Pipeline] | None = None,
) -> Summary:
    """Scores every record of the job's splits, and commits all results or none.

    Args:
      job: what to run.
      options: Beam's options. Without a runner among the arguments, Beam's local runner is used
        with a thread per core.
      make_pipeline: makes the pipeline instead of `options`.

    Returns:
      The summary, as written to `summary.json`.

    Raises:
      ModelError: the model, a signature or a tag does not exist, or cannot take the records.
      SettingsError: a column names an output that the model does not have.
      InputError: files are missing, damaged or named twice.
      FailureLimitError: too many records failed.
      ReconciliationError: the counts or shards do not add up.
    """
    clock = _Clock()
    signatures = job.model.check(job.record_format)
    _check_columns(job.outputs.columns, signatures, job.model.uri)
    inputs = {split: list_files(split, patterns) for split, patterns in job.splits.items()}
    for split, found in inputs.items():
        if not found and not job.allow_empty_splits:
            raise InputError(
                f"Expected files for split '{split}', found none that match "
                f"{', '.join(job.splits[split])}. Correct the pattern, or set allow_empty_splits."
            )
    units = plan_units(inputs)
    fingerprint = job.model.fingerprint()
    clock.lap("plan")
    with _all_or_nothing(job.outputs):
        _make_folders(job.outputs, job.splits)
        make_pipeline = make_pipeline or functools.partial(_make_pipeline, options)
        manifests = _run_units(job, units, make_pipeline)
        clock.lap("score")
        splits = add_up(units, manifests)
        check_shards(manifests, _existing_sizes(job.outputs))
        _check_failure_limit(job.failure_limit, splits, manifests)
        _merge_failures(job.outputs.summary, job.splits, manifests)
        for folder in job.outputs.folders:
            files.delete_folder(posixpath.join(folder, WORK_FOLDER))
        clock.lap("commit")
        summary = Summary(
            splits=splits,
            gate=job.gate,
            gate_reason=job.gate_reason,
            model_path=job.model.uri,
            model_fingerprint=fingerprint,
            model_versions=tuple(sorted({v for m in manifests for v in m.model_versions})),
            signature_names=tuple(signature.name for signature in signatures),
            seconds=clock.laps,
            work=_all_work(manifests),
            versions=library_versions(),
        )
        for split, counts in splits.items():
            if not counts.examples_read:
                _logger.warning(
                    "Split '%s' is empty: no record in %d files.",
                    split,
                    len(inputs[split]),
                )
        summary.write(job.outputs.summary)
    _logger.info(
        "%s: %s read, %s predicted, %s failed; %s.",
        job.model.uri,
        f"{summary.total.examples_read:,}",
        f"{summary.total.predictions_written:,}",
        f"{summary.total.examples_failed:,}",
        summary.work,
    )
    return summary


def local_beam_args() -> list[str]:
    """Returns the arguments of Beam's local runner with as many worker threads as cores.

    The class path instead of `DirectRunner`: that one first tries to download another runner on
    Beam 2.7x, and hangs where the network stalls.
    """
    return [
        "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",
        "--direct_running_mode=multi_threading",
        f"--direct_num_workers={_available_cores()}",
    ]


def runner_of(args: Iterable[Any]) -> str | None:
    """Returns the runner that Beam's arguments name, None if they leave it to the default."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--runner")
    named: str | None = parser.parse_known_args([str(arg) for arg in args])[0].runner
    return named


def library_versions() -> dict[str, str]:
    """Returns the versions of Python and of the libraries that results depend on."""
    versions = {"bulk-inferencer": __version__, "python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            versions[library] = "not installed"
    return versions


def _available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _make_pipeline(options: PipelineOptions | Sequence[str]) -> beam.Pipeline:
    if isinstance(options, PipelineOptions):
        return beam.Pipeline(options=options)
    args = list(options)
    if runner_of(args) is None:
        args = [*local_beam_args(), *args]
    return beam.Pipeline(options=PipelineOptions(args))


def _run_units(
    job: InferenceJob, units: Sequence[Unit], make_pipeline: Callable[[], beam.Pipeline]
) -> list[Manifest]:
    path = posixpath.join(job.outputs.summary, WORK_FOLDER, _MANIFESTS_FILE)
    run_units = RunUnits(units, job.model, job.record_format, job.bounds, job.outputs)
    try:
        with make_pipeline() as pipeline:
            _ = pipeline | "RunUnits" >> run_units | "WriteManifests" >> WriteManifests(path)
    except Exception as error:
        if raised := _error_of_worker(str(error)):
            raise raised from None  # Beam has logged the worker's traceback, several times.
        raise
    with files.open_to_read(path) as file:
        return [Manifest.from_json(line) for line in file.read().decode().splitlines()]


def _all_work(manifests: Sequence[Manifest]) -> Work:
    work = Work()
    for manifest in manifests:
        work.merge(manifest.work)
    return work


def _error_of_worker(text: str) -> BulkInferencerError | None:
    """Returns the error of ours that a worker raised; runners hand on its traceback as text."""
    pieces = re.split(r"^bulk_inferencer\.errors\.(\w+): ", text, flags=re.MULTILINE)
    if len(pieces) == 1:
        return None
    kind, rest = pieces[-2:]
    message = re.split(r" \[while running '|\n\n", rest)[0].rstrip()
    error: BulkInferencerError = getattr(errors, kind)(message)
    return error


def _check_columns(
    columns: Sequence[Column], signatures: Sequence[Signature], model_path: str
) -> None:
    if any(not signature.outputs for signature in signatures):
        return  # Some models tell their outputs with their first answer only.
    available = [output_prefix(s, signatures) + output for s in signatures for output in s.outputs]
    for column in columns:
        if column.output not in available:
            raise SettingsError(
                f"Expected column '{column.name}' to come from an output of {model_path}, got "
                f"'{column.output}'; it has: {', '.join(available)}. Correct OutputExampleSpec."
            )


def _check_failure_limit(
    limit: FailureLimit, splits: Mapping[str, Counts], manifests: Sequence[Manifest]
) -> None:
    for split, counts in splits.items():
        too_many = limit.max_count is not None and counts.examples_failed > limit.max_count
        # As a quotient: 0.29 * 100 is less than 29 in floating point.
        fraction = counts.examples_failed / max(1, counts.examples_read)
        too_large = fraction > limit.max_fraction
        if too_many or too_large:
            allowed = f"at most {limit.max_fraction:.2%}"
            if limit.max_count is not None:
                allowed += f" and at most {limit.max_count}"
            first = [f for m in manifests if m.split == split for f in m.first_failures]
            reasons = "\n".join(f"  {f.file}, record {f.record}: {f.reason}" for f in first[:3])
            raise FailureLimitError(
                f"Expected {allowed} of the records of split '{split}' to fail, got "
                f"{counts.examples_failed} of {counts.examples_read}. The first ones:\n{reasons}\n"
                f"Mend the records or the model, or raise the failure_limit to keep the "
                f"failures in failed_examples."
            )


# Folders: all of them are complete at the end, or empty.


@contextmanager
def _all_or_nothing(outputs: Outputs) -> Iterator[None]:
    for folder in outputs.folders:
        if existing := files.files_below(folder):
            raise SettingsError(
                f"Expected an empty folder to write to, got {len(existing)} files in {folder}, "
                f"such as {min(existing)}. Choose another folder: results are never overwritten. "
                f"Where there is no {SUMMARY_FILE}, they are of a run that was killed, or that is "
                f"not over, and once it is, the folder can be emptied."
            )
    try:
        yield
    except BaseException:
        for folder in outputs.folders:
            try:
                files.delete_folder(folder)
                files.make_folder(folder)
            except Exception:  # the error that is on its way says more
                _logger.exception("Could not empty %s: delete what is in it.", folder)
        raise


def _make_folders(outputs: Outputs, splits: Iterable[str]) -> None:
    by_split = [outputs.failed_examples]
    if outputs.output_examples:
        by_split.append(outputs.output_examples)
    for folder in outputs.folders:
        files.make_folder(posixpath.join(folder, WORK_FOLDER))
    for folder, split in itertools.product(by_split, splits):
        files.make_folder(posixpath.join(folder, f"Split-{split}"))


def _existing_sizes(outputs: Outputs) -> dict[str, int]:
    """Returns the sizes of all files that units committed: not of attempts that came to nothing."""
    sizes = {}
    for folder in outputs.folders:
        work = posixpath.join(folder, WORK_FOLDER) + "/"
        for path, size in files.files_below(folder).items():
            if not path.startswith(work) or path.startswith(work + "failures-"):
                sizes[path] = size
    return sizes


def _merge_failures(folder: str, splits: Iterable[str], manifests: Sequence[Manifest]) -> None:
    """Concatenates the failures of each split's units; gzip members may follow one another."""
    for split in splits:
        parts = [m.failures for m in sorted(manifests, key=lambda m: m.index) if m.split == split]
        path = posixpath.join(folder, f"failures-{split}.jsonl.gz")
        with files.open_to_write(path) as merged:
            for part in parts:
                with files.open_to_read(part) as file:
                    shutil.copyfileobj(file, merged, _COPY_BUFFER_BYTES)


class _Clock:
    """Wall time of consecutive steps, in seconds."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = round(now - self._last, 3)
        self._last = now
