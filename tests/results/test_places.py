from __future__ import annotations

from types import SimpleNamespace

import pytest

from bulk_inferencer._gate import UNASKED
from bulk_inferencer.errors import InputError, SettingsError
from bulk_inferencer.results.places import find_place, folder_of
from bulk_inferencer.results.summary import BranchSummary, Counts, Summary
from tests.helpers import exactly, in_bucket

NAMES = ("five", "ten")
LOGS = "prediction_logs-s-00000-of-00001.gz"
TABLE = "predictions-s-00000-of-00001.parquet"


def results_in(folder, execution="", models=("inference_result",), table=True):
    """Makes the folders of a run's results, as TFX names them where there is an execution."""
    counts = {"s": Counts(1, 1, 0, 1, 0)}
    summary = Summary(dict.fromkeys(models, BranchSummary(counts, UNASKED, "model")))
    summary.write(str(folder / "summary" / execution))
    for name, file in [*((m, LOGS) for m in models), *([("prediction_table", TABLE)] * table)]:
        (folder / name / execution).mkdir(parents=True)
        (folder / name / execution / file).touch()
    return folder


@pytest.mark.parametrize("execution", ["", "7"], ids=["run", "TFX"])
@pytest.mark.parametrize("at", [str, in_bucket], ids=["disk", "bucket"])
def test_results_are_found_from_any_of_their_folders(tmp_path, execution, at):
    results_in(tmp_path, execution, NAMES)

    def folder(name):
        return at(f"{tmp_path}/{name}/{execution}".rstrip("/"))

    whole = find_place(folder("summary"))
    assert whole.logs == {name: folder(name) for name in NAMES}
    assert (whole.table, whole.summary_folder) == (folder("prediction_table"), folder("summary"))
    assert list(whole.summary.branches) == [*NAMES]
    assert (whole.model, whole.is_table) == ("", False)
    if not execution:
        assert find_place(at(str(tmp_path))) == whole
    table = find_place(folder("prediction_table") + "/")
    assert (table.is_table, table.logs, table.model) == (True, whole.logs, "")
    ten = find_place(folder("ten"))
    assert (ten.model, ten.logs, ten.table) == ("ten", {"ten": folder("ten")}, None)


def test_output_that_is_empty_stands_for_its_model_and_the_table_beside(tmp_path):
    results_in(tmp_path)
    (tmp_path / "inference_result" / LOGS).unlink()
    found = find_place(str(tmp_path / "inference_result"))
    assert found.model == "inference_result"
    assert found.table == str(tmp_path / "prediction_table")


def test_folder_without_a_summary_is_read_for_what_is_in_it(tmp_path):
    results_in(tmp_path)
    (tmp_path / "summary/summary.json").unlink()
    for folder in (tmp_path, tmp_path / "inference_result"):
        logs = {"inference_result": str(tmp_path / "inference_result")}
        assert (find_place(str(folder)).logs, find_place(str(folder)).summary) == (logs, None)
    assert find_place(str(tmp_path / "prediction_table")).logs == {}


def test_folders_without_results_are_errors_that_say_where_there_are_some(tmp_path):
    results_in(tmp_path / "component", "7")
    results_in(tmp_path / "component", "9")
    results_in(tmp_path / "run")
    (tmp_path / "run/failed_examples").mkdir()
    hint = (
        "Check the folder and the split. A model that was not blessed leaves no predictions; its "
        "summary.json says so."
    )
    for name, message in (
        ("none", "There are no predictions in {}. There is no such folder."),
        ("run/failed_examples", f"There are no predictions in {{}}. {hint}"),
        (
            "component",
            "{} holds the results of 2 executions. Name one, such as {}/summary/9.",
        ),
    ):
        folder = str(tmp_path / name)
        with pytest.raises(InputError, match=exactly(message.format(folder, folder))):
            find_place(folder)


@pytest.mark.parametrize("execution", ["", "7"], ids=["run", "TFX"])
def test_run_that_has_not_ended_is_told_from_a_folder_without_results(tmp_path, execution):
    logs, summary = (tmp_path / name / execution for name in ("inference_result", "summary"))
    logs.mkdir(parents=True)
    (summary / ".work").mkdir(parents=True)
    (summary / ".work/job.json").touch()
    for folder in [summary, logs, *([] if execution else [tmp_path])]:
        message = (
            f"The run in {summary if execution else tmp_path} has not ended, so there are no "
            f"predictions yet. If it was stopped, run the same call again. It goes on where it "
            f"stopped."
        )
        with pytest.raises(InputError, match=exactly(message)):
            find_place(str(folder))


def test_folder_that_is_a_dot_is_named_in_full(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = (
        f"There are no predictions in {tmp_path}. Check the folder and the split. A model that was "
        f"not blessed leaves no predictions; its summary.json says so."
    )
    with pytest.raises(InputError, match=exactly(message)):
        find_place(".")


def test_artifacts_lists_and_channels_stand_for_their_folders():
    artifact = SimpleNamespace(uri="/results/7")
    channel = SimpleNamespace(type_name="InferenceResult", get=lambda: [artifact])
    for source in (artifact, [artifact], channel, "/results/7"):
        assert folder_of(source) == "/results/7"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (3, "Results are read from a folder or an artifact, not from 3 of type int."),
        ([], "There is no artifact to read results from. Run what makes it first."),
        (["a", "b"], "Results are read from one artifact, but there are 2. Give one of them."),
        ("", "The folder of results is empty text. Use '.' for this one."),
    ],
)
def test_what_stands_for_no_folder_is_an_error(source, message):
    with pytest.raises(SettingsError, match=exactly(message)):
        folder_of(source)
