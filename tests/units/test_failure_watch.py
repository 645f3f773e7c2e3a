from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest

from bulk_inferencer._formats.batches import Batch, BatchBounds, Segment
from bulk_inferencer._models.scorer import Failed
from bulk_inferencer._units import failure_watch
from bulk_inferencer._units.failure_limit import FailureLimit
from bulk_inferencer._units.failure_watch import FailureWatch
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.routing import SplitRouting
from bulk_inferencer._units.run import UnitTask
from bulk_inferencer._units.spot_check import Verdict, draw
from bulk_inferencer.errors import FailureLimitError
from tests.helpers import exactly, write_tfrecord
from tests.models.fakes import Model
from tests.units.helpers import failures_of, input_file, sinks_in

BATCH = Batch([b""] * 1000, (Segment("file-0", 0, 10), Segment("file-1", 0, 990)))


def fail(attempt, count=1, branch="m", first=0):
    for index in range(first, first + count):
        attempt.failed(branch, Failed(index, "E", "no"), BATCH)


def test_a_run_ends_with_the_first_failure_beyond_a_count_in_all_units_of_a_process():
    watch = FailureWatch(FailureLimit(max_count=3), {"m": "Model 'm'"})
    message = (
        "Model 'm': 4 of 100 records failed in split 's'. The rest was not scored. FailureLimit "
        "allows at most 1.00% and at most 3. The first failures:\n  file-0, record 9: E: no\n"
        "  file-1, record 0: E: no\n  file-0, record 0: E: no\nFix the records or the model, or "
        "raise the limit to keep the failures in failed_examples."
    )
    with watch.attempt("s") as one, watch.attempt("s") as two:
        one.scored("m", 96)
        fail(one, 2, first=9)
        fail(two, 1)
        for attempt in (two, one):  # the next failure of each thread
            with pytest.raises(FailureLimitError, match=exactly(message)):
                fail(attempt)


@pytest.mark.parametrize("limit", [FailureLimit(max_count=0), FailureLimit(max_fraction=0)])
def test_where_no_record_may_fail_the_first_failure_ends_the_run(limit):
    with FailureWatch(limit).attempt("s") as attempt:
        attempt.scored("m", 10**6)
        with pytest.raises(
            FailureLimitError, match=r"^1 of 1000001 records failed in split 's'\. "
        ):
            fail(attempt)
        before = r"^1 of 1 records failed in split 's' before they reached a model\. The rest"
        with pytest.raises(FailureLimitError, match=before):
            fail(attempt, branch=None)


def test_each_split_and_each_model_has_its_own_count():
    watch = FailureWatch(FailureLimit(1, 1))
    for split in "st":
        with watch.attempt(split) as attempt:
            for branch in ("m", "n", None):
                fail(attempt, branch=branch)


def test_failures_of_an_attempt_that_breaks_off_do_not_count():
    watch = FailureWatch(FailureLimit(max_count=3))
    for _ in range(5):
        with suppress(OSError), watch.attempt("s") as attempt:
            fail(attempt, 3)
            raise OSError("the disk is gone")
    # Nor do those of a unit that is done again, as engines do if another one of its bundle fails.
    for _ in range(2):
        with watch.attempt("s", "unit") as attempt:
            fail(attempt, 3)


def test_few_attempts_are_remembered(monkeypatch):
    monkeypatch.setattr(failure_watch, "_MOST_DONE", 2)
    watch = FailureWatch(FailureLimit(max_count=3))
    for unit in "abca":
        with watch.attempt("s", unit) as attempt:
            attempt.scored("m", 1)
    assert list(watch._done) == ["c", "a"]


def judged(verdict=None, scored=0, failures=1000, max_fraction=0.1, branch="m"):
    """Returns for which splits and models others were tried, after so many failures."""
    asked = []
    limit = FailureLimit(max_fraction=max_fraction)
    watch = FailureWatch(limit, judge=lambda *key: asked.append(key) or verdict)
    with watch.attempt("s") as attempt:
        attempt.scored(branch, scored)
        fail(attempt, failures, branch)
    return asked


