"""Whole runs on Beam's local runner: real files, a real model, and what is left on disk."""

from __future__ import annotations

import gzip
import importlib.metadata
import json
import logging
import os
import platform
import re
import shutil
from pathlib import Path

import apache_beam as beam
import pytest
import tensorflow as tf
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

import bulk_inferencer
from bulk_inferencer import job
from bulk_inferencer._formats.example import Column
from bulk_inferencer._models.batching import BatchBounds
from bulk_inferencer._models.predictor import FORMAT_PROTO, FORMAT_TF_SEQUENCE_EXAMPLE
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer._units.outputs import Outputs
from bulk_inferencer._work import Distribution, Work
from bulk_inferencer.errors import (
    FailureLimitError,
    InputError,
    ModelError,
    ReconciliationError,
    SettingsError,
)
from bulk_inferencer.job import FailureLimit, InferenceJob, run
from bulk_inferencer.results.reader import read_predictions
from bulk_inferencer.results.summary import Counts, Summary
from tests.helpers import (
    FLOAT,
    RECORDS,
    context_of,
    exactly,
    example,
    features_of,
    in_bucket,
    read_tfrecord,
    save_functions,
    sequence_example,
    tree,
    write_tfrecord,
)

pytestmark = pytest.mark.slow

ANY_FAILURES = FailureLimit(max_fraction=1)


@pytest.fixture
def folders(tmp_path):
    """Files of x = 0 ... 9 in `in/`; outputs go to `out/`."""
    for i in range(2):
        records = [example(x=float(x)) for x in range(5 * i, 5 * i + 5)]
        write_tfrecord(tmp_path / f"in/{i}.gz", records)
    return tmp_path


def job_of(folder, model, *columns, replace_features=False, **settings):
    outputs = Outputs.under(f"{folder}/out")
    if columns:
        paths = (outputs.inference_result, outputs.summary, outputs.failed_examples)
        outputs = Outputs(*paths, f"{folder}/out/output_examples", columns, replace_features)
    model = model if isinstance(model, SavedModel) else SavedModel(model)
    settings = {"splits": {"s": [f"{folder}/in/*"]}, "outputs": outputs, **settings}
    return InferenceJob(model=model, **settings)


def predictions(folder, split=None):
    """Returns y by x."""
    found = read_predictions(f"{folder}/out/inference_result", split)
    return {features_of(p.record)["x"][0]: p.outputs["y"].item() for p in found}


def failures(folder, split="s"):
    content = gzip.decompress(Path(folder, f"out/summary/failures-{split}.jsonl.gz").read_bytes())
    return [json.loads(line) for line in content.splitlines()]


def shard(folder, name):
    return read_tfrecord(Path(folder, "out", name))


# A run


def test_every_record_is_scored(folders, linear_model):
    summary = run(job_of(folders, linear_model))
    assert predictions(folders) == {float(x): 5.0 * x for x in range(10)}
    counts = summary.splits["s"]
    assert (counts.examples_read, counts.predictions_written, counts.examples_failed) == (10, 10, 0)


def test_files_have_the_names_of_the_contract(folders, linear_model):
    run(job_of(folders, linear_model, Column("y", "y")))
    assert tree(folders / "out") == [
        "failed_examples/Split-s/failed_examples-00000-of-00002.gz",
        "failed_examples/Split-s/failed_examples-00001-of-00002.gz",
        "inference_result/prediction_logs-s-00000-of-00002.gz",
        "inference_result/prediction_logs-s-00001-of-00002.gz",
        "output_examples/Split-s/examples-00000-of-00002.gz",
        "output_examples/Split-s/examples-00001-of-00002.gz",
        "summary/failures-s.jsonl.gz",
        "summary/summary.json",
    ]


def test_nothing_is_left_of_the_work(folders, linear_model):
    run(job_of(folders, linear_model, Column("y", "y")))
    assert list((folders / "out").rglob(".work")) == []


