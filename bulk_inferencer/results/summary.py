"""What a run did: counts per split, and what they were made with."""

from __future__ import annotations

import dataclasses
import itertools
import json
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bulk_inferencer import _files
from bulk_inferencer._gate import NOT_BLESSED, Decision
from bulk_inferencer._layout import INFERENCE_RESULT, SUMMARY_FILE, names_models
from bulk_inferencer._work import Work
from bulk_inferencer.results import codec


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


@dataclass(frozen=True)
class Summary:
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
    """

    branches: Mapping[str, BranchSummary]
    routing: str = "all"
    unrouted: Mapping[str, int] = field(default_factory=dict)
    reused: Reused = Reused()
    made_from: Mapping[str, str] = field(default_factory=dict)
    damaged_files: tuple[DamagedFile, ...] = ()
    table_schema: str = ""

    @property
    def total(self) -> Counts:
        """The sum over all models and splits: a record that two models score counts twice."""
        return sum((branch.total for branch in self.branches.values()), Counts())

    def write(self, folder: str) -> None:
        """Writes `summary.json` into `folder`, flat if there is a single model without a name."""
        models = {name: _branch_to_json(branch) for name, branch in self.branches.items()}
        values = {"models": models, "routing": self.routing, "unrouted": self.unrouted}
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
        content = (json.dumps(values, indent=2) + "\n").encode()
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


def _branch_to_json(branch: BranchSummary) -> dict[str, Any]:
    values = codec.to_json(branch)
    gate = {"gate": branch.gate.verdict, "gate_reason": branch.gate.reason}
    others = {name: value for name, value in values.items() if name != "gate"}
    return {"splits": values["splits"], **gate, **others, "total": codec.to_json(branch.total)}


def _with_decision(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the JSON of a branch with a `Decision` as its gate."""
    verdict = values["gate"]
    # A model that is not blessed scores only if the gate was overruled.
    is_overruled = verdict == NOT_BLESSED and bool(values["splits"])
    gate = {"verdict": verdict, "reason": values["gate_reason"], "is_overruled": is_overruled}
    return {**values, "gate": gate}
