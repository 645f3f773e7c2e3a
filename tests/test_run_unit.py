from __future__ import annotations

import gzip
import json
import logging
import re
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulk_inferencer import _files
from bulk_inferencer._formats import tfrecord
from bulk_inferencer._formats.example import Column
from bulk_inferencer._models.batching import BatchBounds, Scorer
from bulk_inferencer._signatures import PREDICT, Signature
from bulk_inferencer._units.manifest import Failure
from bulk_inferencer._units.outputs import Outputs
from bulk_inferencer._units.plan import InputFile, Unit, list_files, plan_units
from bulk_inferencer._units.run import run_unit
from bulk_inferencer.errors import InputError, ModelError, SettingsError
from bulk_inferencer.results.reader import read_predictions
from tests.helpers import (
    Lengths,
    context_of,
    example,
    features_of,
    make_folders,
    read_tfrecord,
    sequence_example,
    tree,
    write_tfrecord,
)


def unit_of(*paths):
    return Unit("s", 0, 1, tuple(InputFile(path, Path(path).stat().st_size) for path in paths))


def outputs_in(folder, *columns, replace_features=False):
    outputs = Outputs.under(str(folder))
    if columns:
        folders = (outputs.inference_result, outputs.summary, outputs.failed_examples)
        outputs = Outputs(*folders, f"{folder}/output_examples", columns, replace_features)
    make_folders(outputs, "s")
    return outputs


def run(unit, outputs, predictor=None, bounds=None):
    return run_unit(unit, {"": Scorer(predictor or Lengths())}, bounds or BatchBounds(), outputs)


def read_back(outputs):
    found = read_predictions(outputs.inference_result)
    return [(prediction.record, int(prediction.outputs["length"])) for prediction in found]


# Compression


def test_predictions_are_stored_as_they_are_where_compression_is_none(tmp_path):
    path = write_tfrecord(tmp_path / "in/1.gz", [b"a", b"bb", b"ccc"])
    outputs = Outputs.under(str(tmp_path / "out"), compression="NONE")
    make_folders(outputs, "s")
    manifest = run(unit_of(path), outputs, bounds=BatchBounds(max_records=2))
    assert read_back(outputs) == [(b"a", 1), (b"bb", 2), (b"ccc", 3)]
    (shard,) = [s for s in manifest.shards if s.path.startswith(outputs.inference_result)]
    assert shard.path == f"{outputs.inference_result}/prediction_logs-s-00000-of-00001"
    stored = Path(shard.path).read_bytes()
    assert (len(stored), google_crc32c.value(stored)) == (shard.bytes, shard.crc32c)
    assert len(read_tfrecord(shard.path, compression="")) == 3
    # TFX reads Examples as gzip only.
    assert tree(tmp_path / "out/failed_examples") == ["Split-s/failed_examples-00000-of-00001.gz"]


def test_empty_unit_has_an_empty_shard_where_compression_is_none(tmp_path):
    outputs = Outputs.under(str(tmp_path / "out"), compression="NONE")
    make_folders(outputs, "s")
    run(unit_of(), outputs)
    shard = Path(outputs.inference_result, "prediction_logs-s-00000-of-00001")
    assert shard.read_bytes() == b""
    assert read_back(outputs) == []


def test_unknown_compression_is_refused():
    message = (
        "Expected one of GZIP, NONE as Outputs.compression, got 'ZSTD'. Leave it out for GZIP."
    )
    with pytest.raises(SettingsError, match=f"^{re.escape(message)}$"):
        Outputs.under("/out", compression="ZSTD")


# Nothing is lost


@settings(max_examples=20)
@given(
    st.lists(st.lists(st.binary(max_size=60), max_size=15), min_size=1, max_size=5),
    st.builds(BatchBounds, st.integers(1, 20), st.integers(1, 200)),
    st.data(),
)
def test_records_survive_any_bounds_and_any_number_of_files_and_shards(
    tmp_path_factory, contents, bounds, data
):
    folder = tmp_path_factory.mktemp("unit")
    paths = []
    for i, records in enumerate(contents):
        path = folder / f"input-{i}"
        frames = tfrecord.frame(records)
        path.write_bytes(tfrecord.gzip_member(frames) if i % 2 else frames)
        paths.append(InputFile(str(path), len(frames)))
    shards = data.draw(st.lists(st.integers(0, 2), min_size=len(paths), max_size=len(paths)))
    outputs = outputs_in(folder)

    for shard in range(3):
        files = tuple(file for file, own in zip(paths, shards, strict=True) if own == shard)
        run(Unit("s", shard, 3, files), outputs, bounds=bounds)

    expected, failed = [], []
    for shard in range(3):
        for records, own in zip(contents, shards, strict=True):
            for record in records if own == shard else ():
                (failed if record.startswith(b"bad") else expected).append(record)
    assert read_back(outputs) == [(record, len(record)) for record in expected]
    assert failed_records(outputs) == failed


