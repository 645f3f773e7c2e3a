"""Measures BulkInferencer side by side with its peers and with TensorFlow alone, in one run.

    python -m benchmarks              about eight minutes on 2 cores
    python -m benchmarks --full       with ten times as many records and with other features too

Contestants take turns, each in its own process, and the medians count. First, each runs once
without being timed. Its results are read back and compared with what BulkInferencer writes for the
same records, and with what the model returns when it is called directly.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from benchmarks import chart
from benchmarks.data import Data, Prepared, prepare
from benchmarks.report import Target, machine, print_targets, write

_CHECKOUT = Path(__file__).parent.parent
_CHECKED = 5_000
_OVERHEAD_RECORDS = 4
_QUICK = ("limit", "bulk_inferencer", "bulk_inferencer_uncompressed")


@dataclass
class Race:
    """One contestant on one set of records.

    Attributes:
      contestant: its name.
      data: the records.
      is_timed_without_results: whether it writes its results only in the run that compares them.
      rounds: its measurements, round by round; see `benchmarks.contestants`.
      starts: its measurements on a few records: what a run takes before it is under way.
    """

    contestant: str
    data: Data
    is_timed_without_results: bool = False
    rounds: list[dict[str, float]] = field(default_factory=list)
    starts: list[dict[str, float]] = field(default_factory=list)

    def median(self, name: str) -> float:
        """Returns the median over all rounds."""
        return statistics.median(measured[name] for measured in self.rounds)

    def start(self, name: str) -> float:
        """Returns the median over all runs on a few records."""
        return statistics.median(measured[name] for measured in self.starts)

    @property
    def rates(self) -> list[float]:
        """Records per second by round: without imports, with loading the model."""
        return [self.data.records / measured["seconds"] for measured in self.rounds]

    @property
    def steady_rates(self) -> list[float]:
        """Records per second by round, once a run is under way."""
        return [self.data.records / seconds for seconds in self._steady("seconds")]

    @property
    def process_rates(self) -> list[float]:
        """Records per second of the whole process by round, with all imports."""
        return [self.data.records / measured["process_seconds"] for measured in self.rounds]

    @property
    def busy_cores(self) -> list[float]:
        """CPU seconds per second by round, once a run is under way."""
        cpu, wall = self._steady("cpu_seconds"), self._steady("seconds")
        return [c / w for c, w in zip(cpu, wall, strict=True)]

    def _steady(self, name: str) -> list[float]:
        """Returns what was measured, less the start; NaN if the start was all of it."""
        start = self.start(name)
        return [m[name] - start if m[name] > start else math.nan for m in self.rounds]


def main() -> int:
    """Measures, prints, and writes `benchmarks.json` and `benchmarks.svg`."""
    args = _parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    workdir = Path(args.workdir).absolute()
    workdir.mkdir(parents=True, exist_ok=True)
    data = Data(args.records, args.features, args.files, args.compression)
    races = measure(workdir, planned(data, full=args.full), args.rounds)
    targets = list(judge(races))
    print("\nRecords per second: medians of all rounds")
    print(table(races))
    print_targets(targets)
    facts = machine()
    own = {name: asdict(race) for name, race in races.items()}
    write(workdir / "benchmarks.json", own, targets, facts)
    (workdir / "benchmarks.svg").write_text(chart.draw(races, facts))
    print(f"written: {workdir}/benchmarks.svg")
    return 0


def planned(data: Data, *, full: bool) -> dict[str, Race]:
    """Returns the races by name. Slow contestants get fewer records."""

    def at_most(records: int) -> Data:
        return replace(data, records=min(data.records, records))

    races = {
        "limit": Race("limit", data),
        "bulk_inferencer": Race("bulk_inferencer", data),
        "bulk_inferencer_uncompressed": Race("bulk_inferencer_uncompressed", data),
        "tfx_bulk_inferrer": Race("tfx_bulk_inferrer", at_most(40_000)),
    }
    transforms = {
        "run_inference": data,
        "tfx_bsl_run_inference": at_most(40_000),
        "keyed_run_inference": data,
        "keyed_tfx_bsl_run_inference": at_most(40_000),
        "beam_run_inference": at_most(5_000),
    }
    for name, records in transforms.items():
        races[name] = Race(name, records, is_timed_without_results=True)
    if full:
        tenfold, single = replace(data, records=10 * data.records), replace(data, features=1)
        texts = replace(data, texts=True)
        for suffix, other in (("tenfold", tenfold), ("1_feature", single), ("texts", texts)):
            for name in ("limit", "bulk_inferencer"):
                races[f"{name}_{suffix}"] = Race(name, other)
        few = replace(at_most(40_000), features=1)
        races["tfx_bulk_inferrer_1_feature"] = Race("tfx_bulk_inferrer", few)
    return races


def measure(workdir: Path, races: dict[str, Race], rounds: int) -> dict[str, Race]:
    """Lets all contestants take turns, and returns the races with what was measured."""
    results = workdir / "results"
    for name, race in races.items():
        prepared = prepare(workdir, race.data)
        if race.contestant != "limit":
            _run(race.contestant, prepared, results)
            print(f"compared {check(prepared, results):,} results of {name}", flush=True)
    shutil.rmtree(results, ignore_errors=True)
    for number in range(1, rounds + 1):
        for name, race in races.items():
            kept = None if race.is_timed_without_results else results
            tiny = prepare(workdir, replace(race.data, records=_OVERHEAD_RECORDS, files=1))
            # In a short run, the start is a large part, so it has to be measured just as often.
            if number == 1 or race.contestant in _QUICK:
                race.starts.append(_run(race.contestant, tiny, kept))
            race.rounds.append(_run(race.contestant, prepare(workdir, race.data), kept))
            print(f"round {number}  {name:<30}{race.rates[-1]:>10,.0f} records/s", flush=True)
    return races


def check(prepared: Prepared, results: Path) -> int:
    """Compares a sample of results with ours and with the model's, and returns its size.

    Raises:
      AssertionError: a result is missing, or differs.
    """
    import tensorflow as tf

    serve = tf.saved_model.load(prepared.saved_model).signatures["serving_default"]
    paths = [str(path) for path in sorted(results.rglob("prediction_logs-*"))]
    compression = "GZIP" if paths[0].endswith(".gz") else ""
    step = max(1, prepared.data.records // _CHECKED)
    count = 0
    sampled = []
    for chunk in tf.data.TFRecordDataset(paths, compression).batch(step).as_numpy_iterator():
        count += len(chunk)
        sampled.append(_record_and_y(prepared, chunk[0]))
    assert count == prepared.data.records, f"expected {prepared.data.records} results, got {count}"
    records, ys = zip(*sampled, strict=True)
    ours = _score(prepared, records)
    np.testing.assert_allclose(ys, [ours[record] for record in records], rtol=1e-4, atol=1e-4)
    expected = serve(tf.constant(records))["y"].numpy()
    np.testing.assert_allclose(ys, expected, rtol=1e-4, atol=1e-4)
    return len(records)


def _score(prepared: Prepared, records: Sequence[bytes]) -> dict[bytes, float]:
    """Returns what BulkInferencer predicts for records, by record."""
    from bulk_inferencer import InferenceJob, Outputs, SavedModel, read_predictions, run
    from bulk_inferencer._formats import tfrecord

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "records")
        path.write_bytes(tfrecord.frame(records))
        outputs = Outputs.under(f"{folder}/results")
        model = SavedModel(prepared.saved_model)
        run(InferenceJob(splits={"sample": [str(path)]}, model=model, outputs=outputs))
        assert outputs.inference_result  # `under` has named it
        found = read_predictions(outputs.inference_result)
        return {prediction.record: prediction.outputs["y"].item() for prediction in found}


def _record_and_y(prepared: Prepared, message: bytes) -> tuple[bytes, float]:
    """Returns the record of one result, and its prediction."""
    import tensorflow as tf
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    from bulk_inferencer._formats.example import Column, append_columns

    log = PredictionLog.FromString(message)
    if log.WhichOneof("log_type"):
        (record,) = log.predict_log.request.inputs["examples"].string_val
        return record, float(tf.make_ndarray(log.predict_log.response.outputs["y"]).item())
    # Beam's handler returns tensors, which its contestant writes as an Example.
    names = prepared.data.names
    *values, y = tf.train.Example.FromString(message).features.feature["values"].float_list.value
    arrays = {n: np.array([v], np.float32) for n, v in zip(names, values, strict=True)}
    columns = [Column(name, name) for name in names]
    return append_columns([b""], arrays, columns, True)[0], y


def judge(races: dict[str, Race]) -> Iterator[Target]:
    """Yields the targets with what was measured."""

    def over(
        one: str, other: str, rates: Callable[[Race], list[float]] = lambda r: r.steady_rates
    ) -> list[float]:
        pairs = zip(rates(races[one]), rates(races[other]), strict=True)
        return [mine / its for mine, its in pairs]

    def whole(race: Race) -> list[float]:
        return race.rates

    def process(race: Race) -> list[float]:
        return race.process_rates

    ours, limit, tfx = "bulk_inferencer", "limit", "tfx_bulk_inferrer"
    plain = "bulk_inferencer_uncompressed"
    yield Target("executor over TFX BulkInferrer", over(ours, tfx), 60)
    yield Target("  with the start of the run", over(ours, tfx, whole))
    yield Target("  whole processes, with imports", over(ours, tfx, process))
    yield Target("executor over the limit, gzip", over(ours, limit), 0.65)
    yield Target("  with the start of the run", over(ours, limit, whole))
    yield Target("executor over the limit, uncompressed", over(plain, limit), 0.75)
    yield Target("  with the start of the run", over(plain, limit, whole))
    run_inference, tfx_bsl = "run_inference", "tfx_bsl_run_inference"
    yield Target("RunInference over tfx-bsl's", over(run_inference, tfx_bsl), 10)
    keyed = over(f"keyed_{run_inference}", f"keyed_{tfx_bsl}")
    yield Target("RunInference over tfx-bsl's, keyed", keyed, 10)
    yield Target(
        "RunInference over Beam's, TFModelHandlerTensor", over(run_inference, "beam_run_inference")
    )
    if "limit_tenfold" in races:
        tenfold = races["bulk_inferencer_tenfold"]
        peaks = zip(tenfold.rounds, races[ours].rounds, strict=True)
        memory = [ten["peak_mib"] / one["peak_mib"] for ten, one in peaks]
        yield Target("peak memory, ten times the records over once", memory, at_most=1.1)
        rates = over(ours, "bulk_inferencer_tenfold")
        yield Target("time per record, ten times the records over once", rates, at_most=1.1)
        tenfold_limit = over("bulk_inferencer_tenfold", "limit_tenfold", whole)
        yield Target("executor over the limit, ten times the records", tenfold_limit)
        single = over(f"{ours}_1_feature", f"{tfx}_1_feature")
        yield Target("executor over TFX BulkInferrer, 1 feature", single)
        for suffix, what in (
            ("1_feature", "1 feature"),
            ("texts", "records that differ in length"),
        ):
            ratios = over(f"{ours}_{suffix}", f"limit_{suffix}")
            yield Target(f"executor over the limit, {what}", ratios)
    yield Target("busy cores while records are scored", races[ours].busy_cores, 1.8)
    starts = [
        mine["seconds"] - its["seconds"]
        for mine, its in zip(races[ours].starts, races[limit].starts, strict=True)
    ]
    yield Target("seconds to start, over loading the model", starts, at_most=3)
    yield Target("seconds to import bulk_inferencer", _import_seconds(), at_most=0.2)


def table(races: dict[str, Race]) -> str:
    """Returns what was measured as text."""
    lines = [
        (
            f"{'':<30}{'records':>10}{'features':>9}{'steady':>10}{'min':>9}{'max':>9}"
            f"{'+ start':>9}{'+ imports':>10}{'CPU s':>7}{'MiB':>7}"
        )
    ]
    for race in races.values():
        steady = race.steady_rates
        lines.append(
            f"{race.contestant:<30}{race.data.records:>10,}{race.data.features:>9}"
            f"{statistics.median(steady):>10,.0f}{min(steady):>9,.0f}{max(steady):>9,.0f}"
            f"{statistics.median(race.rates):>9,.0f}{statistics.median(race.process_rates):>10,.0f}"
            f"{race.median('cpu_seconds'):>7.1f}{race.median('peak_mib'):>7,.0f}"
        )
    return "\n".join(lines)


def _run(contestant: str, prepared: Prepared, results: Path | None) -> dict[str, float]:
    described = json.dumps({"prepared": asdict(prepared), "results": str(results or "")})
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.contestants"]
    made = subprocess.run(
        [*command, contestant, described], cwd=_CHECKOUT, capture_output=True, text=True
    )
    if made.returncode:
        raise RuntimeError(f"{contestant} failed:\n{made.stderr[-3000:]}")
    measured: dict[str, float] = json.loads(made.stdout.splitlines()[-1])
    return measured


def _import_seconds() -> list[float]:
    code = "from time import time as t; s = t(); import bulk_inferencer; print(t() - s)"
    return [
        float(subprocess.check_output([sys.executable, "-c", code], cwd=_CHECKOUT))
        for _ in range(3)
    ]


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
