"""Is a record at fault or its server? An answer such as INTERNAL leaves that open; others tell.

A record is found guilty if the server scores another one right before it fails again, several times
in a row. Where the server fails with the other one, too, it is waited for.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from typing import TypeAlias

from bulk_inferencer._formats.rows import taken
from bulk_inferencer._models.answers import Fault, Refused
from bulk_inferencer._models.predictor import NothingScored, Prediction, RecordError
from bulk_inferencer._models.retries import Caller, TransientError
from bulk_inferencer.errors import BulkInferencerError, EndpointError

_Score: TypeAlias = Callable[[Sequence[bytes]], Prediction]

# How often a record has to fail while another one is scored. Where every second request fails,
# whatever it holds, one of 100,000 good records is found guilty.
_PROOFS = {Fault.RECORD: 1, Fault.UNCERTAIN: 8}
# Before it has scored any record, a server may fail so many times with single records of a batch.
_WITNESSES = 16
# Where a batch has fewer records than this, the fault may be theirs, and so many batches are tried.
_ENOUGH_RECORDS = 8
_SEARCHES = 3
_SHORT_PAUSE_SECONDS = 0.1
_ADVICE = "Check the server's log, and the model that it serves."


class Judge:
    """Scores batches, and tells records that a server cannot score from a server that cannot score.

    All threads of a process share it.
    """

    def __init__(self, caller: Caller) -> None:
        """Judges the answers of the caller's server, and pauses as the caller does."""
        self._caller = caller
        self._scored: Sequence[bytes] | None = None  # a record that the server has scored
        self._searches = 0  # for such a record, in vain
        self._scores_nothing = False

    def predict(self, score: _Score, batch: Sequence[bytes]) -> Prediction:
        """Returns what `score` returns for the batch.

        Args:
          score: asks the server once, and raises `Refused` if a record may be at fault.
          batch: serialized records.

        Raises:
          RecordError: a record is at fault; if there are several, the halves of the batch tell.
          NothingScored: the server is at fault, unless other records tell otherwise.
          EndpointError: the server is at fault.
        """
        try:
            prediction = score(batch)
        except Refused as refused:
            answer = refused
        else:
            if self._scored is None:
                self._scored = taken(batch, [0])
            return prediction
        if self._scored is None and answer.fault is Fault.UNCERTAIN:
            if self._scores_nothing:
                raise self._nothing_scored(answer)
            self._look_for_witness(score, batch, answer)
        if self._scored is None or len(batch) > 1:
            raise RecordError(answer.code, answer.message)
        return self._try_again(score, batch, answer)

    def _look_for_witness(self, score: _Score, batch: Sequence[bytes], answer: Refused) -> None:
        """Tries single records from all over the batch, until one of them is scored."""
        # At random, since what is wrong with records may recur at equal distances.
        shuffled = random.Random(0).sample(range(len(batch)), len(batch))
        untried = itertools.cycle(shuffled)

        def attempt() -> None:
            if self._scored is None:  # or another thread has found one
                self._score_alone(score, taken(batch, [next(untried)]))

        try:
            seconds = self._caller.limits.total_seconds
            self._caller.keep_trying(attempt, seconds, _SHORT_PAUSE_SECONDS, _WITNESSES)
        except TransientError as error:
            self._searches += 1
            if len(batch) >= _ENOUGH_RECORDS or self._searches >= _SEARCHES:
                self._scores_nothing = True
                raise self._nothing_scored(answer) from error

    def _nothing_scored(self, answer: Refused) -> NothingScored:
        return NothingScored(
            f"{self._caller.where} has scored nothing yet: it answered {answer} to a batch, and "
            f"failed with single records as well. {_ADVICE}"
        )

    def _try_again(self, score: _Score, batch: Sequence[bytes], answer: Refused) -> Prediction:
        """Tries a single record in turn with one that the server has scored."""
        started, proofs = self._caller.clock(), 0
        while self._caller.clock() - started <= self._caller.limits.total_seconds:
            proofs = proofs + 1 if self._still_scores(score, answer) else 0
            if proofs >= _PROOFS[answer.fault]:
                raise RecordError(answer.code, answer.message)
            try:
                return score(batch)
            except Refused as refused:
                answer = refused
        raise self._broken(answer, self._caller.limits.total_seconds)

    def _still_scores(self, score: _Score, answer: Refused) -> bool:
        """Waits until the server scores again; returns whether it did so at once."""
        attempts = 0

        def attempt() -> None:
            nonlocal attempts
            attempts += 1
            assert self._scored is not None  # `predict` has made sure
            self._score_alone(score, self._scored)

        seconds = self._caller.limits.request_seconds
        try:
            self._caller.keep_trying(attempt, seconds)
        except TransientError as error:
            raise self._broken(answer, seconds) from error
        return attempts == 1

    def _broken(self, answer: Refused, seconds: float) -> EndpointError:
        return EndpointError(
            f"{self._caller.where} answers {answer} again and again, for {seconds:g} s now, and "
            f"also to a record that it has scored before. {_ADVICE}"
        )

    def _score_alone(self, score: _Score, record: Sequence[bytes]) -> None:
        try:
            score(record)
        except BulkInferencerError:
            raise
        except Exception as error:
            raise TransientError(str(error)) from error
        self._scored = record
