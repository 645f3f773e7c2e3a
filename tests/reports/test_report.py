"""What the report of each kind of run says."""

from __future__ import annotations

import dataclasses
import re
import shutil

import pytest

from bulk_inferencer import predict, reports, results
from bulk_inferencer.errors import SettingsError
from bulk_inferencer.reports import drawing
from bulk_inferencer.reports.report import page_of
from bulk_inferencer.reports.sections.overview import name_of, records_per_second
from bulk_inferencer.results.summary import Reused
from tests.helpers import exactly
from tests.reports.conftest import KINDS, LIMITS, LONG, NASTY, REASON, model, table
from tests.reports.reading import keys, parsed, parts, plots, section, texts


def test_counts_of_a_single_model_are_reconciled(single):
    page = page_of(single)
    assert [(tile.name, tile.value) for tile in page.tiles[:3]] == [
        *(("Records read", "260"), ("Predicted", "254"), ("Failed", "6"))
    ]
    (table,) = parts(section(page, "balance"), "table")
    assert [row[:4] for row in texts(table)] == [
        *(["train", "200", "196", "4"], ["eval", "60", "58", "2"])
    ]
    assert [cell.text for cell in table.total[:5]] == ["All", "260", "254", "6", "2.3 %"]


def test_every_output_has_its_distribution(single):
    groups = parts(section(page_of(single), "outputs"), "group")
    assert [group.title for group in groups] == ["y", "p", "kind", "is_big", f"<b>&{LONG}"]
    kinds = {g.title: [figure.plot.kind for figure in parts(g, "figure")] for g in groups}
    assert list(kinds.values()) == [
        *(["distribution"], ["distribution", "classes"], ["classes"], ["classes"]),
        ["distribution"],
    ]
    (plot,) = [figure.plot for figure in parts(groups[0], "figure")]
    y = single.statistics.of("inference_result")["y"]
    assert [(own.counts.sum(), own.total) for own in plot.series] == [(y.values, y.values)]
    rows = dict(texts(parts(groups[0], "table")[0]))
    assert (rows["Records"], rows["NaN"], rows["Largest"]) == ("254", "2", "995")
    assert [badge.text for badge in groups[0].badges] == ["0.79 % not finite"]


def test_classes_are_counted(single):
    group = parts(section(page_of(single), "outputs"), "group")[2]
    found = {row[0]: int(row[1]) for row in texts(parts(group, "table")[0])}
    assert sum(found.values()) == 254
    assert set(KINDS[:3]) < set(found)


def test_failures_are_shown_by_reason_with_examples(single, inputs):
    (table,) = parts(section(page_of(single), "failures"), "table")
    ((count, reason, examples),) = texts(table)
    assert (count, reason) == ("6", f"ValueError: x is below 0 {NASTY}")
    assert [own.split(" record ")[1] for own in examples.split("; ")] == ["7", "57", "107"]


def test_first_rows_are_those_of_the_results(single):
    (table,) = parts(section(page_of(single), "rows"), "table")
    first = single.head(10).to_pylist()
    assert [column.title for column in table.columns] == single.schema.names
    assert [row[1] for row in texts(table)] == [row["user"] for row in first]


def test_models_side_by_side_are_compared(branches):
    page = page_of(branches)
    assert (page.kind, page.title) == ("3 models side by side", "Predictions of five, ten and old")
    assert [tile.value for tile in page.tiles[:3]] == ["260", "508", "12"]
    assert [notice.text for notice in page.notices] == [
        f"Model 'old' is not blessed, so it made no predictions. {REASON}"
    ]
    plot = parts(section(page, "outputs"), "figure")[0].plot
    assert plot.names == ("five", "ten")
    assert (plot.series[0].edges == plot.series[1].edges).all()
    first, *details = parts(section(page, "differences"), "table")
    y = branches.comparison.pairs[0].outputs["y"]
    assert texts(first)[0][:4] == ["five and ten", "y", "254", f"{y.agreement:.2%}"[:-1] + " %"]
    (matrix,) = [own for own in details if own.is_matrix and "False" in own.columns[1].title]
    assert sum(int(text) for row in texts(matrix) for text in row[1:]) == 254
    assert "user" in texts(details[0])[0][1]
    badges = [group.badges[0].text for group in parts(section(page, "differences"), "group")]
    big = branches.comparison.pairs[0].outputs["is_big"]
    assert badges[0] == f"mean difference {y.mean_absolute_difference:.5g}"
    assert badges[3] == f"{100 * big.agreement:.1f} % agree"


def test_ab_test_shows_outcomes_with_intervals(ab_test):
    page = page_of(ab_test)
    assert page.kind == "A/B test of 2 models"
    assert [tile.value for tile in page.tiles[:3]] == ["260", "254", "6"]
    (plot,) = [figure.plot for figure in parts(section(page, "outcomes"), "figure")]
    outcomes = ab_test.comparison.outcomes
    assert plot.means == tuple(own.mean for own in outcomes.values())
    assert plot.lows < plot.means < plot.highs
    assert "differences" not in keys(page)


def test_cascade_shows_its_stages(cascade):
    page = page_of(cascade)
    assert (page.kind, page.title) == ("Cascade of 2 stages", "Predictions of small and full")
    (plot,) = [figure.plot for figure in parts(section(page, "stages"), "figure")]
    stages = cascade.summary.branches["inference_result"].stages
    assert plot.exited == tuple(own.exited for own in stages.values())
    assert plot.escalated == tuple(own.escalated for own in stages.values())
    titles = [group.title for group in parts(section(page, "outputs"), "group")]
    assert not any(title.startswith(("small/", "full/")) for title in titles[:5])
    assert all(title.startswith(("small/", "full/")) for title in titles[5:])


