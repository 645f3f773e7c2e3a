"""What one run needs: records, models and folders for results. Checked before anything starts."""

from __future__ import annotations

import dataclasses
import itertools
import os
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bulk_inferencer import _files
from bulk_inferencer._checks import check_flag, check_kind, check_number, doubled
from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._formats.columns import ColumnView, column_view
from bulk_inferencer._formats.detect import named_format
from bulk_inferencer._formats.example import Column, check_columns
from bulk_inferencer._formats.input_format import InputFormat
from bulk_inferencer._formats.record_format import (
    FORMAT_TF_EXAMPLE,
    RECORD_FORMATS,
    check_has_features,
)
from bulk_inferencer._formats.table_settings import TableSettings
from bulk_inferencer._gate import UNASKED, Decision
from bulk_inferencer._layout import (
    COMPRESSIONS,
    GZIP,
    INFERENCE_RESULT,
    PREDICTION_TABLE,
    names_models,
)
from bulk_inferencer._models.predictor import Model, check_is_model, check_name, model_label
from bulk_inferencer._units.checkpoint import Checkpoint
from bulk_inferencer._units.damaged_files import DamagedFiles
from bulk_inferencer._units.failure_limit import FailureLimit
from bulk_inferencer._units.outcomes import check_outcomes
from bulk_inferencer._units.routing import SplitRouting
from bulk_inferencer._units.run import UnitTask
from bulk_inferencer._units.sinks.comparison import ComparedOutputs
from bulk_inferencer._units.sinks.failed_examples import FailedExamples
from bulk_inferencer._units.sinks.failure_list import FailureList
from bulk_inferencer._units.sinks.matched_outcomes import MatchedOutcomes
from bulk_inferencer._units.sinks.output_examples import OutputExamples, check_no_variant
from bulk_inferencer._units.sinks.prediction_logs import PredictionLogs
from bulk_inferencer._units.sinks.sink import Sink
from bulk_inferencer._units.sinks.statistics import PredictionStatistics
from bulk_inferencer.errors import SettingsError, prefix_errors
from bulk_inferencer.results.compare import Comparing
from bulk_inferencer.results.expectations import Expectations, check_baseline_models
from bulk_inferencer.results.outcomes import read_outcomes

# As TFX names them, and short enough for what else a name of a file holds.
_SPLIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_FOLDERS = (
    *("summary", "failed_examples", "inference_result", "table", "output_examples", "comparison"),
)


