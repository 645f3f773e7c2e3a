"""One call from files, or a table in memory, to results."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

import bulk_inferencer
from bulk_inferencer import (
    BatchBounds,
    CascadeModel,
    ExitWhen,
    PythonModel,
    SavedModel,
    Stage,
    TableSettings,
    predict,
)
from bulk_inferencer._gate import NOT_BLESSED, Decision
from bulk_inferencer._predict import _splits
from bulk_inferencer._units.claim import claimed
from bulk_inferencer.errors import FolderInUseError, InputError, ModelError, SettingsError
from tests.helpers import exactly, example, save_functions, tree, write_tfrecord

IDS = np.arange(1000)
X = (IDS / 10).astype(np.float32)


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """Y = 5 x, with a tensor input."""
    inputs = {"x": tf.TensorSpec([None], tf.float32, name="x")}
    path = tmp_path_factory.mktemp("tensors") / "model"
    return save_functions(path, serving_default=(lambda x: {"y": 5 * x}, inputs))


@pytest.fixture
def parquet(tmp_path):
    path = tmp_path / "in/a.parquet"
    path.parent.mkdir()
    table = pa.table({"id": IDS, "x": X, "name": [f"n{i}" for i in IDS], "more": [[1.0]] * 1000})
    pq.write_table(table, path, row_group_size=100)
    return path


def check(found):
    assert found["y"].tolist() == (5 * X[found["id"]]).tolist()
    assert sorted(found["id"]) == IDS.tolist()


def test_parquet_comes_back_with_predictions(tmp_path, model, parquet):
    result = predict(model, parquet, tmp_path / "out", keep=["id"])
    found = result.to_pandas()
    assert list(found.columns) == ["id", "y"]
    assert (str(found.dtypes["id"]), str(found.dtypes["y"])) == ("int64", "float32")
    check(found)
    assert result.counts.predictions_written == 1000
    assert not (tmp_path / "out/inference_result").exists()


def test_a_trial_scores_the_first_records_of_each_split(tmp_path, model, parquet):
    inputs = {"one": parquet, "two": parquet}
    found = predict(model, inputs, tmp_path / "trial", limit=120, keep=["id"]).to_pandas()
    assert sorted(found["id"]) == sorted([*range(120)] * 2)
    with pytest.raises(SettingsError, match="is not empty"):
        predict(model, inputs, tmp_path / "trial", keep=["id"])


def test_all_scalars_are_kept_unless_told(tmp_path, model, parquet):
    found = predict(model, parquet, tmp_path / "all").to_pandas()
    assert list(found.columns) == ["id", "x", "name", "y"]
    found = predict(model, parquet, tmp_path / "none", keep=()).to_pandas()
    assert list(found.columns) == ["y"]


@pytest.mark.parametrize("kind", ["pandas", "arrow"])
def test_table_in_memory_is_scored(tmp_path, model, kind):
    frame = pd.DataFrame({"id": IDS, "x": X})
    inputs = frame if kind == "pandas" else pa.Table.from_pandas(frame)
    for _ in range(2):  # the second time, the results are there
        check(predict(model, inputs, tmp_path / "out").to_pandas())
    assert {name.split("/")[0] for name in tree(tmp_path / "out")} == {
        *("failed_examples", "prediction_table", "summary")
    }


def test_table_in_memory_keeps_its_types_and_nothing_but_its_columns(tmp_path, model):
    times = pa.array([1, 2], pa.timestamp("ns"))
    ids = pa.array(np.array([1, 2**64 - 1], np.uint64))
    inputs = pa.table({"x": pa.array(np.float16([1, 2])), "t": times, "u": ids})
    found = predict(model, inputs, tmp_path / "lr=0.1/out").to_arrow()
    assert found.column_names == ["x", "t", "u", "y"]
    assert found["t"].to_pylist() == times.to_pylist()
    assert found["u"].to_pylist() == [1, 2**64 - 1]
    assert found["y"].to_pylist() == [5, 10]


def test_name_of_an_engine_is_refused_before_anything_is_read(tmp_path, model):
    with pytest.raises(SettingsError, match=r"^The engine must be an Engine, not 'ray'\."):
        predict(model, tmp_path / "gone.parquet", tmp_path / "out", engine="ray")
    assert not (tmp_path / "out").exists()


def test_refused_call_leaves_the_table_of_another_call_alone(tmp_path, model):
    frame = pd.DataFrame({"id": IDS, "x": X})
    out = tmp_path / "out"
    with claimed([str(out / "summary")]), _splits(frame, str(out)) as (splits, _):
        with pytest.raises(FolderInUseError):
            predict(model, frame, out)
        (path,) = splits["inputs"]
        assert pq.read_table(path).num_rows == 1000


def test_failed_call_leaves_nothing_behind(tmp_path, model):
    with pytest.raises(ModelError):
        predict(model, pa.table({"z": [1.0]}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("x", [[1.0, 2.0], [9.0, 8.0], [1.0, 9.0, 2.0, 8.0]])
def test_cascade_of_python_models_gives_one_table_whatever_the_batches(tmp_path, x, size):
    first = Stage("a", PythonModel(lambda path: score), exit_when=[ExitWhen("score", at_least=5)])
    model = CascadeModel([first, Stage("b", PythonModel(lambda path: double))])
    found = predict(model, pa.table({"x": x}), tmp_path, bounds=BatchBounds(max_records=size))
    assert found.to_arrow().select(["score", "y", "a/score", "b/y"]).to_pydict() == {
        "score": [own if own >= 5 else None for own in x],
        "y": [None if own >= 5 else 2 * own for own in x],
        "a/score": x,
        "b/y": [None if own >= 5 else 2 * own for own in x],
    }


def score(features):
    return {"score": features["x"]}


def double(features):
    return {"y": 2 * features["x"]}


def test_results_that_lost_a_shard_are_not_taken_for_whole(tmp_path, model, parquet):
    for i, logs in enumerate((False, True)):
        settings = {"keep": ["id"], "prediction_logs": logs}
        predict(model, parquet, tmp_path / f"{i}", **settings)
        next((tmp_path / f"{i}/prediction_table").iterdir()).unlink()
        with pytest.raises(SettingsError, match=" is not empty: it holds "):
            predict(model, parquet, tmp_path / f"{i}", **settings)


def test_closed_gate_reads_nothing(tmp_path, model):
    gate = Decision(NOT_BLESSED, "Evaluator did not bless it.")
    assert len(predict(model, tmp_path / "missing", tmp_path / "out", gate=gate)) == 0


def test_tfrecords_give_a_table_and_prediction_logs(tmp_path, model):
    records = [example(id=int(i), x=float(x)) for i, x in zip(IDS, X, strict=True)]
    write_tfrecord(tmp_path / "in/a.gz", records)
    result = predict(model, tmp_path / "in", tmp_path / "out")
    check(result.to_pandas())
    read = bulk_inferencer.read_predictions(tmp_path / "out/inference_result")
    assert sum(1 for _ in read) == 1000


def test_model_sees_columns_under_the_names_of_its_inputs(tmp_path, model):
    pq.write_table(pa.table({"id": IDS, "value": X}), tmp_path / "a.parquet")
    for i, settings in enumerate([{"rename": {"value": "x"}}, {"columns": {"x": "value"}}]):
        result = predict(model, tmp_path / "a.parquet", tmp_path / f"{i}", keep=["id"], **settings)
        check(result.to_pandas())


def test_closed_gate_scores_nothing(tmp_path, model, parquet):
    gate = Decision(NOT_BLESSED, "Evaluator did not bless it.")
    result = predict(model, parquet, tmp_path / "out", gate=gate)
    assert (len(result), result.gate) == (0, gate)


def test_several_splits_have_a_column(tmp_path, model, parquet):
    result = predict(model, {"a": parquet, "b": [parquet]}, tmp_path / "out", keep=["id"])
    assert result.to_pandas().groupby("split").size().to_dict() == {"a": 1000, "b": 1000}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"output": ""}, "The output of predict is empty text. Use '.' for this folder."),
        ({"keep": "id"}, "keep must be a list of names, not 'id'. Write ['id']."),
        ({"keep": ["id"], "table": None},
         "keep names what a table carries, but there is none. Leave it out."),
        ({"keep": ["id"], "table": TableSettings()},
         "Both keep and TableSettings.keep are given. Leave out keep."),
        ({"model": SavedModel("m"), "signatures": ["a", "b"]}, (
            "The signatures a, b belong to the path of a SavedModel, but the model is an object. "
            "Name them in the object.")),
        ({"inputs": 7}, (
            "predict's inputs must be a path, a list of paths, these by split, a pandas DataFrame "
            "or an Arrow table, but there is an object of type int. Make a table of values, such "
            "as pandas.DataFrame({'x': [1.0, 2.0]}).")),
        ({"inputs": pa.table({"x": pa.array([None], pa.month_day_nano_interval())})}, (
            "The table has a column of a type that Parquet does not have: Unhandled type for Arrow "
            "to Parquet schema conversion: month_day_nano_interval. Convert it, or leave it out.")),
        ({"table": None, "prediction_logs": False}, (
            "Outputs has neither PredictionLogs nor a table, so the predictions would be lost. "
            "Name a folder in Outputs.table, or leave out prediction_logs=False.")),
    ],
)  # fmt: skip
def test_settings_that_contradict_each_other_are_refused(
    tmp_path, model, parquet, settings, message
):
    settings = {"model": model, "inputs": parquet, "output": tmp_path / "out", **settings}
    with pytest.raises(SettingsError, match=exactly(message)):
        predict(**settings)
    assert not (tmp_path / "out").exists()


def test_column_that_is_not_there_is_named(tmp_path, model, parquet):
    message = (
        "The inputs have no column 'nam'; they have id, x, name, more. Did you mean 'name'? "
        "Correct the setting that names it."
    )
    with pytest.raises(InputError, match=exactly(message)):
        predict(model, parquet, tmp_path / "out", columns={"x": "nam"})
