"""`report`: the page that shows what a run did."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from bulk_inferencer.results import Results

_EPILOG = """\b
Examples:
  bulk-inferencer report results
  bulk-inferencer report results -o today.html --against results-of-yesterday
"""


@click.command(epilog=_EPILOG)
@click.argument("result")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    default="report.html",
    show_default=True,
    help="Where to write it. An older report is replaced.",
)
@click.option("--against", metavar="OLDER", help="Earlier results, to show what has changed.")
@click.option("--split", metavar="NAME", help="The split to report on.  [default: all]")
@click.option(
    "--model", metavar="NAME", help="Of several models, the one to report on.  [default: all]"
)
@click.option("--force", is_flag=True, help="Replace a file that is no report, too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(
    result: str,
    output: str,
    against: str | None,
    split: str | None,
    model: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write a report of a run: one HTML file that needs no network.

    RESULT is the folder of a run, of one of its outputs, or of an artifact, also of TFX's
    BulkInferrer. The report is written into the current folder, unless --output says otherwise:
    results stay as their run has left them.
    """
    from bulk_inferencer import _files, reports, results
    from bulk_inferencer._signals import ended_by_sigterm
    from bulk_inferencer.cli import cells, targets, terminal
    from bulk_inferencer.results.amounts import in_bytes

    found = results.read(result, split=split, model=model)
    older = _older(against, found, split) if against else None
    target = _files.as_path("--output", output)
    if not targets.is_report(target):
        targets.check_free(target, force)
    with ended_by_sigterm():
        reports.write(found, target, older)
    size = targets.size_of(target)
    if as_json:
        terminal.write_json({"file": target, "bytes": size})
    else:
        click.echo(f"Wrote {cells.one_line(target)} ({in_bytes(size)}). Open it in a browser.")


def _older(folder: str, results: Results, split: str | None) -> Results:
    """Returns earlier results: of the same split, and of several models the one reported on."""
    from bulk_inferencer.results import read

    older = read(folder, split=split)
    is_one = len(results.models) == 1 and len(older.models) > 1
    return read(folder, split=split, model=results.models[0]) if is_one else older
