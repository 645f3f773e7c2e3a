"""One unit with several models: all records to all, and each to one of them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from bulk_inferencer._formats import tfrecord
from bulk_inferencer._formats.example import Column
from bulk_inferencer._models.batching import BatchBounds, Scorer
from bulk_inferencer._models.cascade import CascadeModel, ExitWhen, Stage
from bulk_inferencer._models.predictor import FORMAT_TF_EXAMPLE
from bulk_inferencer._models.routing import SplitRouting
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer._signatures import PREDICT, Signature
from bulk_inferencer._units.manifest import Failure
from bulk_inferencer._units.plan import InputFile, Unit
from bulk_inferencer._units.run import run_unit
from bulk_inferencer.errors import ModelError, SettingsError
from bulk_inferencer.results.compare import Comparing, Comparison
from bulk_inferencer.results.reader import read_predictions
from tests.branch_helpers import (
    outputs_in,
    save_ten,
    x_of,
)
from tests.helpers import (
    Lengths,
    example,
    features_of,
    make_folders,
    read_tfrecord,
    tree,
    write_tfrecord,
)


@pytest.fixture(scope="module")
def five(linear_model):
    """The settings of a real model, y = 5 x of shape [batch, 1]."""
    return SavedModel(linear_model)


@pytest.fixture(scope="module")
def ten(tmp_path_factory):
    """The settings of a real model, y = 10 x, that refuses negative x."""
    return SavedModel(save_ten(tmp_path_factory.mktemp("ten") / "model"))


@pytest.fixture
def models(five, ten):
    return {"five": five, "ten": ten}


def run_one(folder, scorers, records, *columns, routing=None, bounds=None, **settings):
    """Scores the records as one unit, and returns its manifest and outputs."""
    outputs = outputs_in(folder, scorers, *columns, **settings)
    make_folders(outputs, "s")
    path = write_tfrecord(folder / "in/0.gz", records)
    unit = Unit("s", 0, 1, (InputFile(path, 1),))
    manifest = run_unit(unit, scorers, bounds or BatchBounds(), outputs, routing)
    return manifest, outputs


class Function(Lengths):
    """A predictor that calls a function with each batch, and keeps the sizes of batches."""

    def __init__(self, function):
        self.signatures = (Signature("serving_default", PREDICT),)
        self.sizes = []
        self._function = function

    def predict(self, batch):
        self.sizes.append(len(batch))
        return self._function(batch)


def examples_of(outputs):
    return read_tfrecord(f"{outputs.output_examples}/Split-s/examples-00000-of-00001.gz")


def failed_of(outputs):
    folder = f"{outputs.failed_examples}/Split-s"
    return read_tfrecord(f"{folder}/failed_examples-00000-of-00001.gz")


def test_each_model_scores_what_is_read_once(tmp_path, models, monkeypatch):
    paths = []
    read_chunks = tfrecord.read_chunks

    def counted(path, *args):
        paths.append(path)
        return read_chunks(path, *args)

    monkeypatch.setattr(tfrecord, "read_chunks", counted)
    records = [example(x=float(x)) for x in range(10)]

    def calls_of(*names):
        scorers = {}
        for name in names:
            predictor = models[name.rstrip("_")].load(FORMAT_TF_EXAMPLE)
            scorers[name] = Scorer(Function(predictor.predict))
        paths.clear()
        folder = tmp_path / "-".join(names)
        run_one(folder, scorers, records, bounds=BatchBounds(max_records=4))
        assert paths == [f"{folder}/in/0.gz"]
        return [scorer.predictor.sizes for scorer in scorers.values()]

    assert calls_of("five") == [[4, 4, 2]]
    assert calls_of("five", "ten", "five_") == [[4, 4, 2]] * 3


def codes(batch):
    """Returns an output whose shape depends on the longest record of the batch."""
    width = max(map(len, batch))
    return {"codes": np.array([list(r.ljust(width, b"\0")) for r in batch], np.int32)}


def lengths_at_most(limit):
    """Returns a function that refuses records longer than that."""

    def lengths(batch):
        if max(map(len, batch)) > limit:
            raise ValueError("too long")
        return {"n": np.array([len(record) for record in batch])}

    return lengths


def test_each_model_has_its_own_failures(tmp_path):
    scorers = {"a": Scorer(Function(lengths_at_most(3))), "b": Scorer(Function(lengths_at_most(2)))}
    records = [b"1", b"4444", b"333", b"22"]
    manifest, outputs = run_one(tmp_path, scorers, records)
    path = f"{tmp_path}/in/0.gz"
    reason = "ValueError: too long"
    assert [
        (s.model, s.examples_read, s.predictions_written, s.examples_failed)
        for s in manifest.scores
    ] == [("a", 4, 3, 1), ("b", 4, 2, 2)]
    assert (manifest.examples_read, manifest.predictions_written) == (4, 5)
    assert (manifest.examples_failed, manifest.unrouted) == (3, 0)
    expected = [(1, "a"), (1, "b"), (2, "b")]
    assert manifest.first_failures == tuple(Failure(path, i, reason, m) for i, m in expected)
    lines = gzip.decompress(Path(manifest.failures).read_bytes()).splitlines()
    assert [json.loads(line) for line in lines] == [
        {"file": path, "record": i, "reason": reason, "model": m} for i, m in expected
    ]
    # Each record once, in order, however many models it failed in.
    assert failed_of(outputs) == [b"4444", b"333"]
    for model, expected_records in (("a", [b"1", b"333", b"22"]), ("b", [b"1", b"22"])):
        found = read_predictions(outputs.results[model])
        assert [prediction.record for prediction in found] == expected_records


def test_first_failures_are_kept_for_each_model(tmp_path):
    scorers = {name: Scorer(Function(lengths_at_most(3))) for name in "ab"}
    bounds = BatchBounds(max_records=4)
    manifest, _ = run_one(tmp_path, scorers, [b"4444"] * 9, bounds=bounds)
    found = sorted((failure.model, failure.record) for failure in manifest.first_failures)
    assert found == [(model, i) for model in "ab" for i in range(5)]


def test_shards_of_a_unit_are_its_predictions_by_model_and_the_others(tmp_path):
    scorers = {name: Scorer(Lengths()) for name in ("a", "b")}
    manifest, outputs = run_one(tmp_path, scorers, [example(x=1.0)], Column("length", "n"))
    shards = {shard.path: shard.bytes for shard in manifest.shards}
    assert sorted(Path(path).relative_to(tmp_path / "out").as_posix() for path in shards) == [
        "a/prediction_logs-s-00000-of-00001.gz",
        "b/prediction_logs-s-00000-of-00001.gz",
        "failed_examples/Split-s/failed_examples-00000-of-00001.gz",
        "output_examples/Split-s/examples-00000-of-00001.gz",
        "summary/.work/failures-s-00000-of-00001.jsonl.gz",
    ]
    assert shards == {path: Path(path).stat().st_size for path in shards}
    assert [s.shard.path for s in manifest.scores] == [
        f"{folder}/prediction_logs-s-00000-of-00001.gz" for folder in outputs.results.values()
    ]


def test_unit_in_which_one_model_fails_leaves_nothing(tmp_path):
    def wrong(batch):
        raise ModelError("the model is wrong")

    scorers = {"a": Scorer(Lengths()), "b": Scorer(Function(wrong))}
    with pytest.raises(ModelError, match=r"^Model 'b': the model is wrong$"):
        run_one(tmp_path, scorers, [example(x=1.0)], Column("length", "n"))
    assert tree(tmp_path / "out") == []


# Output examples of one unit


def test_output_examples_have_the_columns_of_all_models_side_by_side(tmp_path):
    scorers = {
        "a": Scorer(Function(lambda batch: {"n": np.arange(len(batch))})),
        "b": Scorer(Function(lambda batch: {"n": np.array([b"text"] * len(batch), object)})),
    }
    records = [example(x=float(x)) for x in range(3)]
    _, outputs = run_one(tmp_path, scorers, records, Column("n", "m"))
    assert [features_of(record) for record in examples_of(outputs)] == [
        {"x": [float(x)], "a/m": [x], "b/m": [b"text"]} for x in range(3)
    ]


def test_output_examples_hold_the_records_that_every_model_scored(tmp_path):
    def refuse(*refused):
        def x(batch):
            if any(x_of(record) in refused for record in batch):
                raise ValueError("refused")
            return {"x": np.array([x_of(record) for record in batch])}

        return Scorer(Function(x))

    records = [example(x=float(x)) for x in range(6)]
    scorers = {"a": refuse(0, 3), "b": refuse(3, 4), "c": refuse()}
    _, outputs = run_one(tmp_path, scorers, records, Column("x", "x"))
    assert [features_of(record) for record in examples_of(outputs)] == [
        {"x": [x], "a/x": [x], "b/x": [x], "c/x": [x]} for x in (1.0, 2.0, 5.0)
    ]
    assert list(map(x_of, failed_of(outputs))) == [0.0, 3.0, 4.0]


def test_output_examples_are_none_where_one_model_scored_no_record(tmp_path):
    def refuse(batch):
        raise ValueError("refused")

    scorers = {"a": Scorer(Lengths()), "b": Scorer(Function(refuse))}
    _, outputs = run_one(tmp_path, scorers, [example(x=1.0)] * 3, Column("length", "n"))
    assert examples_of(outputs) == []
    assert len(failed_of(outputs)) == 3


def test_columns_are_right_whatever_the_shapes_in_the_calls_of_a_model(tmp_path):
    records = [example(x=1.0, t="t" * n) for n in (1, 1, 1, 5, 5, 5)]
    longest = max(map(len, records))
    scorers = {
        "a": Scorer(Function(codes), first_records=1),
        "b": Scorer(Function(codes), first_records=64),
    }
    manifest, outputs = run_one(
        tmp_path, scorers, records, Column("codes", "c"), has_comparison=True
    )
    assert scorers["a"].predictor.sizes == [1, 2, 3]
    found = [features_of(record) for record in examples_of(outputs)]
    assert [bytes(f["b/c"]) for f in found] == [r.ljust(longest, b"\0") for r in records]
    assert [bytes(f["a/c"]).rstrip(b"\0") for f in found] == records
    assert manifest.examples_failed == 0


def test_columns_are_right_whatever_the_dtypes_in_the_calls_of_a_model(tmp_path):
    def whole_or_half(batch):
        values = [x_of(record) for record in batch]
        return {"x": np.array([int(x) if x.is_integer() else x for x in values])}

    scorers = {name: Scorer(Function(whole_or_half), first_records=1) for name in "ab"}
    records = [example(x=1.0), example(x=2.5), example(x=3.0)]
    _, outputs = run_one(tmp_path, scorers, records, Column("x", "y"))
    assert scorers["a"].predictor.sizes == [1, 2]
    assert [features_of(r)["a/y"] for r in examples_of(outputs)] == [[1], [2.5], [3.0]]
    assert [features_of(r)["b/y"] for r in examples_of(outputs)] == [[1], [2.5], [3.0]]


def test_columns_of_a_named_model_have_its_name_even_where_it_is_the_only_one(tmp_path):
    _, outputs = run_one(
        tmp_path, {"a": Scorer(Lengths())}, [example(x=1.0)], Column("length", "n")
    )
    (record,) = examples_of(outputs)
    assert set(features_of(record)) == {"x", "a/n"}


def test_columns_of_a_cascade_stand_beside_those_of_another_model(tmp_path):
    class Settings(Function):
        def check(self, record_format):
            return self.signatures

        def load(self, record_format):
            return self

    def xs(batch):
        return {"x": np.array([x_of(record) for record in batch])}

    stage = Settings(xs)
    stage.signatures = (Signature("serving_default", PREDICT, ("x",)),)
    exits = (ExitWhen("x", at_most=3),)
    cascade = CascadeModel((Stage("small", stage, exit_when=exits), Stage("full", stage)))
    scorers = {
        "a": Scorer(Function(lambda b: xs(b) | {"full/x": np.full(len(b), 7)})),
        "b": Scorer(cascade.load(FORMAT_TF_EXAMPLE), first_records=1),
    }
    records = [example(x=float(x)) for x in (1, 2, 3, 4, 2)]
    manifest, outputs = run_one(
        tmp_path, scorers, records, Column("full/x", "full"), has_comparison=True
    )
    found = [features_of(record) for record in examples_of(outputs)]
    assert [f["a/full"] for f in found] == [[7]] * 5
    assert [f.get("b/full") for f in found] == [None, None, None, [4.0], None]
    assert manifest.scores[1].stages == {"small": 5, "full": 1}
    assert manifest.scores[0].stages == {}
    (pair,) = manifest.comparison.pairs
    assert (pair.outputs["x"].records, pair.outputs["full/x"].records) == (5, 1)


# Comparison of one unit


def compared(folder, scorers, records, **settings):
    manifest, _ = run_one(folder, scorers, records, has_comparison=True, **settings)
    return manifest.comparison


def test_comparison_is_of_the_records_that_both_models_scored(tmp_path):
    scorers = {
        name: Scorer(Function(lengths_at_most(limit)), first_records=first)
        for name, limit, first in (("a", 3, 1), ("b", 4, 2), ("c", 9, 64))
    }
    records = [b"1", b"22", b"333", b"4444", b"55555"] * 3
    comparison = compared(tmp_path, scorers, records, bounds=BatchBounds(max_records=7))
    assert {pair.models: pair.outputs["n"].records for pair in comparison.pairs} == {
        ("a", "b"): 9,
        ("a", "c"): 9,
        ("b", "c"): 12,
    }
    assert all(pair.outputs["n"].agreeing == pair.outputs["n"].records for pair in comparison.pairs)
    assert all(pair.not_compared == {} for pair in comparison.pairs)


def test_comparison_tells_where_the_records_that_differ_are(tmp_path):
    def off_by_one_at_four(batch):
        return {"n": np.array([len(r) + (len(r) == 4) for r in batch])}

    scorers = {
        "a": Scorer(Function(lengths_at_most(9)), first_records=1),
        "b": Scorer(Function(off_by_one_at_four), first_records=3),
    }
    records = [b"x" * n for n in (1, 2, 3, 1, 2, 4, 1, 4)]
    bounds = BatchBounds(max_records=6)
    comparison = compared(tmp_path, scorers, records, bounds=bounds, comparing=Comparing())
    different = comparison.pairs[0].outputs["n"].most_different
    assert [(d.file, d.record, d.values) for d in different] == [
        (f"{tmp_path}/in/0.gz", record, {"a": [4], "b": [5]}) for record in (5, 7)
    ]


def test_outputs_whose_shapes_differ_from_call_to_call_are_compared_record_by_record(tmp_path):
    scorers = {
        "a": Scorer(Function(codes), first_records=1),
        "b": Scorer(Function(codes), first_records=1),
    }
    comparison = compared(tmp_path, scorers, [b"1", b"1", b"1", b"4444", b"22", b"1", b"1"])
    (pair,) = comparison.pairs
    assert pair.outputs["codes"].records == pair.outputs["codes"].agreeing == 7
    assert pair.not_compared == {}


def test_unit_of_one_model_has_no_comparison(tmp_path):
    assert compared(tmp_path, {"a": Scorer(Lengths())}, [b"1"]) == Comparison()


# Split


def test_each_record_goes_to_the_model_of_its_key(tmp_path):
    routing = SplitRouting({"a": 1, "b": 2}, "k")
    keys = [b"user-%d" % i for i in range(40)]
    records = [example(k=key) for key in keys]
    scorers = {"b": Scorer(Lengths()), "a": Scorer(Lengths())}
    manifest, outputs = run_one(
        tmp_path, scorers, records, Column("length", "n"),
        routing=routing, bounds=BatchBounds(max_records=16),
    )  # fmt: skip
    for name, folder in outputs.results.items():
        expected = [
            r for r, key in zip(records, keys, strict=True) if routing.model_of(key) == name
        ]
        assert [prediction.record for prediction in read_predictions(folder)] == expected
        assert 0 < len(expected) < 40
    assert sum(scores.examples_read for scores in manifest.scores) == 40
    # The examples keep the order of the records.
    assert [features_of(record) for record in examples_of(outputs)] == [
        {"k": [key], "n": [len(record)], "variant": [routing.model_of(key).encode()]}
        for key, record in zip(keys, records, strict=True)
    ]


def test_records_without_a_key_go_to_no_model(tmp_path):
    routing = SplitRouting({"a": 1, "b": 2}, "k")
    records = [example(k="user-1"), example(z=1.0), example(k="user-2"), b"\xff"]
    scorers = {"a": Scorer(Lengths()), "b": Scorer(Lengths())}
    manifest, outputs = run_one(tmp_path, scorers, records, Column("length", "n"), routing=routing)
    assert manifest.unrouted == manifest.examples_failed == 2
    assert sum(scores.examples_read for scores in manifest.scores) == 2
    path = f"{tmp_path}/in/0.gz"
    lines = gzip.decompress(Path(manifest.failures).read_bytes()).splitlines()
    assert [json.loads(line) for line in lines] == [
        {
            "file": path,
            "record": 1,
            "reason": "NoKeyError: expected one value of feature 'k' to split by, got 0",
        },
        {
            "file": path,
            "record": 3,
            "reason": "NoKeyError: expected feature 'k' to split by, got no tf.Example",
        },
    ]
    assert failed_of(outputs) == [records[1], records[3]]
    assert [features_of(record)["k"] for record in examples_of(outputs)] == [
        [b"user-1"],
        [b"user-2"],
    ]


def test_failures_of_a_split_batch_have_the_number_of_their_record(tmp_path):
    routing = SplitRouting({"a": 1, "b": 1})
    scorers = {name: Scorer(Function(lengths_at_most(2))) for name in "ab"}
    records = [b"%d" % i if i % 7 else b"%03d" % i for i in range(60)]
    bounds = BatchBounds(max_records=25)
    manifest, outputs = run_one(tmp_path, scorers, records, routing=routing, bounds=bounds)
    lines = gzip.decompress(Path(manifest.failures).read_bytes()).splitlines()
    failures = [json.loads(line) for line in lines]
    expected = {i: routing.model_of(records[i]) for i in range(0, 60, 7)}
    assert {f["record"]: f["model"] for f in failures} == expected
    assert len(failures) == len(expected)
    assert failed_of(outputs) == [records[i] for i in sorted(expected)]


def test_feature_named_variant_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"^Output 'variant' cannot become column 'variant'"):
        run_one(
            tmp_path, {"a": Scorer(Lengths())}, [example(variant=1)], Column("length", "n"),
            routing=SplitRouting({"a": 1}),
        )  # fmt: skip
    assert tree(tmp_path / "out") == []


def test_rows_of_outcomes_are_those_of_the_keys_that_were_scored(tmp_path):
    routing = SplitRouting({"a": 1, "b": 1}, "k")
    outputs = outputs_in(tmp_path, "ab")
    make_folders(outputs, "s")
    records = [example(k=f"user-{i}") for i in (1, 3, 70, 3)] + [example(k="bad", t="t" * 200)]
    path = write_tfrecord(tmp_path / "in/0.gz", records)
    scorers = {name: Scorer(Function(lengths_at_most(100))) for name in "ab"}
    rows = {b"user-%d" % i: i for i in range(80)} | {b"bad": 80}
    unit = Unit("s", 0, 1, (InputFile(path, 1),))
    manifest = run_unit(unit, scorers, BatchBounds(), outputs, routing, rows)
    assert manifest.examples_failed == 1
    assert manifest.matched_outcomes == 1 << 1 | 1 << 3 | 1 << 70


def test_no_rows_of_outcomes_match_where_there_are_none(tmp_path):
    routing = SplitRouting({"a": 1}, "k")
    manifest, _ = run_one(tmp_path, {"a": Scorer(Lengths())}, [example(k="u")], routing=routing)
    assert manifest.matched_outcomes == 0
