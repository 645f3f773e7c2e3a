"""What one run needs: records, models and folders for results. Checked before anything starts."""

from __future__ import annotations

import dataclasses
import posixpath
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from typing import Any

from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._formats.example import Column
from bulk_inferencer._formats.record_format import (
    FORMAT_PROTO,
    FORMAT_TF_EXAMPLE,
    FORMAT_TF_SEQUENCE_EXAMPLE,
    RECORD_FORMATS,
)
from bulk_inferencer._gate import UNASKED, Decision
from bulk_inferencer._layout import COMPRESSIONS, GZIP, INFERENCE_RESULT
from bulk_inferencer._models.predictor import Model, check_is_model, check_name
from bulk_inferencer._units.failure_limit import FailureLimit
from bulk_inferencer._units.outcomes import check_outcomes, read_outcomes
from bulk_inferencer._units.routing import SplitRouting
from bulk_inferencer._units.run import UnitTask
from bulk_inferencer._units.sinks.comparison import ModelComparison
from bulk_inferencer._units.sinks.failed_examples import FailedExamples
from bulk_inferencer._units.sinks.failure_list import FailureList
from bulk_inferencer._units.sinks.outcomes import MatchedOutcomes
from bulk_inferencer._units.sinks.output_examples import OutputExamples, check_no_variant
from bulk_inferencer._units.sinks.prediction_logs import PredictionLogs
from bulk_inferencer._units.sinks.sink import Sink
from bulk_inferencer.errors import SettingsError, prefix_errors
from bulk_inferencer.results.compare import Comparing


