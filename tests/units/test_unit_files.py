from __future__ import annotations

import gzip
import logging
import re
from pathlib import Path

import google_crc32c
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bulk_inferencer import _files
from bulk_inferencer._layout import GZIP, NONE
from bulk_inferencer._units.manifest import Shard
from bulk_inferencer._units.unit_files import UnitFiles
from tests.helpers import read_tfrecord, tree


def test_files_of_a_unit_wait_in_the_work_folder_of_their_output(tmp_path):
    folder = tmp_path
    with UnitFiles() as files:
        records, lines = files.open(str(folder), "records"), files.open(str(folder), "lines")
        records.write_records([b"one", b"two"])
        records.write_records([])
        records.write_records([b"three"])  # Every write but the empty one is a gzip member.
        lines.write_lines([b"one", b"two"])
        shards = [records.close(), lines.close()]
    first, second = (Path(shard.path) for shard in shards)
    assert sorted(tree(folder)) == sorted(f".work/{path.name}" for path in (first, second))
    assert re.fullmatch(r"[0-9a-f]{32}-records", first.name)
    assert read_tfrecord(first) == [b"one", b"two", b"three"]
    assert first.read_bytes().count(b"\x1f\x8b\x08\x00\x00\x00\x00\x00") == 2
    assert gzip.decompress(second.read_bytes()) == b"one\ntwo\n"
    for shard, count in zip(shards, (3, 2), strict=True):
        content = Path(shard.path).read_bytes()
        assert shard == Shard(shard.path, count, len(content), google_crc32c.value(content))


@pytest.mark.parametrize(("compression", "is_empty"), [(GZIP, False), (NONE, True)])
def test_file_without_records_can_be_read_all_the_same(tmp_path, compression, is_empty):
    with UnitFiles(str(tmp_path / "elsewhere")) as files:
        shard = files.open(str(tmp_path), "records", compression).close()
    assert (shard.bytes == 0) == is_empty
    assert Path(shard.path).parent == tmp_path / "elsewhere"
    assert read_tfrecord(shard.path, compression if compression == GZIP else "") == []


def test_shard_of_a_table_counts_rows_and_bytes(tmp_path):
    table = pa.table({"id": [1, 2, 3]})
    with UnitFiles() as files:
        shard = files.open_table(str(tmp_path), "rows.parquet", "parquet", table.schema)
        shard.write(table)
        shard.write(table.slice(1))
        found = shard.close()
    content = Path(found.path).read_bytes()
    assert found == Shard(found.path, 5, len(content), google_crc32c.value(content))
    assert pq.read_table(found.path)["id"].to_pylist() == [1, 2, 3, 2, 3]


def write_and_raise(folder, error):
    with UnitFiles() as files:
        files.open(str(folder), "a").close()
        files.open(str(folder), "b").write_records([b"record"])
        table = pa.table({"id": [1]})
        files.open_table(str(folder), "c", "parquet", table.schema).write(table)
        raise error


def test_files_of_a_unit_that_ends_with_an_error_are_deleted(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write_and_raise(tmp_path, KeyboardInterrupt())
    assert tree(tmp_path) == []


def test_file_that_cannot_be_deleted_is_logged_beside_the_error(tmp_path, monkeypatch, caplog):
    def delete(path):
        raise OSError("read-only")

    monkeypatch.setattr(_files, "delete", delete)
    with caplog.at_level(logging.ERROR), pytest.raises(ValueError, match=r"^the first error$"):
        write_and_raise(tmp_path, ValueError("the first error"))
    assert len(caplog.messages) == 3
    for message, name in zip(caplog.messages, "abc", strict=True):
        pattern = rf"Could not delete .*/\.work/\w+-{name}\. The end of the run will\."
        assert re.fullmatch(pattern, message)
