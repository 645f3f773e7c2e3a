"""Whole runs on Beam's local runner: real files, real models, and what is left on disk."""

from __future__ import annotations

import dataclasses
import gzip
import importlib.metadata
import itertools
import json
import platform
import shutil
from pathlib import Path

import pytest
import tensorflow as tf

import bulk_inferencer
from bulk_inferencer import _closing, _versions
from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._formats.example import Column
from bulk_inferencer._formats.record_format import FORMAT_PROTO
from bulk_inferencer._gate import BLESSED, NOT_BLESSED, UNASKED, Decision
from bulk_inferencer._models.cascade import CascadeModel, ExitWhen, Stage
from bulk_inferencer._models.hooks import HookedModel
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer._run import run
from bulk_inferencer._units.damaged_files import DamagedFiles
from bulk_inferencer._units.failure_limit import FailureLimit
from bulk_inferencer._units.routing import SplitRouting
from bulk_inferencer._work import Distribution
from bulk_inferencer.engines import beam_options
from bulk_inferencer.engines.beam import Beam
from bulk_inferencer.errors import FailureLimitError, InputError, ModelError, SettingsError
from bulk_inferencer.job import Branch, InferenceJob, Outputs
from bulk_inferencer.results.comparison import Comparison
from bulk_inferencer.results.outcomes import outcome_of
from bulk_inferencer.results.reader import read_predictions
from bulk_inferencer.results.summary import Counts, StageCounts, Summary
from tests.helpers import (
    FLOAT,
    RECORDS,
    exactly,
    example,
    features_of,
    in_bucket,
    read_tfrecord,
    save_functions,
    tree,
    write_tfrecord,
)
from tests.models.model_server import VERSION, ModelServer, tf_serving, unavailable

ANY_FAILURES = FailureLimit(max_fraction=1)
CLOSED = Decision(NOT_BLESSED, "The Evaluator did not bless it.")


@pytest.fixture(scope="module")
def five(linear_model):
    """The settings of a real model, y = 5 x of shape [batch, 1]."""
    return SavedModel(linear_model)


@pytest.fixture(scope="module")
def ten(tmp_path_factory):
    """The settings of a real model, y = 10 x of shape [batch, 1], that refuses negative x."""
    weight = tf.Variable(10.0)

    def serve(examples):
        x = tf.io.parse_example(examples, {"x": FLOAT})["x"]
        with tf.control_dependencies([tf.debugging.assert_non_negative(x, "x is negative")]):
            return {"y": weight * x[:, tf.newaxis], "half": x / 2}

    path = tmp_path_factory.mktemp("ten") / "model"
    serving = {"serving_default": (serve, {"examples": RECORDS})}
    return SavedModel(save_functions(path, [weight], **serving))


def same(batch):
    return batch


def only_y(records, outputs):
    return {"y": outputs["y"]}


def examples(*values):
    return [example(x=float(x)) for x in values]


def job_of(folder, models, *columns, outputs=None, has_comparison=False, **settings):
    """Returns a job with one model, or with several by name, and all files below `folder`."""
    outputs = outputs or Outputs.under(f"{folder}/out")
    outputs = dataclasses.replace(
        outputs,
        output_examples=f"{folder}/out/output_examples" if columns else None,
        columns=columns,
        comparison=f"{folder}/out/comparison" if has_comparison else None,
    )
    if isinstance(models, dict):
        gates = settings.pop("gates", {})
        settings["branches"] = [
            Branch(name, model, f"{folder}/out/{name}", gates.get(name, UNASKED))
            for name, model in models.items()
        ]
    else:
        settings["model"] = models
    settings = {"splits": {"s": [f"{folder}/in/*"]}, "failure_limit": ANY_FAILURES, **settings}
    return InferenceJob(outputs=outputs, **settings)


def predicted(folder, name, split=None):
    """Returns y by x."""
    found = read_predictions(f"{folder}/{name}", split)
    return {features_of(p.record)["x"][0]: p.outputs["y"].item() for p in found}


def records_in(folder):
    return [record for path in sorted(Path(folder).iterdir()) for record in read_tfrecord(path)]


def examples_in(folder):
    found = map(features_of, records_in(folder))
    return sorted(found, key=lambda features: features["x"])


