"""Whether a split can still succeed, judged by a few of its records before all of them are tried.

    files of a split -> draw, by size -> Drawn files -> sample -> records -> each is scored alone
    on the launcher, once                on a worker, where many records fail

A file of bad records, or bad records at the head of a file, do not make a split hopeless: what is
drawn comes from everywhere.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

from bulk_inferencer._formats.batches import Batch, BatchBounds, read_batches
from bulk_inferencer._formats.input_format import InputFile, Reader
from bulk_inferencer._formats.rows import as_list, taken
from bulk_inferencer.errors import InputError

# How likely it may be that a split within its limit is found hopeless.
_CHANCE = 1e-10
_RECORDS, _MOST_RECORDS = 64, 512
# A check ends after so many records, or later, once no more of them failed than the limit allows.
_FEW_RECORDS = 8
_FEW_FILES = 4
_BEGINNING = BatchBounds(max_records=4096)


# A record as a batch of one; None if it could not be read.
Sample: TypeAlias = Sequence[bytes] | None


@dataclass(frozen=True)
class Drawn:
    """A file, and how many of its records to try."""

    file: InputFile
    records: int


class Verdict(NamedTuple):
    """So many of the records that were tried failed that the split cannot keep to its limit."""

    failed: int
    tried: int


def draw(split: str, files: Iterable[InputFile], max_fraction: float) -> tuple[Drawn, ...]:
    """Returns what to try of the files of a split, by their sizes; the same each time.

    Where nearly all records may fail, even all that are drawn would prove nothing.
    """
    filled = sorted(file for file in files if file.own_bytes > 0)
    if not filled:
        return ()
    records = _RECORDS
    if 0 < max_fraction < 1:
        enough = 2 * math.ceil(math.log(_CHANCE) / math.log(max_fraction))
        records = min(_MOST_RECORDS, max(_RECORDS, enough))
    sizes = [file.own_bytes for file in filled]
    drawn = Counter(random.Random(split).choices(filled, sizes, k=records))
    return tuple(Drawn(file, count) for file, count in sorted(drawn.items()))


def sample(reader: Reader, drawn: Sequence[Drawn], bounds: BatchBounds) -> list[Sample]:
    """Returns records of the drawn files in random order; the same each time.

    Each record has the same chance to come first, however many bytes those of its file take.
    """
    random = np.random.default_rng(0)
    found: list[tuple[float, int, Sample]] = []
    for part in drawn:
        count, kept = 0, list[tuple[float, int, Sample]]()
        with contextlib.suppress(InputError):  # Its unit will say so.
            for batch in read_batches(reader, [part.file], bounds):
                keys = random.random(len(batch.records))
                smallest = np.argsort(keys)[: part.records]
                kept += [(keys[i], count + i, _drawn_from(batch, i)) for i in smallest]
                kept = heapq.nsmallest(part.records, kept)
                count += len(batch.records)
        # A file was drawn by its bytes, but stands for its records.
        weight = part.records / part.file.own_bytes * count
        found += [(random.exponential(len(kept) / weight), n, record) for _, n, record in kept]
    return [record for _, _, record in sorted(found, key=lambda own: own[:2])]


def _drawn_from(batch: Batch, index: int) -> Sample:
    index = int(index)
    return None if index in batch.unreadable else taken(batch.records, [index])


def beginnings(reader: Reader, drawn: Sequence[Drawn]) -> Iterator[bytes]:
    """Yields a few records of the first batch of a few files, in random order; the same each time.

    Unlike `sample`, it does not read whole files.
    """
    dice = random.Random(0)
    for part in dice.sample(drawn, min(_FEW_FILES, len(drawn))):
        with contextlib.suppress(InputError):  # Its unit will say so.
            batches = read_batches(reader, [part.file], _BEGINNING)
            for batch in itertools.islice(batches, 1):
                readable = [i for i in range(len(batch.records)) if i not in batch.unreadable]
                rows = dice.sample(readable, min(_FEW_RECORDS, len(readable)))
                yield from as_list(taken(batch.records, rows))


def judge(
    records: Iterable[Sample], fails: Callable[[Sequence[bytes]], bool], max_fraction: float
) -> Verdict | None:
    """Tries records until it is all but certain that too many fail; None if it is not."""
    failed = 0
    for tried, record in enumerate(records, 1):
        failed += record is None or fails(record)
        if _chance(failed, tried, max_fraction) < _CHANCE:
            return Verdict(failed, tried)
        if tried >= _FEW_RECORDS and failed <= max_fraction * tried:
            return None
    return None


def _chance(failed: int, tried: int, fraction: float) -> float:
    """Returns how likely at least so many records fail, if each one fails that likely."""
    return sum(
        math.comb(tried, n) * fraction**n * (1 - fraction) ** (tried - n)
        for n in range(failed, tried + 1)
    )
