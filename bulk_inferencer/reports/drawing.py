"""Draws plots with Bokeh.

Colours are names of variables of `page.css`, which the page puts in for its theme: the tag
`fill_color=series-1` of a model says that the variable `--series-1` is its `fill_color`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bulk_inferencer.reports import words
from bulk_inferencer.reports.plots import (
    Classes,
    Distribution,
    Funnel,
    Intervals,
    Plot,
    Steps,
)
from bulk_inferencer.results.amounts import duration, share

# As many as `page.css` has.
SERIES = 6
_DISTRIBUTION_HEIGHT = 300
_STEPS_HEIGHT = 190
_ROW_HEIGHT = 24
_LONGEST_LABEL = 22
# Rules of `page.css` do not reach into a plot, but its variables do.
_FONT = "Inter, system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', Arial, sans-serif"
_TIP = "font: 13px/1.45 var(--sans); color: var(--tip); max-width: 300px"


def script() -> str:
    """Returns the JavaScript that draws plots in a page."""
    from bokeh.resources import Resources

    return str(Resources(mode="inline", components=["bokeh"]).js_raw[0])


def drawn(plot: Plot) -> tuple[dict[str, Any], int]:
    """Returns a plot as JSON for `Bokeh.embed.embed_item`, and its height in pixels."""
    from bokeh.embed import json_item

    draw: dict[type, Callable[[Any], Any]] = {
        Distribution: _distribution,
        Classes: _classes,
        Steps: _steps,
        Intervals: _intervals,
        Funnel: _funnel,
    }
    figure = draw[type(plot)](plot)
    return dict(json_item(figure)), figure.height


# One function for each kind of plot


def _distribution(plot: Distribution) -> Any:
    figure = _figure(_DISTRIBUTION_HEIGHT)
    is_alone = len(plot.series) == 1
    heights = [own.counts if is_alone else own.counts / max(1, own.total) for own in plot.series]
    top = max(float(own.max(initial=0)) for own in heights) * 1.06 or 1
    for i, (series, own) in enumerate(zip(plot.series, heights, strict=True)):
        _bars(figure, series.edges, own, i, 0.9 if is_alone else 0.22)
        if not is_alone:
            # Where series are alike, the first ones show behind the last one.
            _outline(figure, series.edges, own, i, 2 + 1.5 * (len(heights) - 1 - i))
    edges = plot.series[0].edges
    texts = [[_count(round(float(n)), own.total) for n in own.counts] for own in plot.series]
    under = figure.quad(left=edges[:-1], right=edges[1:], bottom=0, top=top)
    _hover(figure, under, _spans([words.number(float(edge)) for edge in edges]), plot.names, texts)
    figure.y_range.start, figure.y_range.end = 0, top
    _format_ticks(figure.yaxis, "0,0" if is_alone else "0.[00] %")
    return figure


def _classes(plot: Classes) -> Any:
    count = len(plot.names)
    figure = _rows(plot.classes, max(1.0, 0.62 * count))
    width = 0.72 / count
    rows = np.arange(len(plot.classes))
    longest = 0.0
    for i, (counts, total) in enumerate(zip(plot.counts, plot.totals, strict=True)):
        shares = np.array(counts) / max(1, total)
        longest = max(longest, float(shares.max()))
        y = rows - 0.36 + (i + 0.5) * width
        bars = figure.hbar(y=y, height=width * 0.9, right=shares, line_alpha=0)
        _paint(bars.glyph, fill_color=series_variable(i))
    texts = [
        [_count(own, total) for own in counts]
        for counts, total in zip(plot.counts, plot.totals, strict=True)
    ]
    under = figure.hbar(y=rows, height=1, right=longest)
    _hover(figure, under, plot.classes, plot.names, texts)
    figure.xaxis.axis_label = "Share of records"
    figure.x_range.start = 0
    _format_ticks(figure.xaxis, "0.[0] %")
    return figure


def _steps(plot: Steps) -> Any:
    figure = _figure(_STEPS_HEIGHT)
    figure.min_border_left = 64  # so that plots below each other have the same axis
    _bars(figure, plot.edges, plot.values, 0, 0.9)
    top = float(np.nanmax(plot.values, initial=0)) * 1.08 or 1
    texts = [f"{words.number(float(own))} {plot.unit}" for own in plot.values]
    under = figure.quad(left=plot.edges[:-1], right=plot.edges[1:], bottom=0, top=top)
    spans = _spans([duration(float(edge)) for edge in plot.edges])
    _hover(figure, under, spans, ("",), [texts])
    figure.xaxis.axis_label = "Seconds since the start"
    figure.y_range.start, figure.y_range.end = 0, top
    _format_ticks(figure.yaxis, "0,0.[00]")
    return figure


def _intervals(plot: Intervals) -> Any:
    figure = _rows(plot.rows)
    y = np.arange(len(plot.rows))
    lows, highs = np.array(plot.lows), np.array(plot.highs)
    lines = figure.segment(lows, y, highs, y, line_width=3, line_cap="round")
    dots = figure.scatter(np.array(plot.means), y, size=11)
    _paint(lines.glyph, line_color=series_variable(0))
    _paint(dots.glyph, fill_color=series_variable(0), line_color=series_variable(0))
    ends = np.array([*plot.means, *plot.lows, *plot.highs])
    if np.isfinite(ends).any():
        under = figure.hbar(y=y, height=1, left=np.nanmin(ends), right=np.nanmax(ends))
        texts = [
            words.number(mean)
            + (f" ({words.number(low)} to {words.number(high)})" if low == low else "")
            for mean, low, high in zip(plot.means, plot.lows, plot.highs, strict=True)
        ]
        _hover(figure, under, plot.rows, ("",), [texts])
    figure.xaxis.axis_label = plot.label
    return figure


def _funnel(plot: Funnel) -> Any:
    figure = _rows(plot.stages, 1.4)
    y = np.arange(len(plot.stages))
    exited, escalated = np.array(plot.exited), np.array(plot.escalated)
    for i, (left, right) in enumerate([(0 * exited, exited), (exited, exited + escalated)]):
        bars = figure.hbar(y=y, left=left, right=right, height=0.6, line_alpha=0)
        _paint(bars.glyph, fill_color=series_variable(i))
    under = figure.hbar(y=y, height=1, right=int((exited + escalated).max()))
    texts = [[words.number(int(n)) for n in counts] for counts in (plot.exited, plot.escalated)]
    _hover(figure, under, plot.stages, plot.names, texts)
    figure.xaxis.axis_label = "Records"
    figure.x_range.start = 0
    _format_ticks(figure.xaxis, "0,0")
    return figure


def _bars(figure: Any, edges: np.ndarray, heights: np.ndarray, index: int, alpha: float) -> None:
    bars = figure.quad(
        left=edges[:-1], right=edges[1:], bottom=0, top=heights, fill_alpha=alpha, line_alpha=0
    )
    _paint(bars.glyph, fill_color=series_variable(index))


def _outline(
    figure: Any, edges: np.ndarray, heights: np.ndarray, index: int, line_width: float
) -> None:
    y = np.concatenate([[0], np.repeat(heights, 2), [0]])
    line = figure.line(np.repeat(edges, 2), y, line_width=line_width)
    _paint(line.glyph, line_color=series_variable(index))


def _spans(ends: Sequence[str]) -> list[str]:
    return [f"{a} to {b}" for a, b in itertools.pairwise(ends)]


def _count(count: int, total: int) -> str:
    return f"{count:,} ({share(count, total)})"


# What all plots have in common


def _figure(height: int) -> Any:
    from bokeh.plotting import figure

    made: Any = figure(
        height=height,
        sizing_mode="stretch_width",
        min_width=200,
        toolbar_location=None,
        tools="",
        background_fill_alpha=0,
        border_fill_alpha=0,
        outline_line_alpha=0,
        min_border_right=12,
    )
    for axis in (made.xaxis, made.yaxis):
        axis.axis_line_alpha = axis.minor_tick_line_alpha = 0
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_font = axis.major_label_text_font = _FONT
        axis.axis_label_text_font_size = axis.major_label_text_font_size = "12px"
        axis.major_tick_in = 0
        axis.major_tick_out = 4
        for own in axis:
            own.ticker.desired_num_ticks = 5
            _paint(
                own,
                axis_label_text_color="quiet",
                major_label_text_color="quiet",
                major_tick_line_color="line",
            )
    for grid in made.grid:
        _paint(grid, grid_line_color="line")
    made.xgrid.grid_line_alpha = 0
    return made


def _rows(names: Sequence[str], rows_per_name: float = 1.0) -> Any:
    """Returns a figure with a row per name, the first one on top."""
    from bokeh.models import FixedTicker, PlainText, Range1d

    figure = _figure(round(70 + _ROW_HEIGHT * max(2, len(names)) * rows_per_name))
    figure.y_range = Range1d(start=len(names) - 0.5, end=-0.5)
    figure.yaxis.ticker = FixedTicker(ticks=list(range(len(names))), minor_ticks=[])
    # As text, `$$` would begin a formula, which Bokeh fetches MathJax for.
    figure.yaxis.major_label_overrides = {
        i: PlainText(text=words.clean(name, _LONGEST_LABEL)) for i, name in enumerate(names)
    }
    figure.yaxis.major_tick_line_alpha = figure.ygrid.grid_line_alpha = 0
    figure.xgrid.grid_line_alpha = 1
    return figure


def _hover(
    figure: Any,
    under: Any,
    where: Sequence[str],
    names: Sequence[str],
    texts: Sequence[Sequence[str]],
) -> None:
    """Shows texts where the pointer is.

    Args:
      figure: the figure.
      under: a shape for each of several places, large enough to be hit, which will not be seen.
      where: what each place is.
      names: of the series; an empty one is not shown.
      texts: what there is to say, by series and place.
    """
    from bokeh.models import HoverTool

    for shape in (under.glyph, under.nonselection_glyph, under.muted_glyph):
        shape.fill_alpha = shape.line_alpha = 0
    under.data_source.data["where"] = list(where)
    lines = ["@where"]
    for i, (name, own) in enumerate(zip(names, texts, strict=True)):
        prefix = f"{name}: " if name and len(names) > 1 else ""
        under.data_source.data[f"text{i}"] = [prefix + text for text in own]
        lines.append(f"@text{i}")
    rows = "".join(f"<div>{line}</div>" for line in lines)
    tooltips = f'<div class="tip" style="{_TIP}">{rows}</div>'
    figure.add_tools(HoverTool(renderers=[under], tooltips=tooltips, point_policy="follow_mouse"))


def _format_ticks(axis: Any, pattern: str) -> None:
    from bokeh.models import NumeralTickFormatter

    axis.formatter = NumeralTickFormatter(format=pattern)
    if "." not in pattern:  # Of few records, ticks between whole numbers would all read 0 or 1.
        for own in axis:
            own.ticker.min_interval = 1


def series_variable(index: int) -> str:
    """Returns the variable of `page.css` that is the colour of a series, by its number."""
    return f"series-{index % SERIES + 1}"


def _paint(model: Any, **variables: str) -> None:
    model.tags = [f"{name}={variable}" for name, variable in variables.items()]
