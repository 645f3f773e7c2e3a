"""Files into units: the pieces of work that are run, written, counted and retried as one."""

from __future__ import annotations

import dataclasses
import hashlib
import heapq
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bulk_inferencer import _layout
from bulk_inferencer._formats.input_format import InputFile
from bulk_inferencer._units.manifest import Manifest

_TARGET_BYTES = 64 << 20
_MIN_UNITS = 64


@dataclass(frozen=True)
class Unit:
    """Some input files of one split, and the shards that they become.

    Attributes:
      split: name of the split.
      index: number of the unit within the split, from 0.
      count: how many units the split has.
      files: the input files, in the order in which they are read; empty for an empty split.
    """

    split: str
    index: int
    count: int
    files: tuple[InputFile, ...]

    @property
    def shard_name(self) -> str:
        """`SSSSS-of-NNNNN`, the part of its files' names that is unique within the split."""
        return _layout.shard_name(self.index, self.count)

    @property
    def own_bytes(self) -> int:
        """The size of its files and parts of files, as they are stored."""
        return sum(file.own_bytes for file in self.files)

    @cached_property
    def key(self) -> str:
        """A digest of its split and files: the unit keeps it, whatever its number is."""
        files = [identity(file) for file in self.files]
        return hashlib.sha256(json.dumps([self.split, files]).encode()).hexdigest()[:32]


def identity(file: InputFile) -> tuple[Any, ...]:
    """Returns what tells a file, or a part of one, from others and from what it was before."""
    part = (file.part.start, file.part.stop) if file.part else ()
    return (file.path, file.bytes, file.modified, *part)


def plan_units(
    splits: Mapping[str, Sequence[InputFile]],
    earlier: Iterable[tuple[str, tuple[InputFile, ...]]] = (),
    in_one: bool = False,
) -> list[Unit]:
    """Packs each split's files, and parts of files, into units of about equal size.

    A split gets one unit per 64 MiB, and at least 64 so that there is something to share among
    workers, but never more units than files and parts. A split without files gets one empty unit,
    so that it has a shard too.

    Args:
      splits: the input files of each split, or their parts.
      earlier: split and files of units that an earlier run has finished. They stay as they are if
        their files are still the same; only the other files are packed anew.
      in_one: whether each split is one unit.

    Returns:
      The units of all splits. The same files are packed in the same way each time.
    """
    if in_one:
        return [Unit(split, 0, 1, _in_order(files)) for split, files in splits.items()]
    earlier = sorted(earlier)
    units = []
    for split, files in splits.items():
        rest = set(files)
        packed = []
        for other, unit_files in earlier:
            if other == split and unit_files and rest.issuperset(unit_files):
                rest.difference_update(unit_files)
                packed.append(unit_files)
        if rest or not packed:
            packed += _packed(rest)
        units += [Unit(split, i, len(packed), unit_files) for i, unit_files in enumerate(packed)]
    return units


def _packed(files: Iterable[InputFile]) -> list[tuple[InputFile, ...]]:
    files = sorted(_in_order(files), key=lambda file: -file.own_bytes)
    wanted = max(_MIN_UNITS, math.ceil(sum(file.own_bytes for file in files) / _TARGET_BYTES))
    count = max(1, min(len(files), wanted))
    bins: list[list[InputFile]] = [[] for _ in range(count)]
    filled = [(0, i) for i in range(count)]
    for file in files:
        load, i = heapq.heappop(filled)
        bins[i].append(file)
        # Empty files count too, so that every unit gets a file.
        heapq.heappush(filled, (load + max(1, file.own_bytes), i))
    return [_in_order(unit_files) for unit_files in bins]


def _in_order(files: Iterable[InputFile]) -> tuple[InputFile, ...]:
    # Comparing whole files takes ten times as long, and paths and parts tell them apart.
    return tuple(sorted(files, key=lambda file: (file.path, file.part.start if file.part else 0)))


def numbered(units: Sequence[Unit], manifests: Iterable[Manifest]) -> list[Manifest]:
    """Returns the manifests of those units that have one, with the numbers of their units."""
    by_key = {manifest.key: manifest for manifest in manifests}
    return [
        dataclasses.replace(by_key[unit.key], index=unit.index)
        for unit in units
        if unit.key in by_key
    ]