def failures_in(folder, split):
    with gzip.open(f"{folder}/summary/failures-{split}.jsonl.gz") as file:
        return [json.loads(line) for line in file]


def counts_of(counts):
    return counts.examples_read, counts.predictions_written, counts.examples_failed


# One model


@pytest.fixture(scope="module")
def one(tmp_path_factory, five):
    """A run with one model and splits of all kinds, into folders that exist and are empty.

    Their path has characters that are patterns elsewhere, and the name of the work folder.
    """
    folder = tmp_path_factory.mktemp("one")
    for i in range(2):
        write_tfrecord(folder / f"in/{i}.gz", examples(*range(5 * i, 5 * i + 5)))
    splits = {"s": [f"{folder}/in/*"], "none": [f"{folder}/none/*"]}
    bad = [*examples(10), b"no tf.Example", example(z=1.0)]
    for split, records in (("bad", bad), ("empty", [])):
        splits[split] = [write_tfrecord(folder / f"{split}.gz", records)]
    root = folder / ".work/run[1]*"
    for name in ("inference_result", "summary", "failed_examples"):
        (root / "out" / name).mkdir(parents=True)
    return job_of(root, five, Column("y", "five_x"), splits=splits, allow_empty_splits=True)


@pytest.fixture(scope="module")
def one_run(one):
    """The summary of that run, the folder, and what was logged."""
    with pytest.MonkeyPatch.context() as patch:
        warnings = []
        patch.setattr(_closing._logger, "warning", lambda text, *args: warnings.append(text % args))
        summary = run(one)
    return summary, one.outputs.summary.removesuffix("/summary"), warnings


pytestmark = pytest.mark.filterwarnings("ignore:Possible nested set:FutureWarning")


def test_every_record_is_scored_and_splits_are_counted_apart(one_run):
    summary, out, warnings = one_run
    splits = summary.branches["inference_result"].splits
    assert {split: counts_of(counts) for split, counts in splits.items()} == {
        "s": (10, 10, 0),
        "none": (0, 0, 0),
        "bad": (3, 1, 2),
        "empty": (0, 0, 0),
    }
    assert predicted(out, "inference_result", "s") == {float(x): 5.0 * x for x in range(10)}
    assert predicted(out, "inference_result", "bad") == {10.0: 50.0}
    assert examples_in(f"{out}/output_examples/Split-s") == [
        {"x": [float(x)], "five_x": [5.0 * x]} for x in range(10)
    ]
    assert warnings == [
        "Split 'none' holds no records (files: 0).",
        "Split 'empty' holds no records (files: 1).",
    ]


def test_files_have_the_names_of_the_contract_and_no_other_is_left(one_run):
    _, out, _ = one_run
    shards = [("s", 0, 2), ("s", 1, 2), *((split, 0, 1) for split in ("none", "bad", "empty"))]
    expected = {"summary/summary.json", "summary/statistics.json"}
    for split, index, count in shards:
        shard = f"{index:05d}-of-{count:05d}.gz"
        expected |= {
            f"inference_result/prediction_logs-{split}-{shard}",
            f"failed_examples/Split-{split}/failed_examples-{shard}",
            f"output_examples/Split-{split}/examples-{shard}",
            f"summary/failures-{split}.jsonl.gz",
        }
    assert tree(out) == sorted(expected)
    assert list(Path(out).rglob(".work")) == []


def test_summary_holds_counts_model_work_and_versions(one_run, five):
    summary, out, _ = one_run
    assert Summary.read(f"{out}/summary") == summary
    branch = summary.branches["inference_result"]
    shards = list(Path(out, "inference_result").iterdir())
    size = sum(path.stat().st_size for path in shards)
    assert branch.total == Counts(13, 11, 2, len(shards), size)
    assert (branch.gate, branch.model_path) == (UNASKED, five.uri)
    assert (branch.model_fingerprint, branch.model_versions) == (five.fingerprint(), ())
    assert (branch.signature_names, branch.stages) == (("serving_default",), {})
    assert list(branch.seconds) == ["plan", "score", "commit"]
    assert branch.work.batch_records == Distribution(branch.work.batches, 11, 1, 5)
    assert branch.work.model_loads == branch.work.model_load_milliseconds.count == 1
    libraries = ("tfx", "apache-beam", "tensorflow", "numpy", "pyarrow")
    assert branch.versions == {
        "bulk-inferencer": bulk_inferencer.__version__,
        "python": platform.python_version(),
        **{library: importlib.metadata.version(library) for library in libraries},
    }


