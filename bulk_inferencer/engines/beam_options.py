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
_LOCAL_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
_DIRECT_RUNNERS = ("directrunner", "switchingdirectrunner")


def open_filesystems(paths: Iterable[str], options: PipelineOptions | Sequence[str]) -> None:
    """Gives Beam's options to its filesystems, so that they can be used before there is a pipeline.

    Raises:
      MissingExtraError, SettingsError: one of the paths cannot be opened; see `check_access`.
    """
    FileSystems.set_options(parsed(options))
    check_access(paths)


def make_pipeline(options: PipelineOptions | Sequence[str]) -> beam.Pipeline:
    """Returns a pipeline. Arguments that name no runner get a local one.

    Raises:
      SettingsError: the runner lacks an option, such as Dataflow its project.
    """
    try:
        return beam.Pipeline(options=parsed(options))
    except ValueError as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise SettingsError(f"Beam cannot take its options: {reason}. Correct them.") from error


def parsed(options: PipelineOptions | Sequence[str]) -> PipelineOptions:
    """Returns Beam's options. If they name no runner, with the local one; see `with_runner`."""
    if not isinstance(options, PipelineOptions):
        return PipelineOptions(with_runner(options))
    given = options.get_all_options(drop_default=True, retain_unknown_options=True)
    if "runner" not in given:
        local = PipelineOptions(with_runner([])).get_all_options(drop_default=True)
        return PipelineOptions.from_dictionary({**local, **given})
    if _is_direct(given["runner"]):
        return PipelineOptions.from_dictionary({**given, "runner": _LOCAL_RUNNER})
    return options


def with_runner(args: Iterable[Any]) -> list[Any]:
    """Returns Beam's arguments. If they name no runner, adds the local one, a thread per core.

    By its class path, since Beam 2.7x takes the name `DirectRunner` as a wish to download another
    runner first, and hangs on a slow network. Where arguments have that name, the path follows.
    """
    args = list(args)
    runner = runner_of(args)
    if runner is not None:
        return [*args, f"--runner={_LOCAL_RUNNER}"] if _is_direct(runner) else args
    return [
        f"--runner={_LOCAL_RUNNER}",
        "--direct_running_mode=multi_threading",
        f"--direct_num_workers={_available_cores()}",
        *args,
    ]


def workers_asked_for(options: PipelineOptions | Sequence[str]) -> int:
    """Returns how many workers options ask for; 0 if they leave that to the runner.

    Threads of this process do not count.
    """
    given = (
        options if isinstance(options, PipelineOptions) else PipelineOptions([*options])
    ).get_all_options(drop_default=True)
    names = ["num_workers", "max_num_workers", "parallelism"]
    if given.get("direct_running_mode") == "multi_processing":
        names.append("direct_num_workers")
    return max(given.get(name) or 0 for name in names)


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


def _is_direct(runner: str) -> bool:
    """Returns whether a runner is the one that downloads another one, if it can."""
    return runner.rpartition(".")[2].lower() in _DIRECT_RUNNERS


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
