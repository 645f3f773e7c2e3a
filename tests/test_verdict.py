"""Runs whose predictions are judged: what the summary and the log say, also the next time."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bulk_inferencer import PythonModel, SavedModel, SplitRouting, predict, run
from bulk_inferencer._gate import NOT_BLESSED, Decision
from bulk_inferencer.errors import InputError, SettingsError
from bulk_inferencer.job import Branch, InferenceJob, Outputs
from bulk_inferencer.results.expectations import Check, Expectations, OutputExpectations
from bulk_inferencer.results.summary import Summary
from tests.helpers import tree

CLOSED = Decision(NOT_BLESSED, "The Evaluator did not bless it.")
OVERRULED = dataclasses.replace(CLOSED, is_overruled=True)
TABLE = pa.table({"x": [1.0, 2.0, 3.0, 4.0]})
ENOUGH = "number of predicted records"


def five(batch):
    return {"y": 5 * batch["x"]}


def ten(batch):
    return {"y": 10 * batch["x"]}


def expect(**bounds):
    return Expectations(outputs={"y": OutputExpectations(**bounds)})


def verdict(results):
    """Returns whether a lone model meets what is expected, and what is not met."""
    branch = results.summary.branches["inference_result"]
    return branch.meets_expectations, [check.what for check in branch.checks if not check.is_met]


def test_summary_says_what_is_met_and_the_log_what_is_not(tmp_path, caplog):
    with caplog.at_level("INFO"):
        results = predict(five, TABLE, tmp_path, expectations=expect(minimum=0, max_mean=12))
    assert verdict(results) == (False, ["mean of 'y'"])
    (_, lowest, _mean) = results.summary.branches["inference_result"].checks
    assert lowest == Check("smallest number of 'y'", "at least 0", "5", True)
    said = "does not meet an expectation. The mean of 'y' should be at most 12, but is 12.5."
    assert [line.endswith(said) for line in caplog.messages].count(True) == 1
    assert results.counts.predictions_written == 4
    assert '"meets_expectations": false' in Path(tmp_path, "summary/summary.json").read_text()


def test_results_that_are_there_are_judged_by_what_is_expected_now(tmp_path):
    def times():
        return {path: Path(tmp_path, path).stat().st_mtime_ns for path in tree(tmp_path)}

    assert verdict(predict(five, TABLE, tmp_path, expectations=expect(maximum=20))) == (True, [])
    before = times()
    assert verdict(predict(five, TABLE, tmp_path, expectations=expect(maximum=20))) == (True, [])
    assert times() == before
    stricter = predict(five, TABLE, tmp_path, expectations=expect(maximum=19))
    assert verdict(stricter) == (False, ["largest number of 'y'"])
    changed = [path for path, time in times().items() if time != before[path]]
    assert changed == ["summary/summary.json"]
    assert verdict(predict(five, TABLE, tmp_path)) == (None, [])
    Path(tmp_path, "summary/statistics.json").unlink()
    with pytest.raises(SettingsError, match="not empty"):
        predict(five, TABLE, tmp_path, expectations=expect(maximum=20))


def test_drift_is_told_from_earlier_results(tmp_path):
    near = expect(max_drift=0.3)
    drift = "drift of 'y' from the baseline"
    old, new = tmp_path / "old", tmp_path / "new"
    first = predict(five, TABLE, old, expectations=near)
    assert verdict(first) == (True, [])
    assert "no baseline yet" in first.summary.branches["inference_result"].checks[1].found
    assert verdict(predict(ten, TABLE, new, expectations=near, baseline=old)) == (False, [drift])
    nothing = tmp_path / "nothing"
    predict(five, TABLE, nothing, gate=CLOSED)
    empty = predict(five, TABLE, tmp_path / "late", expectations=near, baseline=nothing)
    assert verdict(empty) == (False, [drift])
    with pytest.raises(InputError):
        predict(five, TABLE, tmp_path / "none", expectations=near, baseline=tmp_path / "typo")


@pytest.mark.parametrize("baseline", ["out", "out/summary", "out/../out/prediction_table/"])
def test_results_are_no_baseline_of_their_own(tmp_path, baseline):
    near = expect(max_drift=0)
    predict(five, TABLE, tmp_path / "out", expectations=near)
    with pytest.raises(SettingsError) as raised:
        predict(five, TABLE, tmp_path / "out", expectations=near, baseline=tmp_path / baseline)
    assert str(raised.value) == (
        f"Branch.baseline is {tmp_path / baseline}, the results of this very job, which cannot "
        f"drift from themselves. Name earlier results in another folder, or leave it out."
    )


def test_trial_that_reaches_its_limit_does_not_meet_expectations(tmp_path):
    trial = predict(five, TABLE, tmp_path / "some", expectations=expect(minimum=0), limit=3)
    branch = trial.summary.branches["inference_result"]
    assert branch.meets_expectations is False
    unmet, *others = branch.checks
    assert str(unmet) == (
        "The number of records from each split should be all of them, but is at most 3, since this "
        "is a trial."
    )
    assert [check.is_met for check in others] == [True, True]
    whole = predict(five, TABLE, tmp_path / "all", expectations=expect(minimum=0), limit=5)
    assert verdict(whole) == (True, [])
    expected = {"expectations": expect(minimum=0)}
    for limit, is_whole in ((4, False), (5, True)):  # Each of the two gets some of four records.
        branches = [model("five", five, **expected), model("ten", ten, **expected)]
        split = job(
            tmp_path / f"{limit}",
            *branches,
            comparison=None,
            routing=SplitRouting({"five": 1, "ten": 1}, "x"),
            limit=limit,
        )
        found = run(split).branches.values()
        assert [own.meets_expectations for own in found] == [is_whole] * 2


def job(folder, *branches, table=TABLE, routing=None, limit=None, **outputs):
    path = Path(folder, "inputs.parquet")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        pa.parquet.write_table(table, path)
    outputs = {"comparison": f"{folder}/out/comparison", "prediction_logs": False, **outputs}
    return InferenceJob(
        splits={"all": [str(path)]},
        branches=branches,
        outputs=Outputs.under(f"{folder}/out", table=True, **outputs),
        routing=routing,
        limit=limit,
    )


def model(name, function, **settings):
    return Branch(name, PythonModel(lambda path: function), **settings)


def beside(baseline_model="five", **bounds):
    return Expectations(outputs={"y": OutputExpectations(**bounds)}, baseline_model=baseline_model)


def checks_of(summary):
    return {name: branch.checks for name, branch in summary.branches.items()}


def test_models_side_by_side_are_judged_each_and_against_each_other(tmp_path):
    like_five = beside(max_mean_absolute_difference=12)
    job_of_two = job(tmp_path, model("five", five), model("ten", ten, expectations=like_five))
    summary = run(job_of_two)
    difference = Check("mean absolute difference from 'y' of 'five'", "at most 12", "12.5", False)
    assert checks_of(summary) == {
        "five": (),
        "ten": (Check(ENOUGH, "at least 1", "4", True), difference),
    }
    assert Summary.read(f"{tmp_path}/out/summary") == summary
    # Their results are no baseline for a model of another name, unless one of them is named.
    near = expect(max_drift=1)
    with pytest.raises(SettingsError) as raised:
        predict(five, TABLE, tmp_path / "new", expectations=near, baseline=f"{tmp_path}/out")
    assert str(raised.value) == (
        f"Branch.baseline is {tmp_path}/out, which holds the results of several models: five, ten. "
        f"Name the folder of one of them."
    )
    again = model("ten", ten, expectations=near, baseline=f"{tmp_path}/out")
    (_, same) = run(job(tmp_path / "again", again, comparison=None)).branches["ten"].checks
    assert (same.found, same.is_met) == ("0", True)


@pytest.mark.parametrize(
    ("gate", "found", "others"), [(CLOSED, "closed", []), (OVERRULED, "overruled", [True, True])]
)
def test_model_that_its_gate_did_not_let_through_does_not_meet_expectations(
    tmp_path, gate, found, others
):
    results = predict(five, TABLE, tmp_path, gate=gate, expectations=expect(minimum=0))
    branch = results.summary.branches["inference_result"]
    assert branch.meets_expectations is False
    assert str(branch.checks[0]) == (
        f"The gate of the model should be open, but is {found} (The Evaluator did not bless it)."
    )
    assert [check.is_met for check in branch.checks[1:]] == others


def test_closed_gate_of_the_baseline_model_leaves_nothing_to_compare_with(tmp_path):
    expected = beside(min_agreement=0.5)
    summary = run(
        job(tmp_path, model("five", five, gate=CLOSED), model("ten", ten, expectations=expected))
    )
    (_, check) = summary.branches["ten"].checks
    assert (check.found, check.is_met) == (
        "unknown, since no record was scored by 'five' as well",
        False,
    )


def test_output_that_the_model_does_not_have_is_found_before_the_run(tmp_path):
    def score(batch):
        assert len(batch["x"]) < 1000, "the run has begun"
        return {"y": batch["x"]}

    expected = Expectations(outputs={"z": OutputExpectations()})
    table = pa.table({"x": np.arange(1000.0)})
    with pytest.raises(SettingsError, match=r"^Something is expected of the output 'z', but .* y"):
        predict(score, table, tmp_path / "out", expectations=expected)
    assert not (tmp_path / "out").exists()


def test_signatures_tell_the_outputs_before_files_are_listed(tmp_path, linear_model):
    expected = Expectations(outputs={"z": OutputExpectations()})
    folder = str(tmp_path / "out")
    branch = Branch("five", SavedModel(linear_model), folder, expectations=expected)
    outputs = Outputs.under(tmp_path)
    nowhere = InferenceJob(splits={"all": ["/nowhere"]}, branches=[branch], outputs=outputs)
    with pytest.raises(SettingsError) as raised:
        run(nowhere)
    assert str(raised.value) == (
        f"Model 'five': Something is expected of the output 'z', but {linear_model} has y. Correct "
        f"Expectations.outputs."
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: model("ten", ten, expectations={"outputs": {}}),
            (
                "Model 'ten': Branch.expectations must be an Expectations, not {'outputs': {}}. "
                "Write Expectations(max_failed_fraction=0.01)."
            ),
        ),
        (
            lambda: model("ten", ten, expectations=expect(minimum=0), baseline="/old"),
            (
                "Model 'ten': Branch.baseline is /old, but nothing is expected of the distance "
                "from it. Set OutputExpectations.max_drift, or leave it out."
            ),
        ),
        (
            lambda: model("ten", ten, baseline="/old"),
            (
                "Model 'ten': Branch.baseline is /old, but nothing is expected of the distance "
                "from it. Set OutputExpectations.max_drift, or leave it out."
            ),
        ),
    ],
)
def test_expectations_of_a_branch_that_cannot_be_are_refused(make, message):
    with pytest.raises(SettingsError) as raised:
        make()
    assert str(raised.value) == message


def test_baseline_model_needs_a_comparison(tmp_path):
    expected = beside(min_agreement=1)
    branches = model("five", five), model("ten", ten, expectations=expected)
    with pytest.raises(SettingsError) as raised:
        job(tmp_path, *branches, comparison=None)
    assert str(raised.value) == (
        "Expectations.baseline_model is 'five', but the models are not compared. Name a folder in "
        "Outputs.comparison."
    )
    with pytest.raises(SettingsError, match=r"^Model 'ten': .* there is no other one\."):
        job(tmp_path, branches[1])
