"""Functions of the user's own before and after a model, alone and through whole runs."""

from __future__ import annotations

import dataclasses
import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from bulk_inferencer._formats.example import Column
from bulk_inferencer._formats.prediction_log import PredictionLogEncoder
from bulk_inferencer._models import importing
from bulk_inferencer._models.batching import Failed, Scored, Scorer
from bulk_inferencer._models.hooks import Hooked
from bulk_inferencer._models.predictor import FORMAT_TF_EXAMPLE
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer._signatures import PREDICT, Signature
from bulk_inferencer._units.outputs import Outputs
from bulk_inferencer.errors import HookError, SettingsError
from bulk_inferencer.job import FailureLimit, InferenceJob, run
from bulk_inferencer.results.reader import read_predictions
from tests.helpers import (
    Lengths,
    exactly,
    example,
    features_of,
    parsed_log,
    read_tfrecord,
    write_tfrecord,
)

X = [example(x=x) for x in (0.0, 1.0, -2.5)]
HERE = __name__


def x_of(record):
    return features_of(record)["x"][0]


def predict(model, batch, preprocess=None, postprocess=None):
    return Hooked(model, preprocess, postprocess).load(FORMAT_TF_EXAMPLE).predict(batch)


# Hooks


def add_one(batch):
    return [example(x=x_of(record) + 1) for record in batch]


def negate_and_tell_x(records, outputs):
    return {"minus_y": -outputs["y"], "x": [x_of(record) for record in records]}


@pytest.fixture(scope="module")
def linear(linear_model):
    """The settings of a real model, y = 5 x."""
    return SavedModel(linear_model)


def test_model_without_hooks_is_the_model(linear):
    model = Hooked(linear)
    assert model.check(FORMAT_TF_EXAMPLE) == linear.check(FORMAT_TF_EXAMPLE)
    predictor = model.load(FORMAT_TF_EXAMPLE)
    assert predictor.signatures == linear.check(FORMAT_TF_EXAMPLE)
    assert predictor.predict(X)["y"].tolist() == [[0.0], [5.0], [-12.5]]


def test_model_gets_what_preprocess_returns(linear):
    assert predict(linear, X, add_one)["y"].tolist() == [[5.0], [10.0], [-7.5]]


def test_postprocess_gets_the_records_as_they_were_read_and_returns_the_outputs(linear):
    outputs = predict(linear, X, add_one, negate_and_tell_x)
    assert outputs["minus_y"].tolist() == [[-5.0], [-10.0], [7.5]]
    assert outputs["x"].tolist() == [0.0, 1.0, -2.5]
    assert list(outputs) == ["minus_y", "x"]


def test_hooks_may_be_named(linear):
    outputs = predict(linear, X, f"{HERE}:add_one", f"{HERE}:negate_and_tell_x")
    assert outputs["minus_y"].tolist() == [[-5.0], [-10.0], [7.5]]


def test_hook_that_changes_the_list_it_is_given_changes_no_record(linear):
    def reverse(batch):
        batch.reverse()
        return batch

    batch = list(X)
    outputs = predict(linear, batch, reverse, negate_and_tell_x)
    assert batch == X
    assert outputs["minus_y"].tolist() == [[12.5], [-5.0], [0.0]]
    assert outputs["x"].tolist() == [0.0, 1.0, -2.5]


# What a model says of itself


class Endpoint:
    """Settings of a model without TensorFlow, whose predictor knows the versions that answered."""

    uri = "grpc://somewhere/five_times"

    def check(self, record_format):
        return Lengths.signatures

    def load(self, record_format):
        predictor = Lengths()
        predictor.versions = {"7"}
        return predictor

    def fingerprint(self):
        return "of the model"


@pytest.mark.parametrize("postprocess", [None, negate_and_tell_x])
def test_uri_fingerprint_versions_and_input_name_are_those_of_the_model(postprocess):
    model = Hooked(Endpoint(), add_one, postprocess)
    assert model.uri == "grpc://somewhere/five_times"
    assert model.fingerprint() == "of the model"
    predictor = model.load(FORMAT_TF_EXAMPLE)
    assert predictor.versions == {"7"}
    assert predictor.input_name == "records"


def test_outputs_of_postprocess_are_not_known_before_it_returns_them():
    known = (Signature("serving_default", PREDICT, ("length",)),)
    unknown = (Signature("serving_default", PREDICT),)
    assert Hooked(Endpoint(), preprocess=add_one).check(FORMAT_TF_EXAMPLE) == known
    model = Hooked(Endpoint(), postprocess=negate_and_tell_x)
    assert model.check(FORMAT_TF_EXAMPLE) == unknown
    assert model.load(FORMAT_TF_EXAMPLE).signatures == unknown


