"""Turns a page into HTML that needs no other file."""

from __future__ import annotations

import functools
from importlib import resources
from typing import Any

from bulk_inferencer.reports import drawing
from bulk_inferencer.reports.parts import Page
from bulk_inferencer.reports.plots import Plot


def html(page: Page) -> str:
    """Returns a page as HTML. All texts of the page are escaped."""
    from markupsafe import Markup

    drawn: dict[str, Any] = {}

    def add_plot(plot: Plot) -> tuple[str, int]:
        key = f"plot-{len(drawn) + 1}"
        drawn[key], height = drawing.drawn(plot)
        return key, height

    return _template().render(
        page=page,
        css=Markup(_file("page.css")),
        js=Markup(_file("page.js")),
        library=lambda: Markup(_script()),
        add_plot=add_plot,
        plots=lambda: drawn,
        series=drawing.series_variable,
    )


@functools.cache
def _template() -> Any:
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    # Bokeh reads what refers to another part after that part.
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}
    return environment.from_string(_file("page.html"))


@functools.cache
def _script() -> str:
    # What ends a script ends it in the midst of a text, too.
    return drawing.script().replace("</script", "<\\/script")


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")