def failed_records(outputs):
    shards = sorted(Path(outputs.failed_examples, "Split-s").iterdir())
    return [record for shard in shards for record in read_tfrecord(shard)]


def test_planned_units_score_every_file_once(tmp_path):
    for i in range(10):
        write_tfrecord(tmp_path / f"in/{i:03d}.gz", [b"%03d" % i])
    outputs = outputs_in(tmp_path)
    units = plan_units({"s": list_files("s", [f"{tmp_path}/in/*"])})
    assert len(units) == 10
    manifests = [run(unit, outputs) for unit in units]
    assert sum(manifest.predictions_written for manifest in manifests) == 10
    assert sorted(record for record, _ in read_back(outputs)) == [b"%03d" % i for i in range(10)]


# What a unit writes


def test_shards_have_their_names_and_nothing_else_is_left(tmp_path):
    unit = Unit("s", 3, 12, ())
    run(unit, outputs_in(tmp_path, Column("length", "n")))
    assert tree(tmp_path) == [
        "failed_examples/Split-s/failed_examples-00003-of-00012.gz",
        "inference_result/prediction_logs-s-00003-of-00012.gz",
        "output_examples/Split-s/examples-00003-of-00012.gz",
        "summary/.work/failures-s-00003-of-00012.jsonl.gz",
    ]


def test_shards_without_records_are_gzip_all_the_same(tmp_path):
    run(Unit("s", 0, 1, ()), outputs_in(tmp_path))
    contents = [gzip.decompress((tmp_path / name).read_bytes()) for name in tree(tmp_path)]
    assert contents == [b"", b"", b""]


def test_failures_are_listed_with_file_number_and_reason(tmp_path):
    first = write_tfrecord(tmp_path / "in/1.gz", [b"good", b"bad 1", b"good"])
    second = write_tfrecord(tmp_path / "in/2.gz", [b"bad 2"])
    outputs = outputs_in(tmp_path)
    manifest = run(unit_of(first, second), outputs)
    lines = gzip.decompress(Path(manifest.failures).read_bytes()).splitlines()
    reason = "ValueError: a bad record"
    assert [json.loads(line) for line in lines] == [
        {"file": first, "record": 1, "reason": reason},
        {"file": second, "record": 0, "reason": reason},
    ]
    assert failed_records(outputs) == [b"bad 1", b"bad 2"]


def test_records_are_numbered_within_their_files_across_batches(tmp_path):
    path = write_tfrecord(tmp_path / "in/1.gz", [b"good"] * 25 + [b"bad"] + [b"good"] * 5)
    manifest = run(unit_of(path), outputs_in(tmp_path), bounds=BatchBounds(max_records=10))
    assert [failure.record for failure in manifest.first_failures] == [25]


def test_manifest_accounts_for_the_unit(tmp_path):
    path = write_tfrecord(tmp_path / "in/1.gz", [b"good"] * 7 + [b"bad"] * 8)
    manifest = run(unit_of(path), outputs_in(tmp_path))
    assert (manifest.split, manifest.index, manifest.of) == ("s", 0, 1)
    assert manifest.files == (path,)
    assert manifest.examples_read == 15
    assert manifest.predictions_written == 7
    assert manifest.examples_failed == 8
    assert manifest.seconds > 0
    expected = tuple(Failure(path, i, "ValueError: a bad record") for i in range(7, 12))
    assert manifest.first_failures == expected


def test_manifest_holds_size_and_checksum_of_every_file(tmp_path):
    path = write_tfrecord(tmp_path / "in/1.gz", [b"good", b"bad"])
    manifest = run(unit_of(path), outputs_in(tmp_path / "out", Column("length", "n")))
    contents = {str(tmp_path / "out" / n): n for n in tree(tmp_path / "out")}
    assert {shard.path for shard in manifest.shards} == set(contents)
    for shard in manifest.shards:
        content = Path(shard.path).read_bytes()
        assert (shard.bytes, shard.crc32c) == (len(content), google_crc32c.value(content))


def test_every_batch_is_one_gzip_member(tmp_path):
    path = write_tfrecord(tmp_path / "in/1.gz", [b"record"] * 25)
    outputs = outputs_in(tmp_path)
    run(unit_of(path), outputs, bounds=BatchBounds(max_records=10))
    shard = Path(outputs.inference_result, "prediction_logs-s-00000-of-00001.gz").read_bytes()
    assert shard.count(b"\x1f\x8b\x08\x00\x00\x00\x00\x00") == 3


# Output examples


def test_output_examples_hold_the_scored_records_with_their_columns(tmp_path):
    records = [example(x=1.0), b"bad", example(x=2.0, z="text")]
    path = write_tfrecord(tmp_path / "in/1.gz", records)
    outputs = outputs_in(tmp_path, Column("length", "n"))
    run(unit_of(path), outputs)
    examples = read_tfrecord(f"{outputs.output_examples}/Split-s/examples-00000-of-00001.gz")
    assert [features_of(record) for record in examples] == [
        {"x": [1.0], "n": [len(records[0])]},
        {"x": [2.0], "z": [b"text"], "n": [len(records[2])]},
    ]


