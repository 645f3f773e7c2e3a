"""`predict` on the command line."""

from __future__ import annotations

import json

import pytest

from bulk_inferencer import results
from tests.cli.conftest import NEXT, ROWS
from tests.helpers import tree

SAYS = "The blessing in eval says that the model is"


def test_model_and_table_become_results(here, call):
    code, out, err = call("predict", "own_models:times_five", "data.parquet", "-o", "out")
    first, *others = out.splitlines()
    assert code == 0
    assert first.startswith("1,000 records: 1,000 predicted, 0 failed, in ")
    assert others == NEXT
    assert err == "Scoring data.parquet with own_models:times_five.\n"
    assert results.read("out").to_arrow().column_names == ["id", "x", "name", "y"]


def test_same_call_again_says_that_the_results_are_there(here, call, call_json):
    command = ("predict", "own_models:times_five", "data.parquet", "-o", "out")
    assert call_json(*command, "--json")["state"] == "done"
    before = tree(here / "out")
    code, out, err = call(*command)
    assert (code, out.splitlines()[0]) == (0, "1,000 records: 1,000 predicted, 0 failed.")
    assert err.endswith("The results of this job are in out/summary already. Nothing was scored.\n")
    assert call_json(*command, "--json", "--quiet")["state"] == "done before"
    assert tree(here / "out") == before


def test_options_become_settings(here, call_json):
    document = call_json(
        *("predict", "own_models:times_five", "--split", "a=data.parquet", "--split"),
        *("b=data.parquet", "-o", "out", "--columns", "x", "--keep", "id", "--table", "csv"),
        *("--prediction-logs", "--compression", "none", "--max-records", "50", "--json"),
        *("--", "--direct_num_workers=1"),
    )
    assert document["results"] == "out"
    assert list(document["splits"]) == ["a", "b"]
    assert document["work"]["batch_records"]["max"] == 50
    assert document["total"]["predictions_written"] == 2 * ROWS
    assert results.read("out/prediction_table").schema.names == ["split", "id", "y"]
    assert all(path.name.endswith("-of-00001") for path in here.glob("out/inference_result/*"))


@pytest.mark.parametrize(("keep", "names"), [("", ["y"]), ("id,x", ["id", "x", "y"])])
def test_columns_that_stand_beside_predictions_are_named_with_commas(here, call, keep, names):
    call("predict", "own_models:times_five", "data.parquet", "-o", "out", f"--keep={keep}")
    assert results.read("out").to_arrow().column_names == names


def test_failures_are_told_by_reason(here, call):
    code, out, _ = call(
        *("predict", "own_models:picky", "data.parquet", "-o", "out", "--max-failed-fraction", "1")
    )
    assert code == 0
    assert out.splitlines()[1:4] == [
        "Failed:",
        "  10  ValueError: x is too small",
        "  All of them: bulk-inferencer show out --failed",
    ]


def test_too_many_failures_fail_the_run_and_leave_nothing(here, call):
    command = ("predict", "own_models:picky", "data.parquet", "-o", "out", "--max-failed", "3")
    code, out, err = call(*command)
    assert (code, out, tree(here / "out")) == (1, "", [])
    _, error, *failures, cure = err.splitlines()
    assert error == (
        "Error: 4 of 4 records failed in split 'inputs'. The rest was not scored. Allowed are at "
        "most 1.00% and at most 3. The first failures:"
    )
    assert len(failures) == 3
    assert cure == (
        "Fix the records or the model, or raise --max-failed-fraction or --max-failed to keep the "
        "failures apart."
    )


def test_error_that_nobody_expected_is_two_lines_and_a_traceback_only_for_debugging(here, call):
    command = ("predict", "own_models:broken", "data.parquet", "-o", "out")
    code, _, err = call(*command)
    assert code == 1
    assert err.splitlines()[1:] == [
        "Error: own_models.broken.<locals>.Broken: as nobody expected [while running 'RunUnit']",
        "This was not expected. --debug shows where it comes from.",
    ]
    assert "Traceback (most recent call last)" in call(*command, "--debug")[2]


