from __future__ import annotations

import numpy as np
import pytest

from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._units.sinks.comparison import ComparedOutputs
from bulk_inferencer.results.compare import Comparing
from bulk_inferencer.results.comparison import Comparison
from tests.helpers import Lengths
from tests.units.helpers import Function, lengths_at_most, score_records
from tests.units.sinks.test_output_examples import codes


@pytest.fixture
def compared(tmp_path):
    """Returns the comparison that a sink makes of models for records."""

    def compare(models, records, **settings):
        sink = ComparedOutputs(str(tmp_path / "out/comparison"), Comparing())
        manifest = score_records(tmp_path, models, records, more_sinks=[sink], **settings)
        sink.finish(["s"], [manifest], sink.merged(None, [manifest]))
        return Comparison.read(sink.folder)

    return compare


def test_records_that_both_models_scored_are_compared(compared):
    models = {"a": lengths_at_most(3), "b": lengths_at_most(4), "c": lengths_at_most(9)}
    records = [b"1", b"22", b"333", b"4444", b"55555"] * 3
    settings = {"bounds": BatchBounds(max_records=7), "first_records": {"a": 1, "b": 2, "c": 64}}
    pairs = compared(models, records, **settings).pairs
    counts = {pair.models: pair.outputs["length"].records for pair in pairs}
    assert counts == {("a", "b"): 9, ("a", "c"): 9, ("b", "c"): 12}
    assert all(p.outputs["length"].agreeing == p.outputs["length"].records for p in pairs)
    assert all(pair.not_compared == {} for pair in pairs)
    assert compared({"a": Lengths()}, records) == Comparison()


def test_records_that_differ_are_located(tmp_path, compared):
    def off_by_one_at_four(batch):
        return {"length": np.array([len(record) + (len(record) == 4) for record in batch])}

    models = {"a": Lengths(), "b": Function(off_by_one_at_four)}
    records = [b"x" * n for n in (1, 2, 3, 1, 2, 4, 1, 4)]
    settings = {"bounds": BatchBounds(max_records=6), "first_records": {"a": 1, "b": 3}}
    (pair,) = compared(models, records, **settings).pairs
    different = pair.outputs["length"].most_different
    assert [(record.file, record.record, record.values) for record in different] == [
        (f"{tmp_path}/in/0.gz", number, {"a": [4], "b": [5]}) for number in (5, 7)
    ]


def test_outputs_whose_shapes_change_between_calls_are_compared_call_by_call(compared):
    models = {"a": Function(codes), "b": Function(codes)}
    records = [b"1", b"1", b"1", b"4444", b"22", b"1", b"1"]
    (pair,) = compared(models, records, first_records={"a": 1, "b": 1}).pairs
    assert pair.outputs["y"].records == pair.outputs["y"].agreeing == 7
    assert pair.not_compared == {}
