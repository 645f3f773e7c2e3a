"""Parquet files: parts, types, columns, memory, and what is said of files that cannot be read."""

from __future__ import annotations

import datetime
import io
import pickle
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulk_inferencer._formats import parquet
from bulk_inferencer._formats.parquet import Parquet
from bulk_inferencer.errors import InputError
from tests.formats.reading import chunks_of, listed, reader_of, table_of
from tests.helpers import exactly, in_bucket


def content_of(table, **settings):
    file = io.BytesIO()
    pq.write_table(table, file, **settings)
    return file.getvalue()


def file_of(path, table, **settings):
    return listed(path, content_of(table, **settings))


@settings(max_examples=15)
@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=4),
    group=st.integers(1, 15),
    part_bytes=st.integers(1, 2000),
    max_bytes=st.integers(1, 300),
)
def test_every_row_is_read_once_and_in_order(
    tmp_path_factory, counts, group, part_bytes, max_bytes
):
    folder = tmp_path_factory.mktemp("rows")
    ends = np.cumsum(counts)
    files = [
        file_of(
            folder / f"{i}.parquet",
            pa.table({"id": range(end - n, end), "text": [f"t{j}" for j in range(end - n, end)]}),
            row_group_size=group,
        )
        for i, (n, end) in enumerate(zip(counts, ends, strict=True))
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "_PART_BYTES", part_bytes)
        reader = reader_of(Parquet(), *files)
        parts = [part for file in files for part in reader.parts(file)]
    sent = pickle.loads(pickle.dumps(reader))
    assert table_of(sent, *parts, max_bytes=max_bytes)["id"].to_pylist() == [*range(ends[-1])]
    assert table_of(sent, *files)["text"].to_pylist() == [f"t{j}" for j in range(ends[-1])]


