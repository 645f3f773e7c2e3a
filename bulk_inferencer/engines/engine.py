"""The interface of an engine, and what all engines share."""

from __future__ import annotations

import abc
import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from bulk_inferencer._signals import guard_exit
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.worker import UnitWorker
from bulk_inferencer.engines import beam_options
from bulk_inferencer.errors import SettingsError

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

_logger = logging.getLogger(__name__)


class Engine(abc.ABC):
    """Spreads the units of a run over workers.

    Engines are frozen dataclasses of settings. All else is the same on each of them: checks, units,
    manifests, commit, and how a run goes on after a crash.

    Attributes:
      options: Beam's options, which open files on any engine, such as `--s3_region_name=...`.
    """

    options: PipelineOptions | Sequence[str]

    def __post_init__(self) -> None:
        if isinstance(self.options, str):
            raise SettingsError(
                f"{type(self).__name__}'s options must be a list, not {self.options!r}. Write "
                f"[{self.options!r}]."
            )

    def check(self) -> None:  # noqa: B027, most engines need nothing
        """Checks that the engine can be used here, before a run does anything.

        Raises:
          MissingExtraError: its package is not installed.
          SettingsError: a setting is wrong.
        """

    def check_paths(self, paths: Iterable[str]) -> None:  # noqa: B027, most engines cannot tell
        """Checks that workers can see paths, as far as that can be told here.

        Args:
          paths: what workers read and write; none if there is nothing to score.

        Raises:
          SettingsError: workers cannot see one of them.
        """

    def open_filesystems(self, paths: Iterable[str]) -> None:
        """Makes files usable in this process.

        Raises:
          MissingExtraError, SettingsError: one of the paths cannot be opened; see `check_access`.
        """
        beam_options.open_filesystems(paths, self.options)

    @abc.abstractmethod
    def run_units(self, worker: UnitWorker, units: Sequence[Unit]) -> None:
        """Calls `worker(unit)` for each unit, in any process, and returns when all calls are over.

        A unit may be tried again, even while an earlier attempt is alive: the first one that
        finishes counts. Errors of ours do not come out of a call, see `UnitWorker`; what else comes
        out of it may be tried again or raised.

        Raises:
          WorkerError: workers died, lack something, or do not see the folders of the run.
        """


def run_units(engine: Engine, worker: UnitWorker, units: Sequence[Unit]) -> None:
    """Runs units on an engine.

    After an error, or when somebody has put up the stop sign, no more units start.

    Raises:
      BulkInferencerError: what a worker raised; see `run_unit`, `UnitTask.load` and
        `Engine.run_units`.
    """
    try:
        try:
            engine.run_units(worker, units)
        finally:
            worker.forget()
    except Exception:
        if error := worker.stop.take_down():
            raise error from None
        raise
    except BaseException:  # Ctrl-C or SIGTERM: local threads may still be at work.
        guard_exit()
        worker.stop.take_down()
        raise
    if error := worker.stop.take_down():
        raise error


def warn_of_idle_workers(units: Sequence[Unit], workers: int) -> None:
    """Warns if a run has fewer units than there are workers, so that some have nothing to do.

    What is left of a run that goes on is no reason, nor is a trial, which has a unit per split.
    """
    planned = sum({unit.split: unit.count for unit in units}.values())
    is_trial = any(unit.count == 1 and len(unit.files) > 1 for unit in units)
    if planned >= workers or is_trial:
        return
    if all(len(unit.files) < 2 for unit in units):
        advice = (
            f"A unit is a file. Only files of Parquet, and of CSV and JSON Lines that are not "
            f"compressed, are read in parts, of about 16 MiB. Write the input as {workers} files "
            f"or more of about equal size, or use fewer workers."
        )
    else:
        advice = (
            f"A unit is 64 MiB of files, and there is not enough input for so many. Use "
            f"{planned} workers at most."
        )
    _logger.warning(
        "%s for %d workers, so %d of them have nothing to do. %s",
        "There is 1 unit" if planned == 1 else f"There are {planned} units",
        workers,
        workers - planned,
        advice,
    )
