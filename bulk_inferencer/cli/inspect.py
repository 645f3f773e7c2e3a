"""`bulk-inferencer inspect`: what a model takes and returns, and whether inputs fit."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from bulk_inferencer.cli import terminal
from bulk_inferencer.cli.inputs import input_options, inputs_of, reading_of
from bulk_inferencer.cli.models import model_of, model_options
from bulk_inferencer.cli.options import CommandOfBeam, beam_options, option
from bulk_inferencer.results.amounts import counted, in_bytes

if TYPE_CHECKING:
    from bulk_inferencer._inspection import Fit
    from bulk_inferencer._models.described import ModelDescription, SignatureDescription

_MOST_REASONS = 5
_LONGEST = 100  # characters of a reason; some are paragraphs
_TAKES = {
    "record": "the whole record",
    "feature": "the feature or column of its name",
    "record or feature": "the feature or column of its name, or else the whole record",
    "constant": "nothing: the model brings the value",
    "": "it cannot be fed",
}
_EPILOG = """\b
Examples:
  bulk-inferencer inspect models/five_times
  bulk-inferencer inspect models/five_times 'data/*.parquet'
  bulk-inferencer inspect grpc://localhost:8500/five_times data.csv --json
"""


@click.command(
    cls=CommandOfBeam, epilog=_EPILOG, short_help="Show what a model takes, and whether inputs fit."
)
@click.argument("model")
@click.argument("inputs", nargs=-1)
@input_options
@model_options
@option("--json", "as_json", is_flag=True, help="Write what was found to stdout as JSON.")
@click.pass_context
def command(
    ctx: click.Context, /, model: str, inputs: tuple[str, ...], as_json: bool, **given: Any
) -> None:
    """Show what MODEL takes and returns, and whether the first records of INPUTS fit.

    MODEL and INPUTS are those of predict. The exit code is 1 if a record does not fit.
    """
    files = f" and {inputs[0]}" if inputs else ""
    terminal.say(f"Inspecting {model}{files}.")
    reading, of_model = reading_of(given)
    with contextlib.redirect_stdout(sys.stderr):  # what the user's modules print
        own = model_of(model, **of_model)
        from bulk_inferencer._models.described import describe

        description = describe(own)
    if not as_json:
        _show_model(description, with_inputs=bool(inputs))
    fit = None
    if splits := inputs_of(inputs, (), optional=True):
        from bulk_inferencer._inspection import try_inputs

        with contextlib.redirect_stdout(sys.stderr):  # what the model prints
            fit = try_inputs(own, splits, options=beam_options(ctx), **reading)
        if not as_json:
            _show_fit(fit)
    if as_json:
        terminal.write_json(_document(description, fit))
    ctx.exit(terminal.DONE if fit is None or fit.fits else terminal.FAILED)


def _show_model(description: ModelDescription, with_inputs: bool) -> None:
    click.echo(f"{description.kind} {description.uri}")
    for signature in description.signatures:
        click.echo(f"\nSignature {signature.name} ({signature.method})")
        if signature.inputs:
            takes = [_TAKES[own.takes] for own in signature.inputs]
            names = [own.name for own in signature.inputs]
            _table({"input": names, "type": [own.type for own in signature.inputs], "takes": takes})
        if signature.parses:
            _table(
                {
                    "feature that it parses": list(signature.parses),
                    "type": list(signature.parses.values()),
                }
            )
        if signature.outputs:
            _table({"output": list(signature.outputs), "type": list(signature.outputs.values())})
        for line in _formats(signature, with_inputs):
            click.echo(line)
    for note in description.notes:
        click.echo(terminal.printable(note))


def _formats(signature: SignatureDescription, with_inputs: bool) -> Iterator[str]:
    """Yields what a signature takes, and what it does not take; of inputs, the fit says that."""
    from bulk_inferencer.cli.wording import in_options

    taken = [name for name, reason in signature.takes.items() if not reason]
    if taken:
        yield f"Takes {', '.join(taken[:-1])}{' and ' if taken[1:] else ''}{taken[-1]}."
    for reason, names in [] if with_inputs else _by_reason(signature.takes):
        line = f"Not {' or '.join(names)}"
        why = f": {in_options(reason)}"
        yield terminal.printable(line + (why if len(why) <= _LONGEST else "; --json says why."))


def _by_reason(takes: Any) -> list[tuple[str, list[str]]]:
    reasons: dict[str, list[str]] = {}
    for name, reason in takes.items():
        if reason:
            reasons.setdefault(reason, []).append(name)
    return list(reasons.items())


def _show_fit(fit: Fit) -> None:
    from bulk_inferencer.cli.wording import in_options

    click.echo(f"\n{counted(fit.files, 'file')} of {fit.input_format}, {in_bytes(fit.bytes)}")
    if fit.columns:
        used = ["no" if name in fit.unused else "yes" for name in fit.columns]
        columns = {"column": list(fit.columns), "type": list(fit.columns.values())}
        _table({**columns, **({"used": used} if fit.unused else {})})
    if fit.outputs:
        _table({"output": list(fit.outputs), "type": list(fit.outputs.values())})
    click.echo()
    if fit.problem:
        click.echo("The records do not fit.")
        click.echo(terminal.printable(in_options(fit.problem)))
        return
    failed = sum(fit.failures.values())
    if not failed:
        click.echo(f"The first {counted(fit.records, 'record')} fit.")
        if fit.unused:
            click.echo("Columns that are not used can stand beside the predictions, with --keep.")
        return
    click.echo(f"{failed:,} of the first {counted(fit.records, 'record')} do not fit:")
    for reason, count in list(fit.failures.items())[:_MOST_REASONS]:
        click.echo(terminal.printable(f"  {count:,}  {in_options(reason)}"))
    if fit.missing:
        names = ", ".join(fit.missing)
        click.echo(
            f"The model parses {names}, but no column has that name. If a column is meant, say "
            f"which: --rename {next(iter(fit.unused), 'COLUMN')}={fit.missing[0]}."
        )


def _table(columns: dict[str, Sequence[str]]) -> None:
    from bulk_inferencer.cli.cells import Column, one_line
    from bulk_inferencer.cli.tables import print_table

    console = terminal.console()
    print_table(console, [Column(n, [one_line(v) for v in own]) for n, own in columns.items()])


def _document(description: ModelDescription, fit: Fit | None) -> dict[str, Any]:
    from bulk_inferencer.cli.wording import in_options

    document: dict[str, Any] = {"model": dataclasses.asdict(description)}
    for signature in document["model"]["signatures"]:
        signature["takes"] = {n: in_options(reason) for n, reason in signature["takes"].items()}
    if fit:
        problem = in_options(fit.problem)
        document["inputs"] = {"fits": fit.fits, **dataclasses.asdict(fit), "problem": problem}
    return document
