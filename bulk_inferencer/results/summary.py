"""What a run did: counts per split, and what they were made with."""

from __future__ import annotations

import dataclasses
import itertools
import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bulk_inferencer import _files
from bulk_inferencer._gate import NOT_BLESSED, Decision
from bulk_inferencer._layout import INFERENCE_RESULT, SUMMARY_FILE, names_models
from bulk_inferencer._work import Work
from bulk_inferencer.results import codec, display_summary
from bulk_inferencer.results.blocks import Block, Shown
from bulk_inferencer.results.checks import Check
from bulk_inferencer.results.timeline import Timeline

# A list of numbers, of which `json` writes each into a line. No text holds a line break.
_NUMBERS = re.compile(r"\[\n\s+-?[\d.][^][{}\"]*\]")


@dataclass(frozen=True)
class Counts:
    """Records and files of one split, or of all. Counts can be added.

    Attributes:
      examples_read: records read.
      predictions_written: records scored and written.
      examples_failed: records that could not be scored.
      shards: files of predictions.
      bytes_written: their total size.
    """

    examples_read: int = 0
    predictions_written: int = 0
    examples_failed: int = 0
    shards: int = 0
    bytes_written: int = 0

    def __add__(self, other: Counts) -> Counts:
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Counts(*(a + b for a, b in pairs))


@dataclass(frozen=True)
class StageCounts:
    """Records of one stage of a cascade, without failures.

    Attributes:
      records: those that the stage ran for.
      exited: those whose prediction is the one of this stage.
      escalated: those that went on to the next stage.
    """

    records: int
    exited: int
    escalated: int


def stage_counts(ran: Mapping[str, int]) -> dict[str, StageCounts]:
    """Returns the counts of all stages of a cascade.

    Args:
      ran: how many records each stage ran for, by stage and in order.
    """
    pairs = itertools.pairwise([*ran.values(), 0])
    return {
        name: StageCounts(n, n - next_n, next_n)
        for name, (n, next_n) in zip(ran, pairs, strict=True)
    }


@dataclass(frozen=True)
class OutputSummary:
    """What one output of one model is like, in short; `statistics.json` holds more.

    Numbers are those of all values of all records.

    Attributes:
      records: records that have the output.
      missing: records that were predicted without it.
      values: finite numbers; 0 for text.
      nan: further numbers that are NaN.
      infinite: further numbers that are an infinity.
      minimum: the smallest finite number; NaN if there are none, as below.
      maximum: the largest.
      mean: their mean.
      standard_deviation: how far they are from it: the root of the mean square.
      quantiles: the number below which a share of them lies, by that share: "0.5" is the median.
        Empty if there are none.
      classes: records of the most frequent classes, at most 20; see `OutputStatistics`.
      different_classes: how many classes there are; None if there are too many to count.
    """

    records: int
    missing: int
    values: int
    nan: int
    infinite: int
    minimum: float
    maximum: float
    mean: float
    standard_deviation: float
    quantiles: Mapping[str, float] = field(default_factory=dict)
    classes: Mapping[str, int] = field(default_factory=dict)
    different_classes: int | None = 0

    def __eq__(self, other: object) -> bool:
        # In tuples, `math.nan` equals itself; in dataclasses, only before Python 3.13.
        return isinstance(other, OutputSummary) and vars(self) == vars(other)


@dataclass(frozen=True)
class BranchSummary:
    """What one model of a run did.

    ```python
    summary.branches["five"].total.predictions_written
    ```

    Attributes:
      splits: counts by split; empty if the gate was closed.
      gate: whether the model may run, and why.
      model_path: the model, or the endpoint that serves it.
      model_fingerprint: SHA-256 of its files; empty if they were not read.
      model_versions: the versions that answered, if a server may change them.
      signature_names: the signatures that were called.
      seconds: wall time by step.
      work: what scoring took.
      stages: counts by stage, in order, if the model is a cascade.
      versions: versions of the libraries that results depend on.
      not_finite: how many records have a NaN or an infinity in an output, by output.
      statistics: what the outputs are like, by split and output.
      failures: failed records by reason, the 20 most frequent first and the others as one.
      checks: whether each expectation is met; empty if nothing was expected.
    """

    splits: Mapping[str, Counts]
    gate: Decision
    model_path: str
    model_fingerprint: str = ""
    model_versions: tuple[str, ...] = ()
    signature_names: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    work: Work = field(default_factory=Work)
    stages: Mapping[str, StageCounts] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    not_finite: Mapping[str, int] = field(default_factory=dict)
    statistics: Mapping[str, Mapping[str, OutputSummary]] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()

    @property
    def meets_expectations(self) -> bool | None:
        """Whether predictions are as expected, of a model that its own gate let through.

        None if nothing was expected. False for a trial whose `limit` was reached.
        """
        if not self.checks:
            return None
        is_let_through = self.gate.is_open and not self.gate.is_overruled
        return is_let_through and all(check.is_met for check in self.checks)

    @property
    def total(self) -> Counts:
        """The sum over all splits."""
        return sum(self.splits.values(), Counts())


