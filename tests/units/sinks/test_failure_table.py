from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bulk_inferencer._units.sinks.failure_table import FailureTable
from tests.helpers import example
from tests.units.helpers import score_records
from tests.units.sinks.test_prediction_table import rows_of, scored, times

REASON = "ValueError: refused"


def test_table_has_a_row_for_each_failure_of_a_model(tmp_path):
    records = [*(example(x=float(i), id=f"r{i}") for i in range(3)), example(x=3.0, id=["p", "q"])]
    models = {"five": times(5, 1.0, 3.0), "ten": times(10, 1.0)}
    manifest = scored(tmp_path, models, records, splits=["s", "t"])
    unfit = "DoesNotFit: Feature 'id' has 2 values, but those of the first records had one"
    file = f"{tmp_path}/in/0.gz"
    assert rows_of(manifest, "failure_table") == [
        {
            "split": "s",
            "file": file,
            "record": record,
            "reason": reason,
            "model": model,
            "x": float(record),
            "id": kept,
        }
        for model, record, reason, kept in [
            ("five", 1, REASON, "r1"),
            ("five", 3, REASON, None),
            ("ten", 1, REASON, "r1"),
            ("ten", 3, unfit, None),
        ]
    ]


def test_table_names_no_split_and_no_model_where_there_is_one_of_each(tmp_path):
    manifest = scored(tmp_path, {"inference_result": times(5, 1.0)})
    assert [list(row) for row in rows_of(manifest, "failure_table")] == [
        ["file", "record", "reason", "x", "id"]
    ]


@pytest.mark.parametrize("names_models", [False, True])
def test_feature_named_like_a_column_is_told_apart(tmp_path, names_models):
    kept = pa.schema([("file", pa.string()), ("model", pa.string())])
    records = [example(x=1.0, file="f", model="m")]
    sink = FailureTable(
        f"{tmp_path}/out/summary", kept.serialize().to_pybytes(), "parquet", names_models
    )
    manifest = score_records(tmp_path, {"a": times(5, 1.0)}, records, more_sinks=[sink])
    model = {"model": "a", "input/file": "f", "input/model": "m"}
    expected = {"file": f"{tmp_path}/in/0.gz", "record": 0, "reason": REASON}
    expected |= model if names_models else {"input/file": "f", "model": "m"}
    assert rows_of(manifest, sink.name) == [expected]


def test_table_without_failures_has_its_columns(tmp_path):
    manifest = scored(tmp_path, {"a": times(5)})
    (shard,) = manifest.sinks["failure_table"].shards
    assert pq.read_schema(shard.path).names == ["file", "record", "reason", "model", "x", "id"]
    assert shard.records == 0