def test_what_a_model_prints_does_not_mix_with_results(here, call):
    code, out, err = call(
        *("predict", "own_models:talkative", "data.parquet", "-o", "out", "--json", "--quiet")
    )
    assert (code, json.loads(out)["state"]) == (0, "done")
    assert set(err.splitlines()) == {"the model prints"}


@pytest.mark.parametrize(
    ("markers", "code", "reason"),
    [
        (["BLESSED"], 0, f"Gate: blessed. {SAYS} blessed."),
        (["INFRA_BLESSED"], 0, f"Gate: blessed. {SAYS} blessed."),
        (["NOT_BLESSED"], 3, f"{SAYS} not blessed."),
        (["BLESSED", "INFRA_NOT_BLESSED"], 3, f"{SAYS} not blessed."),
        ([], 3, (
            "The blessing in eval does not say whether the model is blessed: there is neither "
            "BLESSED nor NOT_BLESSED nor INFRA_BLESSED nor INFRA_NOT_BLESSED. Check the component "
            "that wrote it; an Evaluator without thresholds validates nothing.")),
    ],
)  # fmt: skip
def test_blessing_decides_whether_a_model_scores(here, call, markers, code, reason):
    (here / "eval").mkdir()
    for marker in markers:
        (here / "eval" / marker).touch()
    command = (
        "predict",
        "own_models:times_five",
        "data.parquet",
        "-o",
        "out",
        "--blessing",
        "eval",
    )
    found, out, err = call(*command)
    assert (found, out.splitlines()[1]) == (code, reason)
    assert (here / "out").exists() == (code == 0)
    if code:
        assert out.splitlines()[0] == (
            "Nothing was scored: the gate refused own_models:times_five."
        )
        _, out, err = call(*command, "--json", "--quiet")
        assert json.loads(out) == {"state": "refused", "gate": "not_blessed", "gate_reason": reason}
        assert err.splitlines()[1] == reason


def test_predictions_that_are_not_as_expected_have_an_exit_code(here, call):
    (here / "expected.yaml").write_text("outputs: {y: {minimum: 0, max_mean: 3}}")
    command = ("predict", "own_models:times_five", "data.parquet", "-o", "out")
    command = (*command, "--expectations", "expected.yaml")
    code, out, err = call(*command)
    assert code == 4
    assert out.splitlines()[1:3] == [
        "1 of 3 expectations is not met:",
        "  The mean of 'y' should be at most 3, but is 249.75.",
    ]
    assert "expectation" not in err
    code, out, err = call(*command, "--json")
    assert (code, json.loads(out)["state"]) == (4, "not as expected")
    (here / "expected.yaml").write_text("outputs: {y: {minimum: 0}}")
    code, out, _ = call(*command)
    assert (code, out.splitlines()[1]) == (0, "The predictions meet all 2 expectations.")


def test_drift_that_was_not_checked_is_told(here, call):
    (here / "expected.yaml").write_text("outputs: {y: {minimum: 0, max_drift: 0.1}}")
    command = ("predict", "own_models:times_five", "data.parquet", "-o", "out")
    code, out, _ = call(*command, "--expectations", "expected.yaml")
    assert code == 0
    assert out.splitlines()[1:3] == [
        "The predictions meet all 2 expectations that were checked.",
        (
            "The drift of 'y' from the baseline was not checked: there is no baseline. --baseline "
            "FOLDER names earlier results."
        ),
    ]


def test_expectations_of_named_models_are_refused(here, call):
    (here / "expected.yaml").write_text("five: {outputs: {y: {minimum: 0}}}")
    command = ("predict", "own_models:times_five", "data.parquet", "-o", "out")
    code, _, err = call(*command, "--expectations", "expected.yaml")
    assert (code, (here / "out").exists()) == (2, False)
    assert err.splitlines()[1] == (
        "Error: expected.yaml has expectations by the names of several models, but here is one "
        "without a name. Write the fields, such as outputs, at the top of the file."
    )


