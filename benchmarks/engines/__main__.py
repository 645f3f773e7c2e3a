"""Measures the engines on clusters of this machine, beside what Spark offers itself.

    python -m benchmarks.engines                          about six minutes on 2 cores
    python -m benchmarks.engines --only threads ray

Everyone scores the same 64 Parquet files with a SavedModel and writes Parquet files with the
columns `id` and `y`, on a cluster that is there already, alone on the machine. Each does so for two
numbers of rows: what the additional rows take is the rate, and what is left of the shorter run is
the start, most of it imports. Nothing counts unless the results are complete and equal.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.report import Target, machine, print_targets, write
from benchmarks.tables import watched
from benchmarks.tables.checked_run import checked_run
from benchmarks.tables.data import Prepared, prepared_in
from benchmarks.tables.task import Task
from tests.integration.clusters.beam import options, prism, worker_pool
from tests.integration.clusters.ray import ray_cluster
from tests.integration.clusters.spark import spark_cluster

_CHECKOUT = Path(__file__).parents[2]
_FILES = 64


@dataclass(frozen=True)
class Cluster:
    """Where a contestant runs.

    Attributes:
      option: what the program is told.
      servers: processes that work for it.
      variables: environment variables of the program.
    """

    option: str
    servers: tuple[int, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Contestant:
    """A program, and the cluster that it needs."""

    label: str
    module: str
    cluster: Callable[[], AbstractContextManager[Cluster]]


@dataclass
class Race:
    """One contestant.

    Attributes:
      contestant: its name.
      rounds: what was measured, by the number of rows.
    """

    contestant: str
    rounds: dict[int, list[watched.Measured]] = field(default_factory=dict)

    def seconds(self, rows: int) -> float:
        """Returns the median of the seconds of the whole program."""
        return statistics.median(own.seconds for own in self.rounds[rows])

    def cpu_seconds(self, rows: int) -> float:
        """Returns the median of the CPU seconds of the program and of its cluster."""
        return statistics.median(own.cpu_seconds for own in self.rounds[rows])

    def rates(self) -> list[float]:
        """Returns rows per second after the start, round by round."""
        (few, short), (many, long) = sorted(self.rounds.items())
        return [(many - few) / (b.seconds - a.seconds) for a, b in zip(short, long, strict=True)]

    def start(self) -> float:
        """Returns the seconds that a run takes however few rows there are."""
        few = min(self.rounds)
        return self.seconds(few) - few / statistics.median(self.rates())


@contextlib.contextmanager
def _local(option: str) -> Iterator[Cluster]:
    yield Cluster(option)


@contextlib.contextmanager
def _prism() -> Iterator[Cluster]:
    with prism() as runner, worker_pool() as pool:
        yield Cluster(" ".join(["runner", *options(runner, pool.address)]))


@contextlib.contextmanager
def _ray(option: str) -> Iterator[Cluster]:
    with ray_cluster() as cluster:
        pids = (cluster.head.pid, *(node.pid for node in cluster.nodes))
        yield Cluster(option.format(cluster), pids, {"RAY_ADDRESS": cluster.address})


@contextlib.contextmanager
def _spark(option: str) -> Iterator[Cluster]:
    with spark_cluster() as cluster:
        pids = tuple(worker.pid for worker in cluster.workers)
        yield Cluster(option.format(cluster.master), pids)


_OURS, _TABLES = "benchmarks.engines.ours", "benchmarks.tables"
CONTESTANTS = {
    "threads": Contestant("Beam(), threads", _OURS, lambda: _local("threads")),
    "processes": Contestant("Beam(), 2 processes", _OURS, lambda: _local("processes")),
    "prism": Contestant("Beam(), Prism, 1 worker", _OURS, _prism),
    "ray": Contestant("Ray(), 2 nodes", _OURS, lambda: _ray("ray {}")),
    "spark": Contestant("Spark(), 2 workers", _OURS, lambda: _spark("spark {}")),
    "ray_data": Contestant("Ray Data, 1 actor", f"{_TABLES}.ray_data", lambda: _ray("")),
    "spark_udf": Contestant(
        "Spark predict_batch_udf", f"{_TABLES}.spark_udf", lambda: _spark("{}")
    ),
}
# Ray Data 2.60 wants a pyarrow that TFX 1.16 forbids.
_DEFAULT = [name for name in CONTESTANTS if name != "ray_data"]


def main() -> int:
    """Measures, prints, and writes `engines.json`."""
    args = _parse_args()
    workdir = Path(args.workdir).absolute()
    workdir.mkdir(parents=True, exist_ok=True)
    races = [Race(name) for name in CONTESTANTS if name in args.only]
    measure(workdir, races, sorted(args.rows), args.rounds)
    print(f"\n{table(races)}")
    targets = list(judge({race.contestant: race for race in races}))
    print_targets(targets)
    write(workdir / "engines.json", [asdict(race) for race in races], targets, machine())
    return 0


def measure(workdir: Path, races: list[Race], sizes: list[int], rounds: int) -> None:
    """Lets all contestants take turns, and adds what was measured to the races."""
    prepared = {rows: prepared_in(workdir, rows, _FILES) for rows in sizes}
    sums: dict[int, float] = {}
    for number in range(1, rounds + 1):
        for race in races:
            with CONTESTANTS[race.contestant].cluster() as cluster:
                for rows in sizes:
                    measured = _run(workdir, race, cluster, prepared[rows], sums)
                    race.rounds.setdefault(rows, []).append(measured)
                    print(
                        f"round {number}  {race.contestant:<12}{rows:>10,} rows"
                        f"{measured.seconds:>7.1f} s",
                        flush=True,
                    )


def judge(races: Mapping[str, Race]) -> Iterator[Target]:
    """Yields ratios of rates after the start. What did not run is left out."""
    for one, other, at_least in (
        ("ray", "threads", 0.9),
        ("spark", "threads", 0.9),
        ("prism", "threads", None),
        ("processes", "threads", None),
        ("ray", "ray_data", 1),
        ("spark", "spark_udf", 1),
    ):
        if one in races and other in races:
            pairs = zip(races[one].rates(), races[other].rates(), strict=True)
            yield Target(f"rate of {one} over {other}", [a / b for a, b in pairs], at_least)


def table(races: list[Race]) -> str:
    """Returns what was measured as text: a line for each contestant."""
    sizes = sorted(races[0].rounds)
    head = "".join(f"{f'{rows:,} rows':>17}{'CPU s':>7}" for rows in sizes)
    lines = [f"{'seconds, whole program':<28}{head}{'start':>8}{'rows/s after it':>17}"]
    for race in races:
        cells = "".join(
            f"{race.seconds(rows):>17.1f}{race.cpu_seconds(rows):>7.1f}" for rows in sizes
        )
        rate = statistics.median(race.rates())
        label = CONTESTANTS[race.contestant].label
        lines.append(f"{label:<28}{cells}{race.start():>8.1f}{rate:>17,.0f}")
    return "\n".join(lines)


def _run(
    workdir: Path, race: Race, cluster: Cluster, prepared: Prepared, sums: dict[int, float]
) -> watched.Measured:
    output = str(workdir / "output")
    task = Task(prepared.parquet, prepared.tensor_model, False, output, cluster.option)
    module = CONTESTANTS[race.contestant].module
    return checked_run(
        sys.executable, module, task, prepared.rows, sums, cluster.variables, cluster.servers
    )


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=__doc__)
    parser.add_argument("--rows", type=int, nargs=2, default=[400_000, 3_200_000])
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=_DEFAULT)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--workdir", default=str(_CHECKOUT / "build" / "benchmarks-engines"))
    return parser.parse_args()


if __name__ == "__main__":
    os.chdir(_CHECKOUT)
    sys.exit(main())
