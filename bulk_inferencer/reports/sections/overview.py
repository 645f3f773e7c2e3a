"""The head of a report: what was run, the verdicts, and the numbers that matter."""

from __future__ import annotations

import math
import re

from bulk_inferencer._gate import NOT_BLESSED
from bulk_inferencer.reports import words
from bulk_inferencer.reports.branches import branches_of, is_whole, names_models
from bulk_inferencer.reports.parts import Cell, Notice, Page, Section, Tile
from bulk_inferencer.reports.sections.expectations import verdict
from bulk_inferencer.reports.sections.run import gate_badge
from bulk_inferencer.results.amounts import counted, duration, in_bytes, share
from bulk_inferencer.results.run_results import Results

_MOST_BADGES = 8
# Folders that are named alike for every model; of these, numbers tell versions apart.
_NO_NAME = re.compile(r"|\d+|model|Format-Serving|Format-TFMA|serving_model_dir|export")


def page(results: Results, sections: tuple[Section, ...], footer: str) -> Page:
    """Returns the page with its head."""
    return Page(
        title=title(results),
        place=words.clean(results.name),
        kind=kind(results),
        badges=_badges(results),
        tiles=_tiles(results),
        notices=_notices(results),
        sections=sections,
        footer=footer,
    )


def title(results: Results) -> str:
    """Returns what the page is about, in a line."""
    if results.summary is None:
        return "Predictions"
    if names_models(results):
        return f"Predictions of {words.listed(results.models, 3)}"
    branch = results.summary.branches[results.models[0]]
    if branch.stages:
        return f"Predictions of {words.listed(list(branch.stages), 3)}"
    name = name_of(branch.model_path)
    return f"Predictions of {words.clean(name, 60)}" if name else "Predictions"


def kind(results: Results) -> str:
    """Returns which kind of run it was."""
    if results.summary is None:
        return "Predictions without a summary"
    branches = results.summary.branches
    if len(branches) > 1:
        models = counted(len(branches), "model")
        is_ab_test = results.summary.routing == "split"
        return f"A/B test of {models}" if is_ab_test else f"{models} side by side"
    if stages := next(iter(branches.values())).stages:
        return f"Cascade of {counted(len(stages), 'stage')}"
    return "Prediction report"


def records_read(results: Results) -> int:
    """Returns how many records were read: one that two models score counts once."""
    if results.summary is None:
        return results.counts.examples_read
    summary = results.summary
    counts = [
        sum(own.examples_read for split, own in branch.splits.items() if split in results.splits)
        for name, branch in summary.branches.items()
        if name in results.models
    ]
    if summary.routing != "split":
        return max(counts, default=0)
    return sum(counts) + sum(results.selection.unrouted.values())


def records_per_second(results: Results) -> float:
    """Returns how many records a whole run scored per second; NaN if that cannot be told.

    Records that it took over from earlier runs do not count: their time is not in its own.
    """
    taken_over = results.summary.reused.examples_read if results.summary else 0
    scored, seconds = records_read(results) - taken_over, _seconds(results, "score")
    return scored / seconds if scored > 0 and seconds else math.nan


def _seconds(results: Results, step: str = "") -> float:
    """Returns how long the run, or a step of it, took: models run side by side."""
    branches = results.summary.branches if results.summary else {}
    if not step:
        return max((sum(own.seconds.values()) for own in branches.values()), default=0.0)
    return max((own.seconds.get(step, 0.0) for own in branches.values()), default=0.0)


def name_of(path: str) -> str:
    """Returns the end of a path that tells one model from another; empty if none does.

    models/five_times  -->  five_times       Trainer/model/5/Format-Serving  -->  Trainer/model/5
    """
    parts = re.split(r"[/\\]", path)
    while parts and _NO_NAME.fullmatch(parts[-1]) and not parts[-1].isdecimal():
        parts.pop()
    named = [i for i, own in enumerate(parts) if not _NO_NAME.fullmatch(own)]
    name = "/".join(parts[named[-1] :]) if named else ""
    if path.startswith("python:"):
        name = name.removeprefix("python:").split(".")[-1].split(":")[-1]
    return "" if "<" in name or " > " in path or ":" in name else name


def _badges(results: Results) -> tuple[Cell, ...]:
    if results.summary is None:
        return ()
    has_names = names_models(results)
    badges = []
    for name, branch in branches_of(results).items():
        own = name if has_names else ""
        badges.append(gate_badge(branch, own))
        if branch.checks:
            badges.append(verdict(branch, own))
    badges.sort(key=lambda badge: ("bad", "warn", "good", "quiet").index(badge.tone))
    if len(badges) > _MOST_BADGES:
        left_out = len(badges) - _MOST_BADGES
        badges = [*badges[:_MOST_BADGES], Cell(f"{left_out:,} more", "quiet")]
    return tuple(badges)


def _tiles(results: Results) -> tuple[Tile, ...]:
    counts = results.counts
    read, predicted = records_read(results), counts.predictions_written
    unrouted = sum(results.selection.unrouted.values())
    failed = counts.examples_failed + unrouted
    splits = counted(len(results.splits), "split") if results.splits else ""
    if results.summary is None:
        return (Tile("Predictions", words.number(predicted), in_bytes(counts.bytes_written)),)
    asked = counts.examples_read + unrouted
    is_one_each = asked == read
    tiles = [
        Tile("Records read", words.number(read), f"in {splits}" if splits else ""),
        Tile(
            "Predicted" if is_one_each else "Predictions",
            words.number(predicted),
            share(predicted, asked) if is_one_each else f"by {_models(results)}",
        ),
        Tile(
            "Failed",
            words.number(failed),
            share(failed, asked),
            "warn" if failed else "",
        ),
    ]
    if seconds := _seconds(results):
        tiles.append(Tile("Time", duration(seconds), "from start to commit"))
    if is_whole(results) and not math.isnan(rate := records_per_second(results)):
        tiles.append(Tile("Rate", words.number(round(rate)), "records per second of scoring"))
    return tuple(tiles)


def _models(results: Results) -> str:
    assert results.summary
    ran = [own for own in results.models if results.summary.branches[own].gate.is_open]
    return counted(len(ran), "model")


def _notices(results: Results) -> tuple[Notice, ...]:
    if results.summary is None:
        return ()
    notices = []
    has_names = names_models(results)
    for name in results.models:
        gate = results.summary.branches[name].gate
        which = f"Model '{words.clean(name, 60)}'" if has_names else "The model"
        reason = words.clean(gate.reason, 1000)
        if not gate.is_open:
            because = "is not blessed, so it " if gate.verdict == NOT_BLESSED else ""
            why = f"{because}made no predictions"
            notices.append(Notice(f"{which} {why}. {reason}", "bad"))
        elif gate.is_overruled:
            notices.append(Notice(f"{which} ran although it is not blessed. {reason}", "warn"))
    return tuple(notices[:_MOST_BADGES])
