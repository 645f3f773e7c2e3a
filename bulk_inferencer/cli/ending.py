"""What a person is told at the end of `predict`, and a script as JSON."""

from __future__ import annotations

import json
import posixpath
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from bulk_inferencer.cli import terminal
from bulk_inferencer.results.amounts import about, counted, in_bytes, in_words

if TYPE_CHECKING:
    from bulk_inferencer._gate import Decision
    from bulk_inferencer.cli.estimate import Estimate
    from bulk_inferencer.results import BranchSummary, Results, Summary

# What became of a call, in its JSON.
DONE = "done"
DONE_BEFORE = "done before"
REFUSED = "refused"
NOT_AS_EXPECTED = "not as expected"

_MOST_REASONS = 5
_ENOUGH = 5_000  # records of a trial that tell how long others take
_ROWS = 5


class Teller:
    """Writes what a person reads and what a script reads to where each belongs.

    A person reads stdout; with `as_json`, stdout is for the script and the person reads stderr.
    """

    def __init__(self, quiet: bool, as_json: bool) -> None:
        """Takes whether a person, and a script, wants to be told anything."""
        self.quiet = quiet
        self.as_json = as_json

    def say(self, text: str) -> None:
        """Tells what is going on."""
        if not self.quiet:
            terminal.say(text)

    def show(self, lines: Iterator[str], is_error: bool = False) -> None:
        """Shows a result, or an error, which nobody can want to miss."""
        for line in lines if is_error or not self.quiet else ():
            click.echo(line, err=self.as_json or self.quiet)

    def table(self, rows: Any) -> None:
        """Shows rows of an Arrow table."""
        if not self.quiet:
            from bulk_inferencer.cli import cells, tables

            tables.print_table(terminal.console(stderr=self.as_json), cells.columns_of(rows))

    def hand_over(self, document: dict[str, Any]) -> None:
        """Hands a document to a script."""
        if self.as_json:
            terminal.write_json(document)


# What is told


def refusal(model: str, decision: Decision) -> Iterator[str]:
    """Yields why a model did not score anything."""
    yield f"Nothing was scored: the gate refused {model}."
    yield decision.reason


def next_steps(output: str) -> Iterator[str]:
    """Yields where the results are, and what to type next."""
    yield f"Results: {output}"
    yield f"Next: {_command('show', output)}"
    yield f"      {_command('report', output)}"


def balance(summary: Summary, branch: BranchSummary, seconds: float = 0.0) -> Iterator[str]:
    """Yields the counts and the gate."""
    total = branch.total
    took = f", in {in_words(seconds)}" if seconds else ""
    yield (
        f"{counted(total.examples_read, 'record')}: {total.predictions_written:,} predicted, "
        f"{total.examples_failed:,} failed{took}."
    )
    if len(branch.splits) > 1:
        for split, own in branch.splits.items():
            yield (
                f"  {split}: {counted(own.examples_read, 'record')}, "
                f"{own.predictions_written:,} predicted, {own.examples_failed:,} failed"
            )
    if summary.reused.units:
        yield f"{counted(summary.reused.examples_read, 'record')} were scored by an earlier run."
    if branch.gate.verdict != "no_blessing":
        yield f"Gate: {branch.gate.verdict}. {branch.gate.reason}"


def failures(branch: BranchSummary, output: str = "") -> Iterator[str]:
    """Yields the reasons of failures, the most frequent first, and how to see all of them."""
    if not branch.total.examples_failed:
        return
    yield "Failed:"
    reasons = list(branch.failures.items())
    width = len(f"{max(branch.failures.values(), default=0):,}")
    for reason, count in reasons[:_MOST_REASONS]:
        yield f"  {count:>{width},}  {_one_line(reason)}"
    if len(reasons) > _MOST_REASONS:
        yield f"  {counted(len(reasons) - _MOST_REASONS, 'more reason')}"
    if output:
        yield f"  All of them: {_command('show', output, '--failed')}"


def expectations(branch: BranchSummary) -> Iterator[str]:
    """Yields how many expectations are met, those that are not, and those that were not checked."""
    made = [check for check in branch.checks if check.was_made]
    unmet = [check for check in made if not check.is_met]
    if unmet:
        verb = "is" if len(unmet) == 1 else "are"
        yield f"{len(unmet)} of {counted(len(made), 'expectation')} {verb} not met:"
        for check in unmet:
            yield f"  {_one_line(str(check))}"
    elif made:
        number = "the expectation" if len(made) == 1 else f"all {len(made)} expectations"
        more = "" if len(made) == len(branch.checks) else " that were checked"
        yield f"The predictions meet {number}{more}."
    for check in branch.checks:
        if not check.was_made:
            yield (
                f"The {_one_line(check.what)} was not checked: there is no baseline. "
                f"--baseline FOLDER names earlier results."
            )


def trial(estimate: Estimate | None, max_failed_fraction: float | None) -> Iterator[str]:
    """Yields what the run of all records would take."""
    if max_failed_fraction is None:
        from bulk_inferencer._units.failure_limit import FailureLimit

        max_failed_fraction = FailureLimit().max_fraction
    if estimate is None:
        yield "The trial read no record, so it cannot tell what all of them would take."
        return
    if estimate.is_all:
        yield "These were all records."
        return
    # In a small trial, starting and the first, small batches take most of the time.
    at_most = "at most " if estimate.tried < _ENOUGH else ""
    failing = f"about {about(estimate.failed)}" if estimate.failed else "none"
    yield (
        f"All of them are about {about(estimate.records)} records, in "
        f"{in_bytes(estimate.bytes_read)}. At this rate they take {at_most}about "
        f"{in_words(estimate.seconds)}, the predictions {in_bytes(estimate.bytes_written)}, and "
        f"{failing} of them fail."
    )
    if estimate.failed > max_failed_fraction * estimate.records:
        yield (
            f"That is more than {max_failed_fraction:.2%}, so the run would end without results. "
            f"Correct the records or the model, or raise --max-failed-fraction."
        )


def _command(name: str, *arguments: str) -> str:
    return f"bulk-inferencer {name} {shlex.join(arguments)}"


def _one_line(text: str) -> str:
    return terminal.printable(" ".join(text.split()))


# For scripts


def document(results: Results, output: str, state: str) -> dict[str, Any]:
    """Returns the content of `summary.json`, with what became of the call before it."""
    from bulk_inferencer import _files
    from bulk_inferencer._layout import SUMMARY_FILE

    folder = results.selection.place.summary_folder
    with _files.open_to_read(posixpath.join(folder, SUMMARY_FILE)) as file:
        summary = json.loads(file.read())
    return {"state": state, "results": output or None, **summary}
