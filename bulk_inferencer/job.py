"""Everything that one run needs, and the run itself. No TFX here."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib.metadata
import logging
import os
import platform
import posixpath
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from bulk_inferencer import __version__, _files, errors
from bulk_inferencer._formats.example import Column
from bulk_inferencer._models.batching import BatchBounds
from bulk_inferencer._models.names import check_name, in_words
from bulk_inferencer._models.predictor import (
    FORMAT_PROTO,
    FORMAT_TF_EXAMPLE,
    FORMAT_TF_SEQUENCE_EXAMPLE,
    RECORD_FORMATS,
    Model,
    check_is_model,
)
from bulk_inferencer._models.routing import SplitRouting
from bulk_inferencer._signatures import Signature, output_names
from bulk_inferencer._units.failure_limit import FailureLimit, check_failure_limit
from bulk_inferencer._units.folders import (
    all_or_nothing,
    delete_work_folders,
    existing_sizes,
    make_folders,
    merge_failures,
)
from bulk_inferencer._units.manifest import Manifest, add_up, check_shards, unrouted_by_split
from bulk_inferencer._units.outputs import VARIANT, WORK_FOLDER, Outputs
from bulk_inferencer._units.plan import InputFile, Unit, list_files, plan_units
from bulk_inferencer._work import Work
from bulk_inferencer.beam.run_units import RunUnits, WriteManifests
from bulk_inferencer.errors import (
    BulkInferencerError,
    InputError,
    SettingsError,
    located,
)
from bulk_inferencer.results.compare import Comparison
from bulk_inferencer.results.outcomes import Outcomes, outcomes_by_variant, read_outcomes
from bulk_inferencer.results.summary import BranchSummary, StageCounts, Summary

_logger = logging.getLogger(__name__)

_MANIFESTS_FILE = "manifests.jsonl"
_LIBRARIES = ("tfx", "apache-beam", "tensorflow", "numpy")
_ONLY_MODEL = ""  # the name of a model that stands by itself

NO_BLESSING = "no_blessing"
_NO_BLESSING_REASON = "No blessing was asked for."


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
    gate_reason: str = _NO_BLESSING_REASON

    def __post_init__(self) -> None:
        _check_splits(self.splits)
        check_is_model(self.model)
        _check_outputs(self.outputs, self.record_format)


@dataclass(frozen=True, kw_only=True)
class BranchJob:
    """One run with several models: which records, which models, where to.

    Attributes:
      splits: see `InferenceJob`.
      models: the models by name.
      outputs: the folders to write, which must be empty or not exist, with one of predictions for
        each model.
      record_format: see `InferenceJob`.
      bounds: bounds of a batch, for all models.
      failure_limit: how many of the records that go to one model may fail.
      allow_empty_splits: see `InferenceJob`.
      routing: which model a record goes to; default: to each of them.
      outcomes: with routing, a CSV file with columns `key` and `value`: what came of the keys that
        were split by; see `bulk_inferencer.results.outcomes`. Optional.
      gates: `blessed`, `not_blessed` or `no_blessing`, and why, for the summary; by model.
      blocked: summaries of models that the gate kept out, for the summary.

    Raises:
      SettingsError: a setting contradicts another.
    """

    splits: Mapping[str, Sequence[str]]
    models: Mapping[str, Model]
    outputs: Outputs
    record_format: str = FORMAT_TF_EXAMPLE
    bounds: BatchBounds = field(default_factory=BatchBounds)
    failure_limit: FailureLimit = field(default_factory=FailureLimit)
    allow_empty_splits: bool = False
    routing: SplitRouting | None = None
    outcomes: str = ""
    gates: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    blocked: Mapping[str, Summary] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_splits(self.splits)
        _check_outputs(self.outputs, self.record_format)
        if not self.models:
            raise SettingsError("Expected at least one model, got none. Name the models to score.")
        for name, model in self.models.items():
            if self.models.keys() != {_ONLY_MODEL}:
                check_name(name, "model")
            check_is_model(model)
        _check_same_names("folders of outputs.inference_result", self.outputs.results, self.models)
        folders = [folder.rstrip("/") for folder in self.outputs.folders]
        if doubled := sorted({folder for folder in folders if folders.count(folder) > 1}):
            raise SettingsError(
                f"Expected a folder for each of the outputs, got {', '.join(doubled)} for several. "
                f"Name another folder for each of them."
            )
        if both := sorted(self.models.keys() & self.blocked.keys()):
            raise SettingsError(
                f"Expected models to be scored or blocked, got both for {', '.join(both)}. Leave "
                f"them out of one."
            )
        if self.routing:
            _check_same_names("weights of routing", self.routing.running, self.models)
            if any(column.name == VARIANT for column in self.outputs.columns):
                raise SettingsError(
                    f"Expected no column '{VARIANT}' in OutputExampleSpec, since the name of the "
                    f"model stands in that feature. Choose another name."
                )
            if self.routing.split_key and self.record_format == FORMAT_PROTO:
                raise SettingsError(
                    f"Expected {FORMAT_TF_EXAMPLE} or {FORMAT_TF_SEQUENCE_EXAMPLE} records to read "
                    f"the split_key '{self.routing.split_key}' from, got {FORMAT_PROTO}. Leave it "
                    f"out to split by whole records."
                )
        if self.outcomes and not (self.routing and self.routing.split_key):
            raise SettingsError(
                f"Expected a split_key to find the outcomes of {self.outcomes} by, got none. Name "
                f"the feature that holds the key in SplitRouting.split_key."
            )
        if self.outcomes and not self.outputs.comparison:
            raise SettingsError(
                f"Expected a folder for what {self.outcomes} says of the models, got none. Name "
                f"one in Outputs.comparison."
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
    only_branch = BranchJob(
        splits=job.splits,
        models={_ONLY_MODEL: job.model},
        outputs=job.outputs,
        record_format=job.record_format,
        bounds=job.bounds,
        failure_limit=job.failure_limit,
        allow_empty_splits=job.allow_empty_splits,
        gates={_ONLY_MODEL: (job.gate, job.gate_reason)},
    )
    return run_branches(only_branch, options, make_pipeline).models[_ONLY_MODEL]


def run_branches(
    job: BranchJob,
    options: PipelineOptions | Sequence[str] = (),
    make_pipeline: Callable[[], beam.Pipeline] | None = None,
) -> BranchSummary:
    """Scores the records with several models, which are read once; see `run`.

    Returns:
      The summary, as written to `summary.json`.

    Raises:
      BulkInferencerError: as for `run`, of any of the models.
    """
    clock = _Clock()
    signatures = {name: _check_model(name, job) for name in job.models}
    outcomes = read_outcomes(job.outcomes) if job.outcomes else None
    inputs = _list_inputs(job)
    units = plan_units(inputs)
    fingerprints = {name: model.fingerprint() for name, model in job.models.items()}
    clock.lap("plan")
    with all_or_nothing(job.outputs):
        make_folders(job.outputs, job.splits)
        make_pipeline = make_pipeline or functools.partial(_make_pipeline, options)
        manifests = _run_units(job, units, outcomes, make_pipeline)
        clock.lap("score")
        counts = add_up(units, manifests, is_split=job.routing is not None)
        check_shards(manifests, existing_sizes(job.outputs))
        check_failure_limit(job.failure_limit, counts, manifests)
        merge_failures(job.outputs.summary, job.splits, manifests)
        delete_work_folders(job.outputs)
        if job.outputs.comparison:
            _compare(job, manifests, outcomes).write(job.outputs.comparison)
        clock.lap("commit")
        versions = library_versions()
        summaries = {
            name: Summary(
                counts[name],
                *job.gates.get(name, (NO_BLESSING, _NO_BLESSING_REASON)),
                model_path=model.uri,
                model_fingerprint=fingerprints[name],
                signature_names=tuple(signature.name for signature in signatures[name]),
                seconds=clock.laps,
                versions=versions,
                **_all_of_model(manifests, name),
            )
            for name, model in job.models.items()
        }
        summary = BranchSummary(
            models={**summaries, **job.blocked},
            routing="split" if job.routing else "all",
            unrouted=unrouted_by_split(manifests) if job.routing else {},
        )
        (summaries.get(_ONLY_MODEL) or summary).write(job.outputs.summary)
    _log_results(job, summary, inputs)
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


def _list_inputs(job: BranchJob) -> dict[str, list[InputFile]]:
    inputs = {split: list_files(split, patterns) for split, patterns in job.splits.items()}
    for split, found in inputs.items():
        if not found and not job.allow_empty_splits:
            raise InputError(
                f"Expected files for split '{split}', found none that match "
                f"{', '.join(job.splits[split])}. Correct the pattern, or set allow_empty_splits."
            )
    return inputs


def _run_units(
    job: BranchJob,
    units: Sequence[Unit],
    outcomes: Outcomes | None,
    make_pipeline: Callable[[], beam.Pipeline],
) -> list[Manifest]:
    """Returns the manifests, in the order of the units."""
    path = posixpath.join(job.outputs.summary, WORK_FOLDER, _MANIFESTS_FILE)
    run_units = RunUnits(
        units, job.models, job.record_format, job.bounds, job.outputs, job.routing, outcomes
    )
    try:
        with make_pipeline() as pipeline:
            _ = pipeline | "RunUnits" >> run_units | "WriteManifests" >> WriteManifests(path)
    except Exception as error:
        if raised := _error_of_worker(str(error)):
            raise raised from None  # Beam has logged the worker's traceback, several times.
        raise
    with _files.open_to_read(path) as file:
        manifests = [Manifest.from_json(line) for line in file.read().decode().splitlines()]
    return sorted(manifests, key=lambda manifest: (manifest.split, manifest.index))


def _all_of_model(manifests: Sequence[Manifest], model: str) -> dict[str, Any]:
    """Returns what units say of a model together, as fields of its summary."""
    work = Work()
    versions: set[str] = set()
    stages: Counter[str] = Counter()
    for scores in (scores for manifest in manifests for scores in manifest.scores):
        if scores.model == model:
            work.merge(scores.work)
            versions.update(scores.model_versions)
            stages.update(scores.stages)
    return {
        "work": work,
        "model_versions": tuple(sorted(versions)),
        "stages": StageCounts.of_cascade(stages),
    }


def _compare(
    job: BranchJob, manifests: Sequence[Manifest], outcomes: Outcomes | None
) -> Comparison:
    comparison = Comparison()
    matched = 0
    for manifest in manifests:
        comparison = comparison.merge(manifest.comparison)
        matched |= manifest.matched_outcomes
    if not (outcomes and job.routing):
        return comparison
    if outcomes.keys and not matched:
        _logger.warning(
            "No key of %s is one of the records' %s: there are no outcomes to tell of.",
            job.outcomes,
            job.routing.split_key,
        )
    routing = job.routing
    by_variant = outcomes_by_variant(
        outcomes, matched, lambda key: routing.model_of(key.encode()), list(job.models)
    )
    return dataclasses.replace(comparison, outcomes=by_variant)


def _log_results(
    job: BranchJob, summary: BranchSummary, inputs: Mapping[str, Sequence[InputFile]]
) -> None:
    for name in job.models:
        of_model = summary.models[name]
        _logger.info(
            "%s: %s read, %s predicted, %s failed; %s.",
            of_model.model_path,
            f"{of_model.total.examples_read:,}",
            f"{of_model.total.predictions_written:,}",
            f"{of_model.total.examples_failed:,}",
            of_model.work,
        )
    for split in job.splits:
        read = sum(summary.models[name].splits[split].examples_read for name in job.models)
        if not read + summary.unrouted.get(split, 0):
            _logger.warning(
                "Split '%s' is empty: no record in %d files.", split, len(inputs[split])
            )


def _error_of_worker(text: str) -> BulkInferencerError | None:
    """Returns the error of ours that a worker raised; runners hand on its traceback as text."""
    pieces = re.split(r"^bulk_inferencer\.errors\.(\w+): ", text, flags=re.MULTILINE)
    if len(pieces) == 1:
        return None
    kind, rest = pieces[-2:]
    message = re.split(r" \[while running '|\n\n", rest)[0].rstrip()
    error: BulkInferencerError = getattr(errors, kind)(message)
    return error


# Checks before the run


def _check_splits(splits: Any) -> None:
    if not isinstance(splits, Mapping):
        raise SettingsError(
            f"Expected lists of file patterns by split, got {splits!r}. Name the split: "
            f"{{'unlabelled': ['data/*.tfrecord.gz']}}."
        )
    if not splits:
        raise SettingsError("Expected at least one split, got none. Name the files to score.")
    for split, patterns in splits.items():
        if isinstance(patterns, str):
            raise SettingsError(
                f"Expected a list of file patterns for split '{split}', got the string "
                f"{patterns!r}. Put it into a list."
            )


def _check_outputs(outputs: Outputs, record_format: str) -> None:
    if record_format not in RECORD_FORMATS:
        raise SettingsError(
            f"Expected one of {', '.join(RECORD_FORMATS)} as record format, got "
            f"{record_format}. Convert the examples to one of them."
        )
    if bool(outputs.columns) != bool(outputs.output_examples):
        raise SettingsError(
            "Expected output_examples and columns together, got one of them. Name the "
            "outputs that become features in OutputExampleSpec."
        )
    if outputs.output_examples and record_format == FORMAT_PROTO:
        raise SettingsError(
            f"Output examples need {RECORD_FORMATS[0]} or {RECORD_FORMATS[1]} records to add "
            f"features to, got {FORMAT_PROTO}. Leave out output_example_spec."
        )


def _check_same_names(what: str, named: Iterable[str], models: Iterable[str]) -> None:
    got, expected = sorted(named), sorted(models)
    if got != expected:
        raise SettingsError(
            f"Expected {what} for the models {', '.join(expected)}, got them for "
            f"{', '.join(got) or 'none'}. Use the same names."
        )


def _check_model(name: str, job: BranchJob) -> tuple[Signature, ...]:
    """Returns the signatures of a model, after checking it as far as that goes without loading."""
    model = job.models[name]
    with located(in_words(name)):
        signatures = model.check(job.record_format)
        _check_columns(job.outputs.columns, signatures, model.uri)
    return signatures


def _check_columns(
    columns: Sequence[Column], signatures: Sequence[Signature], model_path: str
) -> None:
    available = output_names(signatures)
    for column in columns:
        if available and column.output not in available:
            raise SettingsError(
                f"Expected column '{column.name}' to come from an output of {model_path}, got "
                f"'{column.output}'; it has: {', '.join(available)}. Correct OutputExampleSpec."
            )


class _Clock:
    """Wall time of consecutive steps, in seconds."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = round(now - self._last, 3)
        self._last = now
