"""Who is at fault, on a clock that stands still but for pauses."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pyarrow as pa
import pytest

from bulk_inferencer._formats.rows import Rows
from bulk_inferencer._models.answers import Fault, Refused
from bulk_inferencer._models.judge import Judge
from bulk_inferencer._models.predictor import Prediction, RecordError
from bulk_inferencer._models.retries import Caller, Limits
from bulk_inferencer._models.scorer import Failed, Scored, Scorer
from bulk_inferencer.errors import EndpointError
from tests.helpers import exactly
from tests.models.test_retries import Time

BROKEN = Refused(Fault.UNCERTAIN, "INTERNAL", "boom")
WRONG = Refused(Fault.RECORD, "INVALID_ARGUMENT", "wrong")
ADVICE = "Check the server's log, and the model that it serves."
RECORDS = [b"%d" % i for i in range(64)]


class Server:
    """A predictor with a judge: fails with each of the poisoned records, and as long as planned."""

    def __init__(self, poison=(), error=BROKEN, faults=(), total_seconds=600):
        self.requests = []
        self.time = Time()
        self.faults = iter(faults)
        self._poison = set(poison)
        self._error = error
        limits = Limits(60, total_seconds)
        caller = Caller("the server", limits, self.time.clock, self.time.sleep)
        self._judge = Judge(caller)

    def predict(self, batch):
        return self._judge.predict(self._score, batch)

    def _score(self, batch):
        self.requests.append(len(batch))
        fault = next(self.faults, None)
        if fault or self._poison.intersection(batch):
            raise fault or self._error
        return Prediction({"y": np.array(batch, object)})


def failed(server, records=RECORDS):
    """Bisects until bad records stand alone, and returns those; all others have predictions."""
    try:
        assert server.predict(records).outputs["y"].tolist() == list(records)
    except RecordError:
        if len(records) == 1:
            return list(records)
        middle = len(records) // 2
        return failed(server, records[:middle]) + failed(server, records[middle:])
    return []


def test_rows_of_a_table_stay_rows_for_the_server():
    kinds = []

    def score(batch):
        kinds.append(type(batch))
        if 7 in batch.columns["id"].to_pylist():
            raise BROKEN
        return Prediction({})

    server = Server()
    server._score = score
    rows = Rows(pa.table({"id": range(16)}))
    failed = [r.index for r in Scorer(server).score(rows) if isinstance(r, Failed)]
    assert failed == [7]
    assert set(kinds) == {Rows}
    assert rows._examples is None


@pytest.mark.parametrize("error", [BROKEN, WRONG])
@pytest.mark.parametrize("poison", [[0], [63], [7, 40], range(0, 64, 3), range(13, 64)])
def test_records_that_a_server_cannot_score_fail_and_no_others(poison, error):
    poison = [RECORDS[i] for i in poison]
    server = Server(poison, error)
    assert failed(server) == poison
    assert sum(server.time.pauses) < 2


def test_one_such_record_costs_few_requests():
    server = Server([RECORDS[40]])
    failed(server)
    # All, one that is scored, six halves twice, and the proof.
    assert len(server.requests) <= 1 + 1 + 2 * 6 + 2 * 8


@pytest.mark.parametrize("count", [1, 3, 64])
def test_server_that_scores_nothing_ends_the_run_after_a_few_requests(count):
    server = Server(RECORDS)
    message = (
        f"the server has scored nothing yet: it answered INTERNAL: boom to a batch, and failed "
        f"with single records as well. {ADVICE}"
    )
    with pytest.raises(EndpointError, match=exactly(message)):
        [failed(server, RECORDS[:count]) for _ in range(3)]
    assert len(server.requests) <= (17 if count == 64 else 3 * 17)
    assert sum(server.time.pauses) <= 0.1 * len(server.requests)


def test_bad_records_at_the_head_fail_alone_if_others_are_scored():
    server = Server(RECORDS)
    scorer = Scorer(server, elsewhere=lambda: [RECORDS[7], b"good", RECORDS[9]])
    results = list(scorer.score([*RECORDS, b"better"]))
    assert [type(result) for result in results] == [Failed] * 64 + [Scored]
    assert server.requests.count(65) == 2  # before and after the others
    server = Server(RECORDS)
    scorer = Scorer(server, elsewhere=lambda: RECORDS[:5])
    for requests in (17 + 5, 17 + 5 + 1):  # The others are tried once.
        with pytest.raises(EndpointError, match=r"^the server has scored nothing yet"):
            list(scorer.score(RECORDS))
        assert len(server.requests) == requests


def test_server_that_breaks_for_good_is_given_the_time_of_one_request():
    server = Server(faults=[None, *[BROKEN] * 1000])
    message = (
        f"the server answers INTERNAL: boom again and again, for 60 s now, and also to a record "
        f"that it has scored before. {ADVICE}"
    )
    with pytest.raises(EndpointError, match=exactly(message)):
        [failed(server) for _ in range(2)]
    assert len(server.requests) < 80
    assert 20 < sum(server.time.pauses) <= 60


def test_model_that_is_replaced_by_one_that_refuses_everything_is_no_fault_of_records():
    server = Server(faults=[None, *[WRONG] * 1000])
    with pytest.raises(EndpointError, match=r"^the server answers INVALID_ARGUMENT: wrong again"):
        [failed(server) for _ in range(2)]


@pytest.mark.parametrize(
    ("first", "faults"), [(0, 1), (0, 9), (0, 16), (2, 1), (2, 9), (2, 20), (9, 9), (40, 20)]
)
def test_fault_that_passes_costs_no_record(first, faults):
    server = Server([RECORDS[9]], faults=[*[None] * first, *[BROKEN] * faults])
    assert failed(server) == [RECORDS[9]]


def test_every_second_request_may_fail():
    dice = random.Random(1)
    server = Server([RECORDS[9]], faults=iter(lambda: dice.choice([None, BROKEN]), 0))
    for _ in range(5):
        assert failed(server) == [RECORDS[9]]


def test_server_that_fails_again_and_again_is_given_the_time_of_one_batch():
    server = Server(RECORDS[1:], total_seconds=60)
    server.predict(RECORDS[:1])
    server.faults = itertools.cycle([None, BROKEN, None])  # the record, the other one twice
    with pytest.raises(EndpointError, match=r" again and again, for 60 s now, "):
        server.predict(RECORDS[1:2])


def test_record_that_fails_for_another_reason_is_not_tried_again():
    server = Server(RECORDS, RecordError("DecodeError", "not a tf.Example"))
    assert failed(server) == RECORDS
    assert len(server.requests) == 127
