from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulk_inferencer._formats import tfrecord
from bulk_inferencer._formats.prediction_log import PredictionLogEncoder
from bulk_inferencer._signatures import PREDICT, Signature
from bulk_inferencer.errors import InputError
from bulk_inferencer.results.joined_logs import joined_logs, merged
from bulk_inferencer.results.shards import Shard
from tests.helpers import exactly


@given(st.lists(st.integers(0, 9)), st.lists(st.sets(st.integers(0, 2)), min_size=10, max_size=10))
def test_merged_items_are_those_of_the_sequences_each_in_its_order(items, members):
    sequences = [[item for item in items if i in members[item]] for i in range(3)]
    rows = list(merged(sequences))
    for i, sequence in enumerate(sequences):
        assert sum(present[i] for present in rows) == len(sequence)
    # Equal items fare alike, so that each is one row.
    assert len(rows) == sum(bool(members[item]) for item in items)
    streams = [iter(sequence) for sequence in sequences]
    for present in rows:
        assert len({next(s) for s, is_in in zip(streams, present, strict=True) if is_in}) == 1


@given(st.lists(st.lists(st.integers(0, 2)), min_size=2, max_size=3))
def test_any_sequences_are_merged_without_loss(sequences):
    rows = list(merged(sequences))
    streams = [iter(sequence) for sequence in sequences]
    for present in rows:
        assert len({next(s) for s, is_in in zip(streams, present, strict=True) if is_in}) == 1
    assert all(next(stream, None) is None for stream in streams)


def shard(folder, name, records):
    encoder = PredictionLogEncoder([Signature("s", PREDICT)], "examples")
    logs = encoder.encode(records, {"y": np.ones(2)}) if records != [] else []
    path = folder / name
    path.write_bytes(tfrecord.frame(logs))
    return Shard(str(path), path.stat().st_size, "s", 0, 1)


def test_logs_that_cannot_be_joined_are_an_error(tmp_path):
    two = shard(tmp_path, "two", [b"a", b"b"])
    none, bare = shard(tmp_path, "none", []), shard(tmp_path, "bare", None)
    rows = list(joined_logs({"five": two, "ten": None}, is_alike=False))
    assert [row["ten"] for row in rows] == [None, None]
    with pytest.raises(
        InputError,
        match=exactly(
            f"{two.path} and {none.path} are not of the same records: one is longer than the "
            f"other. Read one model at a time, with model."
        ),
    ):
        list(joined_logs({"five": two, "ten": none}, is_alike=True))
    with pytest.raises(
        InputError,
        match=exactly(
            f"{two.path} and {bare.path} cannot be joined: models failed on some records, and the "
            f"logs hold no records to tell which. Read one model at a time, with model, or keep "
            f"the records in the logs."
        ),
    ):
        list(joined_logs({"five": two, "ten": bare}, is_alike=False))
