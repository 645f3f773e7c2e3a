"""Units as one Apache Beam job, on any of its runners."""

from __future__ import annotations

import argparse
import os
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.shared import Shared

from bulk_inferencer import _files, errors
from bulk_inferencer._units.manifest import Manifest
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.run import UnitTask
from bulk_inferencer.beam import metrics
from bulk_inferencer.errors import BulkInferencerError

_LOCAL_RUNNERS = ("BundleBasedDirectRunner", "DirectRunner", "FnApiRunner")


def run_units(
    task: UnitTask,
    units: Sequence[Unit],
    work_folder: str,
    make_pipeline: Callable[[], beam.Pipeline],
) -> list[Manifest]:
    """Returns the manifests of at least one unit, in any order.

    Each unit runs from end to end in one thread of a worker. Workers write to `work_folder`,
    and the launcher reads it.

    Raises:
      BulkInferencerError: what a worker raised; see `run_unit` and `UnitTask.load`.
    """
    manifests_file = posixpath.join(work_folder, "manifests.jsonl")
    try:
        with make_pipeline() as pipeline:
            _ = (
                pipeline
                | "Units" >> beam.Create(units)
                | "Distribute" >> beam.Reshuffle()
                | "RunUnit" >> beam.ParDo(_RunUnit(task)).with_output_types(Manifest)
                # As elements, not as counters, which count failed attempts too on some runners.
                | "ToJson" >> beam.Map(Manifest.to_json).with_output_types(str)
                | "Gather" >> beam.combiners.ToList()
                | "WriteManifests" >> beam.Map(_write_lines, manifests_file)
            )
    except Exception as error:
        if raised := _error_of_worker(str(error)):
            raise raised from None  # Beam has logged the worker's traceback, several times.
        raise
    with _files.open_to_read(manifests_file) as file:
        return [Manifest.from_json(line) for line in file.read().decode().splitlines()]


def make_pipeline(options: PipelineOptions | Sequence[str]) -> beam.Pipeline:
    """Returns a pipeline. Arguments that name no runner get a local one."""
    if not isinstance(options, PipelineOptions):
        options = PipelineOptions(with_runner(options))
    return beam.Pipeline(options=options)


def with_runner(args: Iterable[Any]) -> list[Any]:
    """Returns Beam's arguments. If they name no runner, adds the local one, a thread per core.

    By its class path, since Beam 2.7x takes the name `DirectRunner` as a wish to download another
    runner first, and hangs on a slow network.
    """
    args = list(args)
    if runner_of(args) is not None:
        return args
    return [
        "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",
        "--direct_running_mode=multi_threading",
        f"--direct_num_workers={_available_cores()}",
        *args,
    ]


def is_local(args: Iterable[Any]) -> bool:
    """Returns whether a pipeline with these arguments runs on this machine alone."""
    runner = runner_of(args)
    return runner is None or runner.rpartition(".")[2] in _LOCAL_RUNNERS


def runner_of(args: Iterable[Any]) -> str | None:
    """Returns the runner that Beam's arguments name, or None."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--runner")
    named: str | None = parser.parse_known_args([str(arg) for arg in args])[0].runner
    return named


class _RunUnit(beam.DoFn):
    def __init__(self, task: UnitTask) -> None:
        self._task = task
        self._shared = Shared()

    def setup(self) -> None:
        self._loaded = self._shared.acquire(self._task.load)

    def process(self, unit: Unit) -> Iterator[Manifest]:
        manifest = self._loaded.run(unit, metrics.MeteredWork)
        metrics.count(manifest.examples_read, manifest.predictions_made, manifest.examples_failed)
        yield manifest


def _write_lines(lines: Sequence[str], path: str) -> None:
    with _files.open_to_write(path) as file:
        file.write("".join(line + "\n" for line in lines).encode())


def _available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _error_of_worker(text: str) -> BulkInferencerError | None:
    """Returns the error of ours that a worker raised. Runners pass on its traceback as text."""
    pieces = re.split(r"^bulk_inferencer\.errors\.(\w+): ", text, flags=re.MULTILINE)
    if len(pieces) == 1:
        return None
    kind, rest = pieces[-2:]
    message = re.split(r" \[while running '|\n\n", rest)[0].rstrip()
    error: BulkInferencerError = getattr(errors, kind)(message)
    return error
