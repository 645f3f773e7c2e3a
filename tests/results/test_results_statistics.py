"""Statistics and comparison of the results of real runs."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pyarrow as pa
import pytest

from bulk_inferencer import (
    Branch,
    Decision,
    FailureLimit,
    InferenceJob,
    Outputs,
    PythonModel,
    SplitRouting,
    Summary,
    predict,
    run,
)
from bulk_inferencer.errors import InputError
from bulk_inferencer.results import read
from bulk_inferencer.results.reasons import most_frequent
from bulk_inferencer.results.statistics import Statistics
from tests.helpers import exactly, example, write_tfrecord

NOT_BLESSED = Decision("not_blessed", "It is worse than the last one.")


def five(features):
    if (features["x"] == 13).any():
        raise ValueError("a bad number: 13")
    is_even = features["x"] % 2 == 0
    names = np.where(is_even, b"even", b"odd").astype(object)
    return {"y": 5 * features["x"], "name": names, "is_even": is_even}


def ten(features):
    return {"y": 10 * features["x"]}


def five_of(path):
    return five


def ten_of(path):
    return ten


def job(folder, five_gate=None, **settings):
    for split, numbers in (("a", range(20)), ("b", range(20, 25))):
        path = folder / f"in/{split}.gz"
        if not path.exists():
            write_tfrecord(path, [example(x=float(i), k=f"user-{i}") for i in numbers])
    branches = [
        Branch(
            "five", PythonModel(five_of), f"{folder}/out/five", five_gate or Decision("blessed", "")
        ),
        Branch("ten", PythonModel(ten_of), f"{folder}/out/ten"),
    ]
    outputs = Outputs(
        summary=f"{folder}/out/summary",
        failed_examples=f"{folder}/out/failed_examples",
        comparison=None if settings.get("routing") else f"{folder}/out/comparison",
    )
    splits = {split: [f"{folder}/in/{split}.gz"] for split in "ab"}
    limit = FailureLimit(max_fraction=0.5)
    return InferenceJob(
        splits=splits, branches=branches, outputs=outputs, failure_limit=limit, **settings
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A run of two models side by side, on two splits."""
    folder = tmp_path_factory.mktemp("run")
    run(job(folder))
    return folder / "out"


def without_statistics(done, folder):
    """Returns a copy of a run as one of an earlier version."""
    shutil.copytree(done, folder)
    os.remove(folder / "summary/statistics.json")
    return folder


def numbers(found):
    """Returns what does not depend on rounding."""
    return {
        (model, split, name): (own.records, own.missing, own.histogram, own.classes)
        for model, splits in found.outputs.items()
        for split, outputs in splits.items()
        for name, own in outputs.items()
    }


def test_run_writes_statistics_and_the_summary_the_most_important_of_them(done):
    statistics = read(done).statistics
    assert statistics == Statistics.read(str(done / "summary"))
    y = statistics.of("five", "a")["y"]
    assert (y.records, y.minimum, y.maximum, y.mean) == (19, 0, 95, pytest.approx(5 * 177 / 19))
    assert statistics.of("five")["name"].classes == {"even": 13, "odd": 11}
    assert statistics.failures == {"five": {"a": {"ValueError: a bad number: 13": 1}}}
    summary = Summary.read(str(done / "summary"))
    for model, branch in summary.branches.items():
        assert branch.statistics == statistics.summary_of(model)
        assert branch.failures == most_frequent(statistics.failures_of(model))
    assert summary.branches["five"].statistics["a"]["y"] == y.summary


def test_statistics_are_those_of_the_split_and_the_model_that_are_read(done, tmp_path):
    for folder in (done, without_statistics(done, tmp_path / "old")):
        whole = read(folder).statistics
        found = read(folder, split="b", model="ten").statistics
        assert list(numbers(found)) == [("ten", "b", "y")]
        assert numbers(found).items() <= numbers(whole).items()
        assert found.failures_of("ten") == {}
        assert read(folder, split="b").statistics.failures_of("five") == {}
        assert read(folder, model="five").statistics.failures_of("five") == whole.failures_of(
            "five"
        )


def test_statistics_of_an_earlier_version_are_gathered_by_reading_them(done, tmp_path):
    found = read(without_statistics(done, tmp_path / "old")).statistics
    expected = read(done).statistics
    assert numbers(found) == numbers(expected)
    assert found.failures == expected.failures
    mean = found.of("five")["y"].mean
    assert mean == pytest.approx(expected.of("five")["y"].mean)


def test_statistics_of_tfx_are_gathered_by_reading_them(done, tmp_path):
    shutil.copytree(done / "five", tmp_path / "tfx")
    for path in (tmp_path / "tfx").glob("prediction_logs-b-*"):
        path.unlink()
    (path,) = (tmp_path / "tfx").glob("prediction_logs-a-*")
    path.rename(tmp_path / "tfx/prediction_logs-00000-of-00001.gz")  # as TFX names it
    found = read(tmp_path / "tfx").statistics
    assert list(found.outputs["inference_result"]) == [""]
    assert found.failures == {}
    (expected,) = [
        own for own in numbers(read(done).statistics).items() if own[0] == ("five", "a", "y")
    ]
    assert numbers(found)["inference_result", "", "y"] == expected[1]


def test_table_alone_does_not_say_what_its_statistics_are(tmp_path):
    predict(five, pa.table({"x": np.arange(9.0)}), tmp_path / "out")
    assert read(tmp_path / "out").statistics.of("inference_result")["y"].records == 9
    os.remove(tmp_path / "out/summary/statistics.json")
    message = (
        f"There is no statistics.json beside the summary of {tmp_path}/out, and its table does not "
        f"say which columns are outputs. Restore the file, or run again into another folder."
    )
    with pytest.raises(InputError, match=exactly(message)):
        read(tmp_path / "out").statistics  # noqa: B018


def test_model_that_did_not_run_has_no_statistics(tmp_path):
    run(job(tmp_path, NOT_BLESSED))
    found = read(tmp_path / "out").statistics
    assert list(found.outputs) == ["ten"]
    os.remove(tmp_path / "out/summary/statistics.json")
    assert read(tmp_path / "out", model="five").statistics == Statistics()
    assert list(read(tmp_path / "out").statistics.outputs) == ["ten"]


def test_comparison_is_that_of_the_models_that_are_read(done, tmp_path):
    (pair,) = read(done).comparison.pairs
    assert (pair.models, pair.outputs["y"].records) == (("five", "ten"), 24)
    assert read(done, model="ten").comparison.pairs == (pair,)
    run(job(tmp_path, routing=SplitRouting({"five": 1, "ten": 1}, "k")))
    assert read(tmp_path / "out").comparison is None