def test_summary_holds_counts_gate_model_and_versions(folders, linear_model):
    settings = {"gate": "blessed", "gate_reason": "Evaluator blessed the model."}
    summary = run(job_of(folders, linear_model, **settings))
    written = json.loads((folders / "out/summary/summary.json").read_text())
    seconds = written.pop("seconds")
    assert set(seconds) == {"plan", "score", "commit"}
    assert all(value >= 0 for value in seconds.values())
    work = Work.from_dict(written.pop("work"))
    assert work == summary.work
    assert (work.batches, work.batch_records) == (2, Distribution(2, 10, 5, 5))
    assert work.inference_milliseconds.count == 2
    assert work.model_loads == work.model_load_milliseconds.count == 1
    sizes = [path.stat().st_size for path in (folders / "out").rglob("prediction_logs-*.gz")]
    counts = {
        "examples_read": 10,
        "predictions_written": 10,
        "examples_failed": 0,
        "shards": 2,
        "bytes_written": sum(sizes),
    }
    assert written == {
        "splits": {"s": counts},
        "total": counts,
        "gate": "blessed",
        "gate_reason": "Evaluator blessed the model.",
        "model_path": linear_model,
        "model_fingerprint": SavedModel(linear_model).fingerprint(),
        "model_versions": [],
        "signature_names": ["serving_default"],
        "stages": {},
        "versions": {
            "bulk-inferencer": bulk_inferencer.__version__,
            "python": platform.python_version(),
            "tfx": importlib.metadata.version("tfx"),
            "apache-beam": beam.__version__,
            "tensorflow": tf.__version__,
            "numpy": importlib.metadata.version("numpy"),
        },
    }
    assert Summary.read(str(folders / "out/summary")) == summary


def test_gate_is_no_blessing_unless_the_job_says_otherwise(folders, linear_model):
    summary = run(job_of(folders, linear_model))
    assert (summary.gate, summary.gate_reason) == ("no_blessing", "No blessing was asked for.")


def test_version_of_a_library_that_is_missing(monkeypatch):
    monkeypatch.setattr(job, "_LIBRARIES", ("no-such-library",))
    assert job.library_versions()["no-such-library"] == "not installed"


def test_splits_are_scored_and_counted_apart(folders, linear_model):
    splits = {"a": [f"{folders}/in/0.gz"], "b": [f"{folders}/in/1.gz"]}
    summary = run(job_of(folders, linear_model, splits=splits))
    assert sorted(predictions(folders, "a")) == [0, 1, 2, 3, 4]
    assert sorted(predictions(folders, "b")) == [5, 6, 7, 8, 9]
    assert {split: counts.examples_read for split, counts in summary.splits.items()} == {
        "a": 5,
        "b": 5,
    }
    assert summary.total.examples_read == 10


@pytest.mark.parametrize("bounds", [BatchBounds(1, 1 << 20), BatchBounds(3, 1 << 20)])
def test_batch_bounds_change_no_prediction(folders, linear_model, bounds):
    run(job_of(folders, linear_model, bounds=bounds))
    assert predictions(folders) == {float(x): 5.0 * x for x in range(10)}


def test_two_runs_write_the_same_bytes(folders, linear_model):
    contents = []
    for attempt in ("1", "2"):
        run(job_of(folders, linear_model, outputs=Outputs.under(f"{folders}/out{attempt}")))
        shards = sorted(Path(folders, f"out{attempt}").rglob("*.gz"))
        contents.append({path.name: path.read_bytes() for path in shards})
    assert len(contents[0]) == 5
    assert contents[0] == contents[1]


def test_several_signatures_are_scored_in_one_run(folders, tf1_model):
    model = SavedModel(tf1_model, ("serving_default", "regress"))
    summary = run(job_of(folders, model, Column("regress/outputs", "five_x")))
    assert summary.signature_names == ("serving_default", "regress")
    found = list(read_predictions(f"{folders}/out/inference_result"))
    assert len(found) == 10
    for prediction in found:
        (x,) = features_of(prediction.record)["x"]
        assert prediction.outputs["regress/outputs"] == 5 * x
        assert prediction.outputs["serving_default/scores"].tolist() == [-5 * x, 5 * x]


# Pipelines


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"],
        ["--runner", "apache_beam.runners.portability.fn_api_runner.FnApiRunner"],
        ["--direct_num_workers=1"],
        PipelineOptions(job.local_beam_args()),
    ],
    ids=["default", "runner", "runner in two words", "no runner", "options"],
)
def test_pipeline_is_made_from_the_options(folders, linear_model, options):
    assert run(job_of(folders, linear_model), options).total.predictions_written == 10


