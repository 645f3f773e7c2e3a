"""Measures predict() on tables side by side with its peers and with a loop written by hand.

    python -m benchmarks.tables                          about nine minutes on 2 cores
    python -m benchmarks.tables --rows 400000 --only loop ours daft

Every contestant reads the same Parquet files and writes Parquet files with the columns `id` and
`y`, alone on the machine, in its own environment. What counts is the whole process, with imports.
Nothing counts unless the results are complete and equal to those of the loop.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.report import Target, machine, print_targets, write
from benchmarks.tables import watched
from benchmarks.tables.checked_run import checked_run
from benchmarks.tables.data import TFRECORD_ROWS, Prepared, prepared_in
from benchmarks.tables.task import Task

_CHECKOUT = Path(__file__).parent.parent.parent
_SMALL, _LARGE = 400_000, 4_000_000
_PEERS = ("ray", "spark", "daft", "daft_processes")


@dataclass(frozen=True)
class Contestant:
    """A program of this folder, in an environment.

    Attributes:
      label: what the table of results calls it.
      module: the program.
      environment: its environment, `.cache/bench-<environment>`.
      package: the package that the environment is there for, for its version.
      option: see `Task`.
    """

    label: str
    module: str
    environment: str
    package: str
    option: str = ""


CONTESTANTS = {
    "loop": Contestant("pyarrow + TensorFlow, by hand", "loop", "core", "tensorflow"),
    "ours": Contestant("BulkInferencer", "ours", "core", "bulk-inferencer"),
    "ours_logs": Contestant(
        "BulkInferencer, PredictionLogs too", "ours", "core", "bulk-inferencer", "logs"
    ),
    "ray": Contestant("Ray Data, 1 actor", "ray_data", "ray", "ray"),
    "spark": Contestant("Spark predict_batch_udf", "spark_udf", "spark", "pyspark"),
    "daft": Contestant("Daft batch UDF", "daft_udf", "daft", "daft"),
    "daft_processes": Contestant("Daft batch UDF, 2 processes", "daft_udf", "daft", "daft", "2"),
    "ours_tfrecord": Contestant(
        "BulkInferencer, TFRecord in", "ours", "core", "bulk-inferencer", "tfrecords"
    ),
    "ray_tfrecord": Contestant("Ray Data, TFRecord in", "ray_data", "ray", "ray", "tfrecords"),
}


@dataclass
class Race:
    """One contestant on one set of rows, with one model.

    Attributes:
      contestant: its name.
      rows: how many.
      takes_examples: whether the model takes tf.Examples; else, it takes a tensor.
      rounds: what was measured, round by round.
    """

    contestant: str
    rows: int
    takes_examples: bool
    rounds: list[watched.Measured] = field(default_factory=list)

    @property
    def seconds(self) -> list[float]:
        """The seconds of the whole process, round by round."""
        return [measured.seconds for measured in self.rounds]

    @property
    def peaks(self) -> list[float]:
        """The peak memory, round by round, in MiB."""
        return [measured.peak_mib for measured in self.rounds]

    def median(self, name: str) -> float:
        """Returns the median over all rounds."""
        return statistics.median(getattr(measured, name) for measured in self.rounds)


def main() -> int:
    """Measures, prints, and writes `tables.json`."""
    args = _parse_args()
    workdir = Path(args.workdir).absolute()
    workdir.mkdir(parents=True, exist_ok=True)
    races = [
        race
        for race in planned(args.rows)
        if race.contestant in args.only
        and ("examples" if race.takes_examples else "tensor") in args.models
    ]
    measure(workdir, races, args.rounds)
    targets = list(judge(races))
    on_tfrecords = [race for race in races if race.contestant.endswith("_tfrecord")]
    on_tables = [race for race in races if race not in on_tfrecords]
    for title, own in (
        ("The model takes a tensor", [r for r in on_tables if not r.takes_examples]),
        ("The model takes tf.Examples", [r for r in on_tables if r.takes_examples]),
        ("The inputs are TFRecord files", on_tfrecords),
    ):
        if own:
            print(f"\n{title}\n{table(own)}")
    print_targets(targets)
    facts = {**machine(), **_versions(races)}
    write(workdir / "tables.json", [asdict(race) for race in races], targets, facts)
    return 0


def planned(sizes: list[int]) -> list[Race]:
    """Returns all races. Those on TFRecords get few rows: Ray's reader takes 1.3 ms for each."""
    with_tensor = [name for name in CONTESTANTS if not name.endswith("_tfrecord")]
    with_examples = [name for name in with_tensor if name != "ours_logs"]
    return [
        *(Race(name, rows, False) for rows in sizes for name in with_tensor),
        *(Race(name, rows, True) for rows in sizes for name in with_examples),
        *(Race(name, TFRECORD_ROWS, True) for name in ("ours_tfrecord", "ray_tfrecord")),
    ]


def measure(workdir: Path, races: list[Race], rounds: int) -> None:
    """Lets all contestants take turns, and adds what was measured to the races."""
    sizes = sorted({race.rows for race in races})
    prepared = {rows: prepared_in(workdir, rows) for rows in sizes}
    sums: dict[int, float] = {}  # of `y`, by the number of rows: the same for all contestants
    for number in range(1, rounds + 1):
        for race in races:
            race.rounds.append(_run(workdir, race, prepared[race.rows], sums))
            print(
                f"round {number}  {race.contestant:<16}{race.rows:>10,} rows  "
                f"{'tf.Examples' if race.takes_examples else 'tensor':<12}"
                f"{race.seconds[-1]:>7.1f} s",
                flush=True,
            )