@dataclass(frozen=True)
class Branch:
    """One model of a run.

    ```python
    Branch("five", SavedModel("models/five_times"), folder="results/five")
    ```

    Attributes:
      name: the model's name in results and messages. If a lone model is named
        `inference_result`, they mention no name.
      model: the model.
      folder: the folder of its PredictionLogs; None where the job writes none.
      gate: whether it may run. A model that may not is in the summary, but gets no records.
      expectations: what its predictions must be like. The run does not fail where they are not, but
        its summary says so.
      baseline: a folder of earlier results, from which distributions must not drift too far: of a
        run, whose model has the same name or is the only one, or of the PredictionLogs of one
        model. Empty where there are none yet.

    Raises:
      SettingsError: the name, the model, the gate or what is expected is not valid.
    """

    name: str
    model: Model
    folder: str | None = None
    gate: Decision = UNASKED
    expectations: Expectations | None = None
    baseline: str = ""

    def __post_init__(self) -> None:
        check_name(self.name, "model")
        with prefix_errors(self.label):
            if self.folder is not None:
                object.__setattr__(self, "folder", _files.as_path("Branch.folder", self.folder))
            check_is_model(self.model)
            if not isinstance(self.gate, Decision):
                raise SettingsError(
                    f"Branch.gate must be a Decision, not {self.gate!r}. Use Decision(verdict, "
                    f"reason), or leave it out if the model needs no blessing."
                )
            self._check_expectations()

    def _check_expectations(self) -> None:
        expected = self.expectations
        if expected is not None:
            example = "Expectations(max_failed_fraction=0.01)"
            check_kind("Branch.expectations", expected, Expectations, example)
        object.__setattr__(self, "baseline", _files.as_path("Branch.baseline", self.baseline))
        if self.baseline and not (expected and expected.needs_baseline):
            raise SettingsError(
                f"Branch.baseline is {self.baseline}, but nothing is expected of the distance from "
                f"it. Set OutputExpectations.max_drift, or leave it out."
            )

    @property
    def label(self) -> str:
        """What messages about it begin with: `Model 'five'`, or nothing."""
        return model_label(self.name) if names_models([self.name]) else ""


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
      table: folder of the predictions as a table, with a row per record; optional. With it, there
        is a table of the failures in the folder of the summary, too.
      table_settings: what the tables are like.
      prediction_logs: whether PredictionLogs are written. Without them, a table is needed.
      records_in_logs: whether a PredictionLog holds its record, as in TFX.

    Raises:
      SettingsError: the compression is unknown, there are output examples without columns or
        columns without output examples, or there are neither PredictionLogs nor a table.
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
    table: str | None = None
    table_settings: TableSettings = field(default_factory=TableSettings)
    prediction_logs: bool = True
    records_in_logs: bool = True

    def __post_init__(self) -> None:
        for name in _FOLDERS:
            if (folder := getattr(self, name)) is not None:
                object.__setattr__(self, name, _files.as_path(f"Outputs.{name}", folder))
        if self.compression not in COMPRESSIONS:
            raise SettingsError(
                f"Outputs.compression must be one of {', '.join(COMPRESSIONS)}, not "
                f"{self.compression!r}. Leave it out for {GZIP}."
            )
        check_columns("Outputs.columns", self.columns)
        example = 'TableSettings(format="csv")'
        check_kind("Outputs.table_settings", self.table_settings, TableSettings, example)
        for name in ("prediction_logs", "records_in_logs"):
            check_flag(f"Outputs.{name}", getattr(self, name))
        if not self.prediction_logs and not self.table:
            raise SettingsError(
                "Outputs has neither PredictionLogs nor a table, so the predictions would be lost. "
                "Name a folder in Outputs.table, or leave out prediction_logs=False."
            )
        if bool(self.columns) != bool(self.output_examples):
            raise SettingsError(
                "Outputs.output_examples and Outputs.columns need each other. Give both the folder "
                "and the outputs that become features."
            )

    @classmethod
    def under(
        cls, folder: str | os.PathLike[str], compression: str = GZIP, **settings: Any
    ) -> Outputs:
        """Returns outputs below one folder, without output examples.

        With `table=True`, there is a table, too. Further settings are those of the class.
        """
        folder = _files.as_path("The folder of Outputs.under", folder)
        if not folder:
            raise SettingsError("The folder of Outputs.under is empty text. Use '.' for this one.")
        if (table := settings.pop("table", None)) is not None and table is not False:
            name = PREDICTION_TABLE if table is True else table
            settings["table"] = posixpath.join(folder, name)
        return cls(
            summary=posixpath.join(folder, "summary"),
            failed_examples=posixpath.join(folder, "failed_examples"),
            inference_result=(
                posixpath.join(folder, INFERENCE_RESULT)
                if settings.get("prediction_logs", True)
                else None
            ),
            compression=compression,
            **settings,
        )


