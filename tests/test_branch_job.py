"""Whole runs with several models, and what is refused before."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from bulk_inferencer import _files
from bulk_inferencer._formats.example import Column
from bulk_inferencer._models.cascade import CascadeModel, ExitWhen, Stage
from bulk_inferencer._models.hooks import Hooked
from bulk_inferencer._models.predictor import FORMAT_PROTO
from bulk_inferencer._models.routing import SplitRouting
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer._units.outputs import Outputs
from bulk_inferencer.errors import FailureLimitError, ModelError, SettingsError
from bulk_inferencer.job import FailureLimit, run_branches
from bulk_inferencer.results.compare import Comparison
from bulk_inferencer.results.reader import read_predictions
from bulk_inferencer.results.summary import BranchSummary, Counts, Summary
from tests.branch_helpers import (
    branch_job,
    outputs_in,
    save_ten,
    x_of,
)
from tests.helpers import (
    RECORDS,
    exactly,
    example,
    features_of,
    read_tfrecord,
    save_functions,
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


def write_inputs(folder, records, count=2):
    for i in range(count):
        write_tfrecord(folder / f"in/{i}.gz", records[i::count])


def predicted(folder, name, split=None):
    """Returns y by x."""
    found = read_predictions(f"{folder}/out/{name}", split)
    return {x_of(p.record): p.outputs["y"].item() for p in found}


def failure_lines(folder, split="s"):
    content = gzip.decompress(Path(folder, f"out/summary/failures-{split}.jsonl.gz").read_bytes())
    return [json.loads(line) for line in content.splitlines()]


def examples_below(folder, name):
    shards = sorted(Path(folder, f"out/{name}/Split-s").iterdir())
    return [record for path in shards for record in read_tfrecord(path)]


def counts(summary, split="s"):
    found = summary.splits[split]
    return found.examples_read, found.predictions_written, found.examples_failed


@pytest.mark.slow
def test_every_record_goes_to_every_model(tmp_path, models):
    write_inputs(tmp_path, [example(x=float(x)) for x in range(-1, 9)])
    job = branch_job(tmp_path, models, Column("y", "score"), has_comparison=True)
    summary = run_branches(job)

    assert predicted(tmp_path, "five") == {float(x): 5.0 * x for x in range(-1, 9)}
    assert predicted(tmp_path, "ten") == {float(x): 10.0 * x for x in range(9)}
    assert counts(summary.models["five"]) == (10, 10, 0)
    assert counts(summary.models["ten"]) == (10, 9, 1)
    assert (summary.routing, summary.unrouted) == ("all", {})

    (failure,) = failure_lines(tmp_path)
    assert (failure["file"], failure["record"]) == (f"{tmp_path}/in/0.gz", 0)
    assert failure["model"] == "ten"
    assert failure["reason"].startswith("InvalidArgumentError: ")
    assert examples_below(tmp_path, "failed_examples") == [example(x=-1.0)]
    found = sorted(
        map(features_of, examples_below(tmp_path, "output_examples")), key=lambda f: f["x"]
    )
    assert found == [
        {"x": [float(x)], "five/score": [5.0 * x], "ten/score": [10.0 * x]} for x in range(9)
    ]
    (pair,) = Comparison.read(job.outputs.comparison).pairs
    assert pair.models == ("five", "ten")
    assert pair.outputs["y"].records == 9
    assert pair.outputs["y"].max_absolute_difference == 40.0
    assert pair.not_compared == {"half": "only 'ten' has it"}


@pytest.mark.slow
def test_files_of_a_run_have_the_names_of_the_contract(tmp_path, models):
    write_inputs(tmp_path, [example(x=1.0)], count=1)
    run_branches(branch_job(tmp_path, models, Column("y", "y"), has_comparison=True))
    assert tree(tmp_path / "out") == [
        "comparison/comparison.json",
        "failed_examples/Split-s/failed_examples-00000-of-00001.gz",
        "five/prediction_logs-s-00000-of-00001.gz",
        "output_examples/Split-s/examples-00000-of-00001.gz",
        "summary/failures-s.jsonl.gz",
        "summary/summary.json",
        "ten/prediction_logs-s-00000-of-00001.gz",
    ]
    assert list((tmp_path / "out").rglob(".work")) == []


@pytest.mark.slow
def test_summary_tells_of_every_model_and_of_those_that_were_blocked(tmp_path, models):
    write_inputs(tmp_path, [example(x=1.0)])
    blocked = Summary({}, "not_blessed", "Evaluator did not bless it.", "/models/3")
    job = branch_job(
        tmp_path,
        models,
        gates={"five": ("blessed", "Evaluator blessed it.")},
        blocked={"three": blocked},
    )
    summary = run_branches(job)
    assert BranchSummary.read(job.outputs.summary) == summary
    assert list(summary.models) == ["five", "ten", "three"]
    assert list(summary.scored) == ["five", "ten"]
    assert summary.models["three"] == blocked
    assert {n: (s.gate, s.gate_reason) for n, s in summary.models.items()} == {
        "five": ("blessed", "Evaluator blessed it."),
        "ten": ("no_blessing", "No blessing was asked for."),
        "three": ("not_blessed", "Evaluator did not bless it."),
    }
    for name, model in models.items():
        of_model = summary.models[name]
        shards = [path.stat().st_size for path in Path(tmp_path, "out", name).iterdir()]
        assert of_model.splits == {"s": Counts(1, 1, 0, 2, sum(shards))}
        assert of_model.model_path == model.uri
        assert of_model.model_fingerprint == model.fingerprint()
        assert of_model.work.batches == of_model.work.model_loads == 1
        assert of_model.stages == {}
        assert set(of_model.seconds) == {"plan", "score", "commit"}


@pytest.mark.slow
def test_splits_are_counted_apart_for_each_model(tmp_path, models):
    write_tfrecord(tmp_path / "a/0.gz", [example(x=-1.0), example(x=1.0)])
    write_tfrecord(tmp_path / "b/0.gz", [example(x=2.0)])
    splits = {"a": [f"{tmp_path}/a/*"], "b": [f"{tmp_path}/b/*"]}
    summary = run_branches(branch_job(tmp_path, models, splits=splits))
    found = {(n, s): counts(summary.models[n], s) for n in models for s in splits}
    assert found == {
        ("five", "a"): (2, 2, 0),
        ("five", "b"): (1, 1, 0),
        ("ten", "a"): (2, 1, 1),
        ("ten", "b"): (1, 1, 0),
    }
    assert predicted(tmp_path, "ten", "a") == {1.0: 10.0}
    assert predicted(tmp_path, "ten", "b") == {2.0: 20.0}
    assert len(failure_lines(tmp_path, "a")) == 1
    assert failure_lines(tmp_path, "b") == []


@pytest.mark.slow
def test_each_record_goes_to_one_model_and_its_outcome_to_that_model(tmp_path, models):
    keys = [f"user-{i}" for i in range(30)]
    routing = SplitRouting({"five": 2, "ten": 1}, "k", salt="first test")
    model_of = {key: routing.model_of(key.encode()) for key in keys}
    records = [example(x=float(x), k=key) for x, key in enumerate(keys)]
    write_inputs(tmp_path, [*records, example(x=77.0)])
    with open(tmp_path / "outcomes.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerows([("key", "value"), *((key, 1.0 + x) for x, key in enumerate(keys[:20]))])
        rows.writerow(("nobody", 1e9))
    job = branch_job(
        tmp_path,
        models,
        Column("y", "score"),
        has_comparison=True,
        routing=routing,
        outcomes=f"{tmp_path}/outcomes.csv",
    )
    summary = run_branches(job)

    factor = {"five": 5.0, "ten": 10.0}
    by_model = {
        name: {float(x): factor[name] * x for x, key in enumerate(keys) if model_of[key] == name}
        for name in models
    }
    for name, expected in by_model.items():
        assert predicted(tmp_path, name) == expected
        assert counts(summary.models[name]) == (len(expected), len(expected), 0)
        assert len(expected) > 5
    assert (summary.routing, summary.unrouted) == ("split", {"s": 1})
    assert BranchSummary.read(job.outputs.summary) == summary
    (failure,) = failure_lines(tmp_path)
    assert failure == {
        "file": f"{tmp_path}/in/0.gz",
        "record": 15,
        "reason": "NoKeyError: expected one value of feature 'k' to split by, got 0",
    }
    assert examples_below(tmp_path, "failed_examples") == [example(x=77.0)]
    found = {
        features["k"][0].decode(): features
        for features in map(features_of, examples_below(tmp_path, "output_examples"))
    }
    assert found == {
        key: {
            "x": [float(x)],
            "k": [key.encode()],
            "score": [factor[model_of[key]] * x],
            "variant": [model_of[key].encode()],
        }
        for x, key in enumerate(keys)
    }
    comparison = Comparison.read(job.outputs.comparison)
    assert comparison.pairs == ()
    for name in models:
        values = [1.0 + x for x, key in enumerate(keys[:20]) if model_of[key] == name]
        outcome = comparison.outcomes[name]
        assert (outcome.count, outcome.mean) == (len(values), pytest.approx(np.mean(values)))


@pytest.mark.slow
def test_stages_of_a_cascade_are_counted_for_their_model(tmp_path, five, ten):
    exits = (ExitWhen("y", at_most=20),)
    cascade = CascadeModel((Stage("small", five, exit_when=exits), Stage("full", ten)))
    write_inputs(tmp_path, [example(x=float(x)) for x in range(10)])
    summary = run_branches(branch_job(tmp_path, {"five": five, "both": cascade}))
    assert summary.models["five"].stages == {}
    stages = summary.models["both"].stages
    assert {n: (s.records, s.exited, s.escalated) for n, s in stages.items()} == {
        "small": (10, 5, 5),
        "full": (5, 5, 0),
    }
    expected = {x: (5 if x <= 4 else 10) * x for x in map(float, range(10))}
    assert predicted(tmp_path, "both") == expected


def test_input_files_of_a_run_are_opened_as_often_for_three_models_as_for_one(
    tmp_path, five, ten, monkeypatch
):
    opened = Counter()
    open_to_read = _files.open_to_read

    def counted(path):
        opened[path] += 1
        return open_to_read(path)

    monkeypatch.setattr(_files, "open_to_read", counted)
    for i in range(2):
        write_tfrecord(tmp_path / f"in/{i}.gz", [example(x=1.0)])
    for names in (("a",), ("a", "b", "c")):
        opened.clear()
        job = branch_job(tmp_path, dict(zip(names, (five, ten, five), strict=False)))
        outputs = outputs_in(tmp_path / f"of {len(names)}", job.models)
        run_branches(dataclasses.replace(job, outputs=outputs))
        of_inputs = {path: n for path, n in opened.items() if path.startswith(f"{tmp_path}/in/")}
        assert of_inputs == {f"{tmp_path}/in/0.gz": 1, f"{tmp_path}/in/1.gz": 1}


# Failure limits


def limit_text(allowed, where, got, *lines):
    first = "".join(f"  {line}\n" for line in lines)
    return (
        f"Expected {allowed} of the records {where} to fail, got {got}. The first ones:\n{first}"
        f"Mend the records or the model, or raise the failure_limit to keep the failures in "
        f"failed_examples."
    )


def refuse_negative(batch):
    if any(x_of(record) < 0 for record in batch):
        raise ValueError("x is negative")
    return batch


def refuse_large(batch):
    if any(x_of(record) > 6 for record in batch):
        raise ValueError("x is large")
    return batch


@pytest.mark.slow
def test_limit_holds_for_each_model(tmp_path, five):
    models = {"small": Hooked(five, refuse_large), "positive": Hooked(five, refuse_negative)}
    write_inputs(tmp_path, [example(x=float(x)) for x in range(-2, 8)], count=1)
    limit = FailureLimit(max_fraction=0.1)
    message = limit_text(
        "at most 10.00%",
        "of split 's' for model 'positive'",
        "2 of 10",
        f"{tmp_path}/in/0.gz, record 0: ValueError: x is negative",
        f"{tmp_path}/in/0.gz, record 1: ValueError: x is negative",
    )
    with pytest.raises(FailureLimitError, match=exactly(message)):
        run_branches(branch_job(tmp_path, models, Column("y", "y"), failure_limit=limit))
    assert tree(tmp_path / "out") == []
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "failed_examples",
        "output_examples",
        "positive",
        "small",
        "summary",
    ]


@pytest.mark.slow
def test_limit_is_a_share_of_the_records_that_go_to_a_model(tmp_path, five):
    models = {"any": five, "positive": Hooked(five, refuse_negative)}
    # Half of the keys go to each: 1 failure in 5 records, though it is 1 in 10 of all.
    routing = SplitRouting({"any": 1, "positive": 1}, "k")
    keys = [f"user-{i}" for i in range(40)]
    of_positive = [key for key in keys if routing.model_of(key.encode()) == "positive"][:5]
    of_any = [key for key in keys if routing.model_of(key.encode()) == "any"][:5]
    records = [example(x=1.0, k=key) for key in [*of_any, *of_positive[1:]]]
    write_inputs(tmp_path, [example(x=-1.0, k=of_positive[0]), *records], count=1)
    limit = FailureLimit(max_count=9, max_fraction=0.1)
    message = limit_text(
        "at most 10.00% and at most 9",
        "of split 's' for model 'positive'",
        "1 of 5",
        f"{tmp_path}/in/0.gz, record 0: ValueError: x is negative",
    )
    with pytest.raises(FailureLimitError, match=exactly(message)):
        run_branches(branch_job(tmp_path, models, routing=routing, failure_limit=limit))
    assert tree(tmp_path / "out") == []


@pytest.mark.slow
def test_limit_holds_for_records_without_a_key(tmp_path, five):
    routing = SplitRouting({"a": 1, "b": 1}, "k")
    records = [example(x=float(x), k=f"user-{x}") for x in range(8)]
    write_inputs(tmp_path, [example(x=1.0), *records, example(x=1.0, k=["a", "b"])], count=1)
    message = limit_text(
        "at most 100.00% and at most 1",
        "of split 's', before they reach a model,",
        "2 of 10",
        f"{tmp_path}/in/0.gz, record 0: NoKeyError: expected one value of feature 'k' to split "
        f"by, got 0",
        f"{tmp_path}/in/0.gz, record 9: NoKeyError: expected one value of feature 'k' to split "
        f"by, got 2",
    )
    job = branch_job(
        tmp_path,
        {name: Hooked(five, refuse_large) for name in "ab"},
        routing=routing,
        failure_limit=FailureLimit(max_count=1, max_fraction=1),
    )
    with pytest.raises(FailureLimitError, match=exactly(message)):
        run_branches(job)
    assert tree(tmp_path / "out") == []
    allowed = dataclasses.replace(job, failure_limit=FailureLimit(max_count=2, max_fraction=1))
    summary = run_branches(allowed)
    assert summary.unrouted == {"s": 2}
    assert sum(s.total.examples_failed for s in summary.models.values()) == 1


# Errors


@pytest.mark.slow
def test_model_that_fails_on_a_worker_empties_the_folders_of_all(tmp_path, five):
    serve = (lambda examples: {"y": tf.zeros([7])}, {"examples": RECORDS})
    wrong = SavedModel(save_functions(tmp_path / "model", serving_default=serve))
    write_inputs(tmp_path, [example(x=1.0)] * 4)
    job = branch_job(tmp_path, {"five": five, "wrong": wrong}, Column("y", "y"))
    with pytest.raises(ModelError, match=r"^Model 'wrong': Expected output 'y' to have"):
        run_branches(job)
    assert tree(tmp_path / "out") == []


@pytest.mark.slow
def test_missing_model_is_named_before_anything_is_written(tmp_path, five):
    message = (
        f"Model 'none': Expected a SavedModel, found no saved_model.pb in {tmp_path}/none. Check "
        f"the path, and that the Trainer exported the model for serving "
        f"(fn_args.serving_model_dir)."
    )
    models = {"five": five, "none": SavedModel(f"{tmp_path}/none")}
    with pytest.raises(ModelError, match=exactly(message)):
        run_branches(branch_job(tmp_path, models))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_column_that_one_model_does_not_have_is_named_with_the_model(tmp_path, models):
    message = (
        f"Model 'five': Expected column 'h' to come from an output of {models['five'].uri}, got "
        f"'half'; it has: y. Correct OutputExampleSpec."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        run_branches(branch_job(tmp_path, models, Column("half", "h")))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_folder_of_any_model_that_is_not_empty_is_refused(tmp_path, models):
    write_inputs(tmp_path, [example(x=1.0)])
    kept = tmp_path / "out/ten/kept"
    kept.parent.mkdir(parents=True)
    kept.write_text("kept")
    with pytest.raises(SettingsError, match=r"^Expected an empty folder to write to, got 1 files"):
        run_branches(branch_job(tmp_path, models))
    assert tree(tmp_path / "out") == ["ten/kept"]


@pytest.mark.slow
def test_columns_are_not_checked_before_the_run_where_outputs_are_not_known(tmp_path, five, ten):
    write_inputs(tmp_path, [example(x=1.0), example(x=2.0)])
    models = {"five": five, "ten": Hooked(ten, postprocess=halve)}
    run_branches(branch_job(tmp_path, models, Column("y", "score")))
    found = sorted(
        map(features_of, examples_below(tmp_path, "output_examples")), key=lambda f: f["x"]
    )
    assert found == [{"x": [x], "five/score": [5 * x], "ten/score": [5 * x]} for x in (1.0, 2.0)]


def halve(records, outputs):
    return {"y": outputs["y"] / 2}


# Settings


def settings_of(**settings):
    models = settings.pop("models", {"a": SavedModel("/a"), "b": SavedModel("/b")})
    return branch_job("/folder", models, *settings.pop("columns", ()), **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"splits": {}}, "Expected at least one split, got none. Name the files to score."),
        (
            {"splits": {"s": "data/*"}},
            (
                "Expected a list of file patterns for split 's', got the string 'data/*'. Put it "
                "into a list."
            ),
        ),
        (
            {"record_format": "FORMAT_PARQUET"},
            (
                "Expected one of FORMAT_TF_EXAMPLE, FORMAT_TF_SEQUENCE_EXAMPLE, FORMAT_PROTO as "
                "record format, got FORMAT_PARQUET. Convert the examples to one of them."
            ),
        ),
        (
            {"models": {}},
            "Expected at least one model, got none. Name the models to score.",
        ),
        (
            {"models": {"Five": SavedModel("/five")}},
            (
                "Expected the name of a model to be lower-case letters, digits and underscores, "
                "and to begin with a letter, got 'Five'. Rename it."
            ),
        ),
        (
            {"models": {"": SavedModel("/five"), "a": SavedModel("/a")}},
            (
                "Expected the name of a model to be lower-case letters, digits and underscores, "
                "and to begin with a letter, got ''. Rename it."
            ),
        ),
        (
            {"outputs": Outputs.under("/out")},
            (
                "Expected folders of outputs.inference_result for the models a, b, got them for "
                "none. Use the same names."
            ),
        ),
        (
            {"outputs": Outputs({"a": "/a"}, "/s", "/f")},
            (
                "Expected folders of outputs.inference_result for the models a, b, got them for "
                "a. Use the same names."
            ),
        ),
        (
            {"outputs": Outputs({"a": "/out", "b": "/out/"}, "/s", "/f")},
            (
                "Expected a folder for each of the outputs, got /out for several. Name "
                "another folder for each of them."
            ),
        ),
        (
            {"blocked": {"b": Summary({}, "not_blessed", "", "/b")}},
            "Expected models to be scored or blocked, got both for b. Leave them out of one.",
        ),
        (
            {"routing": SplitRouting({"a": 1, "c": 1})},
            (
                "Expected weights of routing for the models a, b, got them for a, c. Use the "
                "same names."
            ),
        ),
        (
            {"routing": SplitRouting({"a": 1, "b": 1}), "columns": (Column("y", "variant"),)},
            (
                "Expected no column 'variant' in OutputExampleSpec, since the name of the model "
                "stands in that feature. Choose another name."
            ),
        ),
        (
            {"routing": SplitRouting({"a": 1, "b": 1}, "k"), "record_format": FORMAT_PROTO},
            (
                "Expected FORMAT_TF_EXAMPLE or FORMAT_TF_SEQUENCE_EXAMPLE records to read the "
                "split_key 'k' from, got FORMAT_PROTO. Leave it out to split by whole records."
            ),
        ),
        *[
            (
                {"outcomes": "/outcomes.csv", "routing": routing},
                (
                    "Expected a split_key to find the outcomes of /outcomes.csv by, got none. "
                    "Name the feature that holds the key in SplitRouting.split_key."
                ),
            )
            for routing in (None, SplitRouting({"a": 1, "b": 1}))
        ],
        (
            {"outcomes": "/outcomes.csv", "routing": SplitRouting({"a": 1, "b": 1}, "k")},
            (
                "Expected a folder for what /outcomes.csv says of the models, got none. Name one "
                "in Outputs.comparison."
            ),
        ),
        (
            {"models": {"a": "/a", "b": "/b"}},
            "Expected a model, got the string '/a'. Give SavedModel('/a').",
        ),
    ],
    ids=[
        "splits", "patterns", "record format", "models", "name", "no name", "one folder",
        "folders", "same folder", "blocked", "weights", "variant", "split_key", "no routing",
        "no split_key", "no comparison", "path",
    ],
)  # fmt: skip
def test_settings_that_contradict_one_another_are_refused(settings, message):
    with pytest.raises(SettingsError, match=exactly(message)):
        settings_of(**settings)


def test_column_named_variant_is_fine_where_every_record_goes_to_every_model():
    assert settings_of(columns=(Column("y", "variant"),)).outputs.columns[0].name == "variant"


def test_raw_bytes_can_be_split_by_themselves():
    routing = SplitRouting({"a": 1, "b": 1})
    assert settings_of(routing=routing, record_format=FORMAT_PROTO).routing == routing
