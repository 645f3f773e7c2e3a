"""What a person sees: results on stdout, everything else on stderr, errors in a line or two.

Nothing large is imported here; `console` imports rich.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from bulk_inferencer.cli import native_lines
from bulk_inferencer.errors import BulkInferencerError, SettingsError

if TYPE_CHECKING:
    from rich.console import Console

DONE = 0
FAILED = 1
WRONG_USAGE = 2
REFUSED = 3
EXPECTATIONS_NOT_MET = 4
INTERRUPTED = 130

_TRACEBACK = "Traceback (most recent call last)"
_DEBUG = f"{__name__}.debug"
_JSON = f"{__name__}.json"
# What became of a call that failed, in its JSON.
_STATES = {FAILED: "failed", WRONG_USAGE: "wrong usage", INTERRUPTED: "interrupted"}
_OURS = "bulk_inferencer"
_VERDICT = "bulk_inferencer._verdict"  # what it warns of is told at the end
# Libraries that talk much of themselves and nothing of the user's data. What goes wrong in them is
# raised.
_TALKATIVE = (
    *("absl", "apache_beam", "asyncio", "google", "grpc", "h5py", "jax", "keras", "numexpr"),
    *("py4j", "pyspark", "ray", "tensorflow", "tensorflow_serving", "tf_keras", "tfx", "tfx_bsl"),
    "urllib3",
)
# Of those, what a worker process would say of its Python.
_OF_WORKERS = "ignore::FutureWarning:google.api_core._python_version_support"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

_owns_process = False


# What is written


def say(text: str) -> None:
    """Writes a line to stderr, above a display that updates itself."""
    with contextlib.suppress(OSError):  # Nobody reads it, or its disk is full; results may go on.
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def write_json(value: Any) -> None:
    """Writes a JSON document to stdout; NaN and infinities become null, which all readers take."""
    click.echo(json.dumps(_without_nan(value), indent=2))


def printable(text: str) -> str:
    """Returns a text from data in which what would control a terminal is written out."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def console(stderr: bool = False) -> Console:
    """Returns a console on which a text from data stays text, whatever it looks like."""
    from rich.console import Console

    class PlainConsole(Console):
        def on_broken_pipe(self) -> None:
            raise  # the BrokenPipeError, where rich would raise SystemExit

    return PlainConsole(stderr=stderr, markup=False, highlight=False, emoji=False)


def is_terminal(stderr: bool = False) -> bool:
    """Returns whether a person may be watching a stream."""
    stream = sys.stderr if stderr else sys.stdout
    return bool(stream.isatty()) and os.environ.get("TERM") != "dumb"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(own) for name, own in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(own) for own in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


# Errors and warnings


def set_debug(ctx: click.Context) -> None:
    """Lets errors show tracebacks, and libraries what they log."""
    ctx.find_root().meta[_DEBUG] = True


def is_debug(ctx: click.Context) -> bool:
    """Returns whether `--debug` was given, before the command or after it."""
    return bool(ctx.find_root().meta.get(_DEBUG))


def fail_as_json(ctx: click.Context) -> None:
    """Lets an error be told as a JSON document on stdout as well."""
    ctx.find_root().meta[_JSON] = True


@contextlib.contextmanager
def failing_clearly(ctx: click.Context) -> Iterator[None]:
    """Makes an error a line or two on stderr, and an exit code."""
    try:
        yield
    except (click.exceptions.Exit, click.Abort, BrokenPipeError):
        raise  # which click knows what to do about
    except click.ClickException as error:
        _hand_over_error(ctx, error.exit_code, error.format_message())
        raise
    except KeyboardInterrupt:
        if not _Lines.has_told_of_interrupt:
            say("Interrupted.")
        _hand_over_error(ctx, INTERRUPTED, "Interrupted.")
        raise click.exceptions.Exit(INTERRUPTED) from None
    except (Exception, SystemExit) as error:  # noqa: BLE001, whatever it is, a person gets a line and not a traceback
        text = _text_of(error)
        if is_debug(ctx):
            say("".join(traceback.format_exception(error)).rstrip())
        else:
            say(f"Error: {text}")
        code = WRONG_USAGE if isinstance(error, SettingsError) else FAILED
        _hand_over_error(ctx, code, text)
        raise click.exceptions.Exit(code) from None