def test_pipeline_may_be_made_by_the_caller(folders, linear_model):
    made = []

    def make_pipeline():
        made.append(beam.Pipeline(FnApiRunner()))
        return made[-1]

    summary = run(job_of(folders, linear_model), make_pipeline=make_pipeline)
    assert summary.total.predictions_written == 10
    metrics = made[0].result.metrics().query()
    assert {m.key.metric.namespace for ms in metrics.values() for m in ms} == {"bulk_inferencer"}
    assert {m.key.metric.name: m.committed for m in metrics["counters"]} == {
        "examples_read": 10,
        "predictions_written": 10,
        "examples_failed": 0,
        "batches": 2,
        "model_loads": 1,
    }
    found = {m.key.metric.name: m.committed for m in metrics["distributions"]}
    for name, of_metric in found.items():
        mine = getattr(summary.work, name)
        assert (mine.count, mine.sum, mine.min, mine.max) == (
            of_metric.count,
            of_metric.sum,
            of_metric.min,
            of_metric.max,
        )
    assert set(found) == {
        "batch_records",
        "inference_milliseconds",
        "model_load_milliseconds",
        "model_load_bytes",
    }


def test_local_runner_has_a_thread_per_core(monkeypatch):
    monkeypatch.setattr(job, "_available_cores", lambda: 3)
    assert job.local_beam_args() == [
        "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",
        "--direct_running_mode=multi_threading",
        "--direct_num_workers=3",
    ]


def test_cores_that_this_process_may_use_are_counted():
    assert job._available_cores() == len(os.sched_getaffinity(0))


# Failures


def test_failures_are_listed_and_their_records_kept(folders, linear_model):
    bad = [b"no tf.Example", example(z=1.0)]
    path = write_tfrecord(folders / "in/2.gz", [example(x=10.0), *bad])
    summary = run(job_of(folders, linear_model, failure_limit=ANY_FAILURES))
    counts = summary.splits["s"]
    assert (counts.examples_read, counts.predictions_written, counts.examples_failed) == (13, 11, 2)
    assert predictions(folders) == {float(x): 5.0 * x for x in range(11)}
    first, second = failures(folders)
    assert (first["file"], first["record"]) == (path, 1)
    assert (second["file"], second["record"]) == (path, 2)
    assert first["reason"].startswith("InvalidArgumentError: ")
    assert "Feature: x" in second["reason"]
    shards = sorted((folders / "out/failed_examples/Split-s").iterdir())
    assert [record for path in shards for record in read_tfrecord(path)] == bad


def test_failures_of_all_units_are_listed_in_the_order_of_the_shards(folders, linear_model):
    for i in range(3):
        write_tfrecord(folders / f"in/bad-{i}.gz", [b"bad"] * (i + 1))
    run(job_of(folders, linear_model, failure_limit=ANY_FAILURES))
    found = [(Path(failure["file"]).name, failure["record"]) for failure in failures(folders)]
    assert sorted(found) == [
        ("bad-0.gz", 0),
        *[("bad-1.gz", i) for i in range(2)],
        *[("bad-2.gz", i) for i in range(3)],
    ]


def test_failures_of_a_split_stand_in_its_own_file(folders, linear_model):
    path = write_tfrecord(folders / "bad.gz", [b"bad"])
    splits = {"a": [path], "b": [f"{folders}/in/*"]}
    run(job_of(folders, linear_model, splits=splits, failure_limit=ANY_FAILURES))
    assert len(failures(folders, "a")) == 1
    assert failures(folders, "b") == []


def test_one_failure_in_a_hundred_is_allowed_by_default(folders, linear_model):
    write_tfrecord(folders / "in/2.gz", [example(x=1.0)] * 89 + [b"bad"])
    summary = run(job_of(folders, linear_model))
    assert summary.total == Counts(100, 99, 1, 3, summary.total.bytes_written)


def limit_message(path, allowed, got, *records):
    path = re.escape(path)
    lines = "".join(rf"  {path}, record {r}: InvalidArgumentError: .*\n" for r in records)
    before = f"Expected {allowed} of the records of split 's' to fail, got {got}. The first ones:\n"
    after = (
        "Mend the records or the model, or raise the failure_limit to keep the failures in "
        "failed_examples."
    )
    return f"^{re.escape(before)}{lines}{re.escape(after)}$"


