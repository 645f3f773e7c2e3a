"""What a run keeps of the manifests of its units."""

from __future__ import annotations

import functools
import tracemalloc

import numpy as np
import pytest

from bulk_inferencer._formats.input_format import InputFile
from bulk_inferencer._units import gathering, manifest_files
from bulk_inferencer._units.gathering import Gathered, gather
from bulk_inferencer._units.manifest import Account, Manifest, Shard
from bulk_inferencer._units.manifest_files import add_manifest, read_manifests
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.progress import Tally
from bulk_inferencer._units.sinks.comparison import ComparedOutputs
from bulk_inferencer._units.sinks.failure_list import Failure, FailureList
from bulk_inferencer._units.sinks.prediction_table import PredictionTable
from bulk_inferencer._units.sinks.statistics import PredictionStatistics
from bulk_inferencer.results import codec
from bulk_inferencer.results.compare import Comparing, compare_batch
from bulk_inferencer.results.comparison import Comparison
from bulk_inferencer.results.describe import describe
from bulk_inferencer.results.statistics import Statistics
from bulk_inferencer.results.timeline import TimelineRecorder, merged
from tests.helpers import in_bucket

SINKS = (
    PredictionStatistics("summary"),
    ComparedOutputs("comparison", Comparing()),
    FailureList("summary", names_models=True),
)
UNITS = [Unit("s", i, 40, (InputFile(f"in/{i:03d}", 5, 1.0),)) for i in range(40)]


@functools.cache
def statistics_of(number):
    values = np.random.default_rng(number).normal(size=5000)
    return Statistics({name: {"s": {"y": describe(values)}} for name in "ab"})


@functools.cache
def comparison_of(number):
    values = np.random.default_rng(number).integers(0, 10, size=5000)
    outputs = {"a": {"y": values}, "b": {"y": values[::-1]}}
    records = [b"x"] * len(values)
    return compare_batch(records, outputs, lambda i: (f"in/{number:03d}", i), Comparing())


def timeline_of(number):
    recorder = TimelineRecorder()
    for i in range(200):
        recorder.add(1e9 + i / 16, 1e9 + (i + 1) / 16, number)
    return recorder.timeline()


def manifest_of(unit):
    number = unit.index
    first = [Failure(f"in/{number:03d}", i, "E: no", model) for model in "ab" for i in range(5)]
    sinks = {
        "statistics": Account(notes=codec.to_json(statistics_of(number % 3))),
        "comparison": Account(notes=codec.to_json(comparison_of(number % 3))),
        "failures": Account((Shard(f"out/{unit.key}", 10, 400, 7),), codec.to_json(first)),
    }
    timeline = timeline_of(number)
    return Manifest("s", 7, unit.files, 9, 0, {}, sinks, 1.0, key=unit.key, timeline=timeline)


@pytest.fixture(scope="module", params=[str, in_bucket], ids=["disk", "bucket"])
def folder(request, tmp_path_factory):
    """A folder with the manifests of all units, and of one of another run."""
    folder = request.param(f"{tmp_path_factory.mktemp('gathering')}/units")
    return write_manifests(folder, UNITS[:6])


def write_manifests(folder, units):
    for unit in units:
        add_manifest(folder, manifest_of(unit))
    add_manifest(folder, manifest_of(Unit("s", 0, 1, (InputFile("in/other", 5, 1.0),))))
    return folder


def gathered(folder, units=UNITS[:6], reused=()):
    manifests = read_manifests(folder, [unit.key for unit in units])
    return gather(units, manifests, SINKS, reused)


def test_notes_and_timelines_of_all_units_are_merged(folder):
    found = gathered(folder, reused={UNITS[0].key, UNITS[1].key})
    numbers = range(6)
    assert found.notes["comparison"] == functools.reduce(
        Comparison.merge, (comparison_of(i % 3) for i in numbers)
    )
    statistics = Statistics().merge(*(statistics_of(i % 3) for i in numbers))
    assert codec.to_json(found.notes["statistics"]) == codec.to_json(statistics)
    assert found.notes["failures"] == {
        ("s", model): tuple(Failure("in/000", i, "E: no", model) for i in range(5))
        for model in "ab"
    }
    assert found.timeline == merged(map(timeline_of, numbers[2:]))


def test_manifests_come_in_the_order_of_units_with_their_numbers_and_shards(folder):
    units = UNITS[5::-1]
    numbered = [Unit("s", i, 40, unit.files) for i, unit in enumerate(units)]
    manifests = gathered(folder, numbered).manifests
    assert [(own.index, own.key) for own in manifests] == [
        (i, unit.key) for i, unit in enumerate(units)
    ]
    assert [own.shards for own in manifests] == [manifest_of(unit).shards for unit in units]
    assert all(own.files is unit.files for own, unit in zip(manifests, numbered, strict=True))


def test_units_that_have_not_finished_have_no_manifest(folder):
    missing = Unit("s", 0, 1, (InputFile("in/missing", 5, 1.0),))
    manifests = gathered(folder, [missing, UNITS[3]]).manifests
    assert [own.key for own in manifests] == [UNITS[3].key]
    assert gathered(folder, []) == Gathered([], dict.fromkeys(sink.name for sink in SINKS))


def test_notes_that_a_sink_does_not_merge_stay():
    table = PredictionTable("table", None, "csv")
    manifest = Manifest("s", 0, (), 1, 0, {}, {table.name: Account((), {"a": 1})}, 1.0, key="k")
    unit = Unit("s", 0, 1, ())
    found = gather([unit], [Manifest(**{**vars(manifest), "key": unit.key})], [table])
    assert found.manifests[0].sinks[table.name].notes == {"a": 1}


@pytest.mark.slow
def test_manifests_are_never_all_in_memory(tmp_path, monkeypatch):
    """Each takes 130 kB, with two histograms, a table of classes and a timeline."""
    folder = write_manifests(str(tmp_path / "units"), UNITS)
    monkeypatch.setattr(gathering, "_AT_ONCE", 2)
    monkeypatch.setattr(manifest_files, "_AT_ONCE", 2)
    gathered(folder)  # which imports and caches
    tracemalloc.start()
    manifests = gathered(folder, UNITS).manifests
    kept, peak = tracemalloc.get_traced_memory()
    whole = [*read_manifests(folder)]
    each = (tracemalloc.get_traced_memory()[0] - kept) / len(whole)
    tracemalloc.stop()
    assert each > 100_000
    assert kept / len(manifests) < each / 15
    assert peak < len(UNITS) * each / 2


@pytest.mark.slow
def test_progress_keeps_nothing_of_manifests_that_is_large(tmp_path):
    folder = str(tmp_path / "units")
    tally = Tally(UNITS, [], write_manifests(folder, []))
    write_manifests(folder, UNITS)
    tracemalloc.start()
    tally.update()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert tally.units_done == len(UNITS)
    assert peak < 1_000_000  # of 5 MB
