"""Rows that can be no tf.Examples: they fail only where somebody asks for records."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bulk_inferencer import FailureLimit, Outputs, predict
from bulk_inferencer._formats.example import Column
from bulk_inferencer._run import run
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
    from bulk_inferencer import PythonModel

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
