"""What is listed. That the lists of all units become one: see ../test_commit.py."""

from __future__ import annotations

from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._units.sinks.failure_list import Failure, FailureList, first_failures
from tests.helpers import Lengths, write_tfrecord
from tests.units.helpers import failures_of, lengths_at_most, score, score_records, unit_of

REASON = "ValueError: a bad record"


def test_failures_are_listed_with_file_number_and_reason(tmp_path):
    first = write_tfrecord(tmp_path / "in/1.gz", [b"good"] * 25 + [b"bad"] + [b"good"] * 5)
    second = write_tfrecord(tmp_path / "in/2.gz", [b"bad"])
    manifest = score(
        unit_of(first, second),
        {"a": Lengths()},
        [FailureList(f"{tmp_path}/summary", names_models=False)],
        bounds=BatchBounds(max_records=10),
    )
    assert failures_of(manifest) == [
        {"file": first, "record": 25, "reason": REASON},
        {"file": second, "record": 0, "reason": REASON},
    ]
    assert manifest.sinks["failures"].shards[0].records == 2


def test_failures_name_their_model_and_the_first_of_each_are_kept(tmp_path):
    models = {"a": lengths_at_most(3), "b": lengths_at_most(9)}
    bounds = BatchBounds(max_records=4)
    manifest = score_records(tmp_path, models, [b"4444"] * 9 + [b"x" * 10], bounds=bounds)
    path, reason = f"{tmp_path}/in/0.gz", "ValueError: too long"
    assert failures_of(manifest) == [
        {"file": path, "record": i, "reason": reason, "model": model}
        for model, i in [*(("a", i) for i in range(10)), ("b", 9)]
    ]
    expected = [Failure(path, i, reason, "a") for i in range(5)]
    assert first_failures(manifest) == (*expected, Failure(path, 9, reason, "b"))
