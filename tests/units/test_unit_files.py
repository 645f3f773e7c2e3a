from __future__ import annotations

import gzip
import logging
import re
from pathlib import Path

import google_crc32c
import pytest

from bulk_inferencer import _files
from bulk_inferencer._layout import GZIP, NONE
from bulk_inferencer._units.commit import make_folders
from bulk_inferencer._units.manifest import Shard
from bulk_inferencer._units.unit_files import UnitFiles
from tests.helpers import read_tfrecord, tree


@pytest.fixture
def folder(tmp_path):
    make_folders([str(tmp_path)], [], [])
    return tmp_path


def test_files_get_their_names_when_they_are_committed(folder):
    with UnitFiles() as files:
        records, lines = files.open(str(folder), "records"), files.open(str(folder), "lines")
        records.write_records([b"one", b"two"])
        records.write_records([])
        records.write_records([b"three"])  # Every write but the empty one is a gzip member.
        lines.write_lines([b"one", b"two"])
        shards = [records.close(), lines.close()]
        assert not any(path.exists() for path in (folder / "records", folder / "lines"))
        files.commit()
    assert tree(folder) == ["lines", "records"]
    assert read_tfrecord(folder / "records") == [b"one", b"two", b"three"]
    assert (folder / "records").read_bytes().count(b"\x1f\x8b\x08\x00\x00\x00\x00\x00") == 2
    assert gzip.decompress((folder / "lines").read_bytes()) == b"one\ntwo\n"
    for shard, count in zip(shards, (3, 2), strict=True):
        content = Path(shard.path).read_bytes()
        assert shard == Shard(shard.path, count, len(content), google_crc32c.value(content))


@pytest.mark.parametrize(("compression", "is_empty"), [(GZIP, False), (NONE, True)])
def test_file_without_records_can_be_read_all_the_same(folder, compression, is_empty):
    with UnitFiles() as files:
        shard = files.open(str(folder), "records", compression).close()
        files.commit()
    assert (shard.bytes == 0) == is_empty
    assert read_tfrecord(folder / "records", compression if compression == GZIP else "") == []


def write_and_raise(folder, error):
    with UnitFiles() as files:
        files.open(str(folder), "a").close()
        files.open(str(folder), "b").write_records([b"record"])
        raise error


def test_files_of_a_unit_that_ends_with_an_error_are_deleted(folder):
    with pytest.raises(KeyboardInterrupt):
        write_and_raise(folder, KeyboardInterrupt())
    assert tree(folder) == []


def test_file_that_cannot_be_deleted_is_logged_beside_the_error(folder, monkeypatch, caplog):
    def delete(path):
        raise OSError("read-only")

    monkeypatch.setattr(_files, "delete", delete)
    with caplog.at_level(logging.ERROR), pytest.raises(ValueError, match=r"^the first error$"):
        write_and_raise(folder, ValueError("the first error"))
    assert len(caplog.messages) == 2
    for message, name in zip(caplog.messages, "ab", strict=True):
        pattern = rf"Could not delete .*/\.work/\w+-{name}\. The end of the run will\."
        assert re.fullmatch(pattern, message)