@pytest.mark.parametrize(
    ("limit", "allowed"),
    [
        (FailureLimit(), "at most 1.00%"),
        (FailureLimit(max_count=1, max_fraction=1), "at most 100.00% and at most 1"),
        (FailureLimit(max_count=5, max_fraction=0.125), "at most 12.50% and at most 5"),
    ],
    ids=["default", "count", "fraction"],
)
def test_too_many_failures_fail_the_run_and_leave_no_outputs(folders, linear_model, limit, allowed):
    path = write_tfrecord(folders / "in/2.gz", [b"bad"] * 2)
    with pytest.raises(FailureLimitError, match=limit_message(path, allowed, "2 of 12", 0, 1)):
        run(job_of(folders, linear_model, Column("y", "y"), failure_limit=limit))
    assert_empty(folders)


def test_failures_up_to_the_limit_itself_are_allowed(folders, linear_model):
    records = [b"bad"] * 29 + [example(x=1.0)] * 71
    path = write_tfrecord(folders / "bad.gz", records)
    limit = FailureLimit(max_fraction=0.29)  # times 100 it is less than 29 in floating point
    summary = run(job_of(folders, linear_model, splits={"s": [path]}, failure_limit=limit))
    assert summary.total.examples_failed == 29


def test_only_the_first_failures_are_told(folders, linear_model):
    path = write_tfrecord(folders / "in/2.gz", [b"bad"] * 10)
    with pytest.raises(
        FailureLimitError, match=limit_message(path, "at most 1.00%", "10 of 20", 0, 1, 2)
    ):
        run(job_of(folders, linear_model))


def test_limit_holds_for_each_split_alone(folders, linear_model):
    path = write_tfrecord(folders / "bad.gz", [b"bad", example(x=1.0)])
    splits = {"large": [f"{folders}/in/*"], "s": [path]}
    limit = FailureLimit(max_fraction=0.2)
    message = limit_message(path, "at most 20.00%", "1 of 2", 0)
    with pytest.raises(FailureLimitError, match=message):
        run(job_of(folders, linear_model, splits=splits, failure_limit=limit))


def assert_empty(folder):
    """The outputs are as the run found them: folders without files."""
    assert tree(folder / "out") == []
    expected = ["failed_examples", "inference_result", "output_examples", "summary"]
    found = sorted(path.name for path in (folder / "out").iterdir())
    assert [name for name in expected if name != "output_examples" or name in found] == found


# Folders


@pytest.mark.filterwarnings("ignore:Possible nested set:FutureWarning")
@pytest.mark.parametrize("name", ["run[1]", "run*", ".work"])
def test_outputs_may_lie_anywhere(folders, linear_model, name):
    outputs = Outputs.under(f"{folders}/{name}/out")
    summary = run(job_of(folders, linear_model, outputs=outputs))
    assert summary.total.predictions_written == 10
    assert not any("/.work/" in path for path in tree(folders / name))


@pytest.mark.filterwarnings("ignore:Possible nested set:FutureWarning")
def test_outputs_are_emptied_after_an_error_whatever_their_name(folders, linear_model):
    write_tfrecord(folders / "in/bad.gz", [b"bad"] * 5)
    outputs = Outputs.under(f"{folders}/run[1]")
    with pytest.raises(FailureLimitError):
        run(job_of(folders, linear_model, outputs=outputs))
    assert tree(folders / "run[1]") == []


# Inputs


def test_pattern_that_matches_no_file_is_refused(folders, linear_model):
    patterns = [f"{folders}/none/*", f"{folders}/nor/*"]
    message = (
        f"Expected files for split 's', found none that match {patterns[0]}, {patterns[1]}. "
        f"Correct the pattern, or set allow_empty_splits."
    )
    with pytest.raises(InputError, match=exactly(message)):
        run(job_of(folders, linear_model, splits={"s": patterns}))
    assert not (folders / "out").exists()


def test_folder_in_place_of_a_file_is_named(folders, linear_model):
    with pytest.raises(
        InputError, match=f"an error in {re.escape(str(folders))}/in after record 0"
    ):
        run(job_of(folders, linear_model, splits={"s": [f"{folders}/in"]}))
    assert_empty(folders)