def test_failures_are_listed_and_their_records_kept(one, one_run):
    _, out, _ = one_run
    first, second = failures_in(out, "bad")
    path = one.splits["bad"][0]
    assert (first["file"], first["record"]) == (path, 1)
    assert (second["file"], second["record"]) == (path, 2)
    assert first["reason"].startswith("InvalidArgumentError: ")
    assert "Feature: x" in second["reason"]
    assert first.keys() == {"file", "record", "reason"}
    assert failures_in(out, "s") == failures_in(out, "none") == []
    assert records_in(f"{out}/failed_examples/Split-bad") == [b"no tf.Example", example(z=1.0)]


def test_second_run_returns_what_the_first_wrote_and_writes_the_same_in_other_folders(
    tmp_path, one, one_run
):
    summary, out, _ = one_run
    names = tree(out)
    assert run(one) == summary
    assert tree(out) == names
    with pytest.raises(SettingsError, match=r" is not empty: it holds "):
        run(dataclasses.replace(one, bounds=BatchBounds(max_records=3)))
    assert tree(out) == names
    settings = {"splits": one.splits, "allow_empty_splits": True}
    job = job_of(tmp_path, one.branches[0].model, *one.outputs.columns, **settings)
    run(job, Beam(["--direct_num_workers=1"]))
    assert tree(tmp_path / "out") == names
    for name in names:
        if name.endswith(".gz"):  # isal does not always compress them into the same bytes
            first, second = (Path(folder, name).read_bytes() for folder in (out, tmp_path / "out"))
            assert gzip.decompress(first) == gzip.decompress(second)


def test_raw_bytes_are_scored_on_a_filesystem_unknown_to_tensorflow(tmp_path):
    serve = (lambda records: {"n": tf.strings.length(records)}, {"records": RECORDS})
    model = SavedModel(save_functions(tmp_path / "model", serving_default=serve))
    write_tfrecord(tmp_path / "in/0.gz", [b"", b"\0\xff", b"abc"])
    settings = {"record_format": FORMAT_PROTO, "splits": {"s": [in_bucket(f"{tmp_path}/in/*")]}}
    run(job_of(tmp_path, model, outputs=Outputs.under(in_bucket(f"{tmp_path}/out")), **settings))
    found = read_predictions(f"{tmp_path}/out/inference_result")
    lengths = {prediction.record: int(prediction.outputs["n"]) for prediction in found}
    assert lengths == {b"": 0, b"\0\xff": 2, b"abc": 3}
    assert len(tree(tmp_path / "out")) == 5


# What the model takes


def text_model(folder):
    def serve(text):
        return {"length": tf.strings.length(text)}

    return SavedModel(save_functions(folder / "text", serving_default=(serve, {"text": RECORDS})))


def test_first_records_tell_all_workers_what_a_string_input_takes(tmp_path):
    # The first batch of the second file would tell otherwise.
    write_tfrecord(tmp_path / "in/0.gz", [example(text="four"), example(text="")])
    write_tfrecord(tmp_path / "in/1.gz", [example(other=1.0)] * 3)
    job = job_of(tmp_path, text_model(tmp_path))
    assert counts_of(run(job).total) == (5, 2, 3)
    found = read_predictions(f"{tmp_path}/out/inference_result")
    assert [p.outputs["length"].item() for p in found] == [4, 0]
    columns = [Column("length", "text_length")]
    whole = HookedModel(text_model(tmp_path / "again"), preprocess=lengths_of_text)
    job = job_of(tmp_path, whole, *columns, outputs=Outputs.under(f"{tmp_path}/hooked"))
    assert counts_of(run(job).total) == (5, 5, 0)


def lengths_of_text(batch):
    """Returns texts, which are no tf.Examples any more."""
    return [b"x" * len(features_of(record).get("text", [])) for record in batch]


