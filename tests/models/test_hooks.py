from __future__ import annotations

import functools
import re

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._formats.first_records import of_batch
from bulk_inferencer._formats.record_format import FORMAT_PROTO, FORMAT_TF_EXAMPLE
from bulk_inferencer._models.hooks import HookedModel
from bulk_inferencer._models.predictor import fitted
from bulk_inferencer._models.python_model import PythonModel
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer._models.scoring import LogScorer
from bulk_inferencer._signatures import PREDICT, OutputType, Signature
from bulk_inferencer._work import Work
from bulk_inferencer.errors import HookError, ModelError, SettingsError
from tests.helpers import RECORDS, exactly, example, features_of, parsed_log, save_functions
from tests.models.fakes import Model, length

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


def test_hook_that_changes_the_list_it_is_given_changes_no_record(linear):
    batch = list(X)
    outputs = predict(linear, batch, lambda b: b.reverse() or b, negate_and_tell_x).outputs
    assert batch == X
    assert outputs["minus_y"].tolist() == [[12.5], [-5.0], [0.0]]
    assert outputs["x"].tolist() == [0.0, 1.0, -2.5]


@pytest.mark.parametrize("postprocess", [None, lambda records, outputs: outputs])
def test_everything_but_outputs_is_that_of_the_model(postprocess):
    inner = Model(length, "y", fingerprint="of the model", stages=["small"], versions={"7"})
    model = HookedModel(inner, lambda batch: batch, postprocess)
    assert (model.uri, model.fingerprint()) == ("memory://length", "of the model")
    known = Signature("serving_default", PREDICT, () if postprocess else ("y",))
    assert model.check(FORMAT_TF_EXAMPLE) == (known,)
    predictor = model.load(FORMAT_TF_EXAMPLE)
    assert (predictor.signatures, predictor.input_name) == ((known,), "records")
    prediction = predictor.predict(X)
    assert prediction.versions == {"7"}
    assert prediction.stages == {"small": 3}


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


ADVICE = "Return a list with one for each record; raise an exception if one cannot be scored."
AS_BYTES = "records of type Example, not bytes. Serialize them: example.SerializeToString()."


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (X[1:], f"2 records for a batch of 3. {ADVICE}"),
        (iter(X), f"list_iterator instead of records for a batch of 3. {ADVICE}"),
        (None, f"NoneType instead of records for a batch of 3. {ADVICE}"),
        ([*X[1:], tf.train.Example()], AS_BYTES),
    ],
    ids=["fewer", "iterator", "none", "no bytes"],
)
def test_preprocess_that_does_not_return_a_record_for_each_is_named(records, message):
    def hook(batch):
        return records

    message = f"preprocess ({HERE}.{hook.__qualname__}) returned {message}"
    with pytest.raises(HookError, match=exactly(message)):
        predict(Model(length), X, hook)


NAMES = (
    "an object of type NoneType, not a dict of outputs. Return {name: array}, with one row for "
    "each record."
)
ROWS = "an output 'v' of shape {} for a batch of 3. Return one row for each record."
ARRAYS = "an output 'v' that is not an array of numbers or strings: {}"
OF_ONE_KIND = "Return numbers alone, or text alone. What has several parts can be several outputs."


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (None, NAMES),
        ({1: [1, 2, 3]}, "an output whose name is 1, not a string. Give every output a name."),
        ({"v": [1, 2]}, ROWS.format("(2,)")),
        ({"v": np.zeros((1, 3))}, ROWS.format("(1, 3)")),
        ({"v": 5.0}, ROWS.format("()")),
        ({"v": "text"}, ROWS.format("()")),
        ({"v": ["a", None, "c"]}, ARRAYS.format(
            "one value is None. Where there is none, return NaN or empty text.")),
        ({"v": ["a", 1.0, "c"]}, ARRAYS.format(f"one value is of type float. {OF_ONE_KIND}")),
        ({"v": [{}] * 3}, ARRAYS.format(f"one value is of type dict. {OF_ONE_KIND}")),
        ({"v": np.array([1, 2, 3], object)}, ARRAYS.format(
            "one value is of type int. Give the array a dtype of numbers, such as with "
            "astype('float64').")),
        ({}, "no outputs. Return {name: array}, with one row for each record."),
        (pd.DataFrame([[1, 2]] * 3, columns=["a", "a"]),
         "several columns named a. Give each a name of its own."),
    ],
    ids=["none", "number as name", "fewer", "transposed", "number", "text", "missing", "floats",
         "dicts", "objects", "no outputs", "columns of one name"],
)  # fmt: skip
def test_postprocess_that_does_not_return_a_row_for_each_record_is_named(outputs, message):
    class Hook:
        """A hook that is no function, and so has no name."""

        def __call__(self, records, given):
            return outputs

        def __repr__(self):
            return "Hook()"

    message = f"postprocess ({HERE}.Hook()) returned {message}"
    with pytest.raises(HookError, match=exactly(message)):
        predict(Model(length), X, postprocess=Hook())


def test_rows_of_different_lengths_are_refused():
    cause = re.escape("setting an array element with a sequence.")
    with pytest.raises(HookError, match=rf"not an array of numbers or strings: {cause}.*\. Pad "):
        returned([["a"], ["b", "c"], []])


