"""One unit from end to end: what is read, scored, counted and left on disk."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulk_inferencer._formats import tfrecord
from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._formats.example import Column
from bulk_inferencer._models.predictor import Prediction
from bulk_inferencer._models.scorer import Scorer
from bulk_inferencer._models.scoring import LogScorer
from bulk_inferencer._units import room as unit_room
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.routing import SplitRouting
from bulk_inferencer._units.run import Scoring, run_unit
from bulk_inferencer.errors import InputError, ModelError, SettingsError
from bulk_inferencer.results.reader import read_predictions
from tests.helpers import Lengths, example, read_tfrecord, tree, write_tfrecord
from tests.units.helpers import (
    Function,
    examples_of,
    failures_of,
    input_file,
    lengths_at_most,
    records_of,
    score,
    score_records,
    sinks_in,
    unit_of,
)

ONE = {"inference_result": Lengths()}
N = [Column("length", "n")]


def predicted(folder, name="inference_result"):
    found = read_predictions(f"{folder}/{name}")
    return [(prediction.record, int(prediction.outputs["length"])) for prediction in found]


def contents(folder):
    return {name: Path(folder, name).read_bytes() for name in tree(folder)}


# Nothing is lost


@settings(max_examples=20)
@given(
    st.lists(st.lists(st.binary(max_size=60), max_size=15), min_size=1, max_size=5),
    st.builds(BatchBounds, st.integers(1, 20), st.integers(1, 200)),
    st.data(),
)
def test_records_survive_any_bounds_and_any_number_of_files_and_units(
    tmp_path_factory, contents, bounds, data
):
    folder = tmp_path_factory.mktemp("unit")
    files = []
    for i, records in enumerate(contents):
        path = folder / f"input-{i}"
        frames = tfrecord.frame(records)
        path.write_bytes(tfrecord.gzip_member(frames) if i % 2 else frames)
        files.append(input_file(path))
    unit_of_file = data.draw(st.lists(st.integers(0, 2), min_size=len(files), max_size=len(files)))
    expected, failed = [], []
    for index in range(3):
        own = [i for i, unit in enumerate(unit_of_file) if unit == index]
        unit = Unit("s", index, 3, tuple(files[i] for i in own))
        score(unit, ONE, sinks_in(folder, ONE), bounds=bounds)
        for record in (record for i in own for record in contents[i]):
            (failed if record.startswith(b"bad") else expected).append(record)
    assert predicted(folder) == [(record, len(record)) for record in expected]
    shards = sorted(Path(folder, "failed_examples/Split-s").iterdir())
    assert [record for shard in shards for record in read_tfrecord(shard)] == failed


def test_versions_and_stages_are_those_of_all_predictions(tmp_path):
    def answer(batch):
        # Another version answers each batch; the second stage runs for short records only.
        version = batch[0][:1].decode()
        stages = {"small": len(batch), "full": sum(len(record) < 3 for record in batch)}
        return Prediction({"n": np.arange(len(batch))}, stages, frozenset(version))

    models = {"a": Function(answer), "b": Lengths()}
    records = [b"2", b"2xx", b"1", b"1"]
    manifest = score_records(tmp_path, models, records, bounds=BatchBounds(max_records=2))
    found = manifest.branches["a"]
    assert (found.model_versions, found.stages) == (("1", "2"), {"small": 4, "full": 3})
    assert (manifest.branches["b"].model_versions, manifest.branches["b"].stages) == ((), {})
    files = tuple(file.path for file in manifest.files)
    assert (manifest.split, manifest.index, files) == ("s", 0, (f"{tmp_path}/in/0.gz",))
    assert manifest.seconds > 0


def test_batches_are_small_until_it_is_known_what_predictions_take_and_where_that_is_much(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(unit_room, "_PREDICTION_BYTES", 10_000)
    model = Function(lambda batch: {"y": np.zeros((len(batch), 100))})  # 800 bytes, and in the log
    score_records(tmp_path, {"m": model}, [b"x"] * 20, bounds=BatchBounds(first_records=8))
    assert model.sizes == [8, 5, 5, 2]
    model = Function(Lengths().predict)
    score_records(
        tmp_path / "light", {"m": model}, [b"x"] * 20, bounds=BatchBounds(first_records=8)
    )
    assert model.sizes == [8, 12]


# Several models


def test_each_model_scores_what_is_read_once(tmp_path, monkeypatch):
    paths = []
    read_chunks = tfrecord.read_chunks
    monkeypatch.setattr(
        tfrecord,
        "read_chunks",
        lambda path, *args, **kwargs: paths.append(path) or read_chunks(path, *args, **kwargs),
    )
    models = {name: Function(Lengths().predict) for name in "abc"}
    score_records(tmp_path, models, [b"record"] * 10, bounds=BatchBounds(max_records=4))
    assert paths == [f"{tmp_path}/in/0.gz"]
    assert [model.sizes for model in models.values()] == [[4, 4, 2]] * 3


def test_each_model_has_its_own_failures(tmp_path):
    models = {"a": lengths_at_most(3), "b": lengths_at_most(2)}
    manifest = score_records(tmp_path, models, [b"1", b"4444", b"333", b"22"])
    assert {
        name: (found.examples_read, found.predictions_made, found.examples_failed)
        for name, found in manifest.branches.items()
    } == {"a": (4, 3, 1), "b": (4, 2, 2)}
    assert (manifest.examples_read, manifest.predictions_made) == (4, 5)
    assert (manifest.examples_failed, manifest.unrouted) == (3, 0)
    failed = [(line["record"], line["model"]) for line in failures_of(manifest)]
    assert failed == [(1, "a"), (1, "b"), (2, "b")]
    # Each record once, however many models it failed in.
    assert records_of(manifest, "failed_examples") == [b"4444", b"333"]
    assert predicted(tmp_path / "out", "a") == [(b"1", 1), (b"333", 3), (b"22", 2)]
    assert predicted(tmp_path / "out", "b") == [(b"1", 1), (b"22", 2)]


@pytest.mark.parametrize(("limit", "read"), [(3, 3), (4, 4), (5, 5), (99, 7)])
def test_limit_ends_a_unit_within_a_batch_or_a_file(tmp_path, limit, read):
    files = [
        write_tfrecord(tmp_path / f"in/{i}.gz", records)
        for i, records in enumerate([[b"a", b"", b"b", b"c"], [b"d", b"e", b"f"]])
    ]
    model = lengths_at_most(9)
    scoring = Scoring({"five": LogScorer(Scorer(model))}, BatchBounds(max_records=2))
    manifest = run_unit(unit_of(*files), scoring, [], limit=limit)
    assert (manifest.examples_read, sum(model.sizes)) == (read, read)


# A/B tests


def test_each_record_goes_to_the_model_of_its_key(tmp_path):
    routing = SplitRouting({"a": 1, "b": 2}, "k")
    records = [example(k=f"user-{i}", t="t" * 99 * (i % 7 == 3)) for i in range(40)]
    records[20:20] = [example(z=1.0), b"\xff"]
    models = {name: lengths_at_most(99) for name in "ba"}
    bounds = BatchBounds(max_records=2)  # so that many batches have no record for one of them
    manifest = score_records(tmp_path, models, records, N, routing=routing, bounds=bounds)
    model_of = {
        row: routing.model_of(routing.key_of(record))
        for row, record in enumerate(records)
        if row not in (20, 21)
    }
    failed = [row for row in model_of if len(records[row]) > 99]
    for name, account in manifest.branches.items():
        own = [row for row in model_of if model_of[row] == name]
        scored = [records[row] for row in own if row not in failed]
        assert [record for record, _ in predicted(tmp_path / "out", name)] == scored
        assert account.examples_read == len(own) > len(scored) == account.predictions_made > 0
    assert (manifest.examples_read, manifest.unrouted) == (42, 2)
    assert manifest.examples_failed == len(failed) + 2
    no_key = "NoKeyError: feature 'k' has 0 values; splitting needs exactly one"
    no_example = "NoKeyError: feature 'k' cannot be read: the record is not a tf.Example"
    found = {line.pop("record"): line for line in failures_of(manifest)}
    path = f"{tmp_path}/in/0.gz"
    assert found.pop(20) == {"file": path, "reason": no_key}
    assert found.pop(21) == {"file": path, "reason": no_example}
    assert {row: line["model"] for row, line in found.items()} == {r: model_of[r] for r in failed}
    assert records_of(manifest, "failed_examples") == [
        records[r] for r in sorted([*failed, 20, 21])
    ]
    # The examples keep the order of the records.
    assert [(found["variant"][0].decode(), found["n"][0]) for found in examples_of(manifest)] == [
        (model_of[row], len(records[row])) for row in model_of if row not in failed
    ]


# Attempts


def test_second_attempt_writes_the_same_bytes_into_files_of_its_own(tmp_path):
    records = [*(example(x=float(i)) for i in range(50)), b"bad"]
    unit = unit_of(write_tfrecord(tmp_path / "in/0.gz", records))
    sinks = sinks_in(f"{tmp_path}/out", ONE, N)
    scoring = Scoring({name: LogScorer(Scorer(p)) for name, p in ONE.items()}, BatchBounds())
    first, second = (run_unit(unit, scoring, sinks).shards for _ in range(2))
    assert len(first) == 4
    for one, other in zip(first, second, strict=True):
        assert one.path != other.path
        assert Path(one.path).read_bytes() == Path(other.path).read_bytes()
        assert dataclasses.replace(one, path=other.path) == other


def raising(error):
    def predict(batch):
        raise error

    return predict


@pytest.mark.parametrize(
    ("predict", "error", "message"),
    [
        (raising(ModelError("it is wrong")), ModelError, r"^Model 'b': it is wrong$"),
        (raising(KeyboardInterrupt()), KeyboardInterrupt, "^$"),
        (lambda batch: {"length": np.zeros(1, "M8[s]")}, ModelError, r"^Model 'b': .*datetime64"),
        (Lengths().predict, SettingsError, "^Output 'length' cannot become column 'a/n'"),
    ],
    ids=["model", "Ctrl-C", "encoding", "feature is taken"],
)
def test_attempt_in_which_anything_goes_wrong_leaves_nothing(tmp_path, predict, error, message):
    later = iter([Lengths().predict, predict])  # The first record has been written by then.
    models = {"a": Lengths(), "b": Function(lambda batch: next(later)(batch))}
    records = [example(x=1.0), example(**{"a/n": 1})]
    with pytest.raises(error, match=message):
        score_records(tmp_path, models, records, N, bounds=BatchBounds(max_records=1))
    assert tree(tmp_path / "out") == []


def test_attempt_that_reads_a_damaged_file_leaves_nothing(tmp_path):
    good = write_tfrecord(tmp_path / "in/1.gz", [b"good"] * 100)
    damaged = tmp_path / "in/2"
    damaged.write_text("this is no TFRecord file")
    sinks = sinks_in(f"{tmp_path}/out", ONE)
    with pytest.raises(InputError, match=re.escape(str(damaged))):
        score(unit_of(good, str(damaged)), ONE, sinks, bounds=BatchBounds(max_records=10))
    assert tree(tmp_path / "out") == []
