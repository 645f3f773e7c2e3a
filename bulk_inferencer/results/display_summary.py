"""What is shown of a summary: the balance of its counts, gates, stages, expectations and inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from bulk_inferencer._gate import Decision
from bulk_inferencer._layout import names_models
from bulk_inferencer.results.amounts import counted
from bulk_inferencer.results.blocks import Block, Cell, Grid, grid

if TYPE_CHECKING:
    from bulk_inferencer.results.summary import BranchSummary, Counts, Summary

_ALL = "all"
_NO_MODEL = "(no model)"


def heading(
    summary: Summary | None, counts: Counts, unrouted: Mapping[str, int], models: Sequence[str]
) -> str:
    """Returns what a run did, in a line.

    Args:
      summary: the summary; None if there is none.
      counts: those of the models and splits that are read.
      unrouted: records that reached no model, by split.
      models: the models that are read.
    """
    if summary is None:
        return "predictions without a summary"
    branches = {model: summary.branches[model] for model in models}
    failed = counts.examples_failed + sum(unrouted.values())
    parts = [f"{counts.predictions_written:,} predicted", f"{failed:,} failed"]
    gates = {model: _gate_text(branch.gate) for model, branch in branches.items()}
    if not models:
        return ", ".join([*parts, "no models"])
    if len(set(gates.values())) == 1:
        parts.append(f"gate: {gates[models[0]]}")
    else:
        parts.append("gates: " + ", ".join(f"{model} {own}" for model, own in gates.items()))
    if names_models(models):
        parts.append(f"model{'s' if len(models) > 1 else ''}: {', '.join(models)}")
    elif path := branches[models[0]].model_path:
        parts.append(f"model: {path}")
    checked = {model: own.meets_expectations for model, own in branches.items() if own.checks}
    if checked:
        unmet = [model for model, is_met in checked.items() if not is_met]
        whose = f" by {', '.join(unmet)}" if unmet and names_models(models) else ""
        parts.append(f"expectations {'not met' if unmet else 'met'}{whose}")
    return ", ".join(parts)


def title(summary: Summary) -> str:
    """Returns what a run did, in a line."""
    counts = summary.total, summary.unrouted
    return f"Summary: {heading(summary, *counts, list(summary.branches))}"


def blocks(summary: Summary) -> Iterator[Block]:
    """Yields what a run says of itself; times and versions are for its report."""
    yield balance(summary)
    yield _gates(summary)
    yield from _of_each(
        summary,
        ("stage", "records", "= exited", "+ escalated"),
        lambda branch: [
            (name, own.records, own.exited, own.escalated) for name, own in branch.stages.items()
        ],
    )
    yield from _of_each(
        summary,
        ("expectation", "bound", "found", "met"),
        lambda branch: [
            (own.what, own.expected, own.found, "yes" if own.is_met else "NO")
            for own in sorted(branch.checks, key=lambda check: check.is_met)
        ],
    )
    yield from _of_each(
        summary, ("reason of failures", "records"), lambda branch: branch.failures.items()
    )
    yield from _of_each(
        summary,
        ("output", "records with NaN or an infinity"),
        lambda branch: [item for item in branch.not_finite.items() if item[1]],
    )
    if summary.damaged_files:
        yield f"{counted(len(summary.damaged_files), 'input file')} could be read in part only:"
        files = [(own.split, own.file, own.reason) for own in summary.damaged_files]
        yield grid(("split", "file", "reason"), files)
    if summary.reused.units:
        yield (
            f"{counted(summary.reused.examples_read, 'record')} of these had been read by an "
            f"earlier run, which was interrupted."
        )


def _of_each(
    summary: Summary,
    columns: tuple[str, ...],
    rows_of: Callable[[BranchSummary], Iterable[tuple[Cell, ...]]],
) -> Iterator[Grid]:
    """Yields a table of what the models have of something, if any has it."""
    rows = [
        (_named(summary, model), *row)
        for model, branch in summary.branches.items()
        for row in rows_of(branch)
    ]
    if rows:
        yield grid(("model", *columns), rows)


def balance(summary: Summary) -> Grid:
    """Returns the counts by model and split, with sums: read = predicted + failed."""
    rows: list[tuple[Cell, ...]] = []
    for model, branch in summary.branches.items():
        rows += _counted(_named(summary, model), branch.splits)
    unrouted = {split: n for split, n in summary.unrouted.items() if n}
    rows += [(_NO_MODEL, split, n, 0, n) for split, n in unrouted.items()]
    if summary.routing == "split" and len(summary.branches) > 1:
        total, none = summary.total, sum(unrouted.values())
        read, failed = total.examples_read + none, total.examples_failed + none
        rows.append((_ALL, None, read, total.predictions_written, failed))
    return grid(("model", "split", "read", "= predicted", "+ failed"), rows, most=100)


def _counted(model: str | None, splits: Mapping[str, Counts]) -> Iterator[tuple[Cell, ...]]:
    for split, own in splits.items():
        yield model, split, own.examples_read, own.predictions_written, own.examples_failed
    if len(splits) > 1:
        read = sum(own.examples_read for own in splits.values())
        written = sum(own.predictions_written for own in splits.values())
        failed = sum(own.examples_failed for own in splits.values())
        yield model, _ALL, read, written, failed
    if not splits:
        yield model, None, 0, 0, 0


def _gates(summary: Summary) -> Grid:
    rows = [
        (_named(summary, model), _gate_text(own.gate), own.gate.reason, own.model_path or None)
        for model, own in summary.branches.items()
    ]
    return grid(("model", "gate", "why", "path"), rows)


def _named(summary: Summary, model: str) -> str | None:
    """Returns a model's name, if it has one."""
    return model if names_models(summary.branches) else None


def _gate_text(gate: Decision) -> str:
    return gate.verdict if gate.is_open else f"{gate.verdict} (closed)"
