from __future__ import annotations

import re

import numpy as np
import pytest
import tensorflow as tf

from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._formats.record_format import FORMAT_TF_EXAMPLE
from bulk_inferencer._models.hooks import HookedModel
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer._models.scorer import Failed, Scorer
from bulk_inferencer._models.scoring import LogScorer
from bulk_inferencer._signatures import PREDICT, Signature
from bulk_inferencer._work import Work
from bulk_inferencer.errors import HookError, SettingsError
from tests.helpers import exactly, example, features_of, parsed_log
from tests.models.fakes import Model, length, scored

X = [example(x=x) for x in (0.0, 1.0, -2.5)]
HERE = __name__


def x_of(record):
    return features_of(record)["x"][0]


def predict(model, batch, preprocess=None, postprocess=None):
    return HookedModel(model, preprocess, postprocess).load(FORMAT_TF_EXAMPLE).predict(batch)


def returned(values):
    """Returns the output for `X` whose values a postprocess hook returned."""
    model = HookedModel(Model(length), postprocess=lambda records, outputs: {"v": values})
    return model.load(FORMAT_TF_EXAMPLE).predict(X).outputs["v"]


def add_one(batch):
    return [example(x=x_of(record) + 1) for record in batch]


def negate_and_tell_x(records, outputs):
    return {"minus_y": -outputs["y"], "x": [x_of(record) for record in records]}


@pytest.fixture(scope="module")
def linear(linear_model):
    """The settings of a real model, y = 5 x."""
    return SavedModel(linear_model)


@pytest.mark.parametrize("named", [False, True], ids=["functions", "names"])
def test_model_gets_what_preprocess_returns_and_postprocess_the_records_as_read(linear, named):
    hooks = (add_one, negate_and_tell_x)
    if named:
        hooks = [f"{HERE}:{hook.__name__}" for hook in hooks]
    outputs = predict(linear, X, *hooks).outputs
    assert list(outputs) == ["minus_y", "x"]
    assert outputs["minus_y"].tolist() == [[-5.0], [-10.0], [7.5]]
    assert outputs["x"].tolist() == [0.0, 1.0, -2.5]
    assert predict(linear, X).outputs["y"].tolist() == [[0.0], [5.0], [-12.5]]


def test_hook_that_changes_the_list_it_is_given_changes_no_record(linear):
    batch = list(X)
    outputs = predict(linear, batch, lambda b: b.reverse() or b, negate_and_tell_x).outputs
    assert batch == X
    assert outputs["minus_y"].tolist() == [[12.5], [-5.0], [0.0]]
    assert outputs["x"].tolist() == [0.0, 1.0, -2.5]


@pytest.mark.parametrize("postprocess", [None, lambda records, outputs: outputs])
def test_everything_but_outputs_and_stages_is_that_of_the_model(postprocess):
    inner = Model(length, "y", fingerprint="of the model", stages=["small"], versions={"7"})
    model = HookedModel(inner, lambda batch: batch, postprocess)
    assert (model.uri, model.fingerprint()) == ("memory://length", "of the model")
    known = Signature("serving_default", PREDICT, () if postprocess else ("y",))
    assert model.check(FORMAT_TF_EXAMPLE) == (known,)
    predictor = model.load(FORMAT_TF_EXAMPLE)
    assert (predictor.signatures, predictor.input_name) == ((known,), "records")
    prediction = predictor.predict(X)
    assert prediction.versions == {"7"}
    assert prediction.stages == ({} if postprocess else {"small": 3})


def test_predict_log_holds_the_record_as_it_was_read_and_what_postprocess_returned(tf1_model):
    def best_class(records, outputs):
        return {"class": outputs["classes"][np.arange(3), outputs["scores"].argmax(1)]}

    model = HookedModel(SavedModel(tf1_model), add_one, best_class)
    logs = LogScorer.load(model, FORMAT_TF_EXAMPLE, BatchBounds()).logs(X, Work())
    logs = [parsed_log(log).predict_log for log in logs]
    assert [log.request.inputs["inputs"].string_val[0] for log in logs] == X
    outputs = [dict(log.response.outputs) for log in logs]
    assert [list(o) for o in outputs] == [["class"]] * 3
    assert [tf.make_ndarray(o["class"]) for o in outputs] == [b"big", b"big", b"small"]


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        (["a", "ä", ""], object, [b"a", "ä".encode(), b""]),
        ([b"a\0\0", b"\0", b"\xff"], object, [b"a\0\0", b"\0", b"\xff"]),
        (["a", b"b", "c"], object, [b"a", b"b", b"c"]),
        (np.array(["a", "bc", ""]), object, [b"a", b"bc", b""]),
        (np.array([b"a", b"bc", b""]), object, [b"a", b"bc", b""]),
        (np.array(["a", b"b\0", "c"], object), object, [b"a", b"b\0", b"c"]),
        (tf.constant(["a", "b\0", "c"]), object, [b"a", b"b\0", b"c"]),
        ([["a", "b"]] * 3, object, [[b"a", b"b"]] * 3),
        (np.array([["a"], ["b"], ["c"]]), object, [[b"a"], [b"b"], [b"c"]]),
        ([1, 2, 3], np.int64, [1, 2, 3]),
        ([True, False, True], np.bool_, [True, False, True]),
        (np.float16([1, 2, 3]), np.float16, [1, 2, 3]),
        (np.array([1.5, 2, 3], ">f2"), np.float16, [1.5, 2, 3]),
        (tf.constant([1.0, 2.0, 3.0]), np.float32, [1, 2, 3]),
    ],
)
def test_strings_become_bytes_and_numbers_keep_their_types(values, dtype, expected):
    found = returned(values)
    assert found.dtype == dtype
    assert found.dtype.isnative
    assert found.tolist() == expected


