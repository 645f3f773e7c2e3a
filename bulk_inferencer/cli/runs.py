"""`runs`: the executions of inferencers that ML Metadata has recorded."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from bulk_inferencer.cli.cells import Column
    from bulk_inferencer.components.recorded_results import RecordedResult, RecordedRun

_LONGEST_WHOLE = 32  # characters of a component that are not cut
_EPILOG = """\b
Examples:
  bulk-inferencer runs tfx/metadata.sqlite
  bulk-inferencer runs tfx/metadata.sqlite --pipeline penguins -n 5 --json
"""


@click.command(epilog=_EPILOG)
@click.argument("metadata")
@click.option("--pipeline", metavar="NAME", default="", help="The pipeline.  [default: all]")
@click.option(
    "-n", "--rows", type=click.IntRange(1), default=20, show_default=True, help="How many runs."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(metadata: str, pipeline: str, rows: int, as_json: bool) -> None:
    """List the inferencers' executions in an ML Metadata store.

    METADATA is its SQLite file, which is only read. The newest comes first: when, which component
    of which pipeline, how it ended, and for each model its gate, whether its predictions were as
    expected, counts and results. TFX's BulkInferrer is listed too; it records no gate and no
    counts.
    """
    from bulk_inferencer import _extras

    _extras.require("ml_metadata", "tfx", "The command 'runs'")
    from bulk_inferencer.components.recorded_results import recorded_runs

    runs = recorded_runs(metadata, pipeline, rows)
    if as_json:
        from bulk_inferencer.cli import terminal

        terminal.write_json([_document(run) for run in runs])
    elif runs:
        _print(runs)
    else:
        click.echo("No execution of an inferencer is recorded there.")


def _document(run: RecordedRun) -> dict[str, Any]:
    from bulk_inferencer.results.codec import to_json

    times = {"started": run.started.isoformat(), "ended": run.ended.isoformat()}
    return {**to_json(run), **times}


def _print(runs: list[RecordedRun]) -> None:
    from bulk_inferencer.cli import cells, tables, terminal

    console = terminal.console()
    left_out = tables.print_table(console, _columns(runs))
    if left_out:
        console.print()
        names = ", ".join(left_out)
        console.print(f"There is no room for: {names}. --json has everything.", style="dim")
    newest = next((own for own in runs if own.results), None)
    if newest:
        folder = newest.summary or newest.results[0].uri
        console.print()
        console.print("The predictions of the newest one:", style="dim")
        line = f"  bulk-inferencer show {shlex.quote(folder)}"
        console.print(cells.one_line(line), soft_wrap=True, style="dim")


def _columns(runs: list[RecordedRun]) -> list[Column]:
    """Returns what is shown of runs, with a row for each model of each run."""
    from bulk_inferencer.cli.cells import Column, one_line

    rows: list[tuple[str, ...]] = []
    for run in runs:
        when = run.started.astimezone().strftime("%Y-%m-%d %H:%M")
        start = (when, run.pipeline, run.component, run.state.lower())
        results: list[RecordedResult | None] = list(run.results) or [None]
        for i, result in enumerate(results):
            rows.append((*(start if i == 0 else [""] * len(start)), *_of_result(result)))
    head = (
        "when",
        "pipeline",
        "component",
        "state",
        "gate",
        "expected",
        "predicted",
        "failed",
        "model",
        "where",
    )
    numbers, paths = ("predicted", "failed"), ("model", "where")
    whole = {"when", "state", "gate", "expected"}
    if max(len(run.component) for run in runs) <= _LONGEST_WHOLE:
        whole.add("component")
    # What tells least, where the terminal is narrow.
    least = {"pipeline": 3, "model": 3, "where": 2, "predicted": 1, "failed": 1}
    texts = [[one_line(text) for text in column] for column in zip(*rows, strict=True)]
    return [
        Column(name, column, name in numbers, name in paths, name in whole, least.get(name, 0))
        for name, column in zip(head, texts, strict=True)
    ]


def _of_result(result: RecordedResult | None) -> tuple[str, ...]:
    if result is None:
        return ("", "", "", "", "", "")
    counts = (result.predictions_written, result.examples_failed)
    texts = ("" if count is None else f"{count:,}" for count in counts)
    expected = {None: "", True: "met", False: "not met"}[result.meets_expectations]
    return (result.gate, expected, *texts, result.model, result.uri)