# Class, example, and whether it may be left out.
_KINDS = {
    "outputs": (Outputs, 'Outputs.under("results")', False),
    "bounds": (BatchBounds, "BatchBounds(max_records=1024)", False),
    "failure_limit": (FailureLimit, "FailureLimit(max_fraction=0.05)", False),
    "damaged_files": (DamagedFiles, "DamagedFiles(skip=True)", False),
    "routing": (SplitRouting, 'SplitRouting({"five": 9, "ten": 1})', True),
    "checkpoint": (Checkpoint, 'Checkpoint("checkpoints")', True),
}


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
      splits: files by split: their paths; or folders, which stand for all files below them; or
        patterns, in which `*` stands for anything within one name and `**` for anything at all.
        Each must match something. Folders and patterns leave out names that begin with `.` or `_`,
        and folders with such names; a pattern that is the name of a file means that file.
      outputs: the folders of the results, which must be empty or not exist.
      branches: the models, at least one.
      model: the model of a job with a single one, instead of `branches`. It becomes a branch, whose
        predictions go to `outputs.inference_result`.
      input_format: the format of the files: `TFRecord`, `Parquet`, `CSV`, `JSONLines` or
        `WholeFiles`, or its name; default: as their content and names say.
      columns: of tables, the columns that models see; or, for each input of a model, the column
        that it takes, or a list of columns that become one vector. Default: all of them.
      rename: of tables, the names under which models see columns, by column.
      record_format: of TFRecord files: `FORMAT_TF_EXAMPLE`, `FORMAT_TF_SEQUENCE_EXAMPLE`, or
        `FORMAT_PROTO` for anything else that the signature takes as a string.
      bounds: bounds of a batch, for all models.
      failure_limit: how many of the records that go to one model may fail.
      damaged_files: what to do about input files that are damaged.
      allow_empty_splits: whether patterns may match no file, which makes an empty split.
      routing: which model a record goes to; default: to each of them. The keys of a model whose
        gate is closed are shared among the others.
      outcomes: with routing, a CSV file with the columns `key` and `value`: what came of the keys
        that were split by. Optional.
      limit: most records of each split to score, in the order of the files; for a trial, which does
        not meet expectations if a split has that many. Default: all of them.
      checkpoint: where finished units wait until the run commits; default: in the folders of the
        outputs, where the next run of the same job finds them.
      resumable: whether finished units stay if the run does not end, for the next one to go on.
        With a checkpoint, they always do.
      modules: Python files, or wheels, with what models are made of, such as hooks or a function
        that loads a model. Workers on other machines get them, and prefer them to modules of the
        same name that are installed there.

    Raises:
      SettingsError: settings are missing or contradict each other.
    """

    splits: Mapping[str, Sequence[str]]
    outputs: Outputs
    branches: Sequence[Branch] = ()
    model: Model | None = None
    input_format: InputFormat | str | None = None
    columns: Sequence[str] | Mapping[str, str | Sequence[str]] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    record_format: str = FORMAT_TF_EXAMPLE
    bounds: BatchBounds = field(default_factory=BatchBounds)
    failure_limit: FailureLimit = field(default_factory=FailureLimit)
    damaged_files: DamagedFiles = field(default_factory=DamagedFiles)
    allow_empty_splits: bool = False
    routing: SplitRouting | None = None
    outcomes: str = ""
    limit: int | None = None
    checkpoint: Checkpoint | None = None
    resumable: bool = True
    modules: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name, (kind, example, may_be_none) in _KINDS.items():
            value = getattr(self, name)
            if not (may_be_none and value is None):
                check_kind(f"InferenceJob.{name}", value, kind, example)
        if self.outcomes:
            path = _files.as_path("InferenceJob.outcomes", self.outcomes)
            object.__setattr__(self, "outcomes", path)
        if self.input_format is not None:
            object.__setattr__(self, "input_format", named_format(self.input_format))
        if self.limit is not None:
            advice = "Leave it out to score all records."
            check_number("InferenceJob.limit", self.limit, advice, 1, whole=True)
        if isinstance(self.modules, str):
            raise SettingsError(
                f"InferenceJob.modules must be a list of paths, not {self.modules!r}. Write "
                f"[{self.modules!r}]."
            )
        modules = tuple(_files.as_path("InferenceJob.modules", own) for own in self.modules)
        object.__setattr__(self, "modules", modules)
        column_view(self.columns, self.rename)
        branches = tuple(self.branches)
        if self.model is not None:
            branches = _only_branch(self.model, branches, self.outputs)
        if not self.outputs.prediction_logs:
            branches = tuple(dataclasses.replace(branch, folder=None) for branch in branches)
        object.__setattr__(self, "branches", branches)
        _check_branches(branches, self.written_folders, self.outputs.prediction_logs)
        if self.open_branches:
            object.__setattr__(self, "splits", _checked_splits(self.splits))
        _check_record_format(self.record_format, self.outputs, self.routing)
        _check_baseline_models(branches, self.outputs, is_split=self.routing is not None)
        if self.routing:
            self.routing.check_names(branch.name for branch in branches)
            check_no_variant(self.outputs.columns)
        if self.outcomes:
            check_outcomes(self.outcomes, self.routing)
            if not self.outputs.comparison:
                raise SettingsError(
                    f"The outcomes in {self.outcomes} need a folder for their comparison. Name it "
                    f"in Outputs.comparison."
                )
        elif self.routing and self.outputs.comparison:
            raise SettingsError(
                f"In an A/B test there is nothing to compare without outcomes, so "
                f"{self.outputs.comparison} would stay empty. Set outcomes, or leave out "
                f"Outputs.comparison."
            )

    @property
    def open_branches(self) -> tuple[Branch, ...]:
        """The models that may run."""
        return tuple(branch for branch in self.branches if branch.gate.is_open)

    @property
    def names_models(self) -> bool:
        """Whether results carry the models' names."""
        return names_models(branch.name for branch in self.branches)

    @property
    def view(self) -> ColumnView:
        """What models see of tables."""
        return column_view(self.columns, self.rename)

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders of all outputs."""
        outputs = self.outputs
        optional = (outputs.table, outputs.output_examples, outputs.comparison)
        logs = (branch.folder for branch in self.branches if branch.folder is not None)
        always = (*logs, outputs.summary, outputs.failed_examples)
        return (*always, *(folder for folder in optional if folder))

    @property
    def written_folders(self) -> tuple[str, ...]:
        """All folders that the run writes to: those of outputs, and of the checkpoint."""
        return (*self.folders, *([self.checkpoint.folder] if self.checkpoint else []))


def unit_task(job: InferenceJob) -> UnitTask:
    """Returns what workers need to know of a job.

    Raises:
      InputError: the outcomes cannot be read.
    """
    running = job.open_branches
    routing = job.routing
    if routing and running:
        closed = {branch.name for branch in job.branches if branch not in running}
        routing = dataclasses.replace(routing, kept_out=routing.kept_out | closed)
    outputs = job.outputs
    sinks: list[Sink] = [
        *(
            PredictionLogs(branch.name, branch.folder, outputs.compression, outputs.records_in_logs)
            for branch in running
            if branch.folder is not None
        ),
        FailedExamples(outputs.failed_examples),
        FailureList(outputs.summary, job.names_models),
        PredictionStatistics(outputs.summary),
    ]
    if outputs.output_examples:
        sinks.append(
            OutputExamples(
                outputs.output_examples,
                outputs.columns,
                outputs.replace_features,
                is_split=routing is not None,
                names_models=job.names_models,
            )
        )
    if outputs.comparison and routing and running:
        sinks.append(MatchedOutcomes(outputs.comparison, read_outcomes(job.outcomes), routing))
    elif outputs.comparison:
        sinks.append(ComparedOutputs(outputs.comparison, outputs.comparing))
    return UnitTask(
        models={branch.name: branch.model for branch in running},
        labels={branch.name: branch.label for branch in running},
        record_format=job.record_format,
        bounds=job.bounds,
        routing=routing,
        sinks=tuple(sinks),
        failure_limit=job.failure_limit,
        damaged_files=job.damaged_files,
    )


def _only_branch(
    model: Model, branches: tuple[Branch, ...], outputs: Outputs
) -> tuple[Branch, ...]:
    # The branch that the model has made already comes back from `dataclasses.replace`.
    if named := [branch.name for branch in branches if branch.label]:
        raise SettingsError(
            f"InferenceJob takes either model or branches, but got both: a model, and the branches "
            f"{', '.join(named)}. Leave out one."
        )
    if not outputs.inference_result and outputs.prediction_logs:
        raise SettingsError(
            "Outputs.inference_result is missing: the predictions of the model need a folder. Name "
            "one, or use Outputs.under(folder)."
        )
    made = Branch(INFERENCE_RESULT, model, outputs.inference_result)
    if branches:
        return (dataclasses.replace(branches[0], model=model, folder=made.folder),)
    return (made,)


def _check_branches(
    branches: Sequence[Branch], folders: Sequence[str], needs_folders: bool
) -> None:
    names = [branch.name for branch in branches]
    if not names:
        raise SettingsError("The job has no model. Give InferenceJob a model or branches.")
    if taken := doubled(names):
        raise SettingsError(f"Several models are named {taken}. Give each a name of its own.")
    if len(branches) > 1 and INFERENCE_RESULT in names:
        raise SettingsError(
            f"Only a single model can be named '{INFERENCE_RESULT}', but there are "
            f"{len(branches)}. Rename it."
        )
    if needs_folders and (lacking := [b.name for b in branches if b.folder is None]):
        raise SettingsError(
            f"The model '{lacking[0]}' has no folder for its predictions. Name one in "
            f"Branch.folder."
        )
    if not all(folders):
        raise SettingsError("The folder of an output is empty text. Name a folder for each output.")
    same = _files.identities(folder.rstrip("/") for folder in folders)
    paths = [same[folder.rstrip("/")] for folder in folders]
    if taken := doubled(paths):
        raise SettingsError(
            f"Several outputs have the folder {taken}. Give each a folder of its own."
        )
    for inner, outer in itertools.permutations(paths, 2):
        if inner.startswith(outer + "/"):
            raise SettingsError(
                f"The output folder {inner} lies within another one, {outer}. Give each output a "
                f"folder beside the others."
            )
    for branch in branches:
        model = branch.model.uri.rstrip("/")
        root = _files.identities([model])[model] + "/" if model else "\0"
        if within := [path for path in paths if path.startswith(root)]:
            raise SettingsError(
                f"The output folder {within[0]} lies within the model's, {model}, whose files must "
                f"not change during a run. Choose another folder."
            )


def _check_baseline_models(branches: Sequence[Branch], outputs: Outputs, is_split: bool) -> None:
    expected = {b.name: b.expectations for b in branches if b.expectations is not None}
    check_baseline_models(expected, [branch.name for branch in branches], is_split)
    comparing = [own.baseline_model for own in expected.values() if own.baseline_model]
    if comparing and not outputs.comparison:
        raise SettingsError(
            f"Expectations.baseline_model is '{comparing[0]}', but the models are not compared. "
            f"Name a folder in Outputs.comparison."
        )


def _checked_splits(splits: Any) -> dict[str, list[str]]:
    if not isinstance(splits, Mapping):
        raise SettingsError(
            f"InferenceJob.splits must hold lists of file patterns by split, not {splits!r}. Name "
            f"the split: {{'unlabelled': ['data/*.tfrecord.gz']}}."
        )
    if not splits:
        raise SettingsError("InferenceJob.splits is empty. Name the files to score.")
    for split, patterns in splits.items():
        if not isinstance(split, str) or not _SPLIT_NAME.fullmatch(split):
            raise SettingsError(
                f"{split!r} cannot be the name of a split, since it becomes part of files' names. "
                f"Use up to 100 letters, digits, underscores and dashes, and begin with a letter "
                f"or digit."
            )
        if isinstance(patterns, (str, os.PathLike)):
            raise SettingsError(
                f"The file patterns of split '{split}' must be a list, not "
                f"{str(patterns)!r}. Put it into a list."
            )
    return {
        split: [_files.as_path(f"InferenceJob.splits['{split}']", pattern) for pattern in patterns]
        for split, patterns in splits.items()
    }


def _check_record_format(
    record_format: str, outputs: Outputs, routing: SplitRouting | None
) -> None:
    if record_format not in RECORD_FORMATS:
        raise SettingsError(
            f"The record_format must be one of {', '.join(RECORD_FORMATS)}, not {record_format}. "
            f"Convert the examples to one of them."
        )
    if outputs.output_examples:
        advice = "Leave out Outputs.output_examples and Outputs.columns."
        check_has_features(record_format, "Outputs.columns", advice)
    if routing and routing.split_key:
        advice = "Leave it out to split by whole records."
        check_has_features(record_format, "SplitRouting.split_key", advice)
