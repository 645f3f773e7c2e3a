"""Units of tables: rows that cannot be read, and parts of files."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bulk_inferencer import JSONLines, Parquet
from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._formats.columns import ColumnView
from bulk_inferencer._formats.first_records import of_files
from bulk_inferencer._formats.input_format import Part
from bulk_inferencer._formats.rows import Rows
from bulk_inferencer._models.scorer import Scorer
from bulk_inferencer._models.scoring import LogScorer
from bulk_inferencer._units.manifest import Manifest
from bulk_inferencer._units.plan import Unit, plan_units
from bulk_inferencer._units.routing import SplitRouting
from bulk_inferencer._units.run import Scoring, run_unit
from bulk_inferencer._units.sinks.failure_list import first_failures
from bulk_inferencer._units.spot_check import Drawn, beginnings, sample
from tests.units.helpers import Function, input_file, sinks_in

LINES = [b'{"id": 0}', b"{", b'{"id": 2}', b'{"id": "x"}', b'{"id": 4}']
SPLIT = SplitRouting({"a": 1, "b": 1}, split_key="id")


def ids(batch):
    assert isinstance(batch, Rows)
    return {"id": batch.columns["id"].to_numpy()}


@pytest.fixture
def broken(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(LINES))
    file = input_file(path)
    return file, JSONLines().reader([file], ColumnView(), None)


def run_both(folder, broken, routing=None):
    file, reader = broken
    models = {"a": Function(ids), "b": Function(ids)}
    scorers = {name: LogScorer(Scorer(model)) for name, model in models.items()}
    unit = Unit("s", 0, 1, (file,))
    sinks = sinks_in(folder, models)
    scoring = Scoring(scorers, BatchBounds(), routing)
    manifest = run_unit(unit, scoring, sinks, reader=reader)
    return manifest, [model.sizes for model in models.values()]


def failed_rows(manifest: Manifest):
    return [(f.record, f.branch, f.reason) for f in first_failures(manifest)]


def test_row_that_cannot_be_read_is_a_failure_of_every_model(tmp_path, broken):
    manifest, sizes = run_both(tmp_path, broken)
    assert sizes == [[3], [3]]
    for account in manifest.branches.values():
        assert (account.examples_read, account.predictions_made, account.examples_failed) == (
            5,
            3,
            2,
        )
    rows = [(row, branch) for row, branch, _ in failed_rows(manifest)]
    assert rows == [(1, "a"), (3, "a"), (1, "b"), (3, "b")]
    assert manifest.sinks["failed_examples"].shards[0].records == 0


def test_row_that_cannot_be_read_is_routed_to_no_model(tmp_path, broken):
    manifest, sizes = run_both(tmp_path, broken, SPLIT)
    assert sum(size for own in sizes for size in own) == 3
    assert (manifest.examples_read, manifest.unrouted) == (5, 2)
    (first, second) = failed_rows(manifest)
    assert (first[:2], second[:2]) == ((1, None), (3, None))
    assert "holds 'x'" in second[2]


def test_sampled_row_that_cannot_be_read_counts_as_a_failure(broken):
    file, reader = broken
    found = sample(reader, [Drawn(file, 5)], BatchBounds())
    assert sum(record is None for record in found) == 2
    assert all(record is None or len(record) == 1 for record in found)
    assert len(list(beginnings(reader, [Drawn(file, 5)]))) == 3


def test_first_rows_stay_rows_without_those_that_cannot_be_read(broken):
    file, reader = broken
    first = of_files(reader, [file])
    assert first.batch(2).source["id"].to_pylist() == [0, 2]
    assert first.batch(9).source["id"].to_pylist() == [0, 2, 4]
    assert first.having(["id", "x"]) == {"id"}


def test_parts_of_a_file_are_shared_among_units_as_files_are(tmp_path):
    path = tmp_path / "a.parquet"
    table = pa.table({"x": np.random.default_rng(0).random(5_000_000)})
    pq.write_table(table, path, row_group_size=500_000, compression="none")
    file = input_file(path)
    parts = Parquet().reader([file], ColumnView(), None).parts(file)
    assert len(parts) > 1
    assert [part.part.start for part in parts[1:]] == [part.part.stop for part in parts[:-1]]
    units = plan_units({"s": parts})
    assert sorted(f for unit in units for f in unit.files) == parts
    assert len({unit.key for unit in units}) == len(units) == len(parts)
    assert isinstance(parts[0].part, Part)
