"""Units as one Apache Beam job, on any of its runners."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from bulk_inferencer._access import check_access
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.worker import UnitWorker
from bulk_inferencer.beam import metrics
from bulk_inferencer.engines import beam_options
from bulk_inferencer.engines.beam_workers import quiet_connections
from bulk_inferencer.engines.engine import Engine
from bulk_inferencer.engines.parcel import pack
from bulk_inferencer.engines.unpacking import opened
from bulk_inferencer.errors import SettingsError, WorkerError

_ADVICE = (
    "Install the same packages on every worker, or let Beam do it: --sdk_container_image, "
    "--extra_package or --setup_file."
)
_OUR_ERROR = re.compile(r"bulk_inferencer\.errors\.WorkerError: (.*?)(?: \[while running |$)", re.M)
_MISSING = re.compile(r"ModuleNotFoundError: (No module named 'bulk_inferencer[^']*')")


@dataclass(frozen=True)
class Beam(Engine):
    """Runs units on Apache Beam: the default engine, with a local thread per core.

    ```python
    run(job, engine=Beam(["--runner=FlinkRunner", "--flink_master=localhost:8081"]))
    ```

    Attributes:
      options: Beam's options. Arguments that name no runner get Beam's local one, with a thread per
        core.
      make_pipeline: makes the pipeline, instead of `options`, which then only open the files that
        the job names.
    """

    options: PipelineOptions | Sequence[str] = ()
    make_pipeline: Callable[[], beam.Pipeline] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.options, str):
            raise SettingsError(
                f"Beam's options must be a list, not {self.options!r}. Write [{self.options!r}]."
            )

    def open_filesystems(self, paths: Iterable[str]) -> None:
        """See `Engine`. A pipeline that somebody else makes brings its own options."""
        if self.make_pipeline and not self.options:
            check_access(paths, needs_credentials=False)
            return
        beam_options.open_filesystems(paths, self.options)

    def run_units(self, worker: UnitWorker, units: Sequence[Unit]) -> None:
        """See `Engine`."""
        make = self.make_pipeline or (lambda: beam_options.make_pipeline(self.options))
        try:
            with quiet_connections(), make() as pipeline:
                _ = (
                    pipeline
                    | "Units" >> beam.Create(units)
                    | "Distribute" >> beam.Reshuffle()
                    | "RunUnit" >> beam.ParDo(_RunUnit(tuple(pack(worker, _ADVICE))))
                )
        except Exception as error:  # of whichever runner this is, with the worker's as text
            if found := _OUR_ERROR.search(str(error)):
                raise WorkerError(found[1]) from error
            if found := _MISSING.search(str(error)):
                raise WorkerError(
                    f"A worker cannot import this package: {found[1]}. {_ADVICE}"
                ) from error
            raise


class _RunUnit(beam.DoFn):
    def __init__(self, parcel: tuple[Any, ...]) -> None:
        self._parcel = parcel

    def process(self, unit: Unit) -> None:
        manifest = opened(self._parcel)(unit, metrics.MeteredWork)
        if manifest:
            # For display only: some runners count failed attempts too.
            metrics.count(
                manifest.examples_read, manifest.predictions_made, manifest.examples_failed
            )