def best_class(records, outputs):
    best = outputs["scores"].argmax(1)
    return {"class": outputs["classes"][np.arange(len(records)), best]}


def test_predict_log_holds_what_postprocess_makes_of_a_classification(tf1_model):
    model = Hooked(SavedModel(tf1_model), postprocess=best_class)
    predictor = model.load(FORMAT_TF_EXAMPLE)
    encoder = PredictionLogEncoder(predictor.signatures, predictor.input_name)
    logs = list(map(parsed_log, encoder.encode(X, predictor.predict(X))))
    outputs = [log.predict_log.response.outputs for log in logs]
    classes = [tf.make_ndarray(output["class"]).tolist() for output in outputs]
    assert classes == [[b"small"], [b"big"], [b"small"]]
    assert [list(o) for o in outputs] == [["class"]] * 3


# Arrays


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        (["a", "ä", ""], [b"a", "ä".encode(), b""]),
        ([b"a\0\0", b"\0", b"\xff"], [b"a\0\0", b"\0", b"\xff"]),
        (["a", b"b", "c"], [b"a", b"b", b"c"]),
        (np.array(["a", "bc", ""]), [b"a", b"bc", b""]),
        (np.array([b"a", b"bc", b""]), [b"a", b"bc", b""]),
        (np.array(["a", b"b\0", "c"], object), [b"a", b"b\0", b"c"]),
        (tf.constant(["a", "b\0", "c"]), [b"a", b"b\0", b"c"]),
        ([["a", "b"]] * 3, [[b"a", b"b"]] * 3),
        (np.array([["a"], ["b"], ["c"]]), [[b"a"], [b"b"], [b"c"]]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_strings_become_bytes_whatever_they_are_returned_as(returned, expected):
    values = predict(Endpoint(), X, postprocess=lambda records, outputs: {"s": returned})["s"]
    assert values.dtype == object
    assert values.tolist() == expected


@pytest.mark.parametrize(
    ("returned", "dtype"),
    [
        ([1, 2, 3], np.int64),
        ([True, False, True], np.bool_),
        (np.float16([1, 2, 3]), np.float16),
        (tf.constant([1.0, 2.0, 3.0]), np.float32),
    ],
    ids=["ints", "bools", "array", "tensor"],
)
def test_numbers_keep_their_types(returned, dtype):
    values = predict(Endpoint(), X, postprocess=lambda records, outputs: {"n": returned})["n"]
    assert values.dtype == dtype
    assert values.tolist() == np.asarray(returned).tolist()


# Hooks that do not keep their contract


def drop_first(batch):
    return batch[1:]


def lazily(batch):
    return (record for record in batch)


def forget_to_serialize(batch):
    return [*batch[1:], tf.train.Example()]


def return_none(*args):
    return None


@pytest.mark.parametrize(
    ("preprocess", "got"),
    [(drop_first, "2"), (lazily, "a generator"), (return_none, "a NoneType")],
    ids=["fewer", "generator", "none"],
)
def test_preprocess_that_returns_another_number_of_records_is_named(linear, preprocess, got):
    message = (
        f"Expected preprocess to return 3 records for 3, got {got} from "
        f"{HERE}.{preprocess.__name__}. Return a list with one for each; raise an exception where "
        f"a record cannot be scored."
    )
    with pytest.raises(HookError, match=exactly(message)):
        predict(linear, X, preprocess)


def test_preprocess_that_returns_no_bytes_is_named(linear):
    message = (
        f"Expected preprocess to return records as bytes, got Example from "
        f"{HERE}.forget_to_serialize. Serialize them: example.SerializeToString()."
    )
    with pytest.raises(HookError, match=exactly(message)):
        predict(linear, X, forget_to_serialize)


@pytest.mark.parametrize(
    ("returned", "shape"),
    [([1, 2], "(2,)"), (np.zeros((1, 3)), "(1, 3)"), (5.0, "()"), ("text", "()")],
    ids=["fewer", "transposed", "number", "text"],
)
def test_postprocess_that_returns_another_number_of_rows_is_named(linear, returned, shape):
    class Average:
        """A hook that is no function, and so has no name."""

        def __call__(self, records, outputs):
            return {"ok": outputs["y"], "mean": returned}

        def __repr__(self):
            return "Average()"

    message = (
        f"Expected postprocess to return 3 rows for 3 records, got output 'mean' of shape {shape} "
        f"from {HERE}.Average(). Return one row for each record."
    )
    with pytest.raises(HookError, match=exactly(message)):
        predict(linear, X, postprocess=Average())


def test_postprocess_that_returns_no_dict_is_named(linear):
    message = (
        f"Expected postprocess to return a dict of outputs by name, got a NoneType from "
        f"{HERE}.return_none. Return {{name: array}} with one row for each record."
    )
    with pytest.raises(HookError, match=exactly(message)):
        predict(linear, X, postprocess=return_none)


@pytest.mark.parametrize(
    ("returned", "cause"),
    [
        (["a", None, "c"], "there is a NoneType in it"),
        (["a", 1.0, "c"], "there is a float in it"),
        ([["a"], ["b", "c"], []], "setting an array element with a sequence."),
    ],
    ids=["none", "mixed", "ragged"],
)
def test_postprocess_that_returns_neither_numbers_nor_strings_is_named(linear, returned, cause):
    def labels(records, outputs):
        return {"labels": returned}

    before = (
        f"Expected postprocess to return numbers or strings of one shape for each record, got "
        f"output 'labels' from {HERE}.{labels.__qualname__}: {cause}"
    )
    message = rf"^{re.escape(before)}.*\. Pad rows to one length\.$"
    with pytest.raises(HookError, match=message):
        predict(linear, X, postprocess=labels)


# Functions by name


def test_function_may_be_given_itself_or_by_its_name():
    assert importing.function("preprocess", add_one) is add_one
    assert importing.function("preprocess", f"{HERE}:add_one") is add_one


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("no_such_module:f", "No module named 'no_such_module'"),
        (f"{HERE}:no_such_function", f"module '{HERE}' has no attribute 'no_such_function'"),
        (HERE, f"module '{HERE}' has no attribute ''"),
        ("", "Empty module name"),
        ("broken_hooks:f", "undefined symbol"),
    ],
    ids=["module", "function", "no colon", "empty", "broken"],
)
@pytest.mark.parametrize("hook", ["preprocess", "postprocess"])
def test_hook_that_cannot_be_imported_is_named_before_the_run(
    linear, tmp_path, monkeypatch, hook, name, cause
):
    (tmp_path / "broken_hooks.py").write_text("raise OSError('undefined symbol')")
    monkeypatch.syspath_prepend(tmp_path)
    message = (
        f"Expected a function as {hook}, named as package.module:function, got {name!r}: {cause}. "
        f"Install its module on every worker."
    )
    for call in (Hooked(linear, **{hook: name}).check, Hooked(linear, **{hook: name}).load):
        with pytest.raises(SettingsError, match=exactly(message)):
            call(FORMAT_TF_EXAMPLE)


