"""Where the time goes: CPU seconds of each stage of a unit, one after the other.

python -m benchmarks.stages [RECORDS]
"""

from __future__ import annotations

import resource
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import google_crc32c

from benchmarks.data import Data, Prepared, prepare

_CHECKOUT = Path(__file__).parent.parent


class _Stages:
    """CPU and wall seconds by stage."""

    def __init__(self) -> None:
        self.cpu: dict[str, float] = defaultdict(float)
        self.wall: dict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), _cpu_seconds()
        yield
        self.cpu[name] += _cpu_seconds() - cpu
        self.wall[name] += time.perf_counter() - wall


def measure(prepared: Prepared) -> _Stages:
    """Scores all records, a batch at a time, in the same order as a unit."""
    import tensorflow as tf

    from bulk_inferencer._formats import tfrecord
    from bulk_inferencer._formats.batches import BatchBounds, read_batches
    from bulk_inferencer._formats.prediction_log import PredictionLogEncoder
    from bulk_inferencer._models.saved_model import SavedModel

    predictor = SavedModel(prepared.saved_model).load("FORMAT_TF_EXAMPLE")
    encoder = PredictionLogEncoder(predictor.signatures, predictor.input_name)
    bounds = BatchBounds()
    stages = _Stages()
    serve = predictor._functions[0]
    warm = next(read_batches(prepared.files, replace(bounds, max_records=16)))
    predictor.predict(warm.records)
    batches = read_batches(prepared.files, bounds)
    while True:
        with stages.stage("read into batches"):
            batch = next(batches, None)
        if batch is None:
            break
        with stages.stage("list to tensor"):
            tensor = tf.constant(batch.records)
        with stages.stage("model"):
            outputs = {name: value.numpy() for name, value in serve(tensor).items()}
        with stages.stage("PredictionLogs"):
            logs = encoder.encode(batch.records, outputs)
        with stages.stage("framing, with checksums"):
            framed = tfrecord.frame(logs)
        with stages.stage("gzip"):
            member = tfrecord.gzip_member(framed)
        with stages.stage("checksum of the shard"):
            google_crc32c.value(member)
    return stages


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    records = int(sys.argv[1]) if len(sys.argv) > 1 else Data().records
    prepared = prepare(_CHECKOUT / "build" / "benchmarks", Data(records=records))
    stages = measure(prepared)
    print(f"{records:,} records, seconds{'':>12}CPU   wall")
    for name, seconds in stages.cpu.items():
        print(f"{name:<30}{seconds:>7.2f}{stages.wall[name]:>7.2f}")
    print(f"{'all':<30}{sum(stages.cpu.values()):>7.2f}{sum(stages.wall.values()):>7.2f}")


if __name__ == "__main__":
    main()
