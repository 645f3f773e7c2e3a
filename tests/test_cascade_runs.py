"""Whole runs of models one after the other."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import tensorflow as tf

from bulk_inferencer._formats.example import Column
from bulk_inferencer._models.batching import BatchBounds
from bulk_inferencer._models.cascade import CascadeModel, ExitWhen, Stage
from bulk_inferencer._models.hooks import Hooked
from bulk_inferencer._models.predictor import (
    FORMAT_PROTO,
)
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer.errors import ModelError, SettingsError
from bulk_inferencer.job import run
from bulk_inferencer.results.summary import StageCounts, Summary
from tests.cascade_helpers import (
    X_OF_Y,
    Model,
    job_of,
    length,
    output_examples,
    predictions,
    refuse_negative,
    save_times,
    twice,
    x_of,
    xs,
)
from tests.helpers import (
    RECORDS,
    exactly,
    save_functions,
)


@pytest.fixture(scope="module")
def five(tmp_path_factory):
    """The settings of a real model, y = 5 x."""
    return SavedModel(save_times(tmp_path_factory.mktemp("five") / "model", 5))


@pytest.fixture(scope="module")
def ten(tmp_path_factory):
    """The settings of a real model, y = 10 x."""
    return SavedModel(save_times(tmp_path_factory.mktemp("ten") / "model", 10))


def half_of(five, ten):
    """Records with x of at most 4 exit after the first stage."""
    return CascadeModel(
        (Stage("small", five, X_OF_Y, (ExitWhen("y", at_most=20),)), Stage("full", ten))
    )


@pytest.mark.parametrize("first_records", [1, 2, 64])
def test_run_counts_the_records_of_each_stage_as_its_predictions_do(
    five, ten, tmp_path, first_records
):
    job = job_of(
        tmp_path,
        half_of(five, ten),
        xs(*range(10)),
        Column("y", "score"),
        Column("small/y", "of_small"),
        Column("full/y", "of_full"),
        bounds=BatchBounds(first_records=first_records),
    )
    summary = run(job)
    assert summary.stages == {"small": StageCounts(10, 5, 5), "full": StageCounts(5, 5, 0)}
    assert Summary.read(job.outputs.summary) == summary
    assert summary.model_path == job.model.uri
    assert summary.model_fingerprint == job.model.fingerprint()
    assert summary.signature_names == ("small/serving_default,full/serving_default",)

    found = {
        x_of(p.record): {n: v.item() for n, v in p.outputs.items()} for p in predictions(tmp_path)
    }
    settled = {x: {"y": 5 * x, "small/y": 5 * x} for x in (0.0, 1.0, 2.0, 3.0, 4.0)}
    escalated = {
        x: {"y": 50 * x, "small/y": 5 * x, "full/y": 50 * x} for x in (5.0, 6.0, 7.0, 8.0, 9.0)
    }
    assert found == settled | escalated

    examples = {features["x"][0]: features for features in output_examples(tmp_path)}
    assert examples == {
        **{
            x: {"x": [x], "score": [5 * x], "of_small": [5 * x]} for x in settled
        },
        **{
            x: {"x": [x], "score": [50 * x], "of_small": [5 * x], "of_full": [50 * x]}
            for x in escalated
        },
    }  # fmt: skip


def test_column_that_no_record_has_is_no_error(five, ten, tmp_path):
    columns = (Column("full/y", "of_full"), Column("y", "score"))
    summary = run(job_of(tmp_path, half_of(five, ten), xs(0, 1), *columns))
    assert summary.stages == {"small": StageCounts(2, 2, 0), "full": StageCounts(0, 0, 0)}
    found = sorted(output_examples(tmp_path), key=lambda features: features["x"])
    assert found == [{"x": [0.0], "score": [0.0]}, {"x": [1.0], "score": [5.0]}]


def test_failures_of_a_run_name_the_stage_and_count_in_no_stage(five, ten, tmp_path):
    model = CascadeModel((Stage("five", five), Stage("ten", Hooked(ten, refuse_negative))))
    summary = run(job_of(tmp_path, model, xs(*range(-1, 9))))
    assert (summary.total.predictions_written, summary.total.examples_failed) == (9, 1)
    assert summary.stages == {"five": StageCounts(9, 0, 9), "ten": StageCounts(9, 9, 0)}
    (line,) = gzip.decompress(
        Path(tmp_path, "out/summary/failures-s.jsonl.gz").read_bytes()
    ).splitlines()
    reason = "ValueError: Stage 'ten': x is negative"
    assert json.loads(line) == {"file": f"{tmp_path}/in/0.gz", "record": 0, "reason": reason}


def test_run_without_a_column_passes_raw_bytes_on(tmp_path):
    second = Model(twice, "y")
    model = CascadeModel((Stage("a", Model(length, "y")), Stage("b", second)))
    records = [b"", b"\0\xff", b"three", b"\n\0"]
    run(job_of(tmp_path, model, records, record_format=FORMAT_PROTO))
    assert {p.record: p.outputs["y"].item() for p in predictions(tmp_path)} == {
        record: 2 * len(record) for record in records
    }


def test_unknown_column_of_a_run_is_named_before_anything_is_written(five, ten, tmp_path):
    model = half_of(five, ten)
    message = (
        f"Expected column 'c' to come from an output of {model.uri}, got 'z/y'; it has: y, "
        f"small/y, full/y. Correct OutputExampleSpec."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        run(job_of(tmp_path, model, xs(1, 2), Column("z/y", "c")))
    assert not Path(tmp_path, "out").exists()


def test_error_of_a_stage_on_a_worker_is_raised_with_its_name(five, tmp_path):
    serve = (lambda examples: {"y": tf.zeros([7])}, {"examples": RECORDS})
    wrong = SavedModel(save_functions(tmp_path / "model", serving_default=serve))
    model = CascadeModel((Stage("five", five), Stage("wrong", wrong)))
    message = (
        "Stage 'wrong': Expected output 'y' to have the batch size 2 as its first dimension, got "
        "shape (7,). Return one row per record from the signature."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        run(job_of(tmp_path, model, xs(1, 2, 3, 4)))


def unchanged(records, outputs):
    return outputs


def as_text(records, outputs):
    return {"text": [str(value) for value in outputs["y"].tolist()]}


def test_postprocess_keeps_apart_what_a_record_does_not_have(five, ten, tmp_path):
    cascade = CascadeModel(
        (
            Stage("small", five, X_OF_Y, (ExitWhen("y", at_most=20),)),
            Stage("full", Hooked(ten, postprocess=as_text)),
        )
    )
    run(job_of(tmp_path, Hooked(cascade, postprocess=unchanged), xs(1, 9)))
    found = {
        x_of(p.record): {n: v.item() for n, v in p.outputs.items()} for p in predictions(tmp_path)
    }
    assert found == {
        1.0: {"y": 5.0, "small/y": 5.0},
        9.0: {"text": b"450.0", "small/y": 45.0, "full/text": b"450.0"},
    }


def test_column_of_a_stage_that_tells_its_outputs_late_is_no_error_before_it_runs(
    five, ten, tmp_path
):
    cascade = CascadeModel(
        (
            Stage("small", five, X_OF_Y, (ExitWhen("y", at_most=20),)),
            Stage("full", Hooked(ten, postprocess=as_text)),
        )
    )
    columns = (Column("full/text", "text"), Column("small/y", "y"))
    run(job_of(tmp_path, cascade, xs(1, 2), *columns))
    found = sorted(output_examples(tmp_path), key=lambda features: features["x"])
    assert found == [{"x": [1.0], "y": [5.0]}, {"x": [2.0], "y": [10.0]}]


def test_unknown_column_of_such_a_stage_is_an_error_once_it_runs(five, ten, tmp_path):
    cascade = CascadeModel((Stage("five", five), Stage("ten", Hooked(ten, postprocess=as_text))))
    with pytest.raises(ModelError, match=r"^Expected output 'ten/y' for column 'y', got five/y, "):
        run(job_of(tmp_path, cascade, xs(1, 2), Column("ten/y", "y")))
