"""What a finished unit says of itself, and whether all of it adds up."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bulk_inferencer.errors import ReconciliationError
from bulk_inferencer.results.summary import Counts
from bulk_inferencer.units.plan import Unit
from bulk_inferencer.work import Work


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
    """

    file: str
    record: int
    reason: str


@dataclass(frozen=True)
class Manifest:
    """The account of one unit.

    Attributes:
      split: name of the split.
      index: number of the unit within the split.
      of: how many units the split has.
      files: paths of the input files.
      examples_read: records read.
      predictions_written: records scored and written.
      examples_failed: records that could not be scored.
      shards: every file that the unit wrote.
      failures: path of the file that lists all failures.
      first_failures: the first few of them.
      seconds: wall time of the unit.
      work: what scoring took.
      model_versions: the versions of a served model that have answered this worker so far.
    """

    split: str
    index: int
    of: int
    files: tuple[str, ...]
    examples_read: int
    predictions_written: int
    examples_failed: int
    shards: tuple[Shard, ...]
    failures: str
    first_failures: tuple[Failure, ...]
    seconds: float
    work: Work = field(default_factory=Work)
    model_versions: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Returns the manifest as one line of JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Manifest:
        """Returns the manifest that `to_json` wrote."""
        values: dict[str, Any] = json.loads(line)
        for name in ("files", "model_versions"):
            values[name] = tuple(values[name])
        values["shards"] = tuple(Shard(**shard) for shard in values["shards"])
        values["first_failures"] = tuple(Failure(**f) for f in values["first_failures"])
        values["work"] = Work.from_dict(values["work"])
        return cls(**values)


def add_up(units: Sequence[Unit], manifests: Sequence[Manifest]) -> dict[str, Counts]:
    """Returns the counts per split, after checking that the manifests account for every unit.

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
    splits = {unit.split: Counts() for unit in units}
    for manifest in manifests:
        accounted = manifest.predictions_written + manifest.examples_failed
        if manifest.examples_read != accounted:
            raise ReconciliationError(
                f"Expected records read = predicted + failed in unit {manifest.index} of split "
                f"'{manifest.split}', got {manifest.examples_read} = "
                f"{manifest.predictions_written} + {manifest.examples_failed}. Nothing was "
                f"committed; run again."
            )
        splits[manifest.split] += Counts(
            manifest.examples_read,
            manifest.predictions_written,
            manifest.examples_failed,
            shards=1,
            bytes_written=sum(shard.bytes for shard in manifest.shards),
        )
    return splits


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