def test_row_groups_become_parts_of_about_one_size(tmp_path, monkeypatch):
    table = pa.table({"x": np.random.default_rng(0).random(1000)})
    file = file_of(tmp_path / "x.parquet", table, row_group_size=100)
    monkeypatch.setattr(parquet, "_PART_BYTES", file.bytes // 4)
    parts = [own.part for own in reader_of(Parquet(), file).parts(file)]
    assert [(part.start, part.stop) for part in parts] == [(0, 3), (3, 6), (6, 9), (9, 10)]
    assert sum(part.bytes for part in parts) == pytest.approx(file.bytes, abs=len(parts))
    monkeypatch.setattr(parquet, "_PART_BYTES", file.bytes * 2)
    assert reader_of(Parquet(), file).parts(file) == [file]


def test_file_in_another_filesystem_is_read(tmp_path):
    file = file_of(tmp_path / "x.parquet", pa.table({"x": [1, 2]}))
    remote = parquet.InputFile(in_bucket(file.path), file.bytes)
    assert table_of(reader_of(Parquet(), remote), remote)["x"].to_pylist() == [1, 2]


@pytest.mark.parametrize("limit", [0, 1 << 40], ids=["in pieces", "whole"])
def test_large_row_group_is_read_in_bounded_memory(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(parquet, "_WHOLE_GROUP_BYTES", limit)
    random = np.random.default_rng(0)
    table = pa.table({name: random.random(2_000_000) for name in "ab"})
    file = file_of(tmp_path / "x.parquet", table, use_dictionary=False)
    reader = reader_of(Parquet(), file)
    before, most, rows = pa.total_allocated_bytes(), 0, 0
    for chunk in reader.read(file, 1 << 19, 1 << 30):
        most = max(most, pa.total_allocated_bytes() - before)
        rows += len(chunk.records)
    assert rows == len(table)
    assert (most < table.nbytes // 2) == (limit == 0)


def test_chunk_is_small_even_if_each_value_is_stored_once(tmp_path):
    table = pa.table({"text": ["x" * 10_000] * 1000})
    file = file_of(tmp_path / "x.parquet", table)
    assert file.bytes < 50_000
    chunks = chunks_of(reader_of(Parquet(), file), file, max_bytes=100_000)
    assert max(chunk.records.nbytes for chunk in chunks) < 150_000


def test_types_are_kept_and_dictionaries_decoded(tmp_path):
    table = pa.table(
        {
            "word": pa.array(["a", None, "a"]).dictionary_encode(),
            "large": pa.array(["a", "b", "c"], pa.large_string()),
            "vector": pa.array([[1.0], [], None], pa.list_(pa.float32())),
            "time": pa.array([datetime.datetime(2024, 1, 1)] * 3, pa.timestamp("us", "UTC")),
            "flag": [True, None, False],
            "small": pa.array([1, 2, 3], pa.int8()),
        }
    )
    file = file_of(tmp_path / "x.parquet", table)
    reader = reader_of(Parquet(), file)
    decoded = {**{field.name: field.type for field in table.schema}, "word": pa.string()}
    assert {field.name: field.type for field in reader.schema} == {**decoded, "large": pa.string()}
    assert table_of(reader, file).to_pylist() == table.to_pylist()


def test_only_the_columns_that_somebody_takes_are_read(tmp_path):
    table = pa.table({"id": [1], "a.b": [2.0], "a": [3.0], "nested": [{"x": 1}], "list": [[1]]})
    file = file_of(tmp_path / "x.parquet", table)
    reader = reader_of(Parquet(), file, columns=["a"], kept=())
    assert table_of(reader, file).to_pydict() == {"a": [3.0]}
    reader = reader_of(Parquet(), file, columns=["a"], kept=("a.b",))
    assert table_of(reader, file).to_pydict() == {"a.b": [2.0], "a": [3.0]}
    reader = reader_of(Parquet(), file, columns=["a"])  # and all scalars
    assert table_of(reader, file).column_names == ["id", "a.b", "a"]
    assert reader.features.names == ["a"]


def test_types_that_hold_the_same_values_become_the_widest_one(tmp_path):
    one = pa.table({"n": pa.array([1], pa.int32()), "x": pa.array([1], pa.float32()), "z": [None]})
    two = pa.table({"z": ["a"], "x": [0.5], "n": [1 << 40]})
    files = [file_of(tmp_path / f"{i}.parquet", t) for i, t in enumerate([one, two, one])]
    assert table_of(reader_of(Parquet(), *files), *files).to_pydict() == {
        "n": [1, 1 << 40, 1],
        "x": [1.0, 0.5, 1.0],
        "z": [None, "a", None],
    }


def test_column_of_another_type_in_another_file_is_an_error_if_somebody_takes_it(tmp_path):
    one = file_of(tmp_path / "1.parquet", pa.table({"a": [1], "x": [1]}))
    two = file_of(tmp_path / "2.parquet", pa.table({"a": [2], "x": ["1"]}))
    message = (
        f"Column 'x' holds int64 in {one.path}, but string in {two.path}. Write both with one "
        f"type, or leave the column out with columns=."
    )
    with pytest.raises(InputError, match=exactly(message)):
        reader_of(Parquet(), one, two)
    reader = reader_of(Parquet(), one, two, columns=["a"], kept=())
    assert table_of(reader, one, two)["a"].to_pylist() == [1, 2]


@pytest.mark.parametrize("order", [1, -1])
def test_column_that_one_file_lacks_is_an_error_if_somebody_takes_it(tmp_path, order):
    one = file_of(tmp_path / "1.parquet", pa.table({"a": [1], "x": [1]}))
    two = file_of(tmp_path / "2.parquet", pa.table({"a": [2]}))
    message = (
        f"{two.path} has no column 'x', which {one.path} has. Write it there too, or leave the "
        f"column out with columns=, which names the others."
    )
    with pytest.raises(InputError, match=exactly(message)):
        reader_of(Parquet(), *[one, two][::order])
    reader = reader_of(Parquet(), one, two, columns=["a"], kept=())
    assert table_of(reader, one, two)["a"].to_pylist() == [1, 2]


def test_file_without_rows_or_row_groups_has_columns_and_no_chunks(tmp_path):
    table = pa.table({"x": [1.5]})
    empty = file_of(tmp_path / "empty.parquet", table.slice(0, 0))
    none = tmp_path / "none.parquet"
    pq.ParquetWriter(str(none), table.schema).close()
    files = [empty, listed(none)]
    reader = reader_of(Parquet(), *files)
    assert reader.schema == table.schema
    assert chunks_of(reader, *files) == []
    assert [reader.parts(file) for file in files] == [[file] for file in files]
    assert reader_of(Parquet()).schema.names == []


GOOD = content_of(pa.table({"x": np.arange(1000.0)}), row_group_size=500, compression="zstd")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "Parquet file size is 0 bytes"),
        (GOOD[:-20], "Parquet magic bytes not found in footer."),
        (b"PAR1" + bytes(100) + b"PARE", "it is encrypted"),
        (b"x,y\n1,2\n", "Parquet"),
    ],
    ids=["empty", "cut short", "encrypted", "something else"],
)
def test_file_without_a_footer_cannot_be_read(tmp_path, content, fault):
    file = listed(tmp_path / "x.parquet", content)
    start = re.escape(f"Cannot read {file.path} as Parquet: {fault}")
    with pytest.raises(InputError, match=rf"^{start}.*\(at its end\)\. W"):
        reader_of(Parquet(), file)
    whole = listed(tmp_path / "whole.parquet", GOOD)
    reader = reader_of(Parquet(), file, whole)  # The unit of the damaged file will say so.
    assert reader.parts(file) == [file]
    with pytest.raises(InputError, match=rf"^{start}.*\(after row 0\)\. W"):
        chunks_of(reader, file)


