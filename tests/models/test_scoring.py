from __future__ import annotations

import pickle

import numpy as np
import pytest

from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._models.scorer import Failed, Scorer
from bulk_inferencer._models.scoring import LogScorer
from bulk_inferencer._work import Distribution, Work
from bulk_inferencer.errors import ModelError
from tests.helpers import parsed_log
from tests.models.fakes import Model, length, raising

BATCH = [b"a", b"bad", b"ccc", b"dd", b"bad", b"eeeee"]


def read(log):
    """Returns the record and the output in a serialized PredictionLog."""
    log = parsed_log(log).predict_log
    (record,) = log.request.inputs["records"].string_val
    return record, log.response.outputs["y"].int64_val[0]


@pytest.mark.parametrize(
    ("rows", "failed", "scored"),
    [(None, [1, 4], [0, 2, 3, 5]), ([1, 2, 5], [1], [2, 5]), ([3], [], [3]), ([], [], [])],
    ids=str,
)
def test_each_row_that_is_asked_for_is_scored_or_fails_once(rows, failed, scored):
    results = list(LogScorer(Scorer(Model(length))).score(BATCH, Work(), rows))
    assert [r.index for r in results if isinstance(r, Failed)] == failed
    groups = [r for r in results if not isinstance(r, Failed)]
    assert [row for group in groups for row in group.rows] == scored
    for group in groups:
        lengths = [len(BATCH[row]) for row in group.rows]
        assert group.prediction.outputs["y"].tolist() == lengths
        assert list(map(read, group.logs)) == [(BATCH[row], len(BATCH[row])) for row in group.rows]


def test_logs_and_failures_come_in_the_order_of_the_records():
    work = Work()
    scorer = LogScorer.load(Model(length), "FORMAT_PROTO", BatchBounds(max_records=4))
    logs = scorer.logs(BATCH, work)
    found = [log.reason if isinstance(log, Failed) else read(log)[0] for log in logs]
    assert found == ["ValueError: it is bad" if r == b"bad" else r for r in BATCH]
    # The calls that succeed: a, then ccc and dd; in the second batch, eeeee.
    assert work.batch_records == Distribution(3, 4, 1, 2)
    assert work.model_loads == 1


def test_logs_are_made_where_the_model_is_not():
    scored = list(LogScorer(Scorer(Model(length)), label="Model 'five'").score(BATCH, Work()))
    groups = [own for own in scored if not isinstance(own, Failed)]
    logs = [own.logs for own in groups]
    for group, own in zip(groups, logs, strict=True):
        encode = pickle.loads(pickle.dumps(group.encode))
        assert encode == group.encode
        assert encode(group.records, group.prediction.outputs) == own
    with pytest.raises(ModelError, match=r"^Model 'five': Output 'y' has dtype datetime64"):
        encode([b"a"], {"y": np.zeros(1, "M8[s]")})


def test_errors_begin_with_the_label(monkeypatch):
    model = raising(ModelError("it is wrong"))
    scorer = LogScorer.load(model, "FORMAT_PROTO", BatchBounds(), "Model 'five'")
    with pytest.raises(ModelError, match=r"^Model 'five': it is wrong$"):
        scorer.logs([b"a"], Work())
    monkeypatch.setattr(model, "load", model.predict)  # and raises as well
    with pytest.raises(ModelError, match=r"^Model 'five': it is wrong$"):
        LogScorer.load(model, "FORMAT_PROTO", BatchBounds(), "Model 'five'")