def test_split_without_files_gives_no_predictions_and_a_warning(folders, linear_model, caplog):
    splits = {"s": [f"{folders}/none/*"]}
    with caplog.at_level(logging.WARNING):
        summary = run(job_of(folders, linear_model, splits=splits, allow_empty_splits=True))
    assert summary.total == Counts(0, 0, 0, 1, summary.total.bytes_written)
    assert "Split 's' is empty: no record in 0 files." in caplog.messages
    assert shard(folders, "inference_result/prediction_logs-s-00000-of-00001.gz") == []
    assert shard(folders, "failed_examples/Split-s/failed_examples-00000-of-00001.gz") == []
    assert failures(folders) == []


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_file_without_records_gives_no_predictions_and_a_warning(
    folders, linear_model, caplog, compression
):
    path = write_tfrecord(folders / "empty", [], compression)
    with caplog.at_level(logging.WARNING):
        summary = run(job_of(folders, linear_model, splits={"s": [path]}))
    assert summary.total == Counts(0, 0, 0, 1, summary.total.bytes_written)
    assert "Split 's' is empty: no record in 1 files." in caplog.messages


def test_damaged_file_is_named_and_leaves_no_outputs(folders, linear_model):
    records = [example(x=float(x)) for x in range(22)]
    path = Path(write_tfrecord(folders / "in/2", records, ""))
    path.write_bytes(path.read_bytes().replace(records[21], records[20]))
    start = f"Expected a readable TFRecord file, got an error in {path} after record 21: "
    end = ". Write the file again as TFRecord, or leave it out of the examples."
    with pytest.raises(InputError, match=f"^{re.escape(start)}.*{re.escape(end)}$"):
        run(job_of(folders, linear_model, Column("y", "y"), bounds=BatchBounds(max_records=4)))
    assert_empty(folders)


def test_file_that_is_matched_twice_is_an_error_before_anything_is_written(folders, linear_model):
    patterns = [f"{folders}/in/*", f"{folders}/in/0.gz"]
    message = (
        f"Expected every file once in split 's', got {folders}/in/0.gz twice. Remove the pattern "
        f"that matches it a second time: {patterns[0]}, {patterns[1]}."
    )
    with pytest.raises(InputError, match=exactly(message)):
        run(job_of(folders, linear_model, splits={"s": patterns}))
    assert not (folders / "out").exists()


def test_sequence_examples_are_scored(tmp_path):
    def serve(records):
        context, _, _ = tf.io.parse_sequence_example(records, {"x": FLOAT})
        return {"y": 5 * context["x"]}

    model = save_functions(tmp_path / "model", serving_default=(serve, {"records": RECORDS}))
    write_tfrecord(tmp_path / "in/0.gz", [sequence_example(x=2.0)])
    run(job_of(tmp_path, model, Column("y", "five_x"), record_format=FORMAT_TF_SEQUENCE_EXAMPLE))
    (record,) = output_examples(tmp_path)
    assert context_of(record) == {"x": [2.0], "five_x": [10.0]}


def test_raw_bytes_are_scored(tmp_path):
    serve = (lambda records: {"n": tf.strings.length(records)}, {"records": RECORDS})
    model = save_functions(tmp_path / "model", serving_default=serve)
    write_tfrecord(tmp_path / "in/0.gz", [b"", b"\0\xff", b"abc"])
    run(job_of(tmp_path, model, record_format=FORMAT_PROTO))
    found = read_predictions(f"{tmp_path}/out/inference_result")
    lengths = {prediction.record: int(prediction.outputs["n"]) for prediction in found}
    assert lengths == {b"": 0, b"\0\xff": 2, b"abc": 3}


def test_inputs_and_outputs_on_a_filesystem_unknown_to_tensorflow(folders, linear_model):
    inputs = {"s": [in_bucket(f"{folders}/in/*")]}
    outputs = Outputs.under(in_bucket(f"{folders}/out"))
    run(job_of(folders, linear_model, splits=inputs, outputs=outputs))
    assert predictions(folders) == {float(x): 5.0 * x for x in range(10)}
    assert tree(folders / "out") == [
        "failed_examples/Split-s/failed_examples-00000-of-00002.gz",
        "failed_examples/Split-s/failed_examples-00001-of-00002.gz",
        "inference_result/prediction_logs-s-00000-of-00002.gz",
        "inference_result/prediction_logs-s-00001-of-00002.gz",
        "summary/failures-s.jsonl.gz",
        "summary/summary.json",
    ]


