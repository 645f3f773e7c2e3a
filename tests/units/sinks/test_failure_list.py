"""What is listed. That the lists of all units become one: see ../test_commit.py."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import pytest

from bulk_inferencer import _files
from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._units.sinks import failure_list
from bulk_inferencer._units.sinks.failure_list import Failure, FailureList, first_failures
from tests.helpers import Lengths, write_tfrecord
from tests.units.helpers import failures_of, lengths_at_most, score, score_records, unit_of

REASON = "ValueError: a bad record"


def test_failures_are_listed_with_file_number_and_reason(tmp_path):
    first = write_tfrecord(tmp_path / "in/1.gz", [b"good"] * 25 + [b"bad"] + [b"good"] * 5)
    second = write_tfrecord(tmp_path / "in/2.gz", [b"bad"])
    manifest = score(
        unit_of(first, second),
        {"a": Lengths()},
        [FailureList(f"{tmp_path}/summary", names_models=False)],
        bounds=BatchBounds(max_records=10),
    )
    assert failures_of(manifest) == [
        {"file": first, "record": 25, "reason": REASON},
        {"file": second, "record": 0, "reason": REASON},
    ]
    assert manifest.sinks["failures"].shards[0].records == 2


def test_failures_name_their_model_and_the_first_of_each_are_kept(tmp_path):
    models = {"a": lengths_at_most(3), "b": lengths_at_most(9)}
    bounds = BatchBounds(max_records=4)
    manifest = score_records(tmp_path, models, [b"4444"] * 9 + [b"x" * 10], bounds=bounds)
    path, reason = f"{tmp_path}/in/0.gz", "ValueError: too long"
    assert failures_of(manifest) == [
        {"file": path, "record": i, "reason": reason, "model": model}
        for model, i in [*(("a", i) for i in range(10)), ("b", 9)]
    ]
    expected = [Failure(path, i, reason, "a") for i in range(5)]
    assert first_failures(manifest) == (*expected, Failure(path, 9, reason, "b"))


@pytest.mark.parametrize("buffer_bytes", [1, 1000], ids=["one by one", "side by side"])
def test_only_files_with_failures_are_joined_and_in_order(tmp_path, monkeypatch, buffer_bytes):
    monkeypatch.setattr(failure_list, "_BUFFER_BYTES", buffer_bytes)
    sink = FailureList(f"{tmp_path}/summary", names_models=False)
    models = {"inference_result": lengths_at_most(3)}
    units = [[b"1"], [b"4444"], [b"1"], [b"55555", b"1", b"4444"], [b"1"]]
    manifests = [
        replace(score_records(tmp_path / str(i), models, records), index=i)
        for i, records in enumerate(units)
    ]
    opened = []
    open_to_read = _files.open_to_read
    monkeypatch.setattr(_files, "open_to_read", lambda p: opened.append(p) or open_to_read(p))
    sink.finish(["s"], manifests, None)
    with gzip.open(tmp_path / "summary/failures-s.jsonl.gz") as file:
        lines = [json.loads(line) for line in file]
    assert [(line["file"], line["record"]) for line in lines] == [
        (f"{tmp_path}/1/in/0.gz", 0),
        (f"{tmp_path}/3/in/0.gz", 0),
        (f"{tmp_path}/3/in/0.gz", 2),
    ]
    assert len(opened) == 2
    sink.finish(["s"], [manifests[0]], None)
    assert gzip.decompress((tmp_path / "summary/failures-s.jsonl.gz").read_bytes()) == b""