def test_records_without_a_feature_for_the_model_are_refused_before_anything_is_written(
    tmp_path, keras_export
):
    write_tfrecord(tmp_path / "in/0.gz", [b"no tf.Example", example(z=1.0, y=2.0)] * 100)
    model = SavedModel(keras_export)
    cascade = CascadeModel(
        [Stage("a", model, columns=[Column("output_0", "x")]), Stage("b", model)]
    )
    stages = {model: "Model 'm': ", cascade: "Model 'm': Stage 'a': "}
    for wrong, start in stages.items():
        message = f"^{start}The model in {keras_export} wants x, but the records have y, z\\. "
        with pytest.raises(ModelError, match=message):
            run(job_of(tmp_path, {"m": wrong}))
    assert tree(tmp_path) == ["in/0.gz"]
    write_tfrecord(tmp_path / "in/0.gz", [b"no tf.Example"] * 200 + examples(1, 2))
    assert counts_of(run(job_of(tmp_path, cascade)).total) == (202, 2, 200)


def test_model_that_is_replaced_before_a_worker_loads_it_is_noticed(tmp_path, five, ten):
    write_tfrecord(tmp_path / "in/0.gz", examples(1))
    model = SavedModel(shutil.copytree(five.path, tmp_path / "model"))

    def replace_model():
        shutil.rmtree(model.path)
        shutil.copytree(ten.path, model.path)
        return beam_options.make_pipeline([])

    with pytest.raises(ModelError, match=rf"^The files of {model.path} have changed since the run"):
        run(job_of(tmp_path, model), Beam(make_pipeline=replace_model))
    assert not any("prediction_logs" in name for name in tree(tmp_path))


# Several models


@pytest.fixture(scope="module")
def several(tmp_path_factory, five, ten):
    """A run of four models, one of them a cascade and one blocked."""
    folder = tmp_path_factory.mktemp("several")
    for split, values in (("s", range(-1, 9)), ("t", [1])):
        write_tfrecord(folder / f"{split}.gz", examples(*values))
    small = Stage("small", five, exit_when=(ExitWhen("y", at_most=20),))
    full = Stage("full", ten, exit_when=(ExitWhen("y", at_least=0),))
    models = {
        "five": five,
        "three": SavedModel("/models/3"),
        # Its outputs are not known before it returns them, so that no column is refused.
        "ten": HookedModel(ten, same, only_y),
        "both": HookedModel(CascadeModel((small, full, Stage("never", five))), same),
    }
    job = job_of(
        folder, models, Column("y", "score"), has_comparison=True,
        splits={split: [f"{folder}/{split}.gz"] for split in "st"},
        gates={"five": Decision(BLESSED, "The Evaluator blessed it."), "three": CLOSED},
    )  # fmt: skip
    return run(job), f"{folder}/out", job


def test_every_record_goes_to_every_model(several):
    summary, out, _ = several
    assert predicted(out, "five", "s") == {float(x): 5.0 * x for x in range(-1, 9)}
    assert predicted(out, "ten", "s") == {float(x): 10.0 * x for x in range(9)}
    both = {float(x): (5.0 if x <= 4 else 10.0) * x for x in range(-1, 9)}
    assert predicted(out, "both", "s") == both
    assert {
        name: [counts_of(counts) for counts in branch.splits.values()]
        for name, branch in summary.branches.items()
    } == {
        "five": [(10, 10, 0), (1, 1, 0)],
        "ten": [(10, 9, 1), (1, 1, 0)],
        "both": [(10, 10, 0), (1, 1, 0)],
        "three": [],
    }
    assert [(line["record"], line["model"]) for line in failures_in(out, "s")] == [(0, "ten")]


def test_models_stand_side_by_side_in_examples_and_comparison(several):
    _, out, _ = several
    assert examples_in(f"{out}/output_examples/Split-t") == [
        {"x": [1.0], "five/score": [5.0], "ten/score": [10.0], "both/score": [5.0]}
    ]
    pairs = {pair.models: pair for pair in Comparison.read(f"{out}/comparison").pairs}
    assert pairs.keys() == {("five", "ten"), ("five", "both"), ("ten", "both")}
    assert pairs["five", "ten"].outputs["y"].records == 10
    assert pairs["five", "ten"].outputs["y"].max_absolute_difference == 40.0
    assert "full/half" in pairs["ten", "both"].not_compared


