"""What one stage of a unit hands to the next, as bytes.

    read -> ReadBatch -> predict -> ScoredPart -> write
            EndOfUnit ---------------------------->

These are pickles, since both ends run the same version of everything. Each record is in them once:

    ScoredPart   batch     r0 r1 r2 r3 ...        as they were read
                 outputs   y  [           ]       the memory of one array per output and call
                 rows      which records a call scored; their bytes are those of the batch
"""

from __future__ import annotations

import pickle
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from bulk_inferencer._formats.batches import Batch
from bulk_inferencer._formats.rows import taken
from bulk_inferencer._models.scoring import LogEncoder, ScoredRows
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.sinks.sink import ScoredBatch
from bulk_inferencer._work import Work
from bulk_inferencer.results.summary import DamagedFile
from bulk_inferencer.results.timeline import Timeline

_PROTOCOL = 5  # the first one that copies the memory of arrays only once

# What makes PredictionLogs, each by itself, so that all batches share its caches.
Encoders: TypeAlias = dict[LogEncoder, LogEncoder]


@dataclass(frozen=True)
class ReadBatch:
    """A batch that is to be scored.

    Attributes:
      split: name of the split.
      batch: its records.
    """

    split: str
    batch: Batch


@dataclass(frozen=True)
class ScoredPart:
    """A batch, or a part of one, that was scored.

    Attributes:
      scored: the records, and what each model made of them.
      work: what that took, by model.
      timeline: when the predictions were made.
      seconds: wall time.
    """

    scored: ScoredBatch
    work: Mapping[str, Work]
    timeline: Timeline
    seconds: float


@dataclass(frozen=True)
class EndOfUnit:
    """What follows the last batch of a unit, and is all that there is of an empty one.

    Attributes:
      unit: the unit.
      damaged_files: the files of which only a part was read.
      bytes_read: how many bytes of its files were read, as they are stored.
      seconds: wall time of reading.
    """

    unit: Unit
    damaged_files: tuple[DamagedFile, ...]
    bytes_read: int
    seconds: float


def encode(value: ReadBatch | ScoredPart | EndOfUnit) -> bytes:
    """Returns a value as bytes."""
    if isinstance(value, ScoredPart):
        work = {name: _plain(own) for name, own in value.work.items()}
        value = replace(value, scored=_thin(value.scored), work=work)
    return pickle.dumps(value, _PROTOCOL)


def decode(content: bytes, encoders: Encoders | None = None) -> ReadBatch | ScoredPart | EndOfUnit:
    """Returns the value that `encode` wrote.

    Args:
      content: the bytes.
      encoders: those of earlier values, to which new ones are added.
    """
    value: ReadBatch | ScoredPart | EndOfUnit = pickle.loads(content)
    if isinstance(value, ScoredPart):
        return replace(value, scored=_whole(value.scored, {} if encoders is None else encoders))
    return value


def _thin(scored: ScoredBatch) -> ScoredBatch:
    """Returns a scored batch whose pieces have no records of their own."""
    return _with_pieces(scored, lambda own: replace(own, rows=_packed(own.rows), records=()))


def _whole(scored: ScoredBatch, encoders: Encoders) -> ScoredBatch:
    """Returns a scored batch as it was before `_thin`."""

    def whole(piece: ScoredRows) -> ScoredRows:
        rows = piece.rows.tolist() if isinstance(piece.rows, array) else piece.rows
        encode = encoders.setdefault(piece.encode, piece.encode)
        return replace(piece, rows=rows, records=taken(scored.batch.records, rows), encode=encode)

    return _with_pieces(scored, whole)


def _with_pieces(scored: ScoredBatch, change: Callable[[ScoredRows], ScoredRows]) -> ScoredBatch:
    branches = {
        name: replace(result, scored=[change(piece) for piece in result.scored])
        for name, result in scored.branches.items()
    }
    return replace(scored, branches=branches)


def _packed(rows: Sequence[int]) -> Sequence[int]:
    if isinstance(rows, range):
        return rows
    return array(next(code for code in "BHIQ" if rows[-1] < 256 ** array(code).itemsize), rows)


def _plain(work: Work) -> Work:
    """Returns work without what meters it."""
    plain = Work()
    plain.merge(work)
    return plain