def judge(races: list[Race]) -> Iterator[Target]:
    """Yields the targets with what was measured. What did not run is left out."""
    by_key = {(r.contestant, r.rows, r.takes_examples): r for r in races}

    def over(one: str, other: str, rows: int, takes_examples: bool = False) -> list[float]:
        pair = [by_key.get((name, rows, takes_examples)) for name in (one, other)]
        if not pair[0] or not pair[1]:
            return []
        return [a / b for a, b in zip(pair[0].seconds, pair[1].seconds, strict=True)]

    def target(what: str, values: list[float], **bounds: float) -> Iterator[Target]:
        if values:
            yield Target(what, values, **bounds)

    sizes = sorted({race.rows for race in races if not race.contestant.endswith("_tfrecord")})
    for rows in sizes:
        for peer in _PEERS:
            what = f"{peer} over ours, {rows:,} rows"
            yield from target(what, over(peer, "ours", rows), at_least=1)
    for rows in sizes:
        bound = {"at_most": 1.15} if rows >= _LARGE else {}
        yield from target(f"ours over the loop, {rows:,} rows", over("ours", "loop", rows), **bound)
        bound = {"at_most": 2.5} if rows >= _LARGE else {}
        what = f"ours with PredictionLogs over the loop, {rows:,} rows"
        yield from target(what, over("ours_logs", "loop", rows), **bound)
    for rows in sizes:
        for peer in _PEERS:
            bound = {"at_least": 2} if rows >= _LARGE else {}
            what = f"{peer} over ours, tf.Examples, {rows:,} rows"
            yield from target(what, over(peer, "ours", rows, True), **bound)
    what = f"ray over ours, TFRecord, {TFRECORD_ROWS:,} rows"
    yield from target(what, over("ray_tfrecord", "ours_tfrecord", TFRECORD_ROWS, True))
    if len(sizes) < 2:
        return
    for name in ("ours", "ours_logs"):
        ends = [by_key.get((name, rows, False)) for rows in (sizes[0], sizes[-1])]
        if ends[0] and ends[1]:
            peaks = [b / a for a, b in zip(ends[0].peaks, ends[1].peaks, strict=True)]
            what = f"peak memory of {name}, {sizes[-1]:,} rows over {sizes[0]:,}"
            yield Target(what, peaks, at_most=1.1)


def table(races: list[Race]) -> str:
    """Returns what was measured as text: a line for each contestant."""
    sizes = sorted({race.rows for race in races})
    head = "".join(f"{f'{rows:,} rows':>17}{'CPU s':>7}{'MiB':>7}" for rows in sizes)
    lines = [f"{'seconds, whole process':<36}{head}{'rows/s between':>16}"]
    for name, contestant in CONTESTANTS.items():
        own = {race.rows: race for race in races if race.contestant == name}
        if not own:
            continue
        cells = [
            f"{race.median('seconds'):>17.1f}{race.median('cpu_seconds'):>7.1f}"
            f"{race.median('peak_mib'):>7,.0f}"
            if (race := own.get(rows))
            else f"{'':>31}"
            for rows in sizes
        ]
        first, last = own[min(own)], own[max(own)]
        more = last.median("seconds") - first.median("seconds")
        rate = f"{(last.rows - first.rows) / more:>16,.0f}" if more > 0 else ""
        lines.append(f"{contestant.label:<36}{''.join(cells)}{rate}".rstrip())
    return "\n".join(lines)


def _run(workdir: Path, race: Race, prepared: Prepared, sums: dict[int, float]) -> watched.Measured:
    contestant = CONTESTANTS[race.contestant]
    is_tfrecord = contestant.option == "tfrecords"
    # Ray's reader of TFRecords makes columns of them.
    takes_examples = race.takes_examples and race.contestant != "ray_tfrecord"
    task = Task(
        inputs=prepared.tfrecord if is_tfrecord else prepared.parquet,
        model=prepared.example_model if takes_examples else prepared.tensor_model,
        takes_examples=takes_examples,
        output=str(workdir / "output"),
        option=contestant.option,
    )
    python = _python(contestant.environment)
    module = f"benchmarks.tables.{contestant.module}"
    return checked_run(python, module, task, prepared.rows, sums)


def _python(environment: str) -> str:
    return str(_CHECKOUT / ".cache" / f"bench-{environment}" / "bin" / "python")


def _versions(races: list[Race]) -> dict[str, str]:
    """Returns the versions of the peers."""
    code = "import sys; from importlib.metadata import version; print(version(sys.argv[1]))"
    used = {c.package: c for c in (CONTESTANTS[race.contestant] for race in races)}
    return {
        package: subprocess.check_output(
            [_python(contestant.environment), "-c", code, package], text=True
        ).strip()
        for package, contestant in used.items()
        if contestant.environment != "core"
    }


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[_SMALL, _LARGE])
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument(
        "--models", nargs="+", choices=["tensor", "examples"], default=["tensor", "examples"]
    )
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--workdir", default=str(_CHECKOUT / "build" / "benchmarks-tables"))
    return parser.parse_args()


if __name__ == "__main__":
    os.chdir(_CHECKOUT)
    sys.exit(main())
