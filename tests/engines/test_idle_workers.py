"""Whether a run is told that it has more workers than work, and what it can do about that."""

from __future__ import annotations

import logging

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bulk_inferencer._formats import parquet
from bulk_inferencer._formats.columns import ColumnView
from bulk_inferencer._formats.input_format import InputFile
from bulk_inferencer._formats.parquet import Parquet
from bulk_inferencer._units.inputs import list_files
from bulk_inferencer._units.plan import plan_units
from bulk_inferencer.engines.engine import warn_of_idle_workers

MIB = 1 << 20

MORE_FILES = (
    "A unit is a file. Only files of Parquet, and of CSV and JSON Lines that are not compressed, "
    "are read in parts, of about 16 MiB. Write the input as {} files or more of about equal size, "
    "or use fewer workers."
)
FEWER_WORKERS = (
    "A unit is 64 MiB of files, and there is not enough input for so many. Use {} workers at most."
)


@pytest.fixture
def warnings(caplog):
    """Returns the warnings about units and a number of workers."""

    def of(units, workers):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            warn_of_idle_workers(units, workers)
        return caplog.messages

    return of


def files_of(count, size=MIB):
    return [InputFile(f"file-{i:04d}.gz", size) for i in range(count)]


def test_fewer_files_than_workers(warnings):
    (alone,) = warnings(plan_units({"s": files_of(1, 4096 * MIB)}), 8)
    assert alone == (
        f"There is 1 unit for 8 workers, so 7 of them have nothing to do. {MORE_FILES.format(8)}"
    )
    (three,) = warnings(plan_units({"s": files_of(2), "t": files_of(1)}), 8)
    assert three == (
        f"There are 3 units for 8 workers, so 5 of them have nothing to do. {MORE_FILES.format(8)}"
    )


def test_less_input_than_many_workers_need(warnings):
    """More files would not help: small ones share a unit."""
    (message,) = warnings(plan_units({"s": files_of(10_000)}), 1000)
    assert message == (
        f"There are 157 units for 1000 workers, so 843 of them have nothing to do. "
        f"{FEWER_WORKERS.format(157)}"
    )


@pytest.mark.parametrize(
    ("units", "workers"),
    [
        (plan_units({"s": files_of(8)}), 8),
        (plan_units({"s": files_of(80)})[:3], 8),
        (plan_units({"s": files_of(80)}, in_one=True), 8),
    ],
    ids=["a unit each", "the rest of a run", "a trial"],
)
def test_no_warning(warnings, units, workers):
    assert warnings(units, workers) == []


def test_parts_of_a_file_are_units(warnings, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_PART_BYTES", 1000)
    path = str(tmp_path / "large.parquet")
    pq.write_table(pa.table({"x": range(4000)}), path, row_group_size=500, compression=None)
    files = list_files("s", [path])
    reader = Parquet().reader(files, ColumnView(), None)
    units = plan_units({"s": reader.parts(files[0])})
    assert (len(units), warnings(units, 8)) == (8, [])