@pytest.mark.parametrize(
    ("hook", "got", "kind"),
    [(f"{HERE}:X", f"'{HERE}:X'", "list"), (7, "7", "int"), (re, repr(re), "module")],
    ids=["name", "number", "module"],
)
def test_hook_that_is_no_function_is_named_before_the_run(linear, hook, got, kind):
    message = f"Expected a function as preprocess, got {got}, which is a {kind}. Name a function."
    with pytest.raises(SettingsError, match=exactly(message)):
        Hooked(linear, hook).check(FORMAT_TF_EXAMPLE)


# One bad record


def refuse_negative(batch):
    if any(x_of(record) < 0 for record in batch):
        raise ValueError("x is negative")
    return batch


def refuse_negative_y(records, outputs):
    if (outputs["y"] < 0).any():
        raise ValueError("y is negative")
    return outputs


@pytest.mark.parametrize(
    ("hooks", "reason"),
    [
        ({"preprocess": refuse_negative}, "x is negative"),
        ({"postprocess": refuse_negative_y}, "y is negative"),
    ],
    ids=["preprocess", "postprocess"],
)
def test_hook_that_raises_for_one_record_fails_that_record_alone(linear, hooks, reason):
    records = [example(x=float(x)) for x in (0, 1, 2, -3, 4, 5, 6)]
    scorer = Scorer(Hooked(linear, **hooks).load(FORMAT_TF_EXAMPLE))
    results = list(scorer.score(records))
    assert [r for r in results if isinstance(r, Failed)] == [Failed(3, "ValueError", reason)]
    scored = [r for r in results if isinstance(r, Scored)]
    assert [y for r in scored for y in r.outputs["y"][:, 0]] == [0, 5, 10, 20, 25, 30]


def test_hook_that_breaks_its_contract_fails_no_record_but_the_run(linear):
    scorer = Scorer(Hooked(linear, drop_first).load(FORMAT_TF_EXAMPLE))
    with pytest.raises(HookError, match=r"^Expected preprocess to return 3 records"):
        list(scorer.score(X))


