"""What a run did: counts per split, and what they were made with."""

from __future__ import annotations

import dataclasses
import json
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bulk_inferencer import _files
from bulk_inferencer._work import Work

SUMMARY_FILE = "summary.json"


@dataclass(frozen=True)
class Counts:
    """Records and files of one split, or of all.

    Attributes:
      examples_read: records read.
      predictions_written: records scored and written.
      examples_failed: records that could not be scored.
      shards: files of predictions.
      bytes_written: their size.
    """

    examples_read: int = 0
    predictions_written: int = 0
    examples_failed: int = 0
    shards: int = 0
    bytes_written: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(_values(self), _values(other), strict=True)))


def _values(counts: Counts) -> tuple[int, ...]:
    return dataclasses.astuple(counts)


@dataclass(frozen=True)
class StageCounts:
    """The records that one stage of a cascade ran for; failures are not among them.

    Attributes:
      records: how many there were.
      exited: those that it settled.
      escalated: those that went on to the next stage.
    """

    records: int
    exited: int
    escalated: int

    @classmethod
    def of_cascade(cls, ran: Mapping[str, int]) -> dict[str, StageCounts]:
        """Returns the counts of all stages.

        Args:
          ran: how many records each stage ran for, by the stages' names in order.
        """
        records = [*ran.values(), 0]
        return {
            stage: cls(records[i], records[i] - records[i + 1], records[i + 1])
            for i, stage in enumerate(ran)
        }


@dataclass(frozen=True)
class Summary:
    """The content of `summary.json`.

    Attributes:
      splits: counts by split.
      gate: `blessed`, `not_blessed` or `no_blessing`.
      gate_reason: why, in a sentence.
      model_path: the model, or the endpoint that serves it.
      model_fingerprint: SHA-256 of its files; empty where they were not opened.
      model_versions: the versions that answered, where a server may change them.
      signature_names: the signatures that were called.
      seconds: wall time by step.
      work: what scoring took.
      stages: with a cascade, counts by stage in order.
      versions: versions of the libraries that took part.
    """

    splits: Mapping[str, Counts]
    gate: str
    gate_reason: str
    model_path: str
    model_fingerprint: str = ""
    model_versions: tuple[str, ...] = ()
    signature_names: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    work: Work = field(default_factory=Work)
    stages: Mapping[str, StageCounts] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def total(self) -> Counts:
        """The sum over all splits."""
        return sum(self.splits.values(), Counts())

    def to_dict(self) -> dict[str, Any]:
        """Returns the summary as what JSON can hold, with the total."""
        return {**dataclasses.asdict(self), "total": dataclasses.asdict(self.total)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Summary:
        """Returns the summary that `to_dict` made a dict of."""
        given = {name: value for name, value in values.items() if name != "total"}
        given["splits"] = {name: Counts(**counts) for name, counts in given["splits"].items()}
        given["stages"] = {name: StageCounts(**c) for name, c in given["stages"].items()}
        given["work"] = Work.from_dict(given["work"])
        for name in ("model_versions", "signature_names"):
            given[name] = tuple(given[name])
        return cls(**given)

    def write(self, folder: str) -> None:
        """Writes `summary.json` into `folder`."""
        _write(folder, self.to_dict())

    @classmethod
    def read(cls, folder: str) -> Summary:
        """Returns the summary that was written into `folder`."""
        return cls.from_dict(_read(folder))


@dataclass(frozen=True)
class BranchSummary:
    """The content of `summary.json` of a run with several models.

    Attributes:
      models: the summary of each, by its name; that of a model that the gate kept out has no
        splits.
      routing: how records went to models: `all`, every record to every model, or `split`, each to
        one of them.
      unrouted: failures that went to no model because they have no key to be split by, by split of
        the examples.
    """

    models: Mapping[str, Summary]
    routing: str
    unrouted: Mapping[str, int] = field(default_factory=dict)

    @property
    def scored(self) -> dict[str, Summary]:
        """The models that the gate let through."""
        return {name: summary for name, summary in self.models.items() if summary.splits}

    def write(self, folder: str) -> None:
        """Writes `summary.json` into `folder`."""
        models = {name: summary.to_dict() for name, summary in self.models.items()}
        _write(folder, {**dataclasses.asdict(self), "models": models})

    @classmethod
    def read(cls, folder: str) -> BranchSummary:
        """Returns the summary that was written into `folder`."""
        values = _read(folder)
        models = {name: Summary.from_dict(summary) for name, summary in values["models"].items()}
        return cls(**{**values, "models": models})


def _write(folder: str, values: Mapping[str, Any]) -> None:
    with _files.open_to_write(posixpath.join(folder, SUMMARY_FILE)) as file:
        file.write((json.dumps(values, indent=2) + "\n").encode())


def _read(folder: str) -> dict[str, Any]:
    with _files.open_to_read(posixpath.join(folder, SUMMARY_FILE)) as file:
        values: dict[str, Any] = json.loads(file.read())
    return values
