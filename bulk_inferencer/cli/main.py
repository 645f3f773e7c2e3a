"""The command line: `bulk-inferencer COMMAND`, or `python -m bulk_inferencer COMMAND`.

Commands are loaded when they are called, and import what they need when they run, so that the first
line comes at once.
"""

from __future__ import annotations

import importlib
from typing import Any

import click

from bulk_inferencer import __version__
from bulk_inferencer._checks import did_you_mean
from bulk_inferencer.cli import terminal
from bulk_inferencer.cli.options import Text

PROGRAM = "bulk-inferencer"

# In the order in which they are used. The module of each holds its `command`.
COMMANDS = ("inspect", "predict", "show", "report", "compare", "runs")

_EPILOG = """\b
First steps:
  bulk-inferencer inspect models/five_times data.parquet
  bulk-inferencer predict models/five_times data.parquet -o results
  bulk-inferencer show results

\b
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the gate refused the model,
4 the predictions do not meet the expectations, 130 interrupted.

\b
Shell completion, for bash, zsh or fish:
  eval "$(_BULK_INFERENCER_COMPLETE=bash_source bulk-inferencer)"
"""


class _Group(click.Group):
    """Loads a command when it is asked for, and says of every error what a person needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"bulk_inferencer.cli.{cmd_name}")
        command: click.Command = module.command
        if _DEBUG not in command.params:
            command.params.append(_DEBUG)
        for parameter in command.params:
            if parameter.type is click.STRING:
                parameter.type = Text()
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = args[: args.index("--")] if "--" in args else args
        if "--json" in own:
            terminal.fail_as_json(ctx)
        with terminal.failing_clearly(ctx):
            return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and name not in COMMANDS:
            raise click.UsageError(
                f"There is no command '{name}'; there are {', '.join(COMMANDS)}."
                f"{did_you_mean(name, COMMANDS)}",
                ctx,
            )
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with terminal.warnings_as_lines(ctx), terminal.failing_clearly(ctx):
            return super().invoke(ctx)


def _begin(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    """Runs when all options are known, and before anything large is imported."""
    if value:
        terminal.set_debug(ctx)
    if isinstance(ctx.command, _Group) or ctx.resilient_parsing:
        return
    terminal.quiet_libraries(ctx)


def _debug_option() -> click.Option:
    return click.Option(
        ["--debug"],
        is_flag=True,
        expose_value=False,
        callback=_begin,
        help="Show tracebacks, and what libraries log.",
    )


# Also after the command, since that is where one adds it.
_DEBUG = _debug_option()


@click.group(
    cls=_Group,
    params=[_debug_option()],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_EPILOG,
)
@click.version_option(__version__, prog_name=PROGRAM)
def group() -> None:
    """Score files with a model, and look at the predictions.

    Models, inputs and results may be on a disk or wherever Apache Beam reads, such as gs://.
    """


def main() -> None:
    """Runs the command line, and ends the process with its exit code."""
    with terminal.own_process():
        group(prog_name=PROGRAM)
