"""What a finished unit reports."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bulk_inferencer._formats.input_format import InputFile
from bulk_inferencer._units.output_notes import OutputNotes
from bulk_inferencer._work import Work
from bulk_inferencer.results import codec
from bulk_inferencer.results.summary import DamagedFile
from bulk_inferencer.results.timeline import Timeline

# Of the JSON of manifests. A run reads no manifest of another version.
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Shard:
    """One file that a unit wrote.

    Attributes:
      path: where it waits until the run commits.
      records: how many records or lines it holds.
      bytes: its size.
      crc32c: checksum of its bytes.
    """

    path: str
    records: int
    bytes: int
    crc32c: int


@dataclass(frozen=True)
class Account:
    """What a sink reports when it closes.

    Attributes:
      shards: the files that it wrote.
      notes: anything else that `Sink.finish` needs, as JSON.
    """

    shards: tuple[Shard, ...] = ()
    notes: Any = None


@dataclass
class BranchAccount:
    """What one model did with the records of a unit that went to it.

    Attributes:
      examples_read: records that went to it.
      predictions_made: records that it scored.
      examples_failed: records that it could not score.
      work: what scoring took.
      model_versions: the versions that answered, where a server may change them.
      stages: for a cascade, how many records each stage ran for, in the order of the stages.
      outputs: what is worth a word about the outputs.
    """

    examples_read: int = 0
    predictions_made: int = 0
    examples_failed: int = 0
    work: Work = field(default_factory=Work)
    model_versions: tuple[str, ...] = ()
    stages: dict[str, int] = field(default_factory=dict)
    outputs: OutputNotes = field(default_factory=OutputNotes)

    def merge(self, other: BranchAccount) -> None:
        """Adds the account of another unit."""
        self.examples_read += other.examples_read
        self.predictions_made += other.predictions_made
        self.examples_failed += other.examples_failed
        self.work.merge(other.work)
        self.outputs.merge(other.outputs)
        self.add(other.model_versions, other.stages)

    def add(self, versions: Iterable[str], stages: Mapping[str, int]) -> None:
        """Adds the versions that answered and the records of each stage."""
        self.model_versions = tuple(sorted({*self.model_versions, *versions}))
        for stage, records in stages.items():
            self.stages[stage] = self.stages.get(stage, 0) + records


@dataclass(frozen=True)
class Manifest:
    """The report of one unit.

    Attributes:
      split: name of the split.
      index: number of the unit within the split.
      files: the input files.
      examples_read: records read.
      unrouted: records that failed before they reached a model.
      branches: what each model did, by its name.
      sinks: the account of each sink, by its name.
      seconds: wall time of the unit.
      damaged_files: the files of which only a part was read.
      key: the key of the unit, which it has in every run.
      bytes_read: how many bytes of its files it has read, as they are stored.
      timeline: when it made its predictions.
      format_version: of the manifest.
    """

    split: str
    index: int
    files: tuple[InputFile, ...]
    examples_read: int
    unrouted: int
    branches: Mapping[str, BranchAccount]
    sinks: Mapping[str, Account]
    seconds: float
    damaged_files: tuple[DamagedFile, ...] = ()
    key: str = ""
    bytes_read: int = 0
    timeline: Timeline = field(default_factory=Timeline)
    format_version: int = FORMAT_VERSION

    @property
    def predictions_made(self) -> int:
        """The predictions of all models."""
        return sum(branch.predictions_made for branch in self.branches.values())

    @property
    def examples_failed(self) -> int:
        """The failures of all models, and the records that reached none."""
        return self.unrouted + sum(branch.examples_failed for branch in self.branches.values())

    @property
    def shards(self) -> tuple[Shard, ...]:
        """Every file that the unit wrote."""
        return tuple(shard for account in self.sinks.values() for shard in account.shards)

    def without_notes(self, sinks: Collection[str] | None = None) -> Manifest:
        """Returns it without what is large: its timeline, and the notes of some sinks or all."""
        accounts = {
            name: replace(own, notes=None) if sinks is None or name in sinks else own
            for name, own in self.sinks.items()
        }
        return replace(self, sinks=accounts, timeline=Timeline())

    def to_json(self) -> str:
        """Returns the manifest as one line of JSON."""
        return json.dumps(codec.to_json(self))

    @classmethod
    def from_json(cls, line: str) -> Manifest:
        """Returns the manifest that `to_json` wrote."""
        return codec.from_json(cls, json.loads(line))
