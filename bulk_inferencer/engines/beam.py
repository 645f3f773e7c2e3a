"""Units as one Apache Beam job, on any of its runners."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from bulk_inferencer._access import check_access
from bulk_inferencer._checks import check_number
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.progress import heartbeats_of_processes
from bulk_inferencer._units.stages import without_models
from bulk_inferencer._units.worker import UnitWorker
from bulk_inferencer.engines import beam_hints, beam_options, beam_portable, beam_unit, dataflow
from bulk_inferencer.engines.beam_jobs import waited_for
from bulk_inferencer.engines.beam_stages import run_in_stages
from bulk_inferencer.engines.beam_workers import quiet_connections
from bulk_inferencer.engines.engine import Engine, warn_of_idle_workers
from bulk_inferencer.engines.parcel import pack
from bulk_inferencer.errors import WorkerError

_ADVICE = (
    "Install the same packages on every worker, or let Beam do it: --sdk_container_image, "
    "--extra_package or --setup_file. A worker pool does it only if it was started with "
    "--container_executable."
)
_WORKER_ERROR = re.compile(
    r"(?:RuntimeError: |bulk_inferencer\.errors\.)WorkerError: (.*?)(?: \[while running |$)",
    re.MULTILINE,
)
# With Beam's option --pickle_library=dill, workers cannot unpickle anything before they can tell.
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
      worker_timeout_seconds: for how long a portable runner (Prism, Flink, or any behind
        `--job_endpoint`) may go without a sign of life of any worker before the run ends with an
        error. Raise it where jobs wait for others.
      accelerator: what workers that hold the model need, as Beam's hint of that name:
        `type:nvidia-tesla-t4;count:1;install-nvidia-driver`. The job then has three steps, so that
        Dataflow reads and writes on other workers, without one. The local runner ignores it.
      min_ram: the memory that they need, in bytes or as `30GB`; otherwise like `accelerator`.

    Raises:
      SettingsError: a setting has another form.
    """

    options: PipelineOptions | Sequence[str] = ()
    make_pipeline: Callable[[], beam.Pipeline] | None = None
    worker_timeout_seconds: float = 600
    accelerator: str = ""
    min_ram: str | int = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        advice = "Leave it out to wait for ten minutes."
        check_number("Beam.worker_timeout_seconds", self.worker_timeout_seconds, advice, 1)
        beam_hints.check_hints(self.accelerator, self.min_ram)

    @property
    def _hints(self) -> dict[str, str | int]:
        hints = {"accelerator": self.accelerator, "min_ram": self.min_ram}
        return {name: value for name, value in hints.items() if value}

    def check(self) -> None:
        """See `Engine`."""
        if dataflow.is_dataflow(self.options):
            dataflow.check_options(self.options, has_hints=bool(self._hints))
        beam_portable.check_endpoint(beam_options.parsed(self.options))

    def check_paths(self, paths: Iterable[str]) -> None:
        """See `Engine`."""
        if dataflow.is_dataflow(self.options) and (found := list(paths)):
            dataflow.check_paths(found, self.options)

    def open_filesystems(self, paths: Iterable[str]) -> None:
        """See `Engine`. A pipeline that somebody else makes brings its own options."""
        if self.make_pipeline and not self.options:
            check_access(paths, needs_credentials=False)
            return
        beam_options.open_filesystems(paths, self.options)

    def run_units(self, worker: UnitWorker, units: Sequence[Unit]) -> None:
        """See `Engine`."""
        make = self.make_pipeline or (lambda: beam_options.make_pipeline(self.options))
        pipeline = make()
        is_portable = beam_portable.is_portable(pipeline)
        folder = worker.task.manifests_folder
        watched: Any = nullcontext()
        if is_portable:
            watched = beam_portable.watched(pipeline, folder, self.worker_timeout_seconds)
        warn_of_idle_workers(units, beam_options.workers_asked_for(self.options))
        beam_unit.send_by_value()
        # Where there are none, a pipeline of the caller's brings them to its workers.
        has_own = self.options and not isinstance(self.options, PipelineOptions)
        options = [*self.options] if has_own else None
        parcel = tuple(pack(worker, _ADVICE, options))
        try:
            with (
                quiet_connections(),
                watched,
                heartbeats_of_processes(folder),
                waited_for(pipeline),
            ):
                pickled = (
                    pipeline
                    | "Units" >> beam.Create([pickle.dumps(unit) for unit in units])
                    | "Distribute" >> beam.Reshuffle()
                )
                if self._hints and beam_hints.are_of_use(pipeline):
                    plain = tuple(pack(without_models(worker), _ADVICE, options))
                    run_in_stages(pickled, parcel, plain, self._hints, is_portable)
                else:
                    _ = pickled | "RunUnit" >> beam.Map(
                        beam_unit.run_unit, parcel=parcel, gives_signs=is_portable
                    )
        except Exception as error:  # of whichever runner this is, with the worker's as text
            if found := _WORKER_ERROR.search(str(error)):
                raise WorkerError(found[1]) from error
            if found := _MISSING.search(str(error)):
                raise WorkerError(
                    f"A worker cannot import this package: {found[1]}. {_ADVICE}"
                ) from error
            if told := dataflow.explained(error, pipeline.options):
                raise told from error
            raise
