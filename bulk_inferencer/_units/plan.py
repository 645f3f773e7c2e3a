"""Files into units: the pieces of work that are run, written, counted and retried as one."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bulk_inferencer import _files, _layout
from bulk_inferencer.errors import InputError

_TARGET_BYTES = 64 << 20
_MIN_UNITS = 64


@dataclass(frozen=True)
class InputFile:
    """A file of records.

    Attributes:
      path: where it is.
      bytes: its size, as stored.
    """

    path: str
    bytes: int


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


def plan_units(splits: Mapping[str, Sequence[InputFile]]) -> list[Unit]:
    """Packs each split's files into units of about equal size.

    A file is never cut, since gzip cannot be read from the middle. A split gets one unit per
    64 MiB, and at least 64 so that there is something to share among workers, but never more units
    than files. A split without files gets one empty unit, so that it has a shard too.

    Returns:
      The units of all splits. The same files are packed in the same way each time.
    """
    units = []
    for split, files in splits.items():
        total_bytes = sum(file.bytes for file in files)
        wanted = max(_MIN_UNITS, math.ceil(total_bytes / _TARGET_BYTES))
        count = max(1, min(len(files), wanted))
        bins: list[list[InputFile]] = [[] for _ in range(count)]
        filled = [(0, i) for i in range(count)]
        for file in sorted(files, key=lambda file: (-file.bytes, file.path)):
            load, i = heapq.heappop(filled)
            bins[i].append(file)
            # Empty files count too, so that every unit gets a file.
            heapq.heappush(filled, (load + max(1, file.bytes), i))
        units += [
            Unit(split, i, count, tuple(sorted(packed, key=lambda file: file.path)))
            for i, packed in enumerate(bins)
        ]
    return units


def list_files(split: str, patterns: Sequence[str]) -> list[InputFile]:
    """Returns the files of a split that match any of Beam's file patterns, sorted by path.

    Raises:
      InputError: two patterns match the same file, so that it would be scored twice.
    """
    found: dict[str, InputFile] = {}
    for pattern in patterns:
        for path, size in _files.matching(pattern).items():
            if path in found:
                raise InputError(
                    f"Two patterns of split '{split}' match {path}, so it would be scored twice. "
                    f"Remove one of them: {', '.join(patterns)}."
                )
            found[path] = InputFile(path, size)
    return [found[path] for path in sorted(found)]