def test_summary_tells_of_every_model_and_of_those_that_were_blocked(several):
    summary, out, job = several
    assert Summary.read(f"{out}/summary") == summary
    assert (summary.routing, summary.unrouted) == ("all", {})
    assert {name: branch.gate for name, branch in summary.branches.items()} == {
        branch.name: branch.gate for branch in job.branches
    }
    assert list(summary.branches) == ["five", "ten", "both", "three"]
    blocked = summary.branches["three"]
    assert (blocked.model_path, blocked.splits, blocked.seconds) == ("/models/3", {}, {})
    for branch in (summary.branches[name] for name in ("five", "ten", "both")):
        assert (branch.total.shards, branch.work.model_loads) == (2, 1)
        assert branch.model_fingerprint
    assert summary.branches["five"].stages == {}
    assert summary.branches["both"].stages == {
        "small": StageCounts(11, 7, 4),
        "full": StageCounts(4, 4, 0),
        "never": StageCounts(0, 0, 0),
    }
    hooked = dataclasses.replace(job.branches[-1].model, postprocess=only_y)
    assert hooked.check(job.record_format)[0].stages == ()


# A/B tests


def test_each_record_goes_to_one_model_and_its_outcome_to_that_model(tmp_path, five, ten):
    routing = SplitRouting({"five": 2, "ten": 1, "three": 1}, "k", salt="first test")
    keys = [f"user-{i}" for i in range(30)]
    records = [example(x=float(x), k=key) for x, key in enumerate(keys)]
    for i in range(2):
        write_tfrecord(tmp_path / f"in/{i}.gz", [*records, example(x=77.0)][i::2])
    rows = ["key,value", *(f"{key},{1.0 + x}" for x, key in enumerate(keys[:20])), "nobody,1e9"]
    (tmp_path / "outcomes.csv").write_text("\n".join(rows))
    models = {"five": five, "ten": ten, "three": SavedModel("/models/3")}
    job = job_of(
        tmp_path, models, Column("y", "score"), has_comparison=True, routing=routing,
        outcomes=f"{tmp_path}/outcomes.csv", gates={"three": CLOSED},
    )  # fmt: skip
    summary = run(job)

    out = f"{tmp_path}/out"
    routing = dataclasses.replace(routing, kept_out=frozenset({"three"}))
    model_of = {key: routing.model_of(key.encode()) for key in keys}
    factor = {"five": 5.0, "ten": 10.0}
    outcomes = Comparison.read(f"{out}/comparison")
    assert outcomes.pairs == ()
    assert list(outcomes.outcomes) == ["five", "ten"]
    for name in factor:
        own = [x for x, key in enumerate(keys) if model_of[key] == name]
        assert predicted(out, name) == {float(x): factor[name] * x for x in own}
        assert counts_of(summary.branches[name].splits["s"]) == (len(own), len(own), 0)
        assert len(own) >= 5
        assert outcomes.outcomes[name] == outcome_of([1.0 + x for x in own if x < 20])
    assert (summary.routing, summary.unrouted) == ("split", {"s": 1})
    assert summary.branches["three"].splits == {}
    assert Summary.read(f"{out}/summary") == summary
    variants = [found["variant"][0] for found in examples_in(f"{out}/output_examples/Split-s")]
    assert variants == [model_of[key].encode() for key in keys]


def test_table_without_the_key_of_an_ab_test_is_refused_before_anything_is_written(
    tmp_path, five, ten
):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.csv").write_text("x,user\n1.5,a\n")
    routing = SplitRouting({"five": 1, "ten": 1}, "users")
    job = job_of(tmp_path, {"five": five, "ten": ten}, routing=routing)
    with pytest.raises(InputError, match=r"^SplitRouting\.split_key names 'users', but models see"):
        run(job)
    assert tree(tmp_path) == ["in/a.csv"]


# Servers


@pytest.mark.slow
def test_nothing_is_lost_or_doubled_where_a_server_turns_half_of_the_requests_down(
    tmp_path, linear_model
):
    for i in range(4):
        values = range(1000 * i, 1000 * (i + 1))
        write_tfrecord(tmp_path / f"in/{i}.gz", [*examples(*values), b"no tf.Example"])
    with ModelServer(linear_model, faults=itertools.cycle([unavailable, None])) as server:
        model = tf_serving(server)
        summary = run(job_of(tmp_path, model, bounds=BatchBounds(max_records=100)))
    assert counts_of(summary.total) == (4004, 4000, 4)
    found = read_predictions(f"{tmp_path}/out/inference_result")
    by_x = sorted((features_of(p.record)["x"][0], p.outputs["y"].item()) for p in found)
    assert by_x == [(float(x), 5.0 * x) for x in range(4000)]
    assert records_in(f"{tmp_path}/out/failed_examples/Split-s") == [b"no tf.Example"] * 4
    # Each bad record was tried 8 times in turn with a good one, before it counted as bad.
    assert server.scored == 4000 + 4 * 8
    assert len(server.calls) >= 80
    branch = summary.branches["inference_result"]
    assert (branch.model_path, branch.model_versions) == (model.uri, (str(VERSION),))