def test_output_sequence_examples_hold_the_columns_in_their_context(tmp_path):
    record = sequence_example(user="u1")
    path = write_tfrecord(tmp_path / "in/1.gz", [record])
    outputs = outputs_in(tmp_path, Column("length", "n"))
    run(unit_of(path), outputs)
    (longer,) = read_tfrecord(f"{outputs.output_examples}/Split-s/examples-00000-of-00001.gz")
    assert context_of(longer) == {"user": [b"u1"], "n": [len(record)]}


def test_feature_is_replaced_on_request(tmp_path):
    path = write_tfrecord(tmp_path / "in/1.gz", [example(n=1)])
    outputs = outputs_in(tmp_path, Column("length", "n"), replace_features=True)
    run(unit_of(path), outputs)
    (record,) = read_tfrecord(f"{outputs.output_examples}/Split-s/examples-00000-of-00001.gz")
    assert features_of(record) == {"n": [len(example(n=1))]}


# Attempts


def test_second_attempt_replaces_the_first_with_the_same_bytes(tmp_path):
    path = write_tfrecord(tmp_path / "in/1.gz", [example(x=float(i)) for i in range(50)] + [b"bad"])
    outputs = outputs_in(tmp_path / "out", Column("length", "n"))
    first = run(unit_of(path), outputs, bounds=BatchBounds(max_records=10))
    contents = {name: (tmp_path / "out" / name).read_bytes() for name in tree(tmp_path / "out")}
    second = run(unit_of(path), outputs, bounds=BatchBounds(max_records=10))
    assert {n: (tmp_path / "out" / n).read_bytes() for n in tree(tmp_path / "out")} == contents
    assert len(contents) == 4
    assert second.shards == first.shards


def test_attempt_that_reads_a_damaged_file_leaves_nothing(tmp_path):
    good = write_tfrecord(tmp_path / "in/1.gz", [b"good"] * 100)
    damaged = tmp_path / "in/2"
    damaged.write_text("this is no TFRecord file")
    outputs = outputs_in(tmp_path / "out", Column("length", "n"))
    message = f"Expected a readable TFRecord file, got an error in {damaged} after record 0: "
    with pytest.raises(InputError, match=re.escape(message)):
        run(unit_of(good, str(damaged)), outputs, bounds=BatchBounds(max_records=10))
    assert tree(tmp_path / "out") == []


class Wrong(Lengths):
    """Fails whatever the records are, once it has scored a batch."""

    calls = 0

    def predict(self, batch):
        self.calls += 1
        if self.calls > 1:
            raise ModelError("the model is wrong")
        return super().predict(batch)


def test_attempt_whose_model_fails_leaves_nothing(tmp_path):
    path = write_tfrecord(tmp_path / "in/1.gz", [b"good"] * 20)
    outputs = outputs_in(tmp_path / "out")
    with pytest.raises(ModelError, match=r"^the model is wrong$"):
        run(unit_of(path), outputs, Wrong(), BatchBounds(max_records=10))
    assert tree(tmp_path / "out") == []


def test_attempt_whose_column_is_taken_leaves_nothing(tmp_path):
    path = write_tfrecord(tmp_path / "in/1.gz", [example(n=1)])
    outputs = outputs_in(tmp_path / "out", Column("length", "n"))
    with pytest.raises(SettingsError, match=r"^Output 'length' cannot become column 'n'"):
        run(unit_of(path), outputs)
    assert tree(tmp_path / "out") == []


def test_attempt_that_cannot_be_deleted_is_told_beside_the_error(tmp_path, monkeypatch, caplog):
    def delete(path):
        raise OSError("read-only")

    monkeypatch.setattr(_files, "delete", delete)
    path = write_tfrecord(tmp_path / "in/1.gz", [b"good"] * 20)
    with caplog.at_level(logging.ERROR), pytest.raises(ModelError, match=r"^the model is wrong$"):
        run(unit_of(path), outputs_in(tmp_path / "out"), Wrong(), BatchBounds(max_records=10))
    assert len(caplog.messages) == 3
    for message in caplog.messages:
        assert re.fullmatch(
            r"Could not delete .*/\.work/\w+-.*; the end of the run does\.", message
        )


class Unencodable:
    """Gives an output that no PredictionLog can carry."""

    signatures = (Signature("serving_default", PREDICT, ("y",)),)
    input_name = "records"
    stages = ()

    def predict(self, batch):
        return {"y": np.zeros(len(batch), "datetime64[s]")}


def test_attempt_whose_output_cannot_be_written_leaves_nothing(tmp_path):
    path = write_tfrecord(tmp_path / "in/1.gz", [b"record"])
    with pytest.raises(ModelError, match=r"^Output 'y' has dtype datetime64\[s\]"):
        run(unit_of(path), outputs_in(tmp_path / "out"), Unencodable())
    assert tree(tmp_path / "out") == []