def test_model_and_hooks_are_checked_before_the_run(linear):
    with pytest.raises(SettingsError, match=r"^The string '/m' is not a model\. "):
        HookedModel("/m")
    for hook in ("preprocess", "postprocess"):
        model = HookedModel(linear, **{hook: "none:f"})
        for call in (model.check, model.load):
            with pytest.raises(SettingsError, match=rf"^Could not import {hook} 'none:f'"):
                call(FORMAT_TF_EXAMPLE)


# Whole files, which are no tf.Examples until a hook makes some of them


@pytest.fixture(scope="module")
def images():
    """Three JPEGs of 8 x 8 pixels, each of one grey."""
    return [tf.io.encode_jpeg(np.full((8, 8, 1), grey, np.uint8)).numpy() for grey in (0, 100, 255)]


BRIGHTNESS = [[0.0], [100.0], [255.0]]


def save_image_model(path, takes_bytes):
    """Saves a model that takes JPEGs, or the pixels, and returns how bright they are."""

    def decoded(jpegs):
        decode = functools.partial(tf.io.decode_jpeg, channels=1)
        return tf.cast(tf.map_fn(decode, jpegs, fn_output_signature=tf.uint8), tf.float32)

    def brightness(pixels):
        return {"brightness": tf.reduce_mean(tf.reshape(pixels, [-1, 64]), 1, keepdims=True)}

    if takes_bytes:
        serve = (lambda image_bytes: brightness(decoded(image_bytes)), {"image_bytes": RECORDS})
    else:
        serve = (brightness, {"pixels": tf.TensorSpec([None, 8, 8, 1], tf.float32)})
    return SavedModel(save_functions(path, serving_default=serve))


def decode(files):
    """Decodes JPEGs; raises an error for anything else."""
    return [
        example(pixels=tf.io.decode_jpeg(file).numpy().astype(np.float32).ravel().tolist())
        for file in files
    ]


def scored(model, files):
    model = fitted(model, FORMAT_PROTO, of_batch(files))
    return model.load(FORMAT_PROTO).predict(files).outputs["brightness"]


def test_model_with_one_string_input_gets_the_bytes_of_whole_files(tmp_path, images):
    model = save_image_model(tmp_path / "model", takes_bytes=True)
    assert scored(model, images).tolist() == BRIGHTNESS
    same = HookedModel(model, preprocess=lambda files: files)
    assert scored(same, images).tolist() == BRIGHTNESS


def test_model_of_tensors_gets_what_preprocess_makes_of_whole_files(tmp_path, images):
    model = save_image_model(tmp_path / "model", takes_bytes=False)
    message = (
        "Signature 'serving_default' takes (pixels float32[None, 8, 8, 1]), but nobody knows how "
        "to make that of whole files or FORMAT_PROTO records. Write a preprocess function that "
        "returns one serialized tf.Example for each of them, with a feature for each input. Or "
        "export a signature with one string input of shape [None], which gets the bytes."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        model.check(FORMAT_PROTO)
    hooked = HookedModel(model, preprocess=decode)
    (signature,) = hooked.check(FORMAT_PROTO)
    assert signature.types == (OutputType("float32", (1,)),)
    assert scored(hooked, images).tolist() == BRIGHTNESS

    scorer = LogScorer.load(hooked, FORMAT_PROTO, BatchBounds())
    first, failed, last = scorer.logs([images[0], b"no JPEG", images[2]], Work())
    assert failed.error_type == "InvalidArgumentError"
    logs = [parsed_log(log).predict_log for log in (first, last)]
    assert [log.request.inputs["examples"].string_val[0] for log in logs] == images[::2]
    outputs = [tf.make_ndarray(log.response.outputs["brightness"]) for log in logs]
    assert [values.item() for values in outputs] == [0.0, 255.0]


def test_python_model_gets_whole_files_or_what_preprocess_makes_of_them(images):
    def of_bytes(files):
        return {"brightness": [[float(tf.io.decode_jpeg(f).numpy().mean())] for f in files]}

    def of_pixels(features):
        return {"brightness": features["pixels"].mean(axis=1, keepdims=True)}

    whole = PythonModel(lambda path: of_bytes, takes_records=True)
    assert scored(whole, images).tolist() == BRIGHTNESS
    by_pixels = HookedModel(PythonModel(lambda path: of_pixels), preprocess=decode)
    assert scored(by_pixels, images).tolist() == BRIGHTNESS


def test_classification_of_whole_files_has_predict_logs(tf1_model):
    hooked = HookedModel(
        SavedModel(tf1_model), preprocess=lambda texts: [example(x=float(t)) for t in texts]
    )
    (signature,) = hooked.check(FORMAT_PROTO)
    assert signature.method == PREDICT
    (log,) = LogScorer.load(hooked, FORMAT_PROTO, BatchBounds()).logs([b"2"], Work())
    log = parsed_log(log).predict_log
    assert log.request.inputs["inputs"].string_val[0] == b"2"
    assert tf.make_ndarray(log.response.outputs["scores"]).tolist() == [[-10.0, 10.0]]