def test_lists_of_a_fixed_size_that_may_be_null_are_no_damage(tmp_path):
    rows = pa.array([[1, 2], None], pa.list_(pa.int64(), 2))
    file = file_of(tmp_path / "x.parquet", pa.table({"v": rows}))
    reader = reader_of(Parquet(), file)
    message = (
        f"Cannot read {file.path} as Parquet: pyarrow {pa.__version__} cannot read a column of "
        f"lists of a fixed size of which some are null (after row 0). Write the "
        f"column with lists of any size, or leave it out with columns=."
    )
    with pytest.raises(InputError, match=exactly(message)):
        table_of(reader, file)


def test_rows_before_damage_come_before_the_error(tmp_path):
    offset = pq.ParquetFile(io.BytesIO(GOOD)).metadata.row_group(1).column(0).data_page_offset
    damaged = GOOD[:offset] + bytes(200) + GOOD[offset + 200 :]
    file = listed(tmp_path / "x.parquet", damaged)
    reader = reader_of(Parquet(), file)
    read = []
    message = rf"^Cannot read {re.escape(file.path)} as Parquet: .+ \(after row 500\)\. Write the"
    with pytest.raises(InputError, match=message):
        read.extend(reader.read(file, 1 << 20, 1 << 30))
    assert sum(len(chunk.records) for chunk in read) == 500


def test_file_that_has_changed_is_an_error(tmp_path):
    path = tmp_path / "x.parquet"
    file = listed(path, GOOD)
    reader = reader_of(Parquet(), file)
    now = listed(path, content_of(pa.table({"x": [1.0]})))
    with pytest.raises(InputError, match=f"^{file.path} had {file.bytes} bytes when the run began"):
        chunks_of(reader, file)
    assert chunks_of(reader, now)
    for table, fault in [
        (pa.table({"y": [1.0]}), "it has no column 'x', which other files have"),
        (pa.table({"x": ["a"]}), "its column 'x' holds string, but double in other files"),
    ]:
        with pytest.raises(InputError, match=re.escape(f": {fault} (after row 0). Write the file")):
            chunks_of(reader, file_of(path, table))
    path.unlink()
    with pytest.raises(InputError, match=r"^Cannot read .+No such file.+\(after row 0\)"):
        chunks_of(reader, now)


def test_each_file_is_opened_once_before_a_run(tmp_path, monkeypatch):
    files = [file_of(tmp_path / f"{i}.parquet", pa.table({"x": [i]})) for i in range(20)]
    opened = []
    source = parquet._source
    monkeypatch.setattr(parquet, "_source", lambda path: opened.append(path) or source(path))
    reader = reader_of(Parquet(), *files)
    assert [part for file in files for part in reader.parts(file)] == files
    assert sorted(opened) == sorted(file.path for file in files)
    assert reader.known_parts == {}  # A part is known only of files that have several.