@pytest.mark.parametrize(
    ("path", "name"),
    [
        *(("models/five_times", "five_times"), ("models/5", "models/5"), ("C:\\m\\five", "five")),
        *(("a/Trainer/model/5/Format-Serving", "Trainer/model/5"), ("gs://b/five/3/", "five/3")),
        *(("python:package.module:load", "load"), ("python:package.<lambda>", ""), ("5", "")),
        ("first > second", ""),
    ],
)
def test_title_names_the_end_of_the_path_that_tells_models_apart(path, name):
    assert name_of(path) == name


def test_closed_gate_leaves_the_reason(closed):
    page = page_of(closed)
    assert keys(page) == ["run"]
    assert [badge.text for badge in page.badges] == ["not blessed"]
    assert page.notices[0].text == (
        f"The model is not blessed, so it made no predictions. {REASON}"
    )
    assert "<script" not in reports.page(closed)
    assert all(own.facts for own in parts(section(page, "run"), "facts"))


def test_results_without_a_summary_have_a_page(tmp_path):
    own = results.read(_logs_of(tmp_path))
    page = page_of(own)
    assert [(tile.name, tile.value) for tile in page.tiles] == [("Predictions", "196")]
    assert keys(page) == ["outputs", "rows", "run"]


def _logs_of(folder):
    """Returns a folder of PredictionLogs alone, as TFX's BulkInferrer writes them."""
    made = predict(model(0), table(), folder / "out", prediction_logs=True, **LIMITS)
    assert made.counts.predictions_written == 196
    return (folder / "out/inference_result").rename(folder / "logs")


def test_earlier_run_stands_beside(single, earlier):
    page = page_of(single, earlier)
    counts, drifts = parts(section(page, "against"), "table")
    assert texts(counts)[0] == ["Records read", "260", "260"]
    found = [(row[0], float(row[1])) for row in texts(drifts)]
    assert [drift for _, drift in found] == sorted((d for _, d in found), reverse=True)
    assert dict(found)[f"<b>&{LONG}"] == 0 < dict(found)["y"]
    groups = parts(section(page, "outputs"), "group")
    assert [group.title for group in groups] == [name for name, _ in found]
    assert groups[0].badges[0].text == f"drift {found[0][1]:.4g}"
    assert all(f.plot.names == ("this run", "earlier run") for f in parts(groups[0], "figure"))


def test_runs_of_other_models_are_not_compared(branches, single):
    page = page_of(branches, single)
    (text,) = [part.text for part in section(page, "against").parts if part.kind == "text"]
    assert text == "The runs have no model of the same name, so no outputs are compared."
    own, alone = (
        [part.title for part in parts(section(each, "outputs"), "group")]
        for each in (page, page_of(branches))
    )
    assert own == alone != []


def test_rate_leaves_out_records_of_earlier_runs(single, tmp_path):
    folder = shutil.copytree(single.name, tmp_path / "out")
    (folder / "summary/summary.json").unlink()
    resumed = dataclasses.replace(single.summary, reused=Reused(1, 195))
    resumed.write(str(folder / "summary"))
    own = results.read(folder)
    assert records_per_second(own) == pytest.approx(records_per_second(single) / 4)
    assert page_of(own).tiles[-1].remark == "records per second of scoring"


def test_no_speed_without_calls(closed, single):
    assert "speed" not in keys(page_of(closed))
    tables = parts(section(page_of(single), "speed"), "table")
    assert texts(tables[-1])[0][0] == "Records per call"


def test_page_of_one_split_counts_this_split(cascade):
    page = page_of(results.read(cascade.name, split="eval"))
    assert [tile.value for tile in page.tiles[:3]] == ["60", "58", "2"]
    assert section(page, "stages").lead.endswith(" The numbers are those of all splits of the run.")
    whole = "The numbers are those of the whole run, not of this part."
    assert section(page, "speed").lead == whole
    assert "Rate" not in [tile.name for tile in page.tiles]


def test_page_of_one_model_is_about_this_model(branches):
    page = page_of(results.read(branches.name, model="ten"))
    assert page.title == "Predictions of ten"
    assert [tile.value for tile in page.tiles[:3]] == ["260", "254", "6"]
    assert keys(page_of(results.read(branches.name, model="old"))) == ["run"]


def test_report_replaces_what_is_there(single, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    reports.write(single, path)
    assert path.read_text("utf-8").startswith("<!DOCTYPE html>")
    assert [own.name for own in tmp_path.iterdir()] == ["report.html"]


def test_path_must_be_a_path(single):
    message = "The path of a report must be a path, as text or pathlib.Path, not 7 of type int."
    with pytest.raises(SettingsError, match=exactly(message)):
        reports.write(single, 7)


def test_ticks_of_counts_are_whole_numbers(single):
    html = parsed(reports.page(single).replace(drawing.script(), "", 1))
    assert "'min_interval': 1" in str(plots(html))


def test_plots_and_tables_say_what_they_are_of(single):
    page = reports.page(single)
    labels = re.findall(r'role="img" aria-label="(.+?)"', page)
    assert labels[:3] == [
        *("y: Distribution of its values", "p: Distribution of its values"),
        "p: Position of the largest value",
    ]
    assert 'aria-label="Balance: table"' in page
    assert re.findall(r"<th scope=row[^>]*>(.+?)</th>", page)[:3] == ["train", "eval", "All"]
    assert '<th scope="col" class="short"></th>' not in page


def test_page_needs_no_other_file(single):
    html = parsed(reports.page(single))
    assert not {"link", "img", "iframe", "object"} & set(html.tags)
    assert len(html.scripts) == 3
