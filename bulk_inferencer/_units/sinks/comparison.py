"""The comparison: how the outputs of several models differ for the same records."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bulk_inferencer._formats.batches import Batch
from bulk_inferencer._models.scoring import ScoredRows
from bulk_inferencer._units.manifest import Account, Manifest
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.sinks.sink import OpenSink, ScoredBatch, Sink
from bulk_inferencer._units.unit_files import UnitFiles
from bulk_inferencer.results import codec
from bulk_inferencer.results.compare import Comparing, compare_batch
from bulk_inferencer.results.comparison import Comparison


@dataclass(frozen=True)
class ComparedOutputs(Sink):
    """Compares what all models return for each record, and writes `comparison.json` at the end."""

    folder: str
    comparing: Comparing
    name = "comparison"

    def open(self, unit: Unit, files: UnitFiles) -> _OpenComparison:
        return _OpenComparison(self.comparing)

    def merged(self, notes: Comparison | None, manifests: Sequence[Manifest]) -> Comparison:
        parts = (codec.from_json(Comparison, own.sinks[self.name].notes) for own in manifests)
        return functools.reduce(Comparison.merge, parts, notes or Comparison())

    def finish(
        self, splits: Sequence[str], manifests: Sequence[Manifest], notes: Comparison | None
    ) -> None:
        (notes or Comparison()).write(self.folder)


class _OpenComparison(OpenSink):
    def __init__(self, comparing: Comparing) -> None:
        self._comparing = comparing
        self._comparison = Comparison()

    def write(self, scored: ScoredBatch) -> None:
        """Compares the batch call by call: an output may have another shape or dtype in the next.

        record       0  1  2  3  4  5  6  7
        five         [-----]     [--------]    record 2 failed
        ten          [--------------------]
        compared     [-----]  |  [--------]
        """
        batch = scored.batch
        pieces = [(name, p) for name, result in scored.branches.items() for p in result.scored]
        edges = {0, len(batch.records)}
        for _, piece in pieces:
            edges |= {piece.rows[0], piece.rows[-1] + 1}
        for start, stop in itertools.pairwise(sorted(edges)):
            outputs = {
                name: _outputs(piece, start, stop)
                for name, piece in pieces
                if piece.rows[0] <= start <= piece.rows[-1]
            }
            part = compare_batch(
                batch.records[start:stop],
                outputs,
                functools.partial(_locate, batch, start),
                self._comparing,
            )
            self._comparison = self._comparison.merge(part)

    def close(self) -> Account:
        return Account(notes=codec.to_json(self._comparison))


def _locate(batch: Batch, start: int, index: int) -> tuple[str, int]:
    return batch.locate(start + index)


def _outputs(piece: ScoredRows, start: int, stop: int) -> dict[str, np.ndarray]:
    """Returns the outputs of those records of a piece that are consecutive ones of the batch."""
    rows = slice(start - piece.rows[0], stop - piece.rows[0])
    return {name: values[rows] for name, values in piece.prediction.outputs.items()}