@dataclass(frozen=True)
class Branch:
    """One model of a run.

    ```python
    Branch("five", SavedModel("models/five_times"), folder="results/five")
    ```

    Attributes:
      name: the model's name in results and messages. A single model may be called
        `inference_result`; then neither of them names it.
      model: the model.
      folder: the folder of its PredictionLogs.
      gate: whether it may run. A model that may not is in the summary, but gets no records.

    Raises:
      SettingsError: the name or the model is not valid.
    """

    name: str
    model: Model
    folder: str
    gate: Decision = UNASKED

    def __post_init__(self) -> None:
        check_name(self.name, "model")
        with prefix_errors(self.label):
            check_is_model(self.model)

    @property
    def label(self) -> str:
        """What messages about it begin with: `Model 'five'`, or nothing."""
        return "" if self.name == INFERENCE_RESULT else f"Model '{self.name}'"


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The folders of a run's results, and what goes into them.

    ```python
    Outputs.under("results")
    ```

    Attributes:
      summary: folder of the summary and of the lists of failures.
      failed_examples: folder of the records that could not be scored, by split.
      inference_result: folder of the PredictionLogs, for a job with one `model`. Branches have
        folders of their own.
      output_examples: folder of the records with predictions as features, by split; optional.
      columns: the outputs that become features of the output examples. If every record goes to
        several models, each column is there for each of them, as `<model>/<column>`. If a record
        goes to one of them, the feature `variant` holds its name.
      replace_features: whether a column may replace an input feature.
      compression: of the PredictionLogs: `GZIP` or `NONE`.
      comparison: folder of the comparison of several models; optional.
      comparing: what the comparison keeps.

    Raises:
      SettingsError: the compression is unknown, or there are output examples without columns or
        columns without output examples.
    """

    summary: str
    failed_examples: str
    inference_result: str | None = None
    output_examples: str | None = None
    columns: tuple[Column, ...] = ()
    replace_features: bool = False
    compression: str = GZIP
    comparison: str | None = None
    comparing: Comparing = field(default_factory=Comparing)

    def __post_init__(self) -> None:
        if self.compression not in COMPRESSIONS:
            raise SettingsError(
                f"Outputs.compression must be one of {', '.join(COMPRESSIONS)}, not "
                f"{self.compression!r}. Leave it out for {GZIP}."
            )
        if bool(self.columns) != bool(self.output_examples):
            raise SettingsError(
                "Outputs.output_examples and Outputs.columns need each other. Give both the folder "
                "and the outputs that become features."
            )

    @classmethod
    def under(cls, folder: str, compression: str = GZIP) -> Outputs:
        """Returns outputs below one folder, without output examples."""
        return cls(
            summary=posixpath.join(folder, "summary"),
            failed_examples=posixpath.join(folder, "failed_examples"),
            inference_result=posixpath.join(folder, INFERENCE_RESULT),
            compression=compression,
        )


@dataclass(frozen=True, kw_only=True)
class InferenceJob:
    """One run: which records, which models, and where the results go.

    ```python
    InferenceJob(
        splits={"unlabelled": ["data/*.tfrecord.gz"]},
        model=SavedModel("models/five_times"),
        outputs=Outputs.under("results"),
    )
    ```

    Attributes:
      splits: patterns of TFRecord files, by split. Beam's `FileSystems` matches them.
      outputs: the folders of the results, which must be empty or not exist.
      branches: the models, at least one. For a single one, `model=` takes the model itself, and
        its predictions go to `outputs.inference_result`.
      record_format: `FORMAT_TF_EXAMPLE`, `FORMAT_TF_SEQUENCE_EXAMPLE`, or `FORMAT_PROTO` for
        anything else that the signature takes as a string.
      bounds: bounds of a batch, for all models.
      failure_limit: how many of the records that go to one model may fail.
      allow_empty_splits: whether patterns may match no file, which makes an empty split.
      routing: which model a record goes to; default: to each of them. The keys of a model whose
        gate is closed are shared among the others.
      outcomes: with routing, a CSV file with the columns `key` and `value`: what came of the keys
        that were split by. Optional.

    Raises:
      SettingsError: settings are missing or contradict each other.
    """

    splits: Mapping[str, Sequence[str]]
    outputs: Outputs
    branches: Sequence[Branch] = ()
    model: InitVar[Model | None] = None
    record_format: str = FORMAT_TF_EXAMPLE
    bounds: BatchBounds = field(default_factory=BatchBounds)
    failure_limit: FailureLimit = field(default_factory=FailureLimit)
    allow_empty_splits: bool = False
    routing: SplitRouting | None = None
    outcomes: str = ""

    def __post_init__(self, model: Model | None) -> None:
        branches = tuple(self.branches)
        if model is not None:
            branches = _only_branch(model, branches, self.outputs)
        object.__setattr__(self, "branches", branches)
        _check_branches(branches, self.folders)
        if self.open_branches:
            _check_splits(self.splits)
        _check_record_format(self.record_format, self.outputs, self.routing)
        if self.routing:
            self.routing.check_names(branch.name for branch in branches)
            check_no_variant(self.outputs.columns)
        if self.outcomes:
            check_outcomes(self.outcomes, self.routing)
        if (self.routing or self.outcomes) and bool(self.outcomes) != bool(self.outputs.comparison):
            raise SettingsError(
                f"In an A/B test, outcomes and Outputs.comparison need each other, but only "
                f"{self.outcomes or self.outputs.comparison} is there. Give both the file of "
                f"outcomes and the folder for their comparison."
            )

    @property
    def open_branches(self) -> tuple[Branch, ...]:
        """The models that may run."""
        return tuple(branch for branch in self.branches if branch.gate.is_open)

    @property
    def names_models(self) -> bool:
        """Whether results carry the models' names."""
        return any(branch.label for branch in self.branches)

    @property
    def folders(self) -> tuple[str, ...]:
        """All folders that the run writes to."""
        outputs = self.outputs
        optional = (outputs.output_examples, outputs.comparison)
        always = (*(b.folder for b in self.branches), outputs.summary, outputs.failed_examples)
        return (*always, *(folder for folder in optional if folder))

    def task(self) -> UnitTask:
        """Returns what workers need to know.

        Raises:
          InputError: the outcomes cannot be read.
        """
        running = self.open_branches
        routing = self.routing
        if routing and running:
            closed = {branch.name for branch in self.branches if branch not in running}
            routing = dataclasses.replace(routing, kept_out=routing.kept_out | closed)
        return UnitTask(
            models={branch.name: branch.model for branch in running},
            labels={branch.name: branch.label for branch in running},
            record_format=self.record_format,
            bounds=self.bounds,
            routing=routing,
            sinks=tuple(self._sinks(running, routing)),
        )

    def _sinks(self, running: Sequence[Branch], routing: SplitRouting | None) -> list[Sink]:
        outputs = self.outputs
        sinks: list[Sink] = [
            *(PredictionLogs(b.name, b.folder, outputs.compression) for b in running),
            FailedExamples(outputs.failed_examples),
            FailureList(outputs.summary, self.names_models),
        ]
        if outputs.output_examples:
            sinks.append(
                OutputExamples(
                    outputs.output_examples,
                    outputs.columns,
                    outputs.replace_features,
                    is_split=routing is not None,
                    names_models=self.names_models,
                )
            )
        if outputs.comparison and routing and running:
            digest = read_outcomes(self.outcomes).digest
            sinks.append(MatchedOutcomes(outputs.comparison, self.outcomes, digest, routing))
        elif outputs.comparison:
            sinks.append(ModelComparison(outputs.comparison, outputs.comparing))
        return sinks


