"""The results of real runs, read back."""

from __future__ import annotations

import datetime as dt
import functools
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from bulk_inferencer import (
    Branch,
    Decision,
    FailureLimit,
    InferenceJob,
    Outputs,
    SavedModel,
    SplitRouting,
    TableSettings,
    run,
)
from bulk_inferencer._formats import tfrecord
from bulk_inferencer._formats.prediction_log import PredictionLogEncoder
from bulk_inferencer._signatures import PREDICT, Signature
from bulk_inferencer.errors import InputError, SettingsError
from bulk_inferencer.results import log_rows, read, run_results
from bulk_inferencer.results.reader import check_complete_table
from tests.helpers import FLOAT, exactly, example, in_bucket, save_functions, write_tfrecord
from tests.helpers import RECORDS as STRINGS

NOT_BLESSED = Decision("not_blessed", "It is worse than the last one.")


def record(i, **more):
    return example(x=float(i), name=f"ä{i}", user=f"u{i}", many=[1, 2], **more)


# Number 3 is no tf.Example, and number 5 lacks what only the model `five` needs.
RECORDS = [record(i, maybe=[i] if i % 2 else []) for i in range(12)]
RECORDS[3], RECORDS[5] = b"no example", example(x=5.0, user="u5")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """`five` has outputs of many types, and `ten` has one."""
    folder = tmp_path_factory.mktemp("models")

    def five(examples):
        features = {"x": FLOAT, "name": tf.io.FixedLenFeature([], tf.string)}
        parsed = tf.io.parse_example(examples, features)
        x = parsed["x"]
        return {
            "y": 5 * x,
            "column": x[:, tf.newaxis],
            "whole": tf.cast(x, tf.int64),
            "vector": tf.stack([x, x + np.inf], 1),
            "matrix": tf.reshape(tf.repeat(x, 6), [-1, 2, 3]),
            "text": tf.strings.join(["name ", parsed["name"]]),
        }

    def ten(examples):
        return {"y": 10 * tf.io.parse_example(examples, {"x": FLOAT})["x"]}

    for name, function in (("five", five), ("ten", ten)):
        save_functions(folder / name, serving_default=(function, {"examples": STRINGS}))
    return folder


@pytest.fixture(scope="module")
def made(models, tmp_path_factory):
    """Runs a job, once for each name, and returns the folder of its results."""

    @functools.cache
    def make(name):
        folder = tmp_path_factory.mktemp(name)
        settings = dict(_JOBS[name])
        records = settings.pop("records", RECORDS)
        splits = {
            s: [write_tfrecord(folder / f"in/{s}", records) if records is not None else "none*"]
            for s in ("a", "b")
        }
        model = {"model": SavedModel(str(models / "five"))}
        if gates := settings.pop("gates", None):
            model = {
                "branches": [
                    Branch(own, SavedModel(str(models / own)), str(folder / own), **gate)
                    for own, gate in gates.items()
                ]
            }
        if settings.pop("has_one_split", False):
            del splits["b"]
        routing = settings.pop("routing", None)
        outputs = Outputs.under(folder, **settings)
        limit = FailureLimit(max_fraction=0.5)
        run(
            InferenceJob(
                splits=splits,
                outputs=outputs,
                failure_limit=limit,
                routing=routing,
                allow_empty_splits=True,
                **model,
            )
        )
        return folder

    return make


BOTH = {"five": {}, "ten": {}}
_JOBS = {
    "one": {"table": True},
    "both": {"table": True, "gates": BOTH},
    "ab": {
        "table": True,
        "gates": BOTH,
        "routing": SplitRouting({"five": 1, "ten": 1}, split_key="user"),
        "has_one_split": True,
    },
    "closed": {"gates": {"five": {"gate": NOT_BLESSED}}},
    "half": {"gates": {"five": {"gate": NOT_BLESSED}, "ten": {}}, "has_one_split": True},
    "bare": {"gates": BOTH, "records_in_logs": False, "has_one_split": True},
    # Both models fail on the same records.
    "alike": {"gates": BOTH, "records_in_logs": False, "records": RECORDS[:5]},
    **{
        own: {
            "table": True,
            "table_settings": TableSettings(format=own, keep=("x", "name", "maybe", "many")),
            "prediction_logs": False,
            "has_one_split": True,
        }
        for own in ("parquet", "csv", "json_lines")
    },
    **{
        own: {
            "table": True,
            "table_settings": TableSettings(format="csv", keep=()),
            "prediction_logs": False,
            "records": records,
        }
        for own, records in {"no records": [], "no files": None}.items()
    },
}


