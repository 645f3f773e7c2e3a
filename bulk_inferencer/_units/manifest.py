"""What a finished unit says of itself, and whether all of it adds up."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bulk_inferencer._units.plan import Unit
from bulk_inferencer._work import Work
from bulk_inferencer.errors import ReconciliationError
from bulk_inferencer.results.compare import Comparison
from bulk_inferencer.results.summary import Counts


@dataclass(frozen=True)
class Shard:
    """One file that a unit wrote.

    Attributes:
      path: where it is.
      bytes: its size.
      crc32c: checksum of its bytes.
    """

    path: str
    bytes: int
    crc32c: int


@dataclass(frozen=True)
class Failure:
    """A record that could not be scored.

    Attributes:
      file: its input file.
      record: its number within the file, from 0.
      reason: why, in a line.
      model: with several models, the one that failed; empty where the record went to none.
    """

    file: str
    record: int
    reason: str
    model: str = ""


@dataclass(frozen=True)
class Scores:
    """What one model did with the records of a unit that went to it.

    Attributes:
      model: its name; empty where it is the only one.
      examples_read: records that went to it.
      predictions_written: records scored and written.
      examples_failed: records that could not be scored.
      shard: the file of its predictions.
      work: what scoring took.
      model_versions: the versions of a served model that have answered this worker so far.
      stages: with a cascade, how many records each stage ran for, in the order of the stages.
    """

    model: str
    examples_read: int
    predictions_written: int
    examples_failed: int
    shard: Shard
    work: Work = field(default_factory=Work)
    model_versions: tuple[str, ...] = ()
    stages: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scores:
        """Returns the scores that `dataclasses.asdict` made a dict of."""
        return cls(
            **{
                **values,
                "shard": Shard(**values["shard"]),
                "work": Work.from_dict(values["work"]),
                "model_versions": tuple(values["model_versions"]),
            }
        )


@dataclass(frozen=True)
class Manifest:
    """The account of one unit.

    Attributes:
      split: name of the split.
      index: number of the unit within the split.
      of: how many units the split has.
      files: paths of the input files.
      examples_read: records read.
      scores: what each model did with them.
      unrouted: failures that went to no model.
      other_shards: every file that the unit wrote, beside those of predictions.
      failures: path of the file that lists all failures.
      first_failures: the first few of them.
      seconds: wall time of the unit.
      comparison: how the outputs of several models differ.
      matched_outcomes: which rows of the table of outcomes belong to records that were scored: bit
        i stands for row i.
    """

    split: str
    index: int
    of: int
    files: tuple[str, ...]
    examples_read: int
    scores: tuple[Scores, ...]
    other_shards: tuple[Shard, ...]
    failures: str
    first_failures: tuple[Failure, ...]
    seconds: float
    unrouted: int = 0
    comparison: Comparison = field(default_factory=Comparison)
    matched_outcomes: int = 0

    @property
    def predictions_written(self) -> int:
        """The predictions of all models."""
        return sum(scores.predictions_written for scores in self.scores)

    @property
    def examples_failed(self) -> int:
        """The failures of all models, and those that went to none."""
        return self.unrouted + sum(scores.examples_failed for scores in self.scores)

    @property
    def shards(self) -> tuple[Shard, ...]:
        """Every file that the unit wrote."""
        return (*(scores.shard for scores in self.scores), *self.other_shards)

    def to_json(self) -> str:
        """Returns the manifest as one line of JSON."""
        # Not asdict() of all: only the comparison itself knows how to become JSON.
        rest = dataclasses.replace(self, comparison=Comparison())
        values = dataclasses.asdict(rest)
        values["comparison"] = self.comparison.to_json()
        values["matched_outcomes"] = hex(self.matched_outcomes)
        return json.dumps(values)

    @classmethod
    def from_json(cls, line: str) -> Manifest:
        """Returns the manifest that `to_json` wrote."""
        values: dict[str, Any] = json.loads(line)
        values["files"] = tuple(values["files"])
        values["scores"] = tuple(map(Scores.from_dict, values["scores"]))
        values["other_shards"] = tuple(Shard(**shard) for shard in values["other_shards"])
        values["first_failures"] = tuple(Failure(**f) for f in values["first_failures"])
        values["comparison"] = Comparison.from_json(values["comparison"])
        values["matched_outcomes"] = int(values["matched_outcomes"], 16)
        return cls(**values)


def add_up(
    units: Sequence[Unit], manifests: Sequence[Manifest], is_split: bool = False
) -> dict[str, dict[str, Counts]]:
    """Returns the counts by model and split, checked against one another.

    Args:
      units: what was planned.
      manifests: what units say of themselves.
      is_split: whether each record goes to one of the models instead of to all.

    Raises:
      ReconciliationError: a unit has no manifest, or more than one, or its counts do not add up.
    """
    reported = Counter((manifest.split, manifest.index) for manifest in manifests)
    planned = Counter((unit.split, unit.index) for unit in units)
    if reported != planned:
        missing = ", ".join(map(str, sorted(planned - reported))) or "none"
        surplus = ", ".join(map(str, sorted(reported - planned))) or "none"
        raise ReconciliationError(
            f"Expected one manifest for each of {len(units)} units, got {len(manifests)}; missing: "
            f"{missing}; not planned or doubled: {surplus}. Nothing was committed; run again."
        )
    counts: dict[str, dict[str, Counts]] = {}
    none = {unit.split: Counts() for unit in units}
    for manifest in manifests:
        _check_counts(manifest, is_split)
        for scores in manifest.scores:
            splits = counts.setdefault(scores.model, dict(none))
            splits[manifest.split] += Counts(
                scores.examples_read,
                scores.predictions_written,
                scores.examples_failed,
                shards=1,
                bytes_written=scores.shard.bytes,
            )
    return counts


def _check_counts(manifest: Manifest, is_split: bool) -> None:
    where = f"in unit {manifest.index} of split '{manifest.split}'"
    for scores in manifest.scores:
        of_model = f" for model '{scores.model}'" if scores.model else ""
        accounted = scores.predictions_written + scores.examples_failed
        if scores.examples_read != accounted:
            raise ReconciliationError(
                f"Expected records read = predicted + failed {where}{of_model}, got "
                f"{scores.examples_read} = {scores.predictions_written} + "
                f"{scores.examples_failed}. Nothing was committed; run again."
            )
        if not is_split and scores.examples_read != manifest.examples_read:
            raise ReconciliationError(
                f"Expected all {manifest.examples_read} records read {where}{of_model}, got "
                f"{scores.examples_read}. Nothing was committed; run again."
            )
    routed = sum(scores.examples_read for scores in manifest.scores)
    if is_split and manifest.examples_read != routed + manifest.unrouted:
        raise ReconciliationError(
            f"Expected records read = routed + unrouted {where}, got {manifest.examples_read} = "
            f"{routed} + {manifest.unrouted}. Nothing was committed; run again."
        )


def unrouted_by_split(manifests: Sequence[Manifest]) -> dict[str, int]:
    """Returns how many records of each split went to no model."""
    unrouted: Counter[str] = Counter()
    for manifest in manifests:
        unrouted[manifest.split] += manifest.unrouted
    return dict(unrouted)


def check_shards(manifests: Sequence[Manifest], sizes: Mapping[str, int]) -> None:
    """Checks that exactly the shards that the manifests name exist, with their sizes.

    Args:
      manifests: all of them.
      sizes: the size in bytes of every file that exists.

    Raises:
      ReconciliationError: a shard is missing, is not of its size, or is in no manifest.
    """
    expected = {shard.path: shard.bytes for manifest in manifests for shard in manifest.shards}
    for path in sorted(expected.keys() | sizes.keys()):
        if expected.get(path) != sizes.get(path):
            raise ReconciliationError(
                f"Expected {_size(expected.get(path))}, got {_size(sizes.get(path))} at {path}. "
                f"Nothing was committed; run again."
            )


def _size(size: int | None) -> str:
    return "no file" if size is None else f"a file of {size} bytes"
