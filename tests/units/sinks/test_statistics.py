from __future__ import annotations

import json

import numpy as np
import pytest

from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._units.manifest import Manifest
from bulk_inferencer._units.routing import SplitRouting
from bulk_inferencer._units.sinks.statistics import PredictionStatistics
from bulk_inferencer.results.describe import describe
from bulk_inferencer.results.histogram import Histogram
from bulk_inferencer.results.statistics import Statistics
from tests.helpers import Lengths, example
from tests.units.helpers import Function, lengths_at_most, score_records


@pytest.fixture
def gathered(tmp_path):
    """Returns the statistics that a sink gathers of units of records, and their manifests."""

    def gather(models, *units, **settings):
        sink = PredictionStatistics(str(tmp_path / "out/summary"))
        manifests = [
            score_records(tmp_path / str(i), models, records, more_sinks=[sink], **settings)
            for i, records in enumerate(units)
        ]
        # A unit that is taken over from an earlier run comes back as text.
        manifests = [Manifest.from_json(manifest.to_json()) for manifest in manifests]
        sink.finish(["s"], manifests, sink.merged(None, manifests))
        return Statistics.read(sink.folder), manifests

    return gather


def test_predictions_of_all_calls_and_units_are_gathered(gathered):
    first, second = [b"x" * n for n in range(50)], [b"x" * n for n in (7, 8)]
    models = {"a": Lengths(), "b": lengths_at_most(20)}
    bounds = BatchBounds(max_records=16)
    statistics, _ = gathered(models, first, second, bounds=bounds)
    assert statistics.of("a", "s")["length"].histogram == Histogram.of(np.array([*range(50), 7, 8]))
    expected = describe(np.array([*range(21), 7, 8])).classes
    assert statistics.of("b", "s")["length"].classes == expected
    assert statistics.failures == {"b": {"s": {"ValueError: too long": 29}}}


def test_records_without_an_output_are_missing(gathered):
    def some(batch):
        y = np.array([float(len(record)) for record in batch])
        if max(y) < 3:
            return {"y": y}  # as a cascade whose second stage ran for none of the records
        return {"y": y, "z": np.ma.MaskedArray(y, y < 3)}

    first, second = [b"1", b"22", b"333"], [b"1"]
    for units in ([first, second], [second, first]):
        statistics, _ = gathered({"inference_result": Function(some)}, *units)
        found = statistics.of("inference_result")
        assert {n: (own.records, own.missing) for n, own in found.items()} == {
            "y": (4, 0),
            "z": (1, 3),
        }


def test_reasons_of_many_failures_stay_few(gathered):
    def bad(batch):
        raise ValueError(f"{batch[0][:4]!r} of {len(batch[0])} bytes is bad")

    records = [b"%05d" % i + b"x" * (i % 7) for i in range(300)]
    statistics, (manifest,) = gathered({"inference_result": Function(bad)}, records)
    assert statistics.failures_of("inference_result") == {"ValueError: '…' of … bytes is bad": 300}
    assert len(json.dumps(manifest.sinks["statistics"].notes)) < 200


def test_failures_that_reached_no_model_of_an_ab_test_are_of_none(gathered):
    models = {name: Lengths() for name in "ab"}
    records = [*(example(k=f"{i}") for i in range(20)), example(x=1.0)]
    routing = SplitRouting({"a": 1, "b": 1}, "k")
    statistics, (manifest,) = gathered(models, records, routing=routing)
    assert sum(statistics.failures_of("").values()) == manifest.unrouted == 1
    assert sum(statistics.of(model)["length"].records for model in "ab") == 20
