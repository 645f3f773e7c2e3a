"""The bar chart of the README."""

from __future__ import annotations

import statistics
from typing import Any
from xml.sax.saxutils import escape

_BARS = (
    ("limit", "TensorFlow alone, which writes nothing", "#9aa5b1"),
    ("bulk_inferencer", "BulkInferencer", "#1a73e8"),
    ("tfx_bulk_inferrer", "TFX BulkInferrer", "#d98c3f"),
    ("run_inference", "RunInference, per record", "#1a73e8"),
    ("tfx_bsl_run_inference", "tfx-bsl RunInference, per record", "#d98c3f"),
    ("beam_run_inference", "Beam RunInference, TFModelHandlerTensor", "#d98c3f"),
)
_TITLE = "Records per second, once a run is under way"
_WIDTH, _ROW, _LEFT, _LONGEST = 860, 34, 340, 400


def draw(races: dict[str, Any], facts: dict[str, str]) -> str:
    """Returns an SVG of the races' rates, in records per second."""
    rates = [
        (label, statistics.median(races[name].steady_rates), color)
        for name, label, color in _BARS
        if name in races
    ]
    largest = max(rate for _, rate, _ in rates)
    height = _ROW * len(rates) + 70
    style = 'font-family="system-ui, sans-serif" fill="#3c4043"'
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
            f'viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="records per second">'
        ),
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<g {style} font-size="14">',
        f'<text x="16" y="26" font-size="16" font-weight="600">{_TITLE}</text>',
    ]
    for i, (label, rate, color) in enumerate(rates):
        y = 46 + i * _ROW
        width = max(1.0, _LONGEST * rate / largest)
        parts += [
            f'<text x="{_LEFT - 12}" y="{y + 16}" text-anchor="end">{escape(label)}</text>',
            f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="22" rx="3" fill="{color}"/>',
            f'<text x="{_LEFT + width + 8:.1f}" y="{y + 16}">{rate:,.0f}</text>',
        ]
    foot = f"Cores: {facts['cores']}; TFX {facts['tfx']}, TensorFlow {facts['tensorflow']}"
    parts += [f'<text x="16" y="{height - 12}" font-size="11">{escape(foot)}</text>', "</g></svg>"]
    return "\n".join(parts) + "\n"