COUNT = (
    "a list of 3 records for 3, got {}. Return one for each; if a record cannot be scored, raise "
    "an exception."
)
AS_BYTES = "records as bytes, got Example. Serialize them: example.SerializeToString()."


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (X[1:], COUNT.format("2")),
        ((record for record in X), COUNT.format("a generator")),
        (None, COUNT.format("a NoneType")),
        ([*X[1:], tf.train.Example()], AS_BYTES),
    ],
    ids=["fewer", "generator", "none", "no bytes"],
)
def test_preprocess_that_does_not_return_a_record_for_each_is_named(records, message):
    def hook(batch):
        return records

    message = f"Expected preprocess ({HERE}.{hook.__qualname__}) to return {message}"
    with pytest.raises(HookError, match=exactly(message)):
        list(Scorer(HookedModel(Model(length), hook).load(FORMAT_TF_EXAMPLE)).score(X))


NAMES = (
    "a dict of outputs by name, got a NoneType. Return {name: array}, with one row for each record."
)
KEYS = "a dict whose keys are strings, got the key 1. Give every output a name."
ROWS = "3 rows for 3 records, got output 'v' of shape {}. Return one row for each record."
ARRAYS = (
    "numbers or strings of one shape for each record, but output 'v' is not an array of them: {}. "
    "Pad rows to one length."
)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (None, NAMES),
        ({1: [1, 2, 3]}, KEYS),
        ({"v": [1, 2]}, ROWS.format("(2,)")),
        ({"v": np.zeros((1, 3))}, ROWS.format("(1, 3)")),
        ({"v": 5.0}, ROWS.format("()")),
        ({"v": "text"}, ROWS.format("()")),
        ({"v": ["a", None, "c"]}, ARRAYS.format("it holds a NoneType")),
        ({"v": ["a", 1.0, "c"]}, ARRAYS.format("it holds a float")),
    ],
    ids=["none", "number as name", "fewer", "transposed", "number", "text", "mixed", "floats"],
)
def test_postprocess_that_does_not_return_a_row_for_each_record_is_named(outputs, message):
    class Hook:
        """A hook that is no function, and so has no name."""

        def __call__(self, records, given):
            return outputs

        def __repr__(self):
            return "Hook()"

    message = f"Expected postprocess ({HERE}.Hook()) to return {message}"
    with pytest.raises(HookError, match=exactly(message)):
        predict(Model(length), X, postprocess=Hook())


def test_rows_of_different_lengths_are_refused():
    cause = re.escape("setting an array element with a sequence.")
    with pytest.raises(HookError, match=rf"is not an array of them: {cause}.*\. Pad rows"):
        returned([["a"], ["b", "c"], []])


def test_hook_that_cannot_be_imported_is_named_before_the_run(linear):
    for hook in ("preprocess", "postprocess"):
        model = HookedModel(linear, **{hook: "no_such_module:f"})
        for call in (model.check, model.load):
            with pytest.raises(
                SettingsError, match=rf"^Could not import {hook} 'no_such_module:f'"
            ):
                call(FORMAT_TF_EXAMPLE)


@pytest.mark.parametrize("hook", ["preprocess", "postprocess"])
def test_hook_that_raises_for_one_record_fails_that_record_alone(linear, hook):
    def refuse_negative(records, outputs=None):
        if any(x_of(record) < 0 for record in records):
            raise ValueError("x is negative")
        return outputs or records

    scorer = Scorer(HookedModel(linear, **{hook: refuse_negative}).load(FORMAT_TF_EXAMPLE))
    found = scored(scorer, [example(x=float(x)) for x in (0, 1, 2, -3, 4, 5, 6)])
    assert found == [0, 5, 10, Failed(3, "ValueError", "x is negative"), 20, 25, 30]
