"""What every sink gets, and what it must offer.

A job has a list of sinks. Each unit opens them, hands every scored batch down the list, and closes
them. When all units are complete, the run finishes the sinks.

    files -> batches -> ScoredBatch -> sink, sink, ... -> Account, Account, ... -> Manifest

Before a batch is written, sinks say which predictions they cannot hold. These become failures, so
that a record is in all outputs or in none.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from bulk_inferencer._formats.batches import Batch
from bulk_inferencer._formats.rows import Rows, taken
from bulk_inferencer._models.scorer import Failed
from bulk_inferencer._models.scoring import ScoredRows
from bulk_inferencer._units.manifest import Account, Manifest
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.unit_files import ShardWriter, UnitFiles

# By model, the predictions that a sink cannot hold, by the index of their record in the batch.
Unfit: TypeAlias = Mapping[str, Mapping[int, Failed]]


@dataclass(frozen=True)
class BranchResult:
    """What one model made of the records of a batch that went to it.

    Attributes:
      examples_read: how many there were.
      scored: those that it scored, in one piece per call.
      failed: those that it could not score.
    """

    examples_read: int
    scored: Sequence[ScoredRows]
    failed: Sequence[Failed]

    def without(self, unfit: Mapping[int, Failed]) -> BranchResult:
        """Returns the result with some of the predictions, by index, as failures."""
        scored = [_without(piece, unfit) for piece in self.scored]
        failed = sorted([*self.failed, *unfit.values()], key=lambda own: own.index)
        return BranchResult(self.examples_read, [piece for piece in scored if piece.rows], failed)


@dataclass(frozen=True)
class ScoredBatch:
    """A batch, and what each model made of it.

    Attributes:
      batch: the records.
      branches: the result of each model, by its name.
      unrouted: records that failed before they reached a model.
      keys: with routing, the key of each record.
    """

    batch: Batch
    branches: Mapping[str, BranchResult]
    unrouted: Sequence[Failed] = ()
    keys: Sequence[bytes] = ()

    def failures(self) -> Iterator[tuple[Failed, str | None]]:
        """Yields each failure with the name of its model; None where it reached none."""
        for failed in self.unrouted:
            yield failed, None
        for name, result in self.branches.items():
            for failed in result.failed:
                yield failed, name

    def without(self, unfit: Unfit) -> ScoredBatch:
        """Returns the batch with some of the predictions as failures."""
        branches = {name: own.without(unfit.get(name, {})) for name, own in self.branches.items()}
        return replace(self, branches=branches)


def _without(piece: ScoredRows, rows: Container[int]) -> ScoredRows:
    kept = [i for i, row in enumerate(piece.rows) if row not in rows]
    if len(kept) == len(piece.rows):
        return piece
    outputs = {name: values[kept] for name, values in piece.prediction.outputs.items()}
    return replace(
        piece,
        rows=[piece.rows[i] for i in kept],
        records=taken(piece.records, kept),
        prediction=replace(piece.prediction, outputs=outputs),
    )


# The kind of a failure of a prediction that a sink cannot hold.
UNFIT = "DoesNotFit"


class OpenSink:
    """A sink within one unit."""

    def unfit(self, scored: ScoredBatch) -> Unfit:
        """Returns the predictions of a batch that the sink cannot hold. Called before `write`."""
        return {}

    def write(self, scored: ScoredBatch) -> None:
        """Takes a batch."""
        raise NotImplementedError

    def close(self) -> Account:
        """Returns the account of all batches. Called once, after the last one."""
        raise NotImplementedError


class Sink:
    """The settings of one kind of output. Engines pickle them and send them to workers."""

    @property
    def name(self) -> str:
        """Name of its accounts in manifests; no other sink of the job has it."""
        raise NotImplementedError

    folder: str  # of the output

    def file_name(self, split: str, shard: str) -> str:
        """Returns the final name of a unit's file, within the folder; empty if it gets none."""
        return ""

    def loaded(self) -> Sink:
        """Returns the sink with what its units share on a worker. Called once per process."""
        return self

    def open(self, unit: Unit, files: UnitFiles) -> OpenSink:
        """Returns what takes the batches of a unit. Called on the worker that runs it."""
        raise NotImplementedError

    def predictions_written(self, account: Account) -> Mapping[str, int]:
        """Returns how many predictions of each model the sink has written, if it writes them."""
        return {}

    def merged(self, notes: Any, manifests: Sequence[Manifest]) -> Any:
        """Returns the notes of more units, merged with `notes`: None at first.

        Called while manifests are read, some at a time. They lose these notes, since those of all
        units together may not fit into memory. By default, notes stay where they are.
        """
        return None

    def finish(self, splits: Sequence[str], manifests: Sequence[Manifest], notes: Any) -> None:
        """Turns all accounts into results, if the files of units are not results themselves.

        Args:
          splits: the splits of the run.
          manifests: those of all units.
          notes: what `merged` made of the notes of all units; None if there are no units.
        """


class RecordSink(OpenSink):
    """An open sink with one file, for the records that a function makes of each batch.

    Those of some models, `needs_records`, hold the records of the inputs, so that rows of tables
    have to become tf.Examples.
    """

    def __init__(
        self,
        writer: ShardWriter,
        records_of: Callable[[ScoredBatch], Sequence[bytes]],
        needs_records: Callable[[ScoredBatch], Iterable[str]] = lambda scored: (),
    ) -> None:
        self._writer = writer
        self._records_of = records_of
        self._needs_records = needs_records

    def unfit(self, scored: ScoredBatch) -> Unfit:
        found: dict[str, dict[int, Failed]] = {}
        for branch in self._needs_records(scored):
            for piece in scored.branches[branch].scored:
                if isinstance(piece.records, Rows):
                    for i, reason in piece.records.unfit().items():
                        row = piece.rows[i]
                        found.setdefault(branch, {})[row] = Failed(row, UNFIT, reason)
        return found

    def write(self, scored: ScoredBatch) -> None:
        self._writer.write_records(self._records_of(scored))

    def close(self) -> Account:
        return Account((self._writer.close(),))
