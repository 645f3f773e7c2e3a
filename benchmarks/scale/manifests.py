"""Manifests with statistics of several outputs: their size, and what it takes to gather them."""

from __future__ import annotations

import shutil
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bulk_inferencer._formats.input_format import InputFile
from bulk_inferencer._units.gathering import Gathered, gather
from bulk_inferencer._units.manifest import Account, BranchAccount, Manifest, Shard
from bulk_inferencer._units.manifest_files import add_manifest, read_manifests
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.sinks.statistics import PredictionStatistics
from bulk_inferencer._work import Distribution, Work
from bulk_inferencer.results import codec
from bulk_inferencer.results.describe import describe
from bulk_inferencer.results.statistics import Statistics
from bulk_inferencer.results.timeline import TimelineRecorder

_COUNT = 128
_RECORDS = 600_000
_NUMBERS = 100_000  # whose histogram is as large as that of more
_SHARDS = 4
_SINK = PredictionStatistics("summary")


class Manifests:
    """The manifests of some units of 64 MiB, in a folder."""

    def __init__(self, folder: Path, outputs: int) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self._folder = str(folder)
        self._units = [
            Unit(
                "unlabelled", i, _COUNT, (InputFile(f"gs://bucket/data/{i:05d}.gz", 1 << 26, 1.0),)
            )
            for i in range(_COUNT)
        ]
        numbers = np.random.default_rng(7).normal(size=(outputs, _NUMBERS))
        described = {f"y{i}": describe(own) for i, own in enumerate(numbers)}
        statistics = Statistics({"inference_result": {"unlabelled": described}})
        notes = codec.to_json(statistics)
        for unit in self._units:
            add_manifest(self._folder, _manifest(unit, notes))

    def measure(self) -> dict[str, float]:
        """Returns kilobytes of JSON, what is kept of it in memory, and milliseconds to gather it.

        All of them are per manifest.
        """
        sizes = [path.stat().st_size for path in Path(self._folder).iterdir()]
        self._gather(self._units)
        start = time.process_time()
        self._gather(self._units)
        seconds = time.process_time() - start
        few = _COUNT // 2
        tracemalloc.start()
        kept = [self._kept(self._units[:count]) for count in (few, _COUNT)]
        tracemalloc.stop()
        return {
            "kilobytes": sum(sizes) / _COUNT / 1000,
            "kilobytes_kept": (kept[1] - kept[0]) / (_COUNT - few) / 1000,
            "milliseconds": 1000 * seconds / _COUNT,
        }

    def _gather(self, units: Sequence[Unit]) -> Gathered:
        manifests = read_manifests(self._folder, [unit.key for unit in units])
        return gather(units, manifests, [_SINK])

    def _kept(self, units: Sequence[Unit]) -> int:
        before = tracemalloc.get_traced_memory()[0]
        gathered = self._gather(units)
        size = tracemalloc.get_traced_memory()[0] - before
        del gathered
        return size


def _manifest(unit: Unit, notes: object) -> Manifest:
    timeline = TimelineRecorder()
    for i in range(200):
        timeline.add(1e9 + i / 8, 1e9 + (i + 1) / 8, _RECORDS // 200)
    calls = Distribution(37, _RECORDS, 10_000, 16_384)
    sinks = {
        f"sink-{i}": Account((Shard(f"gs://bucket/results/{unit.key}-{i}", 9, 1 << 25, 1 << 31),))
        for i in range(_SHARDS)
    }
    return Manifest(
        split=unit.split,
        index=unit.index,
        files=unit.files,
        examples_read=_RECORDS,
        unrouted=0,
        branches={
            "inference_result": BranchAccount(_RECORDS, _RECORDS, 0, Work(37, calls, calls, calls))
        },
        sinks={**sinks, _SINK.name: Account(notes=notes)},
        seconds=25.0,
        key=unit.key,
        bytes_read=1 << 26,
        timeline=timeline.timeline(),
    )
