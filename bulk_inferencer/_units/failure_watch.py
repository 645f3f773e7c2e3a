"""Counts failures while units run, so that a run ends as soon as it cannot succeed any more."""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from bulk_inferencer._formats.batches import Batch
from bulk_inferencer._models.scorer import Failed
from bulk_inferencer._units.failure_limit import MOST_NAMED, FailureLimit, limit_error, where
from bulk_inferencer._units.sinks.failure_list import Failure
from bulk_inferencer._units.spot_check import Verdict
from bulk_inferencer.errors import FailureLimitError

# So many records have to fail before others are tried, to see whether there is any hope.
_MANY = 16
# Engines repeat what they repeat soon after, so no more attempts are remembered than these.
_MOST_DONE = 10_000

# Tries records from all over a split in one of the models; see `spot_check.judge`.
_Judge: TypeAlias = Callable[[str, str], Verdict | None]


@dataclass
class _Tally:
    """What became of the records of one split in one model, or on their way to one, so far."""

    scored: int = 0
    failed: int = 0
    first: list[Failure] = field(default_factory=list)
    is_judged: bool = False
    error: str = ""  # that has ended the run


class FailureWatch:
    """Ends a run as soon as more records fail than may. All threads of a process share it.

    That is certain where a limit allows a number of failures. Where it allows a fraction, nobody
    knows how many records are still to come. If many records fail, it tries some from all over the
    split before others lose time with the rest.
    """

    def __init__(
        self,
        limit: FailureLimit,
        labels: Mapping[str, str] | None = None,
        judge: _Judge = lambda split, branch: None,
    ) -> None:
        """Watches over a limit; `labels` are what messages about each model begin with."""
        self._limit = limit
        self._labels = labels or {}
        self._judge = judge
        self._lock = threading.Lock()
        self._done: OrderedDict[str, Attempt] = OrderedDict()  # by unit
        self._tallies: defaultdict[tuple[str, str | None], _Tally] = defaultdict(_Tally)

    @contextmanager
    def attempt(self, split: str, unit: str | None = None) -> Iterator[Attempt]:
        """Counts the records of a unit; not if it fails, nor twice if it is done again."""
        with self._lock:
            earlier = self._done.pop(unit, None) if unit is not None else None
        if earlier:
            self._forget(earlier)  # Engines repeat whole bundles of units.
        attempt = Attempt(self, split)
        try:
            yield attempt
        except BaseException:
            self._forget(attempt)
            raise
        if unit is not None:
            with self._lock:
                self._done[unit] = attempt
                if len(self._done) > _MOST_DONE:
                    self._done.popitem(last=False)

    def _forget(self, attempt: Attempt) -> None:
        with self._lock:
            for branch, own in attempt.tallies.items():
                self._tallies[attempt.split, branch].scored -= own.scored
                self._tallies[attempt.split, branch].failed -= own.failed

    def _give_up(self, key: tuple[str, str | None], verdict: Verdict | None = None) -> None:
        tally = self._tallies[key]
        what = f"{tally.failed} of {tally.failed + tally.scored} records failed in {where(*key)}"
        if verdict:
            what += f", and so did {verdict.failed} of {verdict.tried} from all over the split"
        error = limit_error(self._limit, f"{what}. The rest was not scored.", tally.first)
        label = self._labels.get(key[1] or "")
        tally.error = tally.error or (f"{label}: {error}" if label else str(error))


class Attempt:
    """The records of a unit, as they are scored."""

    def __init__(self, watch: FailureWatch, split: str) -> None:
        self._watch = watch
        self.split = split
        self.tallies: defaultdict[str | None, _Tally] = defaultdict(_Tally)

    def scored(self, branch: str | None, records: int) -> None:
        """Counts records that a model scored; without a model, those that reached one."""
        with self._watch._lock:
            self.tallies[branch].scored += records
            self._watch._tallies[self.split, branch].scored += records

    def failed(self, branch: str | None, failed: Failed, batch: Batch) -> None:
        """Counts a record that a model could not score, or that reached none.

        Raises:
          FailureLimitError: more records fail than the limit allows.
        """
        watch, key = self._watch, (self.split, branch)
        with watch._lock:
            tally = watch._tallies[key]
            tally.failed += 1
            self.tallies[branch].failed += 1
            if len(tally.first) < MOST_NAMED:
                place = batch.locate(failed.index)
                tally.first.append(Failure(*place, failed.reason, branch))
            if watch._limit.is_surely_exceeded(tally.failed):
                watch._give_up(key)
            is_suspect = tally.failed >= _MANY and watch._limit.is_exceeded(
                tally.failed, tally.failed + tally.scored
            )
            tries_others = is_suspect and not tally.is_judged
            tally.is_judged |= is_suspect
        if branch and tries_others and (verdict := watch._judge(self.split, branch)):
            with watch._lock:
                watch._give_up(key, verdict)
        if tally.error:  # perhaps of another thread
            raise FailureLimitError(tally.error)
