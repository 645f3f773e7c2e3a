"""What is in the rows. How values become columns, and columns files: see tests/formats."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulk_inferencer._formats.batches import Batch, BatchBounds, Segment
from bulk_inferencer._formats.rows import Rows
from bulk_inferencer._formats.table_settings import TableSettings
from bulk_inferencer._models.predictor import Prediction
from bulk_inferencer._models.scorer import Scorer
from bulk_inferencer._models.scoring import LogScorer
from bulk_inferencer._signatures import OutputType
from bulk_inferencer._units.failure_limit import FailureLimit
from bulk_inferencer._units.failure_watch import FailureWatch
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.routing import SplitRouting
from bulk_inferencer._units.run import Scoring, run_unit
from bulk_inferencer._units.sinks.sink import BranchResult, ScoredBatch
from bulk_inferencer._units.tables import table_sinks
from bulk_inferencer._units.unit_files import UnitFiles
from bulk_inferencer._work import Work
from bulk_inferencer.errors import FailureLimitError
from bulk_inferencer.results.reader import read_predictions
from tests.formats.test_table_values import outputs, plain
from tests.helpers import example, write_tfrecord
from tests.units.helpers import Function, failures_of, records_of, score_records, unit_of, x_of

FIVE = OutputType("float64", ())
KEPT = pa.schema([("x", pa.float32()), ("id", pa.string())])
RECORDS = [example(x=float(i), id=f"r{i}") for i in range(6)]


def times(factor, *refused, name="y"):
    """Returns a predictor of x times a factor, which refuses some x."""

    def predict(batch):
        values = np.array([x_of(record) for record in batch])
        if set(values) & set(refused):
            raise ValueError("refused")
        return {name: values * factor}

    return Function(predict)


def sinks_of(folder, models, types=None, kept=KEPT, table=None, **settings):
    names_models = list(models) != ["inference_result"]
    return table_sinks(
        table or TableSettings(),
        table=f"{folder}/out/table",
        summary=f"{folder}/out/summary",
        types={name: types or {"y": FIVE} for name in models},
        kept=kept,
        names_models=names_models,
        **settings,
    )


def scored(folder, models, records=RECORDS, *, routing=None, run=None, **settings):
    """Scores records with tables among the outputs, and returns the manifest."""
    sinks = sinks_of(folder, models, routing=routing, **settings)
    return score_records(folder, models, records, more_sinks=sinks, routing=routing, **run or {})


def rows_of(manifest, sink="prediction_table"):
    (shard,) = manifest.sinks[sink].shards
    rows = pq.read_table(shard.path).to_pylist()
    assert len(rows) == shard.records
    return rows


def test_table_has_a_row_for_each_record_that_the_model_scored(tmp_path):
    models = {"inference_result": times(5, 2.0)}
    manifest = scored(tmp_path, models, run={"first_records": {"inference_result": 2}})
    assert rows_of(manifest) == [
        {"x": float(i), "id": f"r{i}", "y": 5.0 * i} for i in (0, 1, 3, 4, 5)
    ]
    table = sinks_of(tmp_path, models)[0]
    assert table.predictions_written(manifest.sinks[table.name]) == {"inference_result": 5}


def test_models_side_by_side_fill_columns_of_their_own(tmp_path):
    models = {"five": times(5, 1.0, 3.0), "ten": times(10, 2.0, 3.0)}
    manifest = scored(tmp_path, models, RECORDS[:4], splits=["s", "t"])
    assert rows_of(manifest) == [
        {"split": "s", "x": 0.0, "id": "r0", "five/y": 0.0, "ten/y": 0.0},
        {"split": "s", "x": 1.0, "id": "r1", "five/y": None, "ten/y": 10.0},
        {"split": "s", "x": 2.0, "id": "r2", "five/y": 10.0, "ten/y": None},
    ]
    table = sinks_of(tmp_path, models)[0]
    assert table.predictions_written(manifest.sinks[table.name]) == {"five": 2, "ten": 2}


def test_models_of_an_ab_test_share_columns_beside_key_and_variant(tmp_path):
    routing = SplitRouting({"five": 1, "ten": 1}, "id")
    records = [example(x=float(i), id=f"r{i}") for i in range(40)]
    models = {"five": times(5, 3.0), "ten": times(10, 4.0)}
    rows = rows_of(scored(tmp_path, models, records, routing=routing))
    variants = [routing.model_of(b"r%d" % i) for i in range(40)]
    factors = {"five": 5, "ten": 10}
    expected = [
        {"key": f"r{i}", "x": float(i), "id": f"r{i}", "variant": own, "y": i * factors[own]}
        for i, own in enumerate(variants)
        if (i, own) not in ((3, "five"), (4, "ten"))
    ]
    assert rows == expected
    assert {"five", "ten"} == set(variants)


def test_path_is_the_key_of_a_record_that_is_a_file(tmp_path):
    batch = Batch([b"0", b"1", b"2"], (Segment("1.jpg", 0, 1), Segment("2.jpg", 0, 2)))
    rows = written(
        tmp_path,
        scored_by(batch, lambda records: {"y": np.array([float(own) for own in records])}),
        kept=None,
        has_keys=True,
    )
    assert rows == [{"key": f"{i}.jpg", "y": float(y)} for y, i in enumerate((1, 2, 2))]


def test_columns_of_a_table_are_kept_as_they_are(tmp_path):
    source = pa.table({"id": [7, 8], "tags": [["a"], None], "f": [1.0, 2.0]})
    batch = Batch(Rows(source), (Segment("t.parquet", 0, 2),))
    rows = written(
        tmp_path,
        scored_by(batch, lambda records: {"y": records.columns["f"].to_numpy() * 5}),
        kept=source.schema,
        table=TableSettings(keep=["tags", "id"]),
    )
    assert rows == [{"tags": ["a"], "id": 7, "y": 5.0}, {"tags": None, "id": 8, "y": 10.0}]


def scored_by(batch, predict):
    scorer = LogScorer(Scorer(Function(predict), 1))
    pieces = list(scorer.score(batch.records, Work()))
    return ScoredBatch(batch, {"inference_result": BranchResult(len(batch.records), pieces, [])})


def written(folder, *batches, **settings):
    sink = sinks_of(folder, ["inference_result"], **settings)[0]
    with UnitFiles() as files:
        opened = sink.open(Unit("s", 0, 1, ()), files)
        for batch in batches:
            assert opened.unfit(batch) == {}
            opened.write(batch)
        (shard,) = opened.close().shards
    return pq.read_table(shard.path).to_pylist()


@settings(max_examples=20)
@given(st.integers(1, 4).flatmap(lambda k: st.lists(outputs(st.just(k)), min_size=1, max_size=3)))
def test_table_equals_the_prediction_logs_of_the_same_records(drawn):
    count = len(drawn[0][1])
    values = {f"y{i}": own for i, (_, own) in enumerate(drawn)}
    types = {f"y{i}": kind for i, (kind, _) in enumerate(drawn)}

    def predict(batch):
        rows = list(map(int, batch))
        return {name: own[rows] for name, own in values.items()}

    with tempfile.TemporaryDirectory() as folder:
        manifest = scored(
            Path(folder),
            {"inference_result": Function(predict)},
            [str(i).encode() for i in range(count)],
            types=types,
            kept=None,
            run={"first_records": {"inference_result": 1}},
        )
        table = rows_of(manifest)
        logs = [own.outputs for own in read_predictions(f"{folder}/out/inference_result")]
    assert len(table) == len(logs) == count
    for row, log in zip(table, logs, strict=True):
        assert plain_row(row) == plain_row({name: in_table(log.get(name)) for name in types})


def in_table(values):
    """Returns what a table holds of an array; a single value flat."""
    if values is None:
        return None
    if values.dtype.name in ("bfloat16", "float16"):
        values = values.astype(np.float32)
    return values.item() if set(values.shape) <= {1} else values.tolist()


def plain_row(row):
    return {name: plain(value) for name, value in row.items()}


def test_table_without_rows_has_the_columns_of_the_others(tmp_path):
    full, empty = (
        scored(tmp_path / name, {"a": times(5)}, records).sinks["prediction_table"].shards[0]
        for name, records in (("1", RECORDS), ("2", []))
    )
    assert pq.read_schema(full.path).equals(pq.read_schema(empty.path))
    assert (full.records, empty.records) == (6, 0)


# What does not fit


def x_or_text(batch):
    values = np.empty(len(batch), object)
    values[:] = [b"\xff" if x_of(record) == 2 else b"text" for record in batch]
    return {"y": values}


def test_prediction_that_does_not_fit_is_a_failure_in_every_output(tmp_path):
    models = {"a": Function(x_or_text), "b": Function(lambda batch: {"y": np.array(batch, object)})}
    records = [*RECORDS[:3], example(x=3.0, id=["p", "q"])]
    text = {"y": OutputType("string", ())}
    manifest = scored(
        tmp_path, models, records, types=text, table=TableSettings(binary=["b/y"], keep=["id"])
    )
    unfit = "DoesNotFit: Output 'y': b'\\xff' is not UTF-8; name the column in TableSettings.binary"
    of_id = "DoesNotFit: Feature 'id' has 2 values, but those of the first records had one"
    reasons = [(own["model"], own["record"], own["reason"]) for own in failures_of(manifest)]
    assert reasons == [("a", 2, unfit), ("a", 3, of_id), ("b", 3, of_id)]
    assert rows_of(manifest) == [
        *({"id": f"r{i}", "a/y": "text", "b/y": records[i]} for i in range(2)),
        {"id": "r2", "a/y": None, "b/y": records[2]},
    ]
    logs = {name: manifest.sinks[f"prediction_logs/{name}"].shards[0].records for name in "ab"}
    made = {name: own.predictions_made for name, own in manifest.branches.items()}
    assert logs == made == {"a": 2, "b": 3}
    assert [own.examples_failed for own in manifest.branches.values()] == [2, 1]
    assert records_of(manifest, "failed_examples") == records[2:]


def test_predictions_that_do_not_fit_count_against_the_limit(tmp_path):
    (table, _) = sinks_of(tmp_path, ["a"], {"y": OutputType("string", ())})
    watch = FailureWatch(FailureLimit(max_count=0))
    scorers = {"a": LogScorer(Scorer(Function(x_or_text)))}
    unit = unit_of(write_tfrecord(tmp_path / "in/0.gz", RECORDS))
    with pytest.raises(FailureLimitError, match=r"DoesNotFit: Output 'y': b'\\xff' is not UTF-8"):
        run_unit(unit, Scoring(scorers, BatchBounds(), watch=watch), [table])


@pytest.mark.parametrize(
    ("outputs_of_last", "stages", "expected"),
    [
        ({}, {}, "The model did not return output 'z'"),
        ({}, {"small": 1, "full": 0}, None),
        ({"z": 1.0, "new": 2.0}, {}, "Output 'new' has no column: no record had it before the run"),
    ],
)
def test_outputs_must_be_those_that_the_columns_are_for(
    tmp_path, outputs_of_last, stages, expected
):
    def predict(batch):
        made = {"y": 1.0, "z": 1.0}
        if x_of(batch[0]) == 1.0:
            made = {"y": 1.0, **outputs_of_last}
        arrays = {name: np.full(len(batch), value) for name, value in made.items()}
        return Prediction(arrays, stages if "z" not in made else {})

    models = {"inference_result": Function(predict)}
    run = {"first_records": {"inference_result": 1}}
    manifest = scored(tmp_path, models, RECORDS[:2], types={"y": FIVE, "z": FIVE}, run=run)
    reasons = [own["reason"] for own in failures_of(manifest)]
    assert reasons == ([f"DoesNotFit: {expected}"] if expected else [])
    last = [] if expected else [{"x": 1.0, "id": "r1", "y": 1.0, "z": None}]
    assert rows_of(manifest) == [{"x": 0.0, "id": "r0", "y": 1.0, "z": 1.0}, *last]
