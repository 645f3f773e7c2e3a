"""Beam's options: what they name, what they lack, and the pipelines that they make."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import create_runner

from bulk_inferencer._access import check_access
from bulk_inferencer.errors import SettingsError

_REST = "rest"  # the arguments that belong to no option
_LOCAL_RUNNERS = ("BundleBasedDirectRunner", "DirectRunner", "FnApiRunner")


def open_filesystems(paths: Iterable[str], options: PipelineOptions | Sequence[str]) -> None:
    """Gives Beam's options to its filesystems, so that they can be used before there is a pipeline.

    Raises:
      MissingExtraError, SettingsError: one of the paths cannot be opened; see `check_access`.
    """
    if not isinstance(options, PipelineOptions):
        options = PipelineOptions(with_runner(options))
    FileSystems.set_options(options)
    check_access(paths)


def make_pipeline(options: PipelineOptions | Sequence[str]) -> beam.Pipeline:
    """Returns a pipeline. Arguments that name no runner get a local one.

    Raises:
      SettingsError: the runner lacks an option, such as Dataflow its project.
    """
    if not isinstance(options, PipelineOptions):
        options = PipelineOptions(with_runner(options))
    try:
        return beam.Pipeline(options=options)
    except ValueError as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise SettingsError(f"Beam cannot take its options: {reason}. Correct them.") from error


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


def check_options(args: Sequence[str]) -> None:
    """Checks options that a person has typed.

    Beam leaves out those that it does not know, and prints pages about a wrong value.

    Raises:
      SettingsError: a value is wrong or missing, or there is an option that the local runner does
        not have.
        Other runners may have more options than are known here.
    """
    options, printed = PipelineOptions(list(args)), io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            known = options.get_all_options(add_extra_args_fn=_add_rest)
            given = options.get_all_options(retain_unknown_options=True)
    except SystemExit:
        reason = printed.getvalue().strip().rpartition("error: ")[2]
        raise SettingsError(f"Beam cannot take its options: {reason}. Correct them.") from None
    if (runner := runner_of(args)) is not None:
        _check_runner(runner)
    unknown = [f"--{name}" for name in sorted(given.keys() - known.keys())] or known[_REST]
    if unknown and is_local(args):
        raise SettingsError(
            f"Beam's local runner has no option {unknown[0]}. Correct it, or leave it out."
        )
    make_pipeline(args)


def _check_runner(name: str) -> None:
    try:
        create_runner(name)
    except (AttributeError, ImportError, ValueError) as error:
        reason = str(error).rstrip(".")
        raise SettingsError(
            f"Beam has no runner '{name}' here: {reason}. Correct its option --runner."
        ) from error


def _add_rest(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(_REST, nargs="*")


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


def _available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
