"""What a run did: counts per split, and what they were made with."""

from __future__ import annotations

import dataclasses
import json
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bulk_inferencer import files
from bulk_inferencer.work import Work

SUMMARY_FILE = "summary.json"


@dataclass(frozen=True)
class Counts:
    """Records and files of one split, or of all.

    Attributes:
      examples_read: records read.
      predictions_written: records scored and written.
      examples_failed: records that could not be scored.
      shards: files of predictions.
      bytes_written: size of all files written.
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
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def total(self) -> Counts:
        """The sum over all splits."""
        return sum(self.splits.values(), Counts())

    def to_json(self) -> str:
        """Returns the summary as indented JSON, with the total."""
        values = dataclasses.asdict(self)
        values["total"] = dataclasses.asdict(self.total)
        return json.dumps(values, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Summary:
        """Returns the summary that `to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        del values["total"]
        values["splits"] = {name: Counts(**counts) for name, counts in values["splits"].items()}
        values["work"] = Work.from_dict(values["work"])
        for name in ("model_versions", "signature_names"):
            values[name] = tuple(values[name])
        return cls(**values)

    def write(self, folder: str) -> None:
        """Writes `summary.json` into `folder`."""
        with files.open_to_write(posixpath.join(folder, SUMMARY_FILE)) as file:
            file.write(self.to_json().encode())

    @classmethod
    def read(cls, folder: str) -> Summary:
        """Returns the summary that was written into `folder`."""
        with files.open_to_read(posixpath.join(folder, SUMMARY_FILE)) as file:
            return cls.from_json(file.read().decode())
