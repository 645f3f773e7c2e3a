"""Outcomes of an A/B test: which rows of their table belong to records that were scored."""

from __future__ import annotations

import functools
import logging
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bulk_inferencer._units.manifest import Account, Manifest
from bulk_inferencer._units.outcomes import outcomes_by_branch, read_outcomes_again
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.routing import SplitRouting
from bulk_inferencer._units.sinks.sink import OpenSink, ScoredBatch, Sink
from bulk_inferencer._units.unit_files import UnitFiles
from bulk_inferencer.results.comparison import Comparison
from bulk_inferencer.results.outcomes import Outcomes

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MatchedOutcomes(Sink):
    """Finds the outcomes of the keys that were scored, and writes `comparison.json` at the end."""

    folder: str
    outcomes: Outcomes
    routing: SplitRouting
    name = "outcomes"

    def __getstate__(self) -> dict[str, Any]:
        # The table may be large. It stays behind, and workers read it themselves.
        return {**self.__dict__, "outcomes": replace(self.outcomes, keys=(), values=())}

    def loaded(self) -> MatchedOutcomes:
        if self.outcomes.keys:
            return self
        return replace(self, outcomes=read_outcomes_again(self.outcomes.path, self.outcomes.digest))

    def open(self, unit: Unit, files: UnitFiles) -> _OpenOutcomes:
        return _OpenOutcomes(self.outcomes.rows)

    def merged(self, notes: int | None, manifests: Sequence[Manifest]) -> int:
        parts = (int(own.sinks[self.name].notes, 16) for own in manifests)
        return functools.reduce(operator.or_, parts, notes or 0)

    def finish(
        self, splits: Sequence[str], manifests: Sequence[Manifest], notes: int | None
    ) -> None:
        matched = notes or 0
        if self.outcomes.keys and not matched:
            _logger.warning(
                "No key in %s is a value of %s in the records, so there are no outcomes to report.",
                self.outcomes.path,
                self.routing.split_key,
            )
        by_branch = outcomes_by_branch(self.outcomes, matched, self.routing)
        Comparison(outcomes=by_branch).write(self.folder)


class _OpenOutcomes(OpenSink):
    def __init__(self, rows: Mapping[bytes, int]) -> None:
        self._rows = rows
        self._matched: set[int] = set()

    def write(self, scored: ScoredBatch) -> None:
        for result in scored.branches.values():
            for piece in result.scored:
                found = (self._rows.get(scored.keys[row]) for row in piece.rows)
                self._matched.update(row for row in found if row is not None)

    def close(self) -> Account:
        """Returns a number in which bit i is set for each row i that was matched, as text."""
        bits = bytearray(max(self._matched, default=0) // 8 + 1)
        for row in self._matched:
            bits[row // 8] |= 1 << row % 8
        return Account(notes=hex(int.from_bytes(bits, "little")))