# Outputs


def test_outputs_that_are_no_numbers_or_change_their_shape_are_told_of(tmp_path, caplog):
    def serve(records):
        parts = tf.strings.split(records).to_tensor()
        y = tf.strings.to_number(parts[:, 0])
        return {"y": y, "z": 1 / y, "parts": parts}

    model = save_functions(tmp_path / "model", serving_default=(serve, {"records": RECORDS}))
    write_tfrecord(tmp_path / "in/0.gz", [b"nan", b"0 b", b"inf"])
    write_tfrecord(tmp_path / "in/1.gz", [b"1 b c", b"nan"])
    bounds = BatchBounds(max_records=1)
    summary = run(job_of(tmp_path, SavedModel(model), record_format=FORMAT_PROTO, bounds=bounds))
    assert summary.branches["inference_result"].not_finite == {"y": 3, "z": 3}
    assert counts_of(summary.total) == (5, 5, 0)
    values, shape = caplog.messages[-2:]
    assert values.startswith(f"{model}: there are NaN or infinities in output ")
    assert shape.startswith(f"{model}: the shape of output 'parts' changes ")
    assert "between [1] and [3]" in shape


# Damaged files


def test_damaged_files_are_skipped_and_named_or_fail_the_run(tmp_path, five, caplog):
    write_tfrecord(tmp_path / "in/1.gz", examples(1, 2))
    cut = Path(write_tfrecord(tmp_path / "in/2.gz", examples(*range(3, 1000))))
    cut.write_bytes(cut.read_bytes()[:-20])
    job = job_of(tmp_path, five)
    empty = tmp_path / "in/3.gz"
    empty.touch()
    with pytest.raises(InputError, match=f"^{empty} is empty, "):
        run(job, Beam(make_pipeline=no_pipeline))
    empty.unlink()
    with pytest.raises(InputError, match=f"^Cannot read {cut} as TFRecord: "):
        run(job)

    # The same job goes on.
    skipping = dataclasses.replace(job, damaged_files=DamagedFiles(skip=True, max_count=1))
    summary = run(skipping)

    assert [file.file for file in summary.damaged_files] == [str(cut)]
    assert Summary.read(f"{tmp_path}/out/summary") == summary
    found = predicted(tmp_path / "out", "inference_result")
    assert sorted(found) == [float(x) for x in range(1, len(found) + 1)]
    assert len(found) > 900
    warning = f"Split 's': the rest of a file was skipped. {summary.damaged_files[0].reason}"
    assert caplog.messages.count(warning) == 1
    assert run(skipping, Beam(make_pipeline=no_pipeline)) == summary
    with pytest.raises(SettingsError, match=" is not empty: "):
        run(job)
    other = job_of(tmp_path, five, outputs=Outputs.under(f"{tmp_path}/other"))
    none = DamagedFiles(skip=True, max_count=0)
    with pytest.raises(InputError, match=r"^More files of split 's' are damaged than "):
        run(dataclasses.replace(other, damaged_files=none))


# Closed gates


def no_pipeline():
    raise AssertionError("there is nothing to run")


class Gone(Beam):
    """An engine whose cluster is not there."""

    def check(self):
        raise AssertionError("there is nothing to check")


