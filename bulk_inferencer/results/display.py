"""Results as a line of text, and as HTML for notebooks."""

from __future__ import annotations

import html as html_escapes
import importlib.util
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from bulk_inferencer._gate import Decision
from bulk_inferencer._layout import names_models
from bulk_inferencer.results.summary import Counts, Summary

ROWS = 10
_LONGEST_TEXT = 50
_MOST_VALUES = 5


def heading(summary: Summary | None, counts: Counts, models: Sequence[str]) -> str:
    """Returns what a run did, in a line."""
    if summary is None:
        return "predictions without a summary"
    branches = {model: summary.branches[model] for model in models}
    failed = counts.examples_failed
    if len(models) == len(summary.branches):
        failed += sum(summary.unrouted.values())
    parts = [f"{counts.predictions_written:,} predicted", f"{failed:,} failed"]
    gates = {model: _gate_text(branch.gate) for model, branch in branches.items()}
    if len(set(gates.values())) == 1:
        parts.append(f"gate: {gates[models[0]]}")
    else:
        parts.append("gates: " + ", ".join(f"{model} {own}" for model, own in gates.items()))
    if names_models(models):
        parts.append(f"model{'s' if len(models) > 1 else ''}: {', '.join(models)}")
    elif path := branches[models[0]].model_path:
        parts.append(f"model: {path}")
    return ", ".join(parts)


def _gate_text(gate: Decision) -> str:
    return gate.verdict if gate.is_open else f"{gate.verdict} (closed)"


def html(title: str, first: pa.Table, count: int | None, reason: str = "") -> str:
    """Returns a title, the first rows and how many there are, and why there are none."""
    rows = f"first {first.num_rows:,} rows" if count is None else _counted(count, "row")
    parts = [f"<p><b>{html_escapes.escape(title)}</b></p>"]
    if reason:
        parts.append(f"<p>{html_escapes.escape(reason)}</p>")
    if first.num_columns:
        parts.append(_table(first))
    parts.append(f"<p>{rows} \N{MULTIPLICATION SIGN} {_counted(first.num_columns, 'column')}</p>")
    return f"<div>{''.join(parts)}</div>"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _table(table: pa.Table) -> str:
    if importlib.util.find_spec("pandas"):
        return str(table.to_pandas().to_html(max_cols=20, border=0, notebook=True))
    return _plain_table(table)


def _plain_table(table: pa.Table) -> str:
    """Returns rows as pandas shows them, without pandas."""
    names = "".join(f"<th>{html_escapes.escape(name)}</th>" for name in table.column_names)
    rows = "".join(
        f"<tr><th>{i}</th>"
        + "".join(f"<td>{html_escapes.escape(_text(value))}</td>" for value in row.values())
        + "</tr>"
        for i, row in enumerate(table.to_pylist())
    )
    return (
        f'<table class="dataframe"><thead><tr style="text-align: right;"><th></th>{names}</tr>'
        f"</thead><tbody>{rows}</tbody></table>"
    )


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        more = ", ..." if len(value) > _MOST_VALUES else ""
        return f"[{', '.join(map(_text, value[:_MOST_VALUES]))}{more}]"
    text = str(value)
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 3]}..."
