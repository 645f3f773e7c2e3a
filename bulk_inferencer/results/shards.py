"""The files of an output: which there are, and whether all are there."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bulk_inferencer import _files, _layout
from bulk_inferencer.errors import InputError
from bulk_inferencer.results.summary import Counts

PARTIAL = (
    "The results are not complete. If the run did not end, run again. If files were lost, restore "
    "them or run into another folder. To read what is there, set allow_partial."
)


@dataclass(frozen=True)
class Shard:
    """A file with the predictions of a unit.

    Attributes:
      path: where it is.
      bytes: its size.
      split: its split; empty text for files of TFX's BulkInferrer, which name none.
      index: its number, from 0, of `count`.
      count: the number of shards of the split.
    """

    path: str
    bytes: int
    split: str
    index: int
    count: int


def log_shards(folder: str, split: str | None = None) -> list[Shard]:
    """Returns the PredictionLogs in a folder, ours and those of TFX's BulkInferrer, in order."""
    patterns = [_layout.prediction_logs_pattern(split)]
    if split is None:
        patterns.append(_layout.tfx_prediction_logs_pattern())
    return _shards(folder, patterns)


def table_shards(folder: str, split: str | None = None) -> list[Shard]:
    """Returns the files of the table in a folder, in order."""
    return _shards(folder, [_layout.prediction_table_pattern(split)])


def _shards(folder: str, patterns: Sequence[re.Pattern[str]]) -> list[Shard]:
    shards = []
    for path, file in _files.matching(_files.literal(folder) + "/*").items():
        name = posixpath.basename(path)
        if match := next((m for own in patterns if (m := own.fullmatch(name))), None):
            split, index, count = match["split"] or "", int(match["index"]), int(match["count"])
            shards.append(Shard(path, file.bytes, split, index, count))
    return shards


def check_names(folder: str, shards: Sequence[Shard]) -> None:
    """Checks that of the shards of each split, every number is there once.

    Raises:
      InputError: one is missing or doubled, or there are shards of several runs.
    """
    numbers: dict[str, dict[int, list[int]]] = {}
    for shard in shards:
        numbers.setdefault(shard.split, {}).setdefault(shard.count, []).append(shard.index)
    for split, by_count in numbers.items():
        of_split = f" of split '{split}'" if split else ""
        if len(by_count) > 1:
            counts = " and ".join(map(str, sorted(by_count)))
            raise InputError(
                f"The shards{of_split} in {folder} belong to several runs: their names say that "
                f"there are {counts} of them. Keep the files of one run."
            )
        ((count, found),) = by_count.items()
        if missing := sorted(set(range(count)) - set(found)):
            first = ", ".join(map(str, missing[:5]))
            raise InputError(
                f"{len(missing)} of {count} shards{of_split} are missing from {folder}, such as "
                f"{first}. {PARTIAL}"
            )
        if len(found) > count:
            raise InputError(
                f"{folder} has {len(found)} files for {count} shards{of_split}, some of them "
                f"twice, with different endings. Keep one of each."
            )


def check_counts(
    folder: str, shards: Sequence[Shard], splits: Mapping[str, Counts], check_bytes: bool = True
) -> None:
    """Checks that the shards are as many, and as large, as a summary says.

    Raises:
      InputError: they are not.
    """
    for split, counts in splits.items():
        own = [shard.bytes for shard in shards if shard.split == split]
        expected, found = (counts.shards, counts.bytes_written), (len(own), sum(own))
        if found[0] == expected[0] and (found[1] == expected[1] or not check_bytes):
            continue
        sizes = [f" with {size} bytes" if check_bytes else "" for _, size in (expected, found)]
        raise InputError(
            f"The summary says that {folder} holds {expected[0]} shards of split '{split}'"
            f"{sizes[0]}, but there are {found[0]}{sizes[1]}. {PARTIAL}"
        )