def without_table(folder, copy):
    """Returns a copy of results, without their table."""
    shutil.copytree(folder, copy)
    shutil.rmtree(copy / "prediction_table")
    return copy


# Tables and PredictionLogs


@pytest.mark.parametrize("name", ["one", "both"])
@pytest.mark.parametrize("model", [None, "ten"])
def test_prediction_logs_are_the_rows_of_the_table(made, tmp_path, name, model):
    if (name, model) == ("one", "ten"):
        model = "inference_result"
    from_table = read(made(name), model=model)
    from_logs = read(without_table(made(name), tmp_path / "copy"), model=model)
    table, logs = from_table.to_arrow(), from_logs.to_arrow()
    assert logs.schema == table.schema
    assert logs.to_pylist() == table.to_pylist()
    assert len(from_logs) == len(from_table) == table.num_rows
    assert from_logs.counts == from_table.counts


def test_rows_hold_features_and_typed_outputs(made):
    results = read(made("one"), split="a")
    row = list(results)[1]
    assert row == {
        "split": "a",
        "x": 1.0,
        "name": "ä1",
        "user": "u1",
        "maybe": 1,
        "y": 5.0,
        "column": 1.0,
        "whole": 1,
        "text": "name ä1",
        "vector": [1.0, np.inf],
        "matrix": [[1.0] * 3] * 2,
    }
    assert results.splits == ("a",)
    counts = results.counts
    assert (counts.examples_read, counts.predictions_written, counts.examples_failed) == (12, 10, 2)
    assert len(results) == 10
    assert len(read(made("one"))) == 20


def test_models_side_by_side_are_joined_where_either_failed(made, tmp_path):
    for folder in (made("both"), without_table(made("both"), tmp_path / "copy")):
        rows = [row for row in read(folder) if row["split"] == "a"]
        found = [(row["x"], row["five/y"], row["ten/y"]) for row in rows]
        expected = [(float(i), None if i == 5 else 5.0 * i, 10.0 * i) for i in range(12) if i != 3]
        assert found == expected
        predictions = [dict(own.outputs) for own in read(folder, split="a").predictions()]
        assert [own["ten/y"] for own in predictions] == [row[2] for row in expected]
        assert [own.get("five/y") for own in predictions] == [row[1] for row in expected]


def test_in_an_ab_test_each_row_names_its_model(made, tmp_path):
    results = read(made("ab"))
    table = results.to_pandas().sort_values("x", ignore_index=True)
    assert set(table["variant"]) == {"five", "ten"}
    logs = read(without_table(made("ab"), tmp_path / "copy")).to_pandas()
    logs = logs.sort_values("x", ignore_index=True)
    pd.testing.assert_frame_equal(logs[[c for c in table if c != "key"]], table.drop(columns="key"))
    for folder in (made("ab"), tmp_path / "copy"):
        own = read(folder, model="ten")
        assert set(own.to_pandas()["variant"]) == {"ten"}
        assert len(own) == sum(table["variant"] == "ten") == own.counts.predictions_written
    assert "10 predicted, 2 failed" in repr(results)  # one of them before it reached a model
    assert [row["record"] for row in results.failures().to_pylist()] == [3, 5]


def test_logs_without_records_are_joined_only_where_models_failed_alike(made):
    results = read(made("bare"))
    message = r"cannot be joined: models failed on some records, and the logs hold no records"
    with pytest.raises(InputError, match=message):
        results.to_arrow()
    ys = [(row["split"], row["five/y"], row["ten/y"]) for row in read(made("alike"))]
    assert ys == [(split, 5.0 * i, 10.0 * i) for split in ("a", "b") for i in (0, 1, 2, 4)]
    own = read(made("bare"), model="ten")
    assert own.schema.names == ["y"]
    assert [prediction.record for prediction in own.predictions()] == [None] * 11


