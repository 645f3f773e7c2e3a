"""`compare`: two results side by side, record by record."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from bulk_inferencer.results import JoinedComparison, Results

_EPILOG = """\b
Examples:
  bulk-inferencer compare monday tuesday --key id
  bulk-inferencer compare branches branches --model-a five --model-b ten
  bulk-inferencer compare old new --key user --outcomes purchases.csv
"""


@click.command(epilog=_EPILOG)
@click.argument("a")
@click.argument("b")
@click.option(
    "--key",
    metavar="NAME",
    help="The column that tells records apart.  [default: the whole record]",
)
@click.option(
    "--outcomes",
    metavar="FILE",
    help="A CSV file with the columns key and value: what came of each key.",
)
@click.option("--model-a", metavar="NAME", help="Of several models in A, the one to compare.")
@click.option("--model-b", metavar="NAME", help="Of several models in B, the one to compare.")
@click.option("--split", metavar="NAME", help="The split to compare.  [default: all]")
@click.option(
    "-n",
    "--rows",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    help="How many of the records that differ most to show for each output.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(a: str, b: str, as_json: bool, **options: Any) -> None:
    """Compare two results record by record.

    A and B are folders of runs, of their outputs, or of artifacts, also of TFX's BulkInferrer. It
    prints how far their outputs agree, the differences, a table of classes, and the records that
    differ most. Without --key, a record is compared with the same record of the other result.
    """
    if options["outcomes"] and not options["key"]:
        raise click.UsageError("--outcomes needs --key, the column that holds their keys.")
    from bulk_inferencer import results

    models = (options["model_a"], options["model_b"])
    both = [
        results.read(folder, split=options["split"], model=model)
        for folder, model in zip((a, b), models, strict=True)
    ]
    joined = results.compare_results(
        *both,
        key=options["key"],
        outcomes=options["outcomes"] or "",
        names=names_of((a, b), models),
        most_different=options["rows"],
    )
    if as_json:
        from bulk_inferencer.cli import terminal
        from bulk_inferencer.results.codec import to_json

        folders = {name: own.name for name, own in zip(joined.names, both, strict=True)}
        terminal.write_json({"results": folders, **to_json(joined)})
    else:
        _print(joined, both, options["rows"])


def names_of(folders: tuple[str, str], models: tuple[str | None, str | None]) -> tuple[str, str]:
    """Returns short names that differ: models, or the ends of paths as far as it takes."""
    if all(models) and models[0] != models[1]:
        return str(models[0]), str(models[1])
    parts = [posixpath.normpath(folder).split("/") for folder in folders]
    for count in range(1, max(map(len, parts)) + 1):
        a, b = ("/".join(own[-count:]) for own in parts)
        if a != b:
            return a, b
    return (f"{folders[0]} (A)", f"{folders[1]} (B)")


def _print(joined: JoinedComparison, both: list[Results], rows: int) -> None:
    from bulk_inferencer.cli import tables, terminal
    from bulk_inferencer.cli.cells import one_line
    from bulk_inferencer.results import display_joined

    console = terminal.console()
    for name, own in zip(joined.names, both, strict=True):
        line = own.name if name == own.name else f"{name}: {own.name}"
        console.print(one_line(line), style="bold", soft_wrap=True)
    tables.print_blocks(console, display_joined.blocks(joined, rows))
