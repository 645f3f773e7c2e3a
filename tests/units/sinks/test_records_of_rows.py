"""Rows that can be no tf.Examples: they fail only where somebody asks for records."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bulk_inferencer import (
    CascadeModel,
    FailureLimit,
    Outputs,
    PythonModel,
    Stage,
    predict,
)
from bulk_inferencer._formats.example import Column
from bulk_inferencer._run import run
from bulk_inferencer.errors import InputError
from bulk_inferencer.job import InferenceJob
from tests.helpers import read_tfrecord

# A hash as an id, as data warehouses have them.
IDS = np.array([1, 2**63 + 5, 3], np.uint64)


@pytest.fixture
def inputs(tmp_path):
    pq.write_table(pa.table({"id": IDS, "x": [1.0, 2.0, np.nan]}), tmp_path / "a.parquet")
    return tmp_path / "a.parquet"


def double(load_path):
    def doubled(features):
        if np.isnan(features["x"]).any():
            raise ValueError("x is NaN")
        return {"y": 2 * features["x"]}

    return doubled


def model():
    return PythonModel(double)


def test_id_beyond_int64_is_kept_where_nobody_needs_a_record(tmp_path, inputs):
    half = FailureLimit(max_fraction=0.5)
    result = predict(model(), inputs, tmp_path / "out", failure_limit=half)
    assert result.to_pandas()["id"].tolist() == [1, 2**63 + 5]
    (failed,) = read_tfrecord(*(tmp_path / "out/failed_examples/Split-inputs").iterdir())
    assert b"id" in failed


@pytest.mark.parametrize("output", ["logs", "examples"])
def test_id_beyond_int64_fails_its_row_where_a_record_is_written(tmp_path, inputs, output):
    outputs = Outputs.under(
        tmp_path / "out",
        table=True,
        prediction_logs=output == "logs",
        output_examples=str(tmp_path / "out/examples") if output == "examples" else None,
        columns=(Column("y", "y"),) if output == "examples" else (),
    )
    job = InferenceJob(
        splits={"s": [str(inputs)]},
        model=model(),
        outputs=outputs,
        failure_limit=FailureLimit(max_fraction=0.9),
    )
    assert run(job).total.predictions_written == 1
    failures = pq.read_table(*(tmp_path / "out/summary").glob("*.parquet")).to_pylist()
    assert [(row["record"], row["reason"].partition(":")[0]) for row in failures] == [
        (1, "DoesNotFit"),
        (2, "ValueError"),
    ]
    assert "'id' holds 9223372036854775813, which is too large" in failures[0]["reason"]
    assert len(read_tfrecord(*(tmp_path / "out/failed_examples/Split-s").iterdir())) == 1


# A type that no tf.Example has


@pytest.fixture
def nested(tmp_path):
    table = pa.table({"s": [{"a": 1}, None, {"a": 2}], "x": [1.0, 2.0, np.nan]})
    pq.write_table(table, tmp_path / "nested.parquet")
    return tmp_path / "nested.parquet"


def test_column_of_any_type_does_no_harm_where_nobody_asks_for_it(tmp_path, nested):
    half = FailureLimit(max_fraction=0.5)
    model = PythonModel(double, features=["x"])
    result = predict(model, nested, tmp_path / "out", keep=["s"], failure_limit=half)
    assert result.to_arrow().to_pydict() == {"s": [{"a": 1}, None], "y": [2.0, 4.0]}
    assert read_tfrecord(*(tmp_path / "out/failed_examples/Split-inputs").iterdir()) == []


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        (PythonModel(double), {}),
        (PythonModel(double, takes_records=True), {}),
        (PythonModel(double, features=["x"]), {"prediction_logs": True}),
        (PythonModel(double, features=["x"]), {"postprocess": dict}),
        (
            CascadeModel(
                [
                    Stage("a", PythonModel(double, features=["x"]), [Column("y", "y")]),
                    Stage("b", PythonModel(double, features=["x"])),
                ]
            ),
            {},
        ),
    ],
    ids=["all features", "records", "logs", "hook", "column of a cascade"],
)
def test_column_of_a_type_that_is_asked_for_is_named_before_the_run(
    tmp_path, nested, model, settings
):
    with pytest.raises(
        InputError, match=r"^Column 's' holds struct<a: int64>, which a tf.Example "
    ):
        predict(model, nested, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()