# What there is besides rows


def test_failures_name_file_record_reason_and_model(made):
    failures = read(made("both")).failures()
    assert failures.schema.names == ["split", "file", "record", "reason", "model"]
    found = [(row["split"], row["record"], row["model"]) for row in failures.to_pylist()]
    of_split = [(3, "five"), (5, "five"), (3, "ten")]
    assert sorted(found) == sorted((s, *own) for s in ("a", "b") for own in of_split)
    assert read(made("both"), split="b", model="ten").failures()["record"].to_pylist() == [3]
    assert read(made("one")).failures().schema.names == ["split", "file", "record", "reason"]


def test_list_of_failures_that_is_cut_short_is_an_error_that_names_it(made, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(made("one"), copy)
    path = copy / "summary/failures-a.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-9])
    message = (
        rf"^The list of failures {path} is damaged: .*\. Restore it, or run into another folder\.$"
    )
    with pytest.raises(InputError, match=message):
        read(copy).failures()
    assert [own.num_rows for own in read(made("both")).failure_tables(4)] == [4, 2]


def test_closed_gate_gives_empty_results_that_say_why(made, tmp_path):
    results = read(made("closed"))
    assert (results.gate, len(results), results.splits) == (NOT_BLESSED, 0, ())
    assert results.to_pandas().shape == (0, 0)
    assert (list(results), list(results.predictions())) == ([], [])
    assert results.failures().num_rows == 0
    results.to_parquet(tmp_path / "empty.parquet")
    assert pq.read_table(tmp_path / "empty.parquet").shape == (0, 0)
    assert NOT_BLESSED.reason in results._repr_html_()


def test_model_that_was_not_blessed_leaves_the_rows_of_the_others(made):
    results = read(made("half"))
    assert results.gate.verdict == "not_blessed"
    assert results.gate.reason == (
        "Model 'ten': No blessing was asked for. Model 'five': It is worse than the last one."
    )
    assert "ten/y" in results.schema.names
    assert len(results) == 11
    assert "gates: ten no_blessing, five not_blessed (closed)" in repr(results)
    assert len(read(made("half"), model="five")) == 0


def test_predictions_are_those_of_the_logs_also_beside_a_table(made):
    first = next(read(made("one")).predictions())
    assert first.record == RECORDS[0]
    assert first.outputs["vector"].dtype == np.float32
    message = (
        f"There are no PredictionLogs in {made('csv')}, only a table. Iterate over the results, or "
        f"use batches, for its rows."
    )
    with pytest.raises(InputError, match=exactly(message)):
        read(made("csv")).predictions()


@pytest.mark.parametrize("table_format", ["csv", "json_lines"])
def test_table_of_text_is_the_same_as_one_in_parquet(made, table_format):
    results, expected = read(made(table_format)), read(made("parquet")).to_arrow()
    assert results.schema == expected.schema
    assert results.to_arrow() == expected
    assert len(results) == len(results.to_pandas()) == 10


@pytest.mark.parametrize("name", ["no records", "no files"])
def test_table_of_a_run_without_records_has_its_columns(made, name):
    results = read(made(name))
    assert len(results) == results.to_arrow().num_rows == 0
    assert results.schema.field("y").type == pa.float32()
    assert results.schema.field("matrix").type == pa.list_(pa.list_(pa.float32()))


def test_times_that_pandas_cannot_hold_are_datetimes(tmp_path):
    def frame_of(**columns):
        now = pa.array([0], pa.timestamp("us"))
        table = pa.table({**columns, "now": now})
        pq.write_table(table, tmp_path / "predictions-s-00000-of-00001.parquet")
        return read(tmp_path).to_pandas()

    frame = frame_of(at=pa.array([dt.datetime(1600, 1, 1)], pa.timestamp("us")))
    assert frame["at"][0] == dt.datetime(1600, 1, 1)
    assert frame["now"].dtype.kind == "M"
    message = r"^Column 'at' holds a date that pandas cannot hold: .*\. Use to_arrow\.$"
    with pytest.raises(InputError, match=message):
        frame_of(at=pa.array([2**22], pa.int32()).cast(pa.date32()))


# Parts


def test_batches_have_the_size_that_is_asked_for(made):
    results = read(made("one"))
    batches = list(results.batches(rows=6))
    assert [batch.num_rows for batch in batches] == [6, 6, 6, 2]
    assert pa.Table.from_batches(batches) == results.to_arrow()
    for rows in (0, True, 2.0):
        message = f"rows must be a whole number of at least 1, not {rows!r}."
        with pytest.raises(SettingsError, match=exactly(message)):
            results.batches(rows)


def test_first_rows_are_read_alone(made):
    results = read(made("one"))
    for rows in (0, 3, 15, 99):
        assert results.head(rows) == results.to_arrow().slice(0, rows)
    message = "rows must be a whole number of at least 0, not -1."
    with pytest.raises(SettingsError, match=exactly(message)):
        results.head(-1)


def test_batches_of_large_rows_have_fewer(made, tmp_path, monkeypatch):
    monkeypatch.setattr(run_results, "_BATCH_BYTES", 1)
    monkeypatch.setattr(log_rows, "_BLOCK_BYTES", 200)
    logs = read(without_table(made("both"), tmp_path / "copy"))
    batches = list(logs.batches())
    assert len(batches) > 4
    assert pa.Table.from_batches(batches) == read(made("both")).to_arrow()


def test_results_are_written_as_one_file_of_parquet_and_read_on_any_filesystem(made, tmp_path):
    target = tmp_path / "all.parquet"
    target.write_text("an older file")
    read(in_bucket(made("one"))).to_parquet(in_bucket(target))
    assert pq.read_table(target) == read(made("one")).to_arrow()
    assert list(tmp_path.iterdir()) == [target]


def test_split_or_model_that_is_not_there_is_an_error(made):
    folder = made("both")
    message = f"There is no split 'c' in {folder}. Its splits are a, b. Correct split."
    with pytest.raises(InputError, match=exactly(message)):
        read(folder, split="c")
    message = f"There is no model 'six' in {folder}, only five, ten. Correct model."
    with pytest.raises(SettingsError, match=exactly(message)):
        read(folder, model="six")


@pytest.mark.parametrize("output", ["inference_result", "prediction_table"])
def test_results_that_are_not_complete_are_read_only_where_that_is_asked_for(
    made, tmp_path, output
):
    copy = tmp_path / "copy"
    shutil.copytree(made("one"), copy)
    if output == "inference_result":
        shutil.rmtree(copy / "prediction_table")
    (lost,) = (copy / output).glob("*-a-00000*")
    lost.unlink()
    with pytest.raises(InputError, match=r"The summary says that .* holds 1 shards of split 'a'"):
        read(copy)
    assert len(read(copy, allow_partial=True)) == 10


@pytest.mark.parametrize("name", ["one", "csv"])
def test_table_is_complete_if_no_file_is_missing_or_cut_short(made, tmp_path, name):
    copy = tmp_path / "copy"
    shutil.copytree(made(name), copy)
    table, has_logs = str(copy / "prediction_table"), name == "one"
    (splits,) = [branch.splits for branch in read(copy).summary.branches.values()]
    check_complete_table(table, splits, check_bytes=not has_logs)
    path = next((copy / "prediction_table").glob("*-a-00000*"))
    path.write_bytes(path.read_bytes()[:-1])
    if has_logs:
        path.unlink()
    with pytest.raises(InputError, match=r"^The summary says that .* holds 1 shards of split 'a'"):
        check_complete_table(table, splits, check_bytes=not has_logs)


# PredictionLogs whose values differ from those of the first records


def write_logs(folder, *batches):
    """Writes logs of which no summary tells, as TFX's BulkInferrer does."""
    encoder = PredictionLogEncoder([Signature("s", PREDICT)], "examples")
    logs = [log for records, outputs in batches for log in encoder.encode(records, outputs)]
    (folder / "prediction_logs-00000-of-00001.gz").write_bytes(
        tfrecord.gzip_member(tfrecord.frame(logs))
    )
    return folder


def many(values, **features):
    return [example(**features)] * len(values), {"y": np.array(values)}


TEXT, NO_TEXT = np.array([b"a"] * 200, object), np.array([b"\xff"], object)


@pytest.mark.parametrize(
    ("first", "later", "column", "kind"),
    [
        (many([[1]] * 200), many([[1, 2]]), "y", pa.list_(pa.int64())),
        (many(TEXT), many(NO_TEXT), "y", pa.binary()),
        (many([1] * 200, x="a"), many([1], x=b"\xff"), "x", pa.binary()),
        (many([1] * 200, x=1), many([1], x=[1, 2]), "x", None),
        (many([1] * 200, x=1), many([1], x=1.5), "x", None),
    ],
    ids=["more values", "no text", "no text in a feature", "more values of a feature", "a float"],
)
def test_columns_become_what_all_values_fit_into(tmp_path, first, later, column, kind):
    results = read(write_logs(tmp_path, first, later))
    with pytest.raises(InputError, match=f"^Not all values of '{column}' fit into the column"):
        list(results.batches())
    assert read(tmp_path).head(300).num_rows == 201
    results.to_parquet(tmp_path / "all.parquet")
    for table in (results.to_arrow(), pq.read_table(tmp_path / "all.parquet")):
        assert table.num_rows == 201
        assert table.schema.field(column).type == kind if kind else column not in table.schema.names
    assert sum(batch.num_rows for batch in results.batches()) == 201


def test_values_that_no_column_can_hold_are_an_error_that_names_another_way(tmp_path):
    results = read(write_logs(tmp_path, many([1]), many([1.5])))
    message = (
        "The predictions hold 'y' as float64 of shape [] and int64 of shape [], which one column "
        "cannot hold. Read each with predictions(), or one model at a time, with model."
    )
    with pytest.raises(InputError, match=exactly(message)):
        results.to_arrow()
    write_logs(tmp_path, many([1 + 2j]))
    message = "The predictions hold 'y' as complex128, which a table cannot hold. Read it with"
    with pytest.raises(InputError, match=message):
        read(tmp_path).to_arrow()
    assert [own.outputs["y"] for own in read(tmp_path).predictions()] == [1 + 2j]


def test_feature_named_like_an_output_gets_another_name(tmp_path):
    results = read(write_logs(tmp_path, many([2], y=1, z=3)))
    assert list(results) == [{"input/y": 1, "z": 3, "y": 2}]


def test_results_without_a_summary_are_counted_by_reading_them(tmp_path):
    results = read(write_logs(tmp_path, many([1, 2, 3])))
    size = (tmp_path / "prediction_logs-00000-of-00001.gz").stat().st_size
    counts = results.counts
    assert (counts.examples_read, counts.predictions_written, counts.examples_failed) == (3, 3, 0)
    assert (counts.shards, counts.bytes_written, len(results)) == (1, size, 3)
    assert (results.summary, results.gate.is_open, results.failures().num_rows) == (None, True, 0)


def test_results_in_a_notebook_are_a_heading_and_the_first_rows(made, tmp_path):
    results = read(made("one"))
    page = results._repr_html_()
    heading = f"Results of {made('one')}: 20 predicted, 4 failed, gate: no_blessing, model: "
    assert f"<b>{heading}" in page
    assert page.count("<tr") == 11
    assert page.endswith("<p>20 rows \N{MULTIPLICATION SIGN} 11 columns</p></div>")
    assert repr(results).startswith(f"<{heading}")
    uncounted = read(write_logs(tmp_path, many([1, 2])))._repr_html_()
    assert uncounted.endswith("<p>first 2 rows \N{MULTIPLICATION SIGN} 1 column</p></div>")


def test_path_objects_and_relative_paths_are_folders_too(made, monkeypatch):
    folder = Path(made("one"))
    monkeypatch.chdir(folder / "inference_result")
    assert len(read(".")) == len(read("../prediction_table")) == len(read(Path(".."))) == 20
