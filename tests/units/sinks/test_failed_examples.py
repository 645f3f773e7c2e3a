"""That a record is kept once, however many models it failed in: see test_run.py."""

from __future__ import annotations

from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._units.routing import SplitRouting
from tests.units.helpers import failures_of, lengths_at_most, records_of, score_records


def test_failed_records_of_a_split_batch_are_the_right_ones(tmp_path):
    routing = SplitRouting({"a": 1, "b": 1})
    models = {name: lengths_at_most(2) for name in "ab"}
    records = [b"%d" % i if i % 7 else b"%03d" % i for i in range(60)]
    bounds = BatchBounds(max_records=25)
    manifest = score_records(tmp_path, models, records, routing=routing, bounds=bounds)
    assert records_of(manifest, "failed_examples") == records[::7]
    models_by_record = {line["record"]: line["model"] for line in failures_of(manifest)}
    assert models_by_record == {i: routing.model_of(records[i]) for i in range(0, 60, 7)}
