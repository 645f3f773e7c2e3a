"""Measures what a run costs per record, per file and per unit: the numbers of docs/scale.md.

    python -m benchmarks.scale [RECORDS]        about ten minutes on 2 cores

Each run is a process of its own. What a small run takes is taken off. Of several rounds the one
with the least CPU time counts, since other programs on the machine only add to it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.report import machine
from benchmarks.scale.manifests import Manifests

_CHECKOUT = Path(__file__).parents[2]
_FOLDER = _CHECKOUT / "build" / "benchmarks" / "scale"
_ROUNDS = 3
_RECORDS, _FEW_RECORDS = 4_000_000, 4
_FILES = 10_000
_UNITS, _FEW_UNITS = 2_100, 100


def main() -> None:
    """Measures and prints."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    records = int(sys.argv[1]) if len(sys.argv) > 1 else _RECORDS
    print(_line("per million records", "CPU s", "MB in", "MB out", "peak MiB"), flush=True)
    for run, what, count in (
        ("function", "y = 5 x, a function: Parquet to Parquet", records),
        ("saved_model", "y = 5 x, a SavedModel: TFRecord to logs", records),
        ("wide", "an MLP of 20 features: TFRecord to logs", records // 4),
    ):
        few, many = _least(run, _FEW_RECORDS), _least(run, count)
        seconds = 1e6 * (many["cpu_seconds"] - few["cpu_seconds"]) / count
        sizes = [f"{many[name] / count:.1f}" for name in ("bytes_in", "bytes_out")]
        print(_line(what, f"{seconds:.2f}", *sizes, f"{many['peak_mib']:,.0f}"), flush=True)
    print("\n" + _line("per 1,000 files", "CPU s", "kB"))
    for run, what in (
        ("plan_tfrecord", "TFRecord, listed and planned"),
        ("plan_parquet", "Parquet, opened as well"),
    ):
        made = _least(run, _FILES)
        seconds, size = 1000 * made["cpu_seconds"] / _FILES, made["bytes"] / _FILES
        print(_line(what, f"{seconds:.3f}", f"{size:,.0f}"), flush=True)
    print("\n" + _line("per 1,000 units", "CPU s"))
    few, many = _least("units", _FEW_UNITS), _least("units", _UNITS)
    for name, what in (
        ("cpu_seconds", "everything but their records"),
        ("commit_seconds", "of these, to gather and commit"),
    ):
        seconds = 1000 * (many[name] - few[name]) / (_UNITS - _FEW_UNITS)
        print(_line(what, f"{seconds:.2f}"), flush=True)
    print("\n" + _line("per manifest", "kB", "kB kept", "CPU ms to gather"))
    for outputs in (1, 20):
        made = Manifests(_FOLDER / f"manifests-{outputs}", outputs).measure()
        what = f"statistics of {outputs} output{'s' * (outputs > 1)}"
        values = (made[name] for name in ("kilobytes", "kilobytes_kept", "milliseconds"))
        print(_line(what, *(f"{value:.1f}" for value in values)), flush=True)
    print("\n" + ", ".join(f"{name} {value}" for name, value in machine().items()))


def _line(what: str, *values: str) -> str:
    return f"{what:<42}" + "".join(f"{value:>{max(9, len(value) + 2)}}" for value in values)


def _least(run: str, count: int) -> dict[str, float]:
    """Returns what was measured in the round with the least CPU time."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.scale.runs"]
    rounds = []
    for _ in range(_ROUNDS):
        made = subprocess.run(
            [*command, run, str(count), str(_FOLDER)],
            cwd=_CHECKOUT,
            capture_output=True,
            text=True,
        )
        if made.returncode:
            raise RuntimeError(f"{run} failed:\n{made.stderr[-3000:]}")
        rounds.append(json.loads(made.stdout.splitlines()[-1]))
    return min(rounds, key=lambda measured: float(measured["cpu_seconds"]))


if __name__ == "__main__":
    main()
