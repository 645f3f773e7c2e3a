"""Options of a run: what it writes, how large batches are, and how many failures it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from bulk_inferencer.cli.options import Bytes, Names, joined, option, options

_F = TypeVar("_F", bound=Callable[..., Any])

_OUTPUT, _BATCH, _FAILURES = "Results", "Batches", "Failures"
_BOUNDS = ("max_records", "max_bytes", "first_records", "max_record_bytes")
_TABLE = ("table", "keep", "binary")
_LIMITS = {"max_failed_fraction": "max_fraction", "max_failed": "max_count"}
_LOGS = ("prediction_logs", "compression")
_DAMAGE = ("skip_damaged_files", "max_damaged_files")
# The options that `running_of` takes.
_OPTIONS = {*_BOUNDS, *_TABLE, *_LIMITS, *_LOGS, *_DAMAGE}


def run_options(command: _F) -> _F:
    """Decorates a command with the options."""
    return options(
        option(
            "-o",
            "--output",
            metavar="FOLDER",
            section=_OUTPUT,
            help="The folder for the results.",
        ),
        option(
            "--table",
            type=click.Choice(["parquet", "csv", "json_lines", "none"]),
            default="parquet",
            show_default=True,
            section=_OUTPUT,
            help="The format of the predictions as a table.",
        ),
        option(
            "--keep",
            type=Names(),
            multiple=True,
            section=_OUTPUT,
            help="Columns or features that stand beside the predictions, such as id,country; "
            "--keep= for none.  [default: all with one value per record]",
        ),
        option(
            "--binary",
            type=Names(),
            multiple=True,
            section=_OUTPUT,
            help="Outputs and kept features that stay bytes in the table.  [default: all are text]",
        ),
        option(
            "--prediction-logs/--no-prediction-logs",
            default=None,
            section=_OUTPUT,
            help="Whether to write PredictionLogs as well.  [default: for TFRecord, or "
            "without a table]",
        ),
        option(
            "--compression",
            type=click.Choice(["gzip", "none"]),
            default="gzip",
            show_default=True,
            section=_OUTPUT,
            help="Of the PredictionLogs.",
        ),
        option(
            "--max-records",
            type=int,
            metavar="N",
            section=_BATCH,
            help="Most records of a batch.",
        ),
        option(
            "--max-bytes",
            type=Bytes(),
            section=_BATCH,
            help="Most bytes of a batch, such as 16MiB.",
        ),
        option(
            "--first-records",
            type=int,
            metavar="N",
            section=_BATCH,
            help="Most records of the first batch; they grow as long as it pays.",
        ),
        option(
            "--max-record-bytes",
            type=Bytes(),
            section=_BATCH,
            help="Most bytes of a record or a line.",
        ),
        option(
            "--max-failed-fraction",
            type=float,
            metavar="SHARE",
            section=_FAILURES,
            help="Share of the records that may fail, from 0 to 1.  [default: 0.01]",
        ),
        option(
            "--max-failed",
            type=int,
            metavar="N",
            section=_FAILURES,
            help="Most records that may fail.  [default: no limit]",
        ),
        option(
            "--skip-damaged-files",
            is_flag=True,
            section=_FAILURES,
            help="Go on past files that cannot be read to their end.",
        ),
        option(
            "--max-damaged-files",
            type=int,
            metavar="N",
            section=_FAILURES,
            help="Most files to go on past.  [default: 10]",
        ),
    )(command)


def running_of(given: Mapping[str, Any], is_trial: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the arguments of `predict` that the options stand for, and the other options.

    A trial shows failures instead of failing, unless told otherwise.

    Raises:
      click.UsageError: options contradict each other.
      SettingsError: a setting is not valid.
    """
    from bulk_inferencer._formats.batches import BatchBounds
    from bulk_inferencer._units.damaged_files import DamagedFiles
    from bulk_inferencer._units.failure_limit import FailureLimit

    limits = {field: given[name] for name, field in _LIMITS.items() if given[name] is not None}
    if is_trial:
        limits = {"max_fraction": 1.0, **limits}
    damage = {"skip": given["skip_damaged_files"]}
    if given["max_damaged_files"] is not None:
        if not damage["skip"]:
            raise click.UsageError("--max-damaged-files needs --skip-damaged-files beside it.")
        damage["max_count"] = given["max_damaged_files"]
    bounds = {name: given[name] for name in _BOUNDS if given[name] is not None}
    if given["table"] == "none" and given["prediction_logs"] is False:
        raise click.UsageError(
            "With --table none and --no-prediction-logs, nothing would be written. Leave one out."
        )
    keep = joined(given["keep"]) if given["keep"] else None
    return {
        "table": _table_of(given["table"], keep, joined(given["binary"])),
        "prediction_logs": given["prediction_logs"],
        "compression": given["compression"].upper(),
        "bounds": BatchBounds(**bounds),
        "failure_limit": FailureLimit(**limits),
        "damaged_files": DamagedFiles(**damage),
    }, {name: value for name, value in given.items() if name not in _OPTIONS}


def _table_of(name: str, keep: tuple[str, ...] | None, binary: tuple[str, ...]) -> Any:
    if name == "none":
        for option_name, value in {"--keep": keep, "--binary": binary or None}.items():
            if value is not None:
                raise click.UsageError(
                    f"{option_name} is about a table, but there is none. Leave it out."
                )
        return None
    from bulk_inferencer._formats.table_settings import TableSettings

    return TableSettings(name, keep, binary)
