"""Measures BulkInferencer side by side with its peers and with TensorFlow alone, in one run.

    python -m benchmarks              about ten minutes on 2 cores
    python -m benchmarks --full       with ten times as many records, other features and no gzip

Contestants take turns, each in a process of its own; medians count. What each wrote is read back
and compared with what the model itself gives before its time counts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import chart
from benchmarks.data import Data, Prepared, prepare

_CHECKOUT = Path(__file__).parent.parent
_CHECKED = 5_000
_OVERHEAD_RECORDS = 4


@dataclass
class Race:
    """One contestant on one set of records.

    Attributes:
      contestant: its name.
      data: the records.
      rounds: what it measured, round by round; see `benchmarks.contestants`.
      overhead: what it measured on next to no records.
    """

    contestant: str
    data: Data
    rounds: list[dict[str, float]] = field(default_factory=list)
    overhead: dict[str, float] | None = None

    def median(self, name: str) -> float:
        """Returns the median over all rounds."""
        return statistics.median(measured[name] for measured in self.rounds)

    @property
    def rates(self) -> list[float]:
        """Records per second of work, by round: without imports, with loading the model."""
        return [self.data.records / measured["seconds"] for measured in self.rounds]

    @property
    def rate(self) -> float:
        """The median of `rates`."""
        return statistics.median(self.rates)

    @property
    def steady_rate(self) -> float:
        """Records per second, without what a run on next to no records takes."""
        overhead = self.overhead["seconds"] if self.overhead else 0.0
        return self.data.records / (self.median("seconds") - overhead)

    @property
    def process_rate(self) -> float:
        """Records per second of the whole process, with all imports."""
        return self.data.records / self.median("process_seconds")


@dataclass(frozen=True)
class Target:
    """What a measured value has to reach.

    Attributes:
      what: the value, in words.
      value: what was measured.
      at_least: its least value, or None.
      at_most: its largest value, or None.
    """

    what: str
    value: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def is_met(self) -> bool:
        """Whether it was reached."""
        enough = self.at_least is None or self.value >= self.at_least
        return enough and (self.at_most is None or self.value <= self.at_most)

    def __str__(self) -> str:
        wanted = f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"
        verdict = "met" if self.is_met else "missed"
        return f"{self.what:<62}{self.value:>9.2f}  {wanted:>8}  {verdict}"


def main() -> int:
    """Measures, prints, and writes `benchmarks.json` and `benchmarks.svg`."""
    args = _parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    workdir = Path(args.workdir).absolute()
    workdir.mkdir(parents=True, exist_ok=True)
    data = Data(args.records, args.features, args.files, args.compression)
    races = measure(workdir, planned(data, full=args.full), args.rounds)
    targets = list(judge(races, workdir))
    print()
    print(table(races.values()))
    print()
    for target in targets:
        print(target)
    facts = machine()
    print("\n" + ", ".join(f"{name} {value}" for name, value in facts.items()))
    results = {
        "machine": facts,
        "races": {name: {**asdict(r), "rate": r.rate} for name, r in races.items()},
        "targets": [{**asdict(t), "is_met": t.is_met} for t in targets],
    }
    (workdir / "benchmarks.json").write_text(json.dumps(results, indent=2) + "\n")
    (workdir / "benchmarks.svg").write_text(chart.draw(races, facts))
    print(f"\nwritten: {workdir}/benchmarks.json, benchmarks.svg")
    return 0


def planned(data: Data, *, full: bool) -> dict[str, Race]:
    """Returns the races by name. Slow contestants run on fewer records."""
    few = replace(data, records=min(data.records, 40_000))
    some = replace(data, records=min(data.records, 100_000))
    fewer = replace(data, records=min(data.records, 20_000))
    races = [
        ("limit", Race("limit", data)),
        ("bulk_inferencer", Race("bulk_inferencer", data)),
        ("tfx_bulk_inferrer", Race("tfx_bulk_inferrer", few)),
        ("run_inference", Race("run_inference", some)),
        ("tfx_bsl_run_inference", Race("tfx_bsl_run_inference", fewer)),
        ("keyed_run_inference", Race("keyed_run_inference", some)),
        ("keyed_tfx_bsl_run_inference", Race("keyed_tfx_bsl_run_inference", fewer)),
        ("beam_run_inference", Race("beam_run_inference", fewer)),
    ]
    if full:
        plain = replace(data, compression="")
        tenfold = replace(data, records=10 * data.records)
        single = replace(data, features=1)
        for suffix, other in (("plain", plain), ("tenfold", tenfold), ("1_feature", single)):
            races += [
                (f"limit_{suffix}", Race("limit", other)),
                (f"bulk_inferencer_{suffix}", Race("bulk_inferencer", other)),
            ]
        races.append(
            ("tfx_bulk_inferrer_1_feature", Race("tfx_bulk_inferrer", replace(few, features=1)))
        )
    return dict(races)


def measure(workdir: Path, races: dict[str, Race], rounds: int) -> dict[str, Race]:
    """Lets all contestants take turns, and returns the races with what was measured."""
    for race in races.values():
        tiny = prepare(workdir, replace(race.data, records=_OVERHEAD_RECORDS, files=1))
        race.overhead = _run(race.contestant, tiny, workdir / "results")
    for number in range(1, rounds + 1):
        for name, race in races.items():
            prepared = prepare(workdir, race.data)
            measured = _run(race.contestant, prepared, workdir / "results")
            if number == 1 and race.contestant != "limit":
                check(prepared, workdir / "results")
            race.rounds.append(measured)
            rate = race.data.records / measured["seconds"]
            print(f"round {number}  {name:<30}{rate:>10,.0f} records/s", flush=True)
    return races


def check(prepared: Prepared, results: Path) -> None:
    """Checks that results hold every record, and for a sample what the model itself gives.

    Raises:
      AssertionError: they do not.
    """
    import tensorflow as tf

    serve = tf.saved_model.load(prepared.saved_model).signatures["serving_default"]
    paths = [str(path) for path in sorted(results.rglob("prediction_logs-*"))]
    step = max(1, prepared.data.records // _CHECKED)
    count = 0
    sampled = []
    for chunk in tf.data.TFRecordDataset(paths, "GZIP").batch(step).as_numpy_iterator():
        count += len(chunk)
        sampled.append(_record_and_y(prepared, chunk[0]))
    assert count == prepared.data.records, f"expected {prepared.data.records} results, got {count}"
    records, ys = zip(*sampled, strict=True)
    expected = serve(tf.constant(list(records)))["y"].numpy()
    np.testing.assert_allclose(np.array(ys), expected, rtol=1e-4, atol=1e-4)


def _record_and_y(prepared: Prepared, message: bytes) -> tuple[bytes, float]:
    """Returns the record of one result, and what was predicted for it."""
    import tensorflow as tf
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    from bulk_inferencer.formats.example import Column, append_columns

    log = PredictionLog.FromString(message)
    if log.WhichOneof("log_type"):
        (record,) = log.predict_log.request.inputs["examples"].string_val
        return record, float(tf.make_ndarray(log.predict_log.response.outputs["y"]).item())
    # Beam's handler gives tensors, which its contestant keeps as an Example.
    names = prepared.data.names
    *values, y = tf.train.Example.FromString(message).features.feature["values"].float_list.value
    arrays = {n: np.array([v], np.float32) for n, v in zip(names, values, strict=True)}
    columns = [Column(name, name) for name in names]
    return append_columns([b""], arrays, columns, True)[0], y


def judge(races: dict[str, Race], workdir: Path) -> Iterator[Target]:
    """Yields the targets with what was measured."""
    limit, ours, tfx = (races[n] for n in ("limit", "bulk_inferencer", "tfx_bulk_inferrer"))
    yield Target(
        "executor over TFX BulkInferrer, steady rates", ours.steady_rate / tfx.steady_rate, 60
    )
    yield Target("executor over the limit, gzip", ours.rate / limit.rate, 0.65)
    if "limit_plain" in races:
        ratio = races["bulk_inferencer_plain"].rate / races["limit_plain"].rate
        yield Target("executor over the limit, uncompressed input", ratio, 0.75)
    for prefix in ("", "keyed_"):
        ratio = (
            races[f"{prefix}run_inference"].steady_rate
            / races[f"{prefix}tfx_bsl_run_inference"].steady_rate
        )
        yield Target(f"{prefix}RunInference over tfx-bsl's, steady rates", ratio, 10)
    ratio = races["run_inference"].steady_rate / races["beam_run_inference"].steady_rate
    yield Target("RunInference over Beam's with TFModelHandlerTensor", ratio, 1)
    if "limit_tenfold" in races:
        tenfold = races["bulk_inferencer_tenfold"]
        yield Target(
            "peak memory, ten times the records over once",
            tenfold.median("peak_mib") / ours.median("peak_mib"),
            at_most=1.1,
        )
        yield Target(
            "steady rate, ten times the records over once",
            tenfold.steady_rate / ours.steady_rate,
            0.9,
        )
    yield Target(
        "CPU seconds per wall second", ours.median("cpu_seconds") / ours.median("seconds"), 1.8
    )
    assert ours.overhead
    assert limit.overhead
    overhead = ours.overhead["seconds"] - limit.overhead["seconds"]
    yield Target("seconds of a run on next to no records", overhead, at_most=3)
    yield Target("seconds to import bulk_inferencer", _import_seconds(), at_most=0.2)


def table(races: Any) -> str:
    """Returns what was measured as text."""
    lines = [
        (
            f"{'':<30}{'records':>10}{'features':>9}{'records/s':>11}{'min':>9}{'max':>9}"
            f"{'steady':>9}{'process':>9}{'CPU s':>7}{'MiB':>7}"
        )
    ]
    for race in races:
        name = race.contestant + ("" if race.data.compression else " (plain)")
        lines.append(
            f"{name:<30}{race.data.records:>10,}{race.data.features:>9}{race.rate:>11,.0f}"
            f"{min(race.rates):>9,.0f}{max(race.rates):>9,.0f}{race.steady_rate:>9,.0f}"
            f"{race.process_rate:>9,.0f}{race.median('cpu_seconds'):>7.1f}"
            f"{race.median('peak_mib'):>7,.0f}"
        )
    return "\n".join(lines)


def machine() -> dict[str, str]:
    """Returns what the numbers depend on."""
    from bulk_inferencer.job import library_versions

    cores = len(os.sched_getaffinity(0))
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {"cores": f"{cores} ({model})", **library_versions()}


def _run(contestant: str, prepared: Prepared, results: Path) -> dict[str, float]:
    shutil.rmtree(results, ignore_errors=True)
    described = json.dumps({"prepared": asdict(prepared), "results": str(results)})
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.contestants"]
    made = subprocess.run(
        [*command, contestant, described], cwd=_CHECKOUT, capture_output=True, text=True
    )
    if made.returncode:
        raise RuntimeError(f"{contestant} failed:\n{made.stderr[-3000:]}")
    measured: dict[str, float] = json.loads(made.stdout.splitlines()[-1])
    return measured


def _import_seconds() -> float:
    code = "from time import time as t; s = t(); import bulk_inferencer; print(t() - s)"
    seconds = [
        float(subprocess.check_output([sys.executable, "-c", code], cwd=_CHECKOUT))
        for _ in range(3)
    ]
    return statistics.median(seconds)


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    default = Data()
    parser.add_argument("--records", type=int, default=default.records)
    parser.add_argument("--features", type=int, default=default.features)
    parser.add_argument("--files", type=int, default=default.files)
    parser.add_argument("--compression", choices=["GZIP", ""], default=default.compression)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--full", action="store_true", help="also the slow races")
    parser.add_argument("--workdir", default=str(_CHECKOUT / "build" / "benchmarks"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