def test_others_are_tried_once_when_many_records_fail():
    assert judged(failures=15) == []
    assert judged(failures=16) == judged() == [("s", "m")]
    assert judged(failures=20, scored=180) == []  # no more than may
    assert judged(failures=21, scored=179) == [("s", "m")]
    assert judged(branch=None) == []  # no model to try them in


def test_a_run_ends_if_others_fail_as_well():
    message = (
        "16 of 20 records failed in split 's', and so did 6 of 7 from all over the split. The rest "
        "was not scored. FailureLimit allows at most 1.00%."
    )
    with pytest.raises(FailureLimitError, match=exactly(message)[:-1]):
        judged(Verdict(6, 7), scored=4, max_fraction=0.01)


# Units: what is tried, and what it costs in calls of the model


def length(batch):
    if bad := [record for record in batch if record.startswith(b"bad")]:
        raise ValueError(f"{bad[0].decode()} is bad")
    return {"length": np.array(list(map(len, batch)), np.int64)}


def run_units(folder, files, limit=None, routing=None, models=("m",)):
    """Runs a unit for each list of records; returns the models by name, and the manifests."""
    limit = limit or FailureLimit()
    paths = [write_tfrecord(folder / f"in/{i}", own, "") for i, own in enumerate(files)]
    inputs = list(map(input_file, paths))
    models = {name: Model(length) for name in models}
    task = UnitTask(
        models,
        {name: f"Model '{name}'" for name in models},
        "FORMAT_PROTO",
        BatchBounds(),
        routing,
        tuple(sinks_in(f"{folder}/out", models, is_split=routing is not None)),
        failure_limit=limit,
        drawn={"s": draw("s", inputs, limit.max_fraction)},
        manifests_folder=f"{folder}/manifests",
    )
    loaded = task.load()
    (folder / "manifests").mkdir()

    def manifests():
        for i, file in enumerate(inputs):
            yield loaded.run(Unit("s", i, len(files), (file,)))

    return models, manifests()


def test_a_hopeless_split_costs_few_calls(tmp_path):
    files = [[b"bad"] * 10_000 for _ in range(4)]
    models, manifests = run_units(tmp_path, files)
    with pytest.raises(FailureLimitError, match=r"so did 6 of 6 from all over the split"):
        next(manifests)
    calls = models["m"].batches
    assert len(calls) <= 64
    assert sum(map(len, calls)) < 1000


def test_a_good_split_succeeds_although_its_first_records_are_bad(tmp_path):
    bad = [b"bad %03d" % i for i in range(200)]
    files = [bad + [b"good"] * 9_800, *[[b"good"] * 10_000] * 3]
    models, manifests = run_units(tmp_path, files)
    done = list(manifests)
    counts = [(manifest.predictions_made, manifest.examples_failed) for manifest in done]
    assert counts == [(9_800, 200), (10_000, 0), (10_000, 0), (10_000, 0)]
    assert len(models["m"].batches) < 2 * 200 + 100
    assert [(line["record"], line["reason"]) for line in failures_of(done[0])] == [
        (i, f"ValueError: bad {i:03} is bad") for i in range(200)
    ]


def test_only_the_records_of_a_model_are_tried_in_it(tmp_path):
    routing = SplitRouting({"m": 1, "n": 1})
    records = [b"%d" % i for i in range(400)]
    records = [b"bad" + r if routing.model_of(b"bad" + r) == "n" else r for r in records]
    good = [record for record in records if not record.startswith(b"bad")]
    assert {routing.model_of(record) for record in good} == {"m", "n"}
    models, manifests = run_units(tmp_path, [records * 3], routing=routing, models=("m", "n"))
    with pytest.raises(FailureLimitError, match=r"^Model 'n': .* from all over the split\. "):
        next(manifests)
    assert all(len(batch) > 1 for batch in models["m"].batches)