def _only_branch(
    model: Model, branches: tuple[Branch, ...], outputs: Outputs
) -> tuple[Branch, ...]:
    if branches:
        raise SettingsError(
            f"InferenceJob takes either model or branches, but got both: a model, and the branches "
            f"{', '.join(branch.name for branch in branches)}. Leave out one."
        )
    if not outputs.inference_result:
        raise SettingsError(
            "Outputs.inference_result is missing: the predictions of the model need a folder. Name "
            "one, or use Outputs.under(folder)."
        )
    return (Branch(INFERENCE_RESULT, model, outputs.inference_result),)


def _check_branches(branches: Sequence[Branch], folders: Sequence[str]) -> None:
    names = [branch.name for branch in branches]
    if not names:
        raise SettingsError("The job has no model. Give InferenceJob a model or branches.")
    if doubled := _doubled(names):
        raise SettingsError(f"Several models are named {doubled}. Give each a name of its own.")
    if len(branches) > 1 and INFERENCE_RESULT in names:
        raise SettingsError(
            f"Only a single model can be named '{INFERENCE_RESULT}', but there are "
            f"{len(branches)}. Rename it."
        )
    if doubled := _doubled(folder.rstrip("/") for folder in folders):
        raise SettingsError(
            f"Several outputs have the folder {doubled}. Give each a folder of its own."
        )


def _doubled(values: Iterable[str]) -> str:
    counts = Counter(values)
    return ", ".join(sorted(value for value, count in counts.items() if count > 1))


def _check_splits(splits: Any) -> None:
    if not isinstance(splits, Mapping):
        raise SettingsError(
            f"InferenceJob.splits must hold lists of file patterns by split, not {splits!r}. Name "
            f"the split: {{'unlabelled': ['data/*.tfrecord.gz']}}."
        )
    if not splits:
        raise SettingsError("InferenceJob.splits is empty. Name the files to score.")
    for split, patterns in splits.items():
        if isinstance(patterns, str):
            raise SettingsError(
                f"The file patterns of split '{split}' must be a list, not the string "
                f"{patterns!r}. Put it into a list."
            )


def _check_record_format(
    record_format: str, outputs: Outputs, routing: SplitRouting | None
) -> None:
    if record_format not in RECORD_FORMATS:
        raise SettingsError(
            f"The record_format must be one of {', '.join(RECORD_FORMATS)}, not {record_format}. "
            f"Convert the examples to one of them."
        )
    if record_format != FORMAT_PROTO:
        return
    if outputs.output_examples:
        raise SettingsError(
            f"Features can be added to {FORMAT_TF_EXAMPLE} and {FORMAT_TF_SEQUENCE_EXAMPLE} "
            f"records, not to {FORMAT_PROTO}. Leave out Outputs.output_examples and "
            f"Outputs.columns."
        )
    if routing and routing.split_key:
        raise SettingsError(
            f"The split_key '{routing.split_key}' can be read from {FORMAT_TF_EXAMPLE} and "
            f"{FORMAT_TF_SEQUENCE_EXAMPLE} records, not from {FORMAT_PROTO}. Leave it out to split "
            f"by whole records."
        )