@dataclass(frozen=True)
class Reused:
    """What a run took over from earlier ones instead of scoring it.

    Attributes:
      units: pieces of work.
      examples_read: the records in them.
    """

    units: int = 0
    examples_read: int = 0


@dataclass(frozen=True, order=True)
class DamagedFile:
    """An input file that could not be read to its end.

    Attributes:
      split: its split.
      file: its path.
      reason: what is wrong with it, and how many records came before that.
    """

    split: str
    file: str
    reason: str


@dataclass(frozen=True, repr=False)
class Summary(Shown):
    """The content of `summary.json`.

    ```python
    summary = Summary.read("results/summary")
    summary.total.examples_failed
    ```

    Attributes:
      branches: what each model did, by its name. A single model without a name is
        `inference_result`.
      routing: `all` if every record went to every model, `split` if each went to one of them.
      unrouted: failures without a key to split by, which went to no model, by split of the
        examples.
      reused: what earlier runs had scored before.
      made_from: digests of all that the results depend on; empty if that cannot be told.
      damaged_files: the input files of which only a part was scored, as `DamagedFiles` allows.
      table_schema: the columns of the prediction table, with their types: an Arrow schema as base64
        of its IPC message. Empty if there is no table.
      bytes_read: about how many bytes of the input files were read, as they are stored.
      input_bytes: the size of all input files.
      timeline: when the run made its predictions; without what earlier ones had made.
    """

    branches: Mapping[str, BranchSummary]
    routing: str = "all"
    unrouted: Mapping[str, int] = field(default_factory=dict)
    reused: Reused = Reused()
    made_from: Mapping[str, str] = field(default_factory=dict)
    damaged_files: tuple[DamagedFile, ...] = ()
    table_schema: str = ""
    bytes_read: int = 0
    input_bytes: int = 0
    timeline: Timeline = field(default_factory=Timeline)

    @property
    def total(self) -> Counts:
        """The sum over all models and splits: a record that two models score counts twice."""
        return sum((branch.total for branch in self.branches.values()), Counts())

    def _title(self) -> str:
        return display_summary.title(self)

    def _blocks(self) -> Iterator[Block]:
        return display_summary.blocks(self)

    def write(self, folder: str) -> None:
        """Writes `summary.json` into `folder`, flat if there is a single model without a name."""
        models = {name: _branch_to_json(branch) for name, branch in self.branches.items()}
        values: dict[str, Any] = {
            "models": models,
            "routing": self.routing,
            "unrouted": self.unrouted,
        }
        if not names_models(models):
            values = models[INFERENCE_RESULT]
        values = dict(values)
        if self.reused.units:
            values["reused"] = codec.to_json(self.reused)
        if self.made_from:
            values["made_from"] = dict(self.made_from)
        if self.damaged_files:
            values["damaged_files"] = codec.to_json(self.damaged_files)
        if self.table_schema:
            values["table_schema"] = self.table_schema
        if self.input_bytes:
            values["bytes_read"], values["input_bytes"] = self.bytes_read, self.input_bytes
        if self.timeline.records:
            values["timeline"] = codec.to_json(self.timeline)
        text = _NUMBERS.sub(_in_one_line, json.dumps(values, indent=2))
        content = (text + "\n").encode()
        _files.make_folder(folder)
        _files.replace(posixpath.join(folder, SUMMARY_FILE), content)

    @classmethod
    def read(cls, folder: str) -> Summary:
        """Returns the summary in `folder`, flat or not."""
        with _files.open_to_read(posixpath.join(folder, SUMMARY_FILE)) as file:
            values = json.loads(file.read())
        models = values.get("models", {INFERENCE_RESULT: values})
        branches = {name: _with_decision(branch) for name, branch in models.items()}
        return codec.from_json(cls, {**values, "branches": branches})

    @classmethod
    def read_if_any(cls, folder: str) -> Summary | None:
        """Returns the summary in `folder`; None if no run has committed there."""
        is_there = _files.exists(posixpath.join(folder, SUMMARY_FILE))
        return cls.read(folder) if is_there else None


def _in_one_line(numbers: re.Match[str]) -> str:
    return " ".join(numbers[0].split()).replace("[ ", "[").replace(" ]", "]")


def _branch_to_json(branch: BranchSummary) -> dict[str, Any]:
    values = codec.to_json(branch)
    gate = {"gate": branch.gate.verdict, "gate_reason": branch.gate.reason}
    others = {name: value for name, value in values.items() if name != "gate"}
    if branch.checks:
        others["meets_expectations"] = branch.meets_expectations
    return {"splits": values["splits"], **gate, **others, "total": codec.to_json(branch.total)}


def _with_decision(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the JSON of a branch with a `Decision` as its gate."""
    verdict = values["gate"]
    # A model that is not blessed scores only if the gate was overruled.
    is_overruled = verdict == NOT_BLESSED and bool(values["splits"])
    gate = {"verdict": verdict, "reason": values["gate_reason"], "is_overruled": is_overruled}
    return {**values, "gate": gate}