def _hand_over_error(ctx: click.Context, code: int, text: str) -> None:
    if ctx.find_root().meta.get(_JSON):
        with contextlib.suppress(OSError):  # which may be what the error is about
            write_json({"state": _STATES[code], "error": text})


def _text_of(error: Exception | SystemExit) -> str:
    from bulk_inferencer.cli.wording import in_options

    if isinstance(error, SystemExit):  # A command ends with click's Exit.
        return (
            f"The model, or a function around it, called sys.exit({error.code!r}). Raise an "
            f"exception instead."
        )
    if isinstance(error, BulkInferencerError):
        return printable(in_options(str(error)))
    if isinstance(error, OSError) and error.strerror:
        return printable(f"{error.strerror}{f': {error.filename}' if error.filename else ''}.")
    text = str(error)
    if _TRACEBACK in text:  # which Beam makes of an error of a worker
        text = text.strip().rpartition("\n")[2]
    else:
        text = f"{type(error).__name__}: {text}"
    text = " ".join(text.split())
    return f"{printable(text)}\nThis was not expected. --debug shows where it comes from."


@contextlib.contextmanager
def warnings_as_lines(ctx: click.Context) -> Iterator[None]:
    """Writes warnings of this package to stderr, each as a line."""
    handler, logger = _Lines(ctx), logging.getLogger(_OURS)
    _Lines.has_told_of_interrupt = False
    logger.addHandler(handler)
    propagates, logger.propagate = logger.propagate, not _owns_process
    try:
        yield
    finally:
        logger.propagate = propagates
        logger.removeHandler(handler)


def warnings_are_wanted(ctx: click.Context, wanted: bool) -> None:
    """Says whether warnings of this package are shown, too; errors always are."""
    ctx.find_root().meta[f"{__name__}.warnings"] = wanted


class _Lines(logging.Handler):
    has_told_of_interrupt = False

    def __init__(self, ctx: click.Context) -> None:
        super().__init__(logging.WARNING)
        self._meta = ctx.find_root().meta

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == _VERDICT:
            return
        if record.levelno < logging.ERROR and not self._meta.get(f"{__name__}.warnings", True):
            return
        text = printable(record.getMessage())
        if isinstance(sys.exc_info()[1], KeyboardInterrupt):
            _Lines.has_told_of_interrupt = True
            text = f"Interrupted. {text}"
        say(text)


class _OthersLines(logging.Handler):
    """Writes what other packages log, each message as lines."""

    def emit(self, record: logging.LogRecord) -> None:
        say(printable(self.format(record)))


# The process


@contextlib.contextmanager
def own_process() -> Iterator[None]:
    """Within `with`, the process is that of the command line alone, and ends with it."""
    global _owns_process
    _owns_process = True
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # as after `>&-`; no other file should get its number
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, open until the end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # A terminal may know fewer letters than the data.
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
    except SystemExit as end:
        _flush()
        if end.code == INTERRUPTED:  # Threads may be within a call of a model, which cannot end.
            os._exit(INTERRUPTED)
        raise
    finally:
        _flush()


def _flush() -> None:
    try:
        sys.stdout.flush()
    except OSError:  # `| head` has seen enough, or a disk is full. Python would complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def quiet_libraries(ctx: click.Context) -> None:
    """Keeps what TensorFlow, Beam and Google's libraries say of themselves from the terminal.

    Call it before they are imported. It does nothing in a process that is somebody else's.
    """
    if not _owns_process:
        return
    if is_debug(ctx):
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
        native_lines.keep_stdout()
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    os.environ.setdefault("PYTHONWARNINGS", _OF_WORKERS)
    for library in _TALKATIVE:
        warnings.filterwarnings("ignore", module=rf"{library}(\.|$)")
    warnings.showwarning = _show_warning
    handler = _OthersLines()
    handler.setLevel(logging.WARNING)
    handler.addFilter(_is_about_data)
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    native_lines.filter_stderr()
    native_lines.keep_stdout()


def _is_about_data(record: logging.LogRecord) -> bool:
    """Returns whether a record is not of a library that talks of itself."""
    # Beam also logs to the root logger, so that only the file tells.
    folders = record.pathname.split(os.sep) if record.name == "root" else []
    return not {record.name.partition(".")[0], *folders}.intersection(_TALKATIVE)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    """Shows a warning of a user's code, or of a library that it calls."""
    say(printable(f"{category.__name__}: {message} ({filename}, line {lineno})"))
