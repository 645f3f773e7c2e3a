"""However much there is, the page stays small, and says what it leaves out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bulk_inferencer import predict, reports, results
from bulk_inferencer.reports.bins import distribution
from bulk_inferencer.reports.report import page_of
from bulk_inferencer.results.checks import Check
from bulk_inferencer.results.describe import describe
from bulk_inferencer.results.summary import DamagedFile
from tests.reports.conftest import LIMITS
from tests.reports.reading import parts, section, texts

ROWS = 2600


def wide(features):
    x = features["x"]
    names = np.array([f"class {i:04d} {'x' * 80}" for i in range(ROWS)])
    return {"label": names[x], **{f"y{i:03d}": np.sqrt(x + i) for i in range(140)}}


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """140 outputs of 2,600 classes, in 52 splits."""
    folder = tmp_path_factory.mktemp("large")
    each = ROWS // 52
    splits = {}
    for i in range(52):
        splits[f"split{i:02d}"] = f"{folder}/{i}.parquet"
        pq.write_table(pa.table({"x": range(i * each, (i + 1) * each)}), f"{folder}/{i}.parquet")
    return predict(wide, splits, folder / "out", **LIMITS)


@pytest.mark.slow
def test_page_of_much_is_small_and_says_what_it_leaves_out(large):
    page = page_of(large)
    (balance,) = parts(section(page, "balance"), "table")
    assert (len(balance.rows), balance.left_out) == (50, "2 further rows left out.")
    assert balance.total[2].text == "2,600"
    outputs = parts(section(page, "outputs"), "group")
    assert len(outputs) == 25
    (label,) = [group for group in outputs if group.title == "label"]
    (classes,) = parts(label, "table")
    assert (len(classes.rows), classes.left_out) == (20, "2,580 less frequent classes left out.")
    (lines,) = parts(outputs[-1], "table")
    assert (len(lines.rows), lines.left_out) == (100, "17 further lines left out.")
    (rows,) = parts(section(page, "rows"), "table")
    assert (len(rows.columns), rows.left_out) == (30, "113 columns in the middle left out.")
    assert len(reports.page(large)) < 2_000_000


def changed(results_of, **changes):
    """Returns results whose summary says something else."""
    own = results.read(results_of.name)
    own.summary = dataclasses.replace(own.summary, **changes)
    return own


def test_checks_that_are_not_met_come_first(single):
    checks = tuple(Check(f"mean of 'y{i}'", "at most 5", f"{i}", i != 7) for i in range(300))
    (branch,) = single.summary.branches.values()
    branches = {"inference_result": dataclasses.replace(branch, checks=checks)}
    page = page_of(changed(single, branches=branches))
    assert page.badges[0].text == "misses 1 expectation"
    own = section(page, "expectations")
    assert own.lead == "299 of 300 expectations are met."
    (found,) = own.parts
    assert texts(found)[0] == ["Mean of 'y7'", "at most 5", "7", "not met"]
    assert (len(found.rows), found.left_out) == (200, "100 further expectations left out.")


def test_damaged_files_are_named(single):
    files = tuple(DamagedFile("train", f"in/{i}.gz", "cut short") for i in range(30))
    other = DamagedFile("test", "in/x.gz", "cut short")
    page = page_of(changed(single, damaged_files=(*files, other)))
    found = parts(section(page, "failures"), "table")[-1]
    assert texts(found)[0] == ["train", "in/0.gz", "cut short"]
    assert (len(found.rows), found.left_out) == (20, "10 further files left out.")


def test_far_values_are_left_out_of_the_plot():
    values = np.concatenate([np.linspace(0, 1, 1000), [1e9]])
    plot, outside = distribution(("",), (describe(values),))
    assert outside == 1
    assert plot.series[0].edges[-1] < 2
    assert plot.series[0].counts.sum() == pytest.approx(1000)


@pytest.mark.parametrize(
    "values", [[5.0] * 9, [-1.7e308, 1.7e308], [1e16, 1e16 + 2], [0.0, 5e-324]]
)
def test_values_that_no_bars_lie_between_have_no_plot(values):
    assert distribution(("",), (describe(np.array(values)),)) == (None, 0)


def test_whole_numbers_stand_in_the_midst_of_their_bars():
    plot, outside = distribution(("",), (describe(np.arange(-20, 80)),))
    (series,) = plot.series
    assert (series.edges[0], series.edges[1], outside) == (-20.5, -18.5, 0)
    assert series.counts.tolist() == [2] * 50
