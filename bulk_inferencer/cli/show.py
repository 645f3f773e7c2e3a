"""`show`: results as a table, or as one file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bulk_inferencer.cli.options import Names
from bulk_inferencer.results.amounts import counted, in_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from bulk_inferencer.results import Results

_EPILOG = """\b
Examples:
  bulk-inferencer show results
  bulk-inferencer show results --columns id,score -n 100
  bulk-inferencer show results --failed
  bulk-inferencer show results --to predictions.parquet
"""


@click.command(epilog=_EPILOG)
@click.argument("result")
@click.option("-n", "--rows", type=click.IntRange(0), help="How many rows to show.  [default: 20]")
@click.option(
    "--columns",
    type=Names(),
    metavar="NAMES",
    help="The columns to show, with commas between them.",
)
@click.option("--split", metavar="NAME", help="The split to read.  [default: all]")
@click.option("--model", metavar="NAME", help="Of several models, the one to read.  [default: all]")
@click.option("--failed", is_flag=True, help="The records that could not be scored, and why.")
@click.option("--to", metavar="FILE", help="Write all rows to a file: .parquet, .csv or .jsonl.")
@click.option("--force", is_flag=True, help="Replace the file of --to if it exists.")
@click.option("--partial", is_flag=True, help="Read what is there, although files are missing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(result: str, **options: Any) -> None:
    """Show predictions as a table.

    RESULT is the folder of a run, of one of its outputs, or of an artifact, also of TFX's
    BulkInferrer. With --to, everything is written to a file, whole or not at all; one that exists
    stays unless --force is given.
    """
    if options["to"] is not None and options["rows"] is not None:
        raise click.UsageError("--to writes all rows. Leave out -n.")
    if options["force"] and options["to"] is None:
        raise click.UsageError("--force replaces the file of --to. Name the file with --to.")
    from bulk_inferencer import results

    found = results.read(
        result,
        split=options["split"],
        model=options["model"],
        allow_partial=options["partial"],
    )
    if options["to"] is not None:
        _write(found, options)
    elif options["as_json"]:
        _print_json(found, options)
    else:
        _print(found, options)


def _write(results: Results, options: dict[str, Any]) -> None:
    from bulk_inferencer import _files
    from bulk_inferencer._signals import ended_by_sigterm
    from bulk_inferencer.cli import cells, targets, terminal
    from bulk_inferencer.results.export import format_of

    target = _files.as_path("--to", options["to"])
    write = _writer(results, format_of(target), options["failed"])
    targets.check_free(target, options["force"])
    with ended_by_sigterm():
        count = write(target, options["columns"] or None)
    size = targets.size_of(target)
    if options["as_json"]:
        terminal.write_json({"file": target, "rows": count, "bytes": size})
    else:
        rows = counted(count, "row")
        click.echo(f"Wrote {rows} to {cells.one_line(target)} ({in_bytes(size)}).")


def _writer(
    results: Results, table_format: str, of_failures: bool
) -> Callable[[str, list[str] | None], int]:
    from bulk_inferencer._layout import CSV, JSON_LINES, PARQUET
    from bulk_inferencer.results.export import write_file

    def write_failures(target: str, columns: list[str] | None) -> int:
        rows = results.failure_schema, results.failure_tables()
        return write_file(target, table_format, lambda: rows, columns)

    of_rows = {
        PARQUET: results.to_parquet,
        CSV: results.to_csv,
        JSON_LINES: results.to_json_lines,
    }
    return write_failures if of_failures else of_rows[table_format]


def _print_json(results: Results, options: dict[str, Any]) -> None:
    from bulk_inferencer.cli import cells, headings, terminal

    table = _first(results, options)
    rows = "failures" if options["failed"] else "rows"
    columns = {own.name: str(own.type) for own in table.schema}
    document = headings.heading_of_json(results)
    terminal.write_json({**document, "columns": columns, rows: cells.rows_of(table)})


def _print(results: Results, options: dict[str, Any]) -> None:
    from bulk_inferencer.cli import cells, headings, tables, terminal

    table = _first(results, options)  # first of all, since it may fail
    console = terminal.console()
    first, *others = headings.heading(results)
    console.print(first, style="bold", soft_wrap=True)
    for line in others:
        console.print(line, overflow="fold")
    if not table.num_columns or not (table.num_rows or options["rows"] == 0):
        console.print(_nothing(results, options["failed"]))
        return
    console.print()
    left_out = tables.print_table(console, cells.columns_of(table))
    console.print()
    count = _count(results, options["failed"])
    rows = counted(table.num_rows, "row")
    notes = [rows]
    if count is None:
        notes = [f"The first {rows}, unless there are no more; --to FILE writes all of them"]
    elif count > table.num_rows:
        notes = [f"{rows} of {count:,}; -n shows more, and --to FILE writes all of them"]
    if left_out:
        names = ", ".join(left_out[:5]) + (", …" if len(left_out) > 5 else "")
        notes.append(
            f"{counted(len(left_out), 'column')} left out for want of room: {names}; --columns "
            f"chooses"
        )
    for note in notes:
        console.print(f"{note}.", style="dim", overflow="fold")


def _nothing(results: Results, of_failures: bool) -> str:
    if not of_failures:
        return "There are no rows."
    return "No record failed." if results.summary else "Nothing is known of records that failed."


def _count(results: Results, of_failures: bool) -> int | None:
    """Returns how many rows there are, unless it takes reading them to tell."""
    if not of_failures:
        return results.known_length
    if results.summary is None:
        return None
    unrouted = (results.summary.unrouted.get(split, 0) for split in results.splits)
    return results.counts.examples_failed + sum(unrouted)


def _first(results: Results, options: dict[str, Any]) -> pa.Table:
    """Returns the first rows, with the columns that were chosen."""
    import itertools

    import pyarrow as pa

    from bulk_inferencer.results.export import checked_columns

    rows = 20 if options["rows"] is None else options["rows"]
    if options["failed"]:
        parts = itertools.islice(results.failure_tables(max(1, rows)), 1 if rows else 0)
        table = pa.concat_tables([results.failure_schema.empty_table(), *parts])
    else:
        table = results.head(rows)
    if options["columns"]:
        table = table.select(checked_columns(table.column_names, options["columns"]))
    return table
