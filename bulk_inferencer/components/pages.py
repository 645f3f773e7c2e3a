"""What an execution leaves for people, and for TFDV, beside its summary."""

from __future__ import annotations

import logging
import posixpath

from bulk_inferencer._layout import REPORT_FILE
from bulk_inferencer.results.places import Place
from bulk_inferencer.results.run_results import Results, read, read_place
from bulk_inferencer.results.statistics import Statistics
from bulk_inferencer.results.tfdv_statistics import write_tfdv

_logger = logging.getLogger(__name__)


def write_pages(place: Place, has_report: bool, baseline: str) -> None:
    """Writes `stats.tfrecord` and, if asked for, `report.html` into the folder of the summary.

    The results are committed already. What cannot be written is no reason to lose them: the log
    says why.

    Args:
      place: where the results are.
      has_report: whether there is to be a report.
      baseline: the folder of earlier results to set beside them; empty for none.
    """
    folder = place.summary_folder
    try:
        if statistics := Statistics.read_if_any(folder):
            write_tfdv(statistics, folder)
    except Exception:
        _logger.warning("The statistics for TFDV could not be written.", exc_info=True)
    if not has_report:
        return
    path = posixpath.join(folder, REPORT_FILE)
    try:
        _write_report(read_place(place), path, baseline)
    except Exception:
        _logger.warning(
            "The results are complete, but their report %s could not be written. Set "
            "DataSpec.report to false to do without it.",
            path,
            exc_info=True,
        )


def _write_report(results: Results, path: str, baseline: str) -> None:
    from bulk_inferencer import reports  # and the library that plots, which takes a while

    reports.write(results, path, against=read(baseline) if baseline else None)
