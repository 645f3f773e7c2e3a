"""The report of a run: one HTML file that needs no network."""

from __future__ import annotations

import os

from bulk_inferencer import __version__, _files
from bulk_inferencer._access import check_access
from bulk_inferencer.reports import rendering
from bulk_inferencer.reports.parts import Page
from bulk_inferencer.reports.sections import (
    balance,
    cascade,
    comparison,
    earlier,
    expectations,
    failures,
    outputs,
    overview,
    rows,
    run,
    work,
)
from bulk_inferencer.results.run_results import Results


def write(results: Results, path: str | os.PathLike[str], against: Results | None = None) -> None:
    """Writes the report of a run into a file, and replaces it if it exists.

    The file needs no other file and no network. It follows the light or dark theme of its reader.

    ```python
    reports.write(bulk_inferencer.results.read("results"), "report.html")
    ```

    Args:
      results: the run, or the part of it that was read.
      path: a file on any filesystem that Beam can open.
      against: an earlier run, which each output is put beside.

    Raises:
      InputError: a file of the results is missing or damaged.
      SettingsError: the path is no path.
    """
    target = _files.as_path("The path of a report", path)
    check_access([target])
    _files.replace(target, page(results, against).encode())


def page(results: Results, against: Results | None = None) -> str:
    """Returns the report of a run as the text of one HTML page; see `write`."""
    return rendering.html(page_of(results, against))


def page_of(results: Results, against: Results | None = None) -> Page:
    """Returns what the report of a run says."""
    sections = (
        earlier.section(results, against) if against else None,
        expectations.section(results),
        balance.section(results),
        cascade.section(results),
        outputs.section(results, against),
        comparison.differences(results),
        comparison.outcomes(results),
        failures.section(results),
        work.section(results),
        rows.section(results),
        run.section(results),
    )
    footer = f"Written by BulkInferencer {__version__}."
    return overview.page(results, tuple(own for own in sections if own is not None), footer)
