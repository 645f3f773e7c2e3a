"""What is said of results before their rows: counts, gates and models, in a few lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bulk_inferencer._layout import names_models
from bulk_inferencer.cli.cells import one_line

if TYPE_CHECKING:
    from bulk_inferencer.results import BranchSummary, Results


def heading(results: Results) -> list[str]:
    """Returns what a run did, line by line, without control characters."""
    summary = results.summary
    if summary is None:
        return [one_line(results.name), "No summary: nothing is known of a gate or of failures."]
    lines = [one_line(results.name)]
    if routing := _routing(results):
        lines.append(routing)
    for model in results.models:
        name = f"{model}: " if names_models(summary.branches) else ""
        lines += [one_line(own) for own in _of_model(name, summary.branches[model], results.splits)]
    if unrouted := sum(results.selection.unrouted.values()):
        lines.append(f"{unrouted:,} failed before they reached a model")
    return lines


def _routing(results: Results) -> str:
    assert results.summary
    if not names_models(results.summary.branches):
        return ""
    kind = "an A/B test" if results.summary.routing == "split" else "side by side"
    count = len(results.summary.branches)
    return f"{count} models, {kind}" if count > 1 else ""


def _of_model(name: str, branch: BranchSummary, splits: tuple[str, ...]) -> list[str]:
    gate = branch.gate
    if not gate.is_open:
        return [f"{name}did not run, gate: {gate.verdict}. {gate.reason}"]
    counts = [branch.splits[split] for split in splits if split in branch.splits]
    predicted = sum(own.predictions_written for own in counts)
    failed = sum(own.examples_failed for own in counts)
    read = sum(own.examples_read for own in counts)
    lines = [f"{name}{read:,} read, {predicted:,} predicted, {failed:,} failed"]
    if branch.model_path:
        lines[0] += f" by {branch.model_path}"
    overruled = ", overruled" if gate.is_overruled else ""
    lines.append(f"gate: {gate.verdict}{overruled}. {gate.reason}")
    return lines


def heading_of_json(results: Results) -> dict[str, Any]:
    """Returns what a run did, for JSON."""
    from bulk_inferencer.results.codec import to_json

    summary = results.summary
    models = (
        {
            model: {
                "gate": summary.branches[model].gate.verdict,
                "gate_reason": summary.branches[model].gate.reason,
                "model_path": summary.branches[model].model_path,
                "counts": {
                    split: to_json(counts)
                    for split, counts in summary.branches[model].splits.items()
                    if split in results.splits
                },
            }
            for model in results.models
        }
        if summary
        else {model: {} for model in results.models}
    )
    return {"results": results.name, "models": models, "splits": list(results.splits)}
