"""What was run: models, gates, inputs, times and versions."""

from __future__ import annotations

from bulk_inferencer.reports import words
from bulk_inferencer.reports.branches import branches_of, names_models
from bulk_inferencer.reports.parts import (
    Cell,
    Column,
    Fact,
    Facts,
    Group,
    Part,
    Section,
    Table,
    Text,
    Tone,
)
from bulk_inferencer.results.amounts import counted, duration, in_bytes
from bulk_inferencer.results.run_results import Results
from bulk_inferencer.results.summary import BranchSummary, Summary

MOST_MODELS = 12


def section(results: Results) -> Section:
    """Returns the section of what was run."""
    summary = results.summary
    if summary is None:
        what = (
            "The results come without a summary, as TFX's BulkInferrer writes them. They do not "
            "say which model made them, or whether records failed."
        )
        return Section("run", "What was run", (Text(what),))
    parts: list[Part] = [_model(results, name) for name in results.models[:MOST_MODELS]]
    if others := results.models[MOST_MODELS:]:
        parts.append(_others(summary, others))
    if facts := _facts(results, summary):  # A model that was not allowed to run leaves none.
        parts.append(Facts(tuple(facts)))
    return Section("run", "What was run", tuple(parts))


def gate_badge(branch: BranchSummary, name: str = "") -> Cell:
    """Returns what the gate decided about a model, as a badge."""
    of = f"{words.clean(name, 40)}: " if name else ""
    gate = branch.gate
    if gate.is_overruled:
        return Cell(f"{of}not blessed, ran all the same", "warn")
    words_of: dict[str, tuple[str, Tone]] = {
        "blessed": ("blessed", "good"),
        "not_blessed": ("not blessed", "bad"),
        "no_blessing": ("no blessing", "quiet"),
        "no_model": ("no model", "bad"),
    }
    text, tone = words_of[gate.verdict]
    return Cell(of + text, tone)


def _model(results: Results, name: str) -> Part:
    branch = branches_of(results)[name]
    facts = Facts(tuple(_model_facts(branch)))
    if not names_models(results):
        return facts
    return Group(words.clean(name), (facts,), (gate_badge(branch),))


def _model_facts(branch: BranchSummary) -> list[Fact]:
    found = [_fact("Model", branch.model_path, is_code=True)]
    found.append(_fact("Fingerprint", branch.model_fingerprint, is_code=True))
    found.append(_fact("Versions that answered", words.listed(branch.model_versions, 10)))
    found.append(_fact("Signatures", ", ".join(branch.signature_names[:20]), is_code=True))
    verdict = gate_badge(branch).text
    found.append(_fact("Gate", f"{verdict[0].upper()}{verdict[1:]}. {branch.gate.reason}"))
    return [fact for fact in found if fact.value.text]


def _others(summary: Summary, names: tuple[str, ...]) -> Table:
    rows = [
        (Cell(words.clean(name)), gate_badge(summary.branches[name]))
        for name in names[: words.MOST_ROWS]
    ]
    left_out = len(names) - len(rows)
    return Table(
        (Column("Model"), Column("Gate")),
        tuple(rows),
        left_out=words.left_out(left_out, "further model"),
    )


def _facts(results: Results, summary: Summary) -> list[Fact]:
    branches = [summary.branches[name] for name in results.models]
    longest = max(branches, key=lambda own: sum(own.seconds.values()))
    found = [_fact("Splits", words.listed(results.splits, 12))]
    if summary.input_bytes:
        found.append(_fact("Inputs", in_bytes(summary.input_bytes)))
    if summary.routing == "split":
        found.append(_fact("Routing", "Each record went to one of the models."))
    elif len(summary.branches) > 1:
        found.append(_fact("Routing", "Every record went to every model."))
    steps = [f"{name} {duration(own)}" for name, own in longest.seconds.items()]
    if steps:
        total = duration(sum(longest.seconds.values()))
        found.append(_fact("Time", f"{total}: {', '.join(steps)}"))
    if summary.reused.units:
        records = counted(summary.reused.examples_read, "record")
        found.append(_fact("Taken over", f"{records} that an earlier run had scored"))
    versions = [f"{name} {own}" for name, own in longest.versions.items()]
    found.append(_fact("Libraries", ", ".join(versions[:30])))
    return [fact for fact in found if fact.value.text]


def _fact(name: str, text: str, is_code: bool = False) -> Fact:
    return Fact(name, Cell(words.clean(text, 1000)), is_code)
