"""PredictionLogs of several models side by side: which of them are of the same record.

The logs of a unit are in the order of its records, and a record that a model failed on has none.

    records   a  b  c  d        rows    a  b  c  d
    five      a     c  d   -->  five    0     1  2
    ten       a  b     d        ten     0  1     2
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bulk_inferencer.errors import InputError
from bulk_inferencer.results.log_arrays import records_of
from bulk_inferencer.results.reader import RecordPrediction, prediction_of, serialized_logs
from bulk_inferencer.results.shards import Shard

# A row: a log for each model, or None where it failed.
Row = dict[str, bytes | None]


def joined_logs(shards: Mapping[str, Shard | None], is_alike: bool) -> Iterator[Row]:
    """Yields a row for each record of a unit that at least one of its models scored.

    Args:
      shards: the unit's PredictionLogs, by model; None where there are none.
      is_alike: whether all models scored the same records.

    Raises:
      InputError: the logs do not belong together, or hold no records to tell which do.
    """
    if is_alike:
        streams = {m: _logs(shard) for m, shard in shards.items()}
        for logs in itertools.zip_longest(*streams.values()):
            if None in logs:
                raise InputError(
                    f"{_paths(shards)} are not of the same records: one is longer than the other. "
                    f"Read one model at a time, with model."
                )
            yield dict(zip(shards, logs, strict=True))
        return
    marks = {model: _marks(shard) for model, shard in shards.items()}
    if any(None in own for own in marks.values()):
        raise InputError(
            f"{_paths(shards)} cannot be joined: models failed on some records, and the logs hold "
            f"no records to tell which. Read one model at a time, with model, or keep the records "
            f"in the logs."
        )
    streams = {model: _logs(shard) for model, shard in shards.items()}
    for present in merged([*marks.values()]):
        yield {
            model: next(streams[model]) if is_present else None
            for model, is_present in zip(shards, present, strict=True)
        }


def merged(sequences: Sequence[Sequence[Any]]) -> Iterator[tuple[bool, ...]]:
    """Merges sequences that are each a part of one longer sequence, in its order.

    Yields, for each item of the merged sequence, which of the sequences it is in. Equal items that
    are in some of the sequences are taken for one.
    """
    members: dict[Any, set[int]] = {}
    for i, sequence in enumerate(sequences):
        for item in sequence:
            members.setdefault(item, set()).add(i)
    positions = [0] * len(sequences)

    def heads() -> dict[int, Any]:
        left = (i for i, sequence in enumerate(sequences) if positions[i] < len(sequence))
        return {i: sequences[i][positions[i]] for i in left}

    while current := heads():
        ready = (
            item
            for item in current.values()
            if all(i in current and current[i] == item for i in members[item])
        )
        item = next(ready, None)
        if item is None:  # Equal records did not fare alike: those that are next go together.
            item = next(iter(current.values()))
        present = {i for i, own in current.items() if own == item}
        for i in present:
            positions[i] += 1
        yield tuple(i in present for i in range(len(sequences)))


def _marks(shard: Shard | None) -> list[int | None]:
    """Returns what tells the records of a shard apart."""
    chunks = serialized_logs([shard] if shard else [])
    return [
        None if record is None else hash(record) for chunk in chunks for record in records_of(chunk)
    ]


def _logs(shard: Shard | None) -> Iterator[bytes]:
    return itertools.chain.from_iterable(serialized_logs([shard] if shard else []))


def _paths(shards: Mapping[str, Shard | None]) -> str:
    return " and ".join(shard.path for shard in shards.values() if shard)


def prediction_of_row(row: Row, prefixes: Mapping[str, str]) -> RecordPrediction:
    """Returns the outputs of all models that scored a record, with the prefix of each."""
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    record: bytes | None = None
    outputs: dict[str, np.ndarray] = {}
    for model, log in row.items():
        if log is not None:
            own = prediction_of(PredictionLog.FromString(log))
            record = own.record
            outputs |= {prefixes[model] + name: value for name, value in own.outputs.items()}
    return RecordPrediction(record, outputs)


def in_blocks(rows: Iterable[Row], most_rows: int, most_bytes: int) -> Iterator[list[Row]]:
    """Yields rows in lists that end at whichever bound they reach first."""
    block: list[Row] = []
    size = 0
    for row in rows:
        block.append(row)
        size += sum(len(log) for log in row.values() if log is not None)
        if len(block) == most_rows or size >= most_bytes:
            yield block
            block, size = [], 0
    if block:
        yield block