# Whole runs


def describe(records, outputs):
    y = outputs["y"][:, 0]
    return {"y": y, "sign": ["even" if value % 2 == 0 else "odd" for value in y]}


@pytest.fixture
def job(tmp_path, linear):
    """Files of x = 0 ... 9 and of one record that `refuse_negative` refuses; hooks by their names.

    Modules of tests can be imported wherever workers run in this process.
    """
    for i in range(2):
        records = [example(x=float(x)) for x in range(5 * i, 5 * i + 5)]
        write_tfrecord(tmp_path / f"in/{i}.gz", records)
    write_tfrecord(tmp_path / "in/2.gz", [example(x=-1.0), example(x=10.0)])

    def make(columns=(), **hooks):
        outputs = dataclasses.replace(
            Outputs.under(f"{tmp_path}/out"),
            output_examples=f"{tmp_path}/out/output_examples" if columns else None,
            columns=tuple(columns),
        )
        return InferenceJob(
            splits={"s": [f"{tmp_path}/in/*"]},
            model=Hooked(linear, **hooks),
            outputs=outputs,
            failure_limit=FailureLimit(max_fraction=0.1),
        )

    return make


def test_run_with_hooks_writes_their_outputs_beside_the_records_as_they_were_read(job, tmp_path):
    columns = (Column("sign", "sign"), Column("y", "five_x_plus_one"))
    summary = run(job(columns, preprocess=f"{HERE}:refuse_negative", postprocess=describe))
    counts = summary.total
    assert (counts.examples_read, counts.predictions_written, counts.examples_failed) == (12, 11, 1)
    assert summary.signature_names == ("serving_default",)

    expected = {5.0 * x: b"odd" if x % 2 else b"even" for x in range(11)}
    predictions = list(read_predictions(f"{tmp_path}/out/inference_result"))
    assert {p.outputs["y"].item(): p.outputs["sign"].item() for p in predictions} == expected
    assert all(p.outputs["y"] == 5 * x_of(p.record) for p in predictions)

    shards = Path(tmp_path, "out/output_examples/Split-s").iterdir()
    features = [features_of(record) for path in shards for record in read_tfrecord(path)]
    assert {f["five_x_plus_one"][0]: f["sign"][0] for f in features} == expected
    assert all(f["five_x_plus_one"] == [5 * f["x"][0]] for f in features)

    (line,) = gzip.decompress(
        Path(tmp_path, "out/summary/failures-s.jsonl.gz").read_bytes()
    ).splitlines()
    reason = "ValueError: x is negative"
    assert json.loads(line) == {"file": f"{tmp_path}/in/2.gz", "record": 0, "reason": reason}
    failed = Path(tmp_path, "out/failed_examples/Split-s").iterdir()
    assert [r for path in failed for r in read_tfrecord(path)] == [example(x=-1.0)]


def test_record_in_the_results_is_not_what_preprocess_made_of_it(job, tmp_path):
    run(job(preprocess=add_one))
    predictions = read_predictions(f"{tmp_path}/out/inference_result")
    found = {x_of(p.record): p.outputs["y"].item() for p in predictions}
    assert found == {float(x): 5.0 * x + 5 for x in range(-1, 11)}


def test_run_with_a_hook_that_breaks_its_contract_fails_and_leaves_no_outputs(job, tmp_path):
    message = r"^Expected preprocess to return \d records for \d, got \d from .*drop_first"
    with pytest.raises(HookError, match=message):
        run(job(preprocess=drop_first))
    assert [path for path in Path(tmp_path, "out").rglob("*") if path.is_file()] == []


def test_run_with_a_hook_that_cannot_be_imported_writes_nothing(job, tmp_path):
    with pytest.raises(SettingsError, match=r"^Expected a function as postprocess, named as"):
        run(job(postprocess="no_such_module:postprocess"))
    assert not Path(tmp_path, "out").exists()


def test_output_without_a_name_is_an_error(linear):
    message = (
        "Expected postprocess to return outputs by name, got 1, which is no string, from "
        "tests.test_hooks.test_output_without_a_name_is_an_error.<locals>.<lambda>. Name every "
        "output."
    )
    with pytest.raises(HookError, match=exactly(message)):
        predict(linear, [example(x=1.0)], postprocess=lambda records, outputs: {1: outputs["y"]})


def test_numbers_in_another_byte_order_keep_their_values(linear):
    swapped = np.array([1.5], ">f2")
    outputs = predict(linear, [example(x=1.0)], postprocess=lambda r, o: {"y": swapped})
    assert outputs["y"].tolist() == [1.5]
    assert outputs["y"].dtype.isnative