def test_nothing_is_read_where_all_gates_are_closed(tmp_path, caplog):
    models = {name: SavedModel(f"/models/{name}") for name in "ab"}
    job = job_of(
        tmp_path, models, has_comparison=True, gates=dict.fromkeys("ab", CLOSED), splits={},
        routing=SplitRouting({"a": 1, "b": 1}, "k"), outcomes="/none.csv",
    )  # fmt: skip
    summary = run(job, Gone(make_pipeline=no_pipeline))
    names = ["comparison/comparison.json", "summary/statistics.json", "summary/summary.json"]
    assert tree(tmp_path / "out") == names
    assert Comparison.read(job.outputs.comparison) == Comparison()
    assert Summary.read(job.outputs.summary) == summary
    assert (summary.routing, summary.unrouted) == ("split", {})
    assert [branch.gate for branch in summary.branches.values()] == [CLOSED, CLOSED]
    # A single model that has no name has none in its summary either.
    job = job_of(tmp_path / "one", SavedModel("/model"))
    branch = dataclasses.replace(job.branches[0], gate=CLOSED)
    run(dataclasses.replace(job, branches=[branch]), Gone(make_pipeline=no_pipeline))
    written = json.loads((tmp_path / "one/out/summary/summary.json").read_text())
    assert (written["gate"], written["gate_reason"]) == ("not_blessed", CLOSED.reason)
    assert (written["splits"], written["model_path"]) == ({}, "/model")
    assert caplog.messages[-1] == (
        f"/model was not used, and {tmp_path}/one/out/inference_result stays empty. Gate: "
        f"not_blessed. {CLOSED.reason}"
    )


# Errors


def test_what_is_no_job_and_no_engine_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"^run's job must be an InferenceJob, not 'job'\."):
        run("job")
    message = (
        "The engine must be an Engine, not '--x'. Write engines.Beam(), engines.Ray() or "
        "engines.Spark()."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        run(job_of(tmp_path, SavedModel("/model")), "--x")


def test_column_of_an_unknown_output_is_named_before_anything_is_written(tmp_path, tf1_model):
    model = SavedModel(tf1_model, ("regress", "scores_only"))
    message = (
        f"Column 'c' needs the output 'outputs', but {tf1_model} has regress/outputs, "
        f"scores_only/scores. Correct Outputs.columns."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        run(job_of(tmp_path, model, Column("outputs", "c")))
    with pytest.raises(SettingsError, match=exactly(f"Model 'a': {message}")):
        run(job_of(tmp_path, {"a": model}, Column("outputs", "c")))
    assert tree(tmp_path) == []


def test_missing_models_and_files_are_named_before_anything_is_written(tmp_path, five):
    for models, start in (
        (SavedModel("/none"), r"(?!Model)"),
        ({"five": five, "none": SavedModel("/none")}, "Model 'none': "),
    ):
        with pytest.raises(ModelError, match=f"^{start}.*There is no folder /none"):
            run(job_of(tmp_path, models))
    patterns = [f"{tmp_path}/none", f"{tmp_path}/nor/*"]
    with pytest.raises(InputError, match=f"^There are no files for split 's' at {patterns[0]}, "):
        run(job_of(tmp_path, five, splits={"s": patterns}))
    with pytest.raises(SettingsError, match=rf"^The output folder {tmp_path}/out/\w+ lies where "):
        run(job_of(tmp_path, five, splits={"s": [f"{tmp_path}/**"]}))
    assert tree(tmp_path) == []


def test_model_that_fails_on_a_worker_is_named_and_all_folders_are_emptied(tmp_path, five):
    serve = (lambda examples: {"y": tf.zeros([7])}, {"examples": RECORDS})
    wrong = SavedModel(save_functions(tmp_path / "model", serving_default=serve))
    write_tfrecord(tmp_path / "in/0.gz", examples(1, 2, 3, 4))
    models = {"five": five, "wrong": wrong}
    with pytest.raises(ModelError, match=r"^Model 'wrong': .*'y'"):
        run(job_of(tmp_path, models, Column("y", "y"), has_comparison=True))
    left = sorted(path.name for path in (tmp_path / "out").rglob("*"))
    assert left == ["comparison", "failed_examples", "five", "output_examples", "summary", "wrong"]


def test_run_that_cannot_succeed_ends_before_all_records_are_tried(tmp_path, five):
    for i in range(2):
        write_tfrecord(tmp_path / f"in/{i}.gz", [example(z=1.0)] * 100)
    with pytest.raises(FailureLimitError, match=r"and so did 6 of 6 from all over the split\. "):
        run(job_of(tmp_path, five, failure_limit=FailureLimit()))


def test_version_of_a_library_that_is_missing(monkeypatch):
    monkeypatch.setattr(_versions, "_LIBRARIES", ("no-such-library",))
    assert _versions.library_versions()["no-such-library"] == "not installed"