def test_failed_run_empties_outputs_in_a_store_without_folders(folders, linear_model):
    write_tfrecord(folders / "in/2.gz", [b"bad"])
    outputs = Outputs.under(in_bucket(f"{folders}/out"))
    with pytest.raises(FailureLimitError):
        run(job_of(folders, linear_model, outputs=outputs))
    assert tree(folders / "out") == []


# Outputs


@pytest.mark.parametrize(
    "name", ["inference_result", "summary", "failed_examples", "output_examples"]
)
def test_folder_that_is_not_empty_is_refused_and_left_as_it_is(folders, linear_model, name):
    kept = {}
    for file in ("b", "a/1"):
        path = folders / "out" / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("kept")
        kept[f"{name}/{file}"] = "kept"
    message = (
        f"Expected an empty folder to write to, got 2 files in {folders}/out/{name}, such as "
        f"{folders}/out/{name}/a/1. Choose another folder: results are never overwritten. Where "
        f"there is no summary.json, they are of a run that was killed, or that is not over, and "
        f"once it is, the folder can be emptied."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        run(job_of(folders, linear_model, Column("y", "y")))
    assert {n: (folders / "out" / n).read_text() for n in tree(folders / "out")} == kept


def test_second_run_is_refused(folders, linear_model):
    run(job_of(folders, linear_model))
    contents = {n: (folders / "out" / n).read_bytes() for n in tree(folders / "out")}
    with pytest.raises(SettingsError, match=r"^Expected an empty folder to write to, got 2 files "):
        run(job_of(folders, linear_model))
    assert {n: (folders / "out" / n).read_bytes() for n in tree(folders / "out")} == contents


def test_folders_that_exist_and_are_empty_are_used(folders, linear_model):
    for name in ("inference_result", "summary", "failed_examples"):
        (folders / "out" / name).mkdir(parents=True)
    assert run(job_of(folders, linear_model)).total.predictions_written == 10


def surplus_shard(folders):
    """Makes pipelines in whose course somebody else writes into the results."""

    def make_pipeline():
        (folders / "out/inference_result/foreign").write_text("12345")
        return beam.Pipeline(FnApiRunner())

    return make_pipeline


def test_file_that_no_unit_wrote_fails_the_run(folders, linear_model):
    message = (
        f"Expected no file, got a file of 5 bytes at {folders}/out/inference_result/foreign. "
        f"Nothing was committed; run again."
    )
    with pytest.raises(ReconciliationError, match=exactly(message)):
        run(job_of(folders, linear_model), make_pipeline=surplus_shard(folders))
    assert_empty(folders)


# Columns


def test_output_examples_hold_features_and_columns(folders, linear_model):
    run(job_of(folders, linear_model, Column("y", "five_x")))
    found = sorted(map(features_of, output_examples(folders)), key=lambda features: features["x"])
    assert found == [{"x": [float(x)], "five_x": [5.0 * x]} for x in range(10)]


def output_examples(folder):
    shards = sorted((folder / "out/output_examples/Split-s").iterdir())
    return [record for path in shards for record in read_tfrecord(path)]


def test_column_of_an_unknown_output_is_named_before_anything_is_written(folders, tf1_model):
    model = SavedModel(tf1_model, ("regress", "scores_only"))
    message = (
        f"Expected column 'c' to come from an output of {tf1_model}, got 'outputs'; it has: "
        f"regress/outputs, scores_only/scores. Correct OutputExampleSpec."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        run(job_of(folders, model, Column("outputs", "c")))
    assert not (folders / "out").exists()


def test_column_that_would_overwrite_a_feature_is_named(folders, linear_model):
    message = (
        "Output 'y' cannot become column 'x': the input has a feature 'x' already. Choose another "
        "name in OutputExampleSpec, or set OutputExampleSpec.replace_features."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        run(job_of(folders, linear_model, Column("y", "x")))
    assert_empty(folders)


def test_column_replaces_a_feature_on_request(folders, linear_model):
    run(job_of(folders, linear_model, Column("y", "x"), replace_features=True))
    found = sorted(features_of(record)["x"] for record in output_examples(folders))
    assert found == [[5.0 * x] for x in range(10)]


# Models


def test_missing_model_is_named_before_anything_is_written(folders):
    message = (
        f"Expected a SavedModel, found no saved_model.pb in {folders}/none. Check the path, and "
        f"that the Trainer exported the model for serving (fn_args.serving_model_dir)."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        run(job_of(folders, f"{folders}/none"))
    assert not (folders / "out").exists()


def test_model_that_fails_on_a_worker_is_named(folders):
    serve = (lambda examples: {"y": tf.zeros([2, 7])}, {"examples": RECORDS})
    model = save_functions(folders / "model", serving_default=serve)
    message = (
        "Expected output 'y' to have the batch size 5 as its first dimension, got shape (2, 7). "
        "Return one row per record from the signature."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        run(job_of(folders, model))
    assert_empty(folders)


def test_model_that_does_not_load_on_a_worker_is_named(folders, linear_model):
    model = shutil.copytree(linear_model, folders / "model")
    shutil.rmtree(model / "variables")
    with pytest.raises(ModelError, match=f"^Could not load {re.escape(str(model))}: "):
        run(job_of(folders, str(model)))
    assert_empty(folders)


def load_without_luck(path):
    raise ValueError("first line\nsecond line")


def test_error_of_several_lines_on_a_worker_is_raised_whole(folders, linear_model, monkeypatch):
    monkeypatch.setattr(tf.saved_model, "load", lambda path, tags: load_without_luck(path))
    message = f"Could not load {linear_model}: first line\nsecond line"
    with pytest.raises(ModelError, match=exactly(message)):
        run(job_of(folders, linear_model))


def test_error_that_is_not_ours_is_raised_as_it_is(folders, linear_model):
    def make_pipeline():
        raise OSError("no cluster")

    with pytest.raises(OSError, match=r"^no cluster$"):
        run(job_of(folders, linear_model), make_pipeline=make_pipeline)
    assert_empty(folders)


# Settings


def test_job_without_splits_is_refused():
    message = "Expected at least one split, got none. Name the files to score."
    with pytest.raises(SettingsError, match=exactly(message)):
        job_of("folder", "model", splits={})


def test_splits_without_names_are_refused():
    message = (
        "Expected lists of file patterns by split, got ['data/*']. Name the split: "
        "{'unlabelled': ['data/*.tfrecord.gz']}."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        job_of("folder", "model", splits=["data/*"])


def test_string_in_place_of_a_list_of_patterns_is_refused():
    message = (
        "Expected a list of file patterns for split 's', got the string 'data/*'. Put it into a "
        "list."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        job_of("folder", "model", splits={"s": "data/*"})


def test_string_in_place_of_a_model_is_refused():
    message = "Expected a model, got the string 'models/7'. Give SavedModel('models/7')."
    with pytest.raises(SettingsError, match=exactly(message)):
        InferenceJob({"s": ["data/*"]}, "models/7", Outputs.under("out"))


def test_unknown_record_format_is_refused():
    message = (
        "Expected one of FORMAT_TF_EXAMPLE, FORMAT_TF_SEQUENCE_EXAMPLE, FORMAT_PROTO as record "
        "format, got FORMAT_PARQUET. Convert the examples to one of them."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        job_of("folder", "model", record_format="FORMAT_PARQUET")


@pytest.mark.parametrize(
    "outputs",
    [
        Outputs("r", "s", "f", output_examples="e"),
        Outputs("r", "s", "f", columns=(Column("y", "y"),)),
    ],
    ids=["no columns", "no output_examples"],
)
def test_output_examples_and_columns_need_each_other(outputs):
    message = (
        "Expected output_examples and columns together, got one of them. Name the outputs that "
        "become features in OutputExampleSpec."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        job_of("folder", "model", outputs=outputs)


def test_raw_bytes_cannot_get_columns():
    message = (
        "Output examples need FORMAT_TF_EXAMPLE or FORMAT_TF_SEQUENCE_EXAMPLE records to add "
        "features to, got FORMAT_PROTO. Leave out output_example_spec."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        job_of("folder", "model", Column("y", "y"), record_format=FORMAT_PROTO)


def test_negative_count_of_allowed_failures_is_refused():
    message = "Expected at least 0 in FailureLimit.max_count, got -1. Leave it out for no limit."
    with pytest.raises(SettingsError, match=exactly(message)):
        FailureLimit(max_count=-1)


@pytest.mark.parametrize("fraction", [-0.1, 1.5])
def test_fraction_of_allowed_failures_outside_of_its_range_is_refused(fraction):
    message = (
        f"Expected a fraction from 0 to 1 in FailureLimit.max_fraction, got {fraction}. One "
        f"percent is 0.01."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        FailureLimit(max_fraction=fraction)