def test_trial_shows_rows_and_what_the_whole_would_take_and_keeps_nothing(here, call):
    before = set(here.iterdir())
    code, out, _ = call("predict", "own_models:picky", "data.parquet", "--limit", "100")
    assert (code, set(here.iterdir()) - {here / "__pycache__"}) == (0, before)
    lines = out.splitlines()
    assert lines[0].split() == ["id", "x", "name", "y"]
    assert lines[1].split() == ["10", "1.0", "n10", "5.0"]
    assert lines[6].startswith("100 records: 90 predicted, 10 failed, in ")
    assert lines[7:9] == ["Failed:", "  10  ValueError: x is too small"]
    assert lines[9].startswith("All of them are about ")
    (warning,) = lines[10:]
    assert warning == (
        "That is more than 1.00%, so the run would end without results. Correct the records or the "
        "model, or raise --max-failed-fraction."
    )


def test_trial_of_all_records_says_so(here, call, call_json):
    command = ("predict", "own_models:times_five", "data.parquet", "--limit", "5000")
    assert "These were all records." in call(*command, "-o", "trial")[1].splitlines()
    trial = call_json(*command, "--json")["trial"]
    assert (trial["records"], trial["failed"], trial["is_all"]) == (ROWS, 0, True)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "There is no folder for the results. Name one with --output, or try --limit 1000."),
        (["-o", "out", "--split", "a=b"],
         "There are both INPUTS and --split. Name all files with --split."),
        (["-o", "out", "--table", "none", "--keep", "id"],
         "--keep is about a table, but there is none. Leave it out."),
        (["-o", "out", "--table", "none", "--no-prediction-logs"], (
            "With --table none and --no-prediction-logs, nothing would be written. Leave one "
            "out.")),
        (["-o", "out", "--max-damaged-files", "3"],
         "--max-damaged-files needs --skip-damaged-files beside it."),
        (["-o", "out", "--tag", "serve"], (
            "--tag has no meaning for own_models:times_five, which is a function that loads a "
            "model. Leave it out.")),
        (["-o", "out", "--blessing", "nowhere"],
         "There is no folder nowhere with a blessing. Correct the path."),
        (["-o", "out", "--max-failed-fraction", "2"],
         "--max-failed-fraction must be a number from 0 to 1, not 2.0. One percent is 0.01."),
        (["-o", "out", "--", "--keep", "id"],
         "Beam's local runner has no option --keep. Correct it, or leave it out."),
        (["-o", "out", "--", "id"],
         "Beam's local runner has no option id. Correct it, or leave it out."),
        (["-o", "out", "--", "--direct_num_workers=x"], (
            "Beam cannot take its options: argument --direct_num_workers: invalid int value: 'x'. "
            "Correct them.")),
        (["-o", "out", "--", "--runner=DataflowRunner"], (
            "Beam cannot take its options: Pipeline has validations errors: Missing GCS path "
            "option: temp_location. Missing GCS path option: staging_location. Missing required "
            "option: project. Missing required option: region. Correct them.")),
        (["-o", "out", "--", "--runner=a.b.Runner"], (
            "Beam has no runner 'a.b.Runner' here: No module named 'a'. Correct its option "
            "--runner.")),
    ],
)  # fmt: skip
def test_wrong_usage_has_an_exit_code_and_a_cure(here, call, args, message):
    code, out, err = call("predict", "own_models:times_five", "data.parquet", *args)
    assert (code, out, err.splitlines()[-1]) == (2, "", f"Error: {message}")
    assert not (here / "out").exists()


def test_cures_are_in_the_words_of_the_command_line(here, call):
    command = ("predict", "own_models:times_five", "data.parquet", "-o", "out", "--columns", "nam")
    code, _, err = call(*command)
    assert code == 1
    assert err.splitlines()[1] == (
        "Error: The inputs have no column 'nam'; they have id, x, name. Did you mean 'name'? "
        "Correct the option that names it."
    )
