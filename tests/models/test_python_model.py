"""Models of every library: each is made, saved, loaded and called for real."""

from __future__ import annotations

import functools
import itertools
import pickle
import sys
import threading

import keras
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._formats.first_records import of_batch
from bulk_inferencer._formats.record_format import (
    FORMAT_PROTO,
    FORMAT_TF_EXAMPLE,
    FORMAT_TF_SEQUENCE_EXAMPLE,
)
from bulk_inferencer._formats.rows import Rows
from bulk_inferencer._models import python_inputs
from bulk_inferencer._models.cascade import CascadeModel, ExitWhen, Stage
from bulk_inferencer._models.hooks import HookedModel
from bulk_inferencer._models.predictor import check_unchanged, files_of, fitted
from bulk_inferencer._models.python_model import Given, PythonModel
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer._models.scorer import Failed, Scored, Scorer
from bulk_inferencer._models.scoring import LogScorer
from bulk_inferencer._signatures import PREDICT, Signature
from bulk_inferencer._units.basis import digest_of
from bulk_inferencer._work import Work
from bulk_inferencer.errors import ModelError, SettingsError
from tests.helpers import exactly, example, linear_keras, parsed_log

HERE = __name__
VALUES = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
LABELS = (VALUES.sum(axis=1) > 0).astype(np.int64)
RECORDS = [example(a=float(a), b=float(b), id=i) for i, (a, b) in enumerate(VALUES)]
ROWS = Rows(pa.table({"id": range(60), "a": VALUES[:, 0], "b": VALUES[:, 1]}))


def loaded(model, records, record_format=FORMAT_TF_EXAMPLE):
    """Returns the predictor of a model that has seen some records, as in a run."""
    return fitted(model, record_format, of_batch(records)).load(record_format)


def predict(load, records, record_format=FORMAT_TF_EXAMPLE, **settings):
    model = load if isinstance(load, PythonModel) else PythonModel(load, **settings)
    return loaded(model, records, record_format).predict(records).outputs


def features_seen(records, **settings):
    """Returns the features that a Python model gets."""
    seen = []

    def score(features):
        seen.append(features)
        return {"n": np.zeros(len(records))}

    predict(lambda path: score, records, **settings)
    return seen[0]


def given(score):
    """Returns what loads a function that scores."""
    return lambda path: score


def matrix(features):
    return np.column_stack([features["a"], features["b"]])


def load_sklearn(path):
    with open(path, "rb") as file:
        model = pickle.load(file)
    return lambda features: {
        "label": model.predict(matrix(features)),
        "probability": model.predict_proba(matrix(features)),
    }


def load_xgboost(path):
    import xgboost

    model = xgboost.Booster(model_file=path)
    return lambda features: model.predict(xgboost.DMatrix(matrix(features)))


def load_onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(path)

    def score(features):
        label, probability = session.run(None, {"x": matrix(features)})
        return {"label": label, "probability": probability}

    return score


def load_keras(path):
    model = keras.saving.load_model(path)
    return lambda features: {"y": model.predict_on_batch(features["a"][:, np.newaxis])}


@pytest.fixture(scope="module")
def classifier():
    linear = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    return linear.LogisticRegression(solver="liblinear").fit(VALUES, LABELS)


@pytest.mark.parametrize("records", [RECORDS, ROWS], ids=["tf.Examples", "table"])
def test_model_of_scikit_learn_scores_as_it_does_by_itself(tmp_path, classifier, records):
    path = tmp_path / "model.pickle"
    path.write_bytes(pickle.dumps(classifier))
    outputs = predict(PythonModel(load_sklearn, path), records)
    assert list(outputs) == ["label", "probability"]
    assert outputs["label"].tolist() == classifier.predict(VALUES).tolist()
    np.testing.assert_array_equal(outputs["probability"], classifier.predict_proba(VALUES))


def test_model_of_onnx_scores_as_the_one_that_it_was_made_of(tmp_path, classifier):
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    skl2onnx = pytest.importorskip("skl2onnx", reason="skl2onnx is not installed")
    x = [("x", skl2onnx.common.data_types.FloatTensorType([None, 2]))]
    made = skl2onnx.convert_sklearn(classifier, initial_types=x, options={"zipmap": False})
    path = tmp_path / "model.onnx"
    path.write_bytes(made.SerializeToString())
    outputs = predict(PythonModel(load_onnx, path), ROWS)
    assert outputs["label"].tolist() == classifier.predict(VALUES).tolist()
    np.testing.assert_allclose(
        outputs["probability"], classifier.predict_proba(VALUES), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("records", [RECORDS, ROWS], ids=["tf.Examples", "table"])
def test_model_of_xgboost_scores_as_it_does_by_itself(tmp_path, records):
    xgboost = pytest.importorskip("xgboost", reason="XGBoost is not installed")
    settings = {"objective": "binary:logistic", "nthread": 1}
    model = xgboost.train(settings, xgboost.DMatrix(VALUES, LABELS), 3)
    model.save_model(tmp_path / "model.json")
    outputs = predict(PythonModel(load_xgboost, tmp_path / "model.json"), records)
    assert list(outputs) == ["output"]  # of an array alone
    np.testing.assert_array_equal(outputs["output"], model.predict(xgboost.DMatrix(VALUES)))


def test_keras_file_is_scored(tmp_path):
    linear_keras(keras).save(tmp_path / "model.keras")
    outputs = predict(PythonModel(load_keras, tmp_path / "model.keras"), RECORDS)
    np.testing.assert_allclose(outputs["y"], 5 * VALUES[:, :1])


# What a model gets


def test_features_of_a_table_keep_their_types():
    table = pa.table(
        {
            "float64": pa.array([0.1, 0.2]),
            "int32": pa.array([1, 2], pa.int32()),
            "text": ["ä", "b"],
            "category": pa.array(["x", "y"]).dictionary_encode(),
            "bytes": [b"\xff", b""],
            "vector": [[1.0, 2.0], [3.0, 4.0]],
            "list": pa.array([[1], [2, 3]], pa.list_(pa.int16())),
        }
    )
    seen = features_seen(Rows(table))
    assert list(seen) == table.column_names
    assert {name: values.dtype for name, values in seen.items()} == {
        "float64": np.float64,
        "int32": np.int32,
        "vector": np.float64,
        **dict.fromkeys(("text", "category", "bytes", "list"), object),
    }
    assert {name: values.tolist() for name, values in seen.items() if name != "list"} == {
        "float64": [0.1, 0.2],
        "int32": [1, 2],
        "vector": [[1.0, 2.0], [3.0, 4.0]],
        "text": ["ä", "b"],
        "category": ["x", "y"],
        "bytes": [b"\xff", b""],
    }
    assert [row.tolist() for row in seen["list"]] == [[1], [2, 3]]


def test_features_of_tf_examples_are_scalars_vectors_or_lists():
    more = {"text": "ä", "image": b"\xff\xd8"}
    records = [
        example(x=1.5, n=[1, 2], w=["a"], **more),
        example(x=2.5, n=[3, 4], w=["b", "c"], **more),
    ]
    seen = features_seen(records)
    assert (seen["x"].dtype, seen["x"].tolist()) == (np.float32, [1.5, 2.5])
    assert (seen["n"].dtype, seen["n"].tolist()) == (np.int64, [[1, 2], [3, 4]])
    assert [words.tolist() for words in seen["w"]] == [["a"], ["b", "c"]]
    assert {(name, *seen[name]) for name in more} == {
        ("text", "ä", "ä"),
        ("image", b"\xff\xd8", b"\xff\xd8"),
    }


def test_only_the_features_that_are_named_are_handed_over():
    for records in (RECORDS, ROWS):
        assert list(features_seen(records, features=["b"])) == ["b"]
    message = (
        "PythonModel.features names ids, but the records have a, b, id. Did you mean 'id'? Correct "
        "the name."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        features_seen(RECORDS, features=["ids"])


def failures(model, records, seen):
    """Returns what records cannot be scored for, by index, with a model that has seen others."""
    scorer = Scorer(fitted(model, FORMAT_TF_EXAMPLE, of_batch(seen)).load(FORMAT_TF_EXAMPLE))
    return {r.index: r.reason for r in scorer.score(records) if isinstance(r, Failed)}


SEEN = {"x": [1.0, 2.0], "v": [[1, 2], [3, 4]], "w": ["a", "b"]}
BAD = {
    "x": [1.0, None, 3.0, 4.0, 5.0],
    "v": [[1, 2], [1, 2], [1], [1, 2], [1, None]],
    "w": ["a", "b", "c", None, "e"],
}
NO_X, NO_W = (
    f"ValueError: the record has no value for '{name}'. PythonModel.allow_missing makes that NaN "
    f"or None; PythonModel.features, or columns= of a table, can leave it out"
    for name in "xw"
)
TOO_FEW = "ValueError: the record has 1 values for 'v', but the first records have 2"


def test_record_that_lacks_a_feature_is_a_failure():
    model = PythonModel(given(lambda features: features["x"]))
    seen = Rows(pa.table(SEEN))
    assert failures(model, Rows(pa.table(SEEN).select(["v", "w"])), seen) == {0: NO_X, 1: NO_X}
    found = failures(model, Rows(pa.table(BAD)), seen)
    gap = "ValueError: the list 'v' has a value that is missing"
    assert found == {1: NO_X, 2: TOO_FEW, 3: NO_W, 4: gap}

    seen = [example(x=1.0, v=[1, 2], w="a")]
    records = [*seen, example(v=[1, 2], w="a"), example(x=1.0, v=[1], w="a"), b"no example"]
    found = failures(model, [*records, example(x=1.0, v=[1, 2]), example(x=2)], seen)
    no_example = "ValueError: The record is no tf.Example"
    other = "ValueError: Feature 'x' holds int64, but the column float32"
    assert found == {1: NO_X, 2: TOO_FEW, 3: no_example, 4: NO_W, 5: other}


@pytest.mark.parametrize("allow_missing", [False, True])
def test_rows_of_other_tables_have_the_features_of_the_first_ones(allow_missing):
    """Without a run, as from dicts in Beam, tables need not have the same columns and types."""
    seen = []
    model = PythonModel(
        given(lambda features: seen.append(features) or features["x"]), allow_missing=allow_missing
    )
    first = Rows(pa.table({"x": [1.5, 2.5], "v": [[1, 2], [3, 4]], "w": ["a", "b"]}))
    scored = [{"x": [1], "v": [[1, 2]], "w": ["a"], "more": [1]}]
    others = [{"x": ["a"], "v": [[1, 2]], "w": ["a"]}, {"x": [1.0], "v": [[1, 2]], "w": [1]}]
    lacking = [{"x": [1.0], "v": [[1, 2]]}, {"x": [1.0], "v": [[1, 2]], "w": pa.nulls(1)}]
    tables = [Rows(pa.table(own)) for own in (*scored, *others, *lacking)]
    found = [failures(model, own, first) for own in tables]
    missing = {} if allow_missing else {0: NO_W}
    start = "TypeError: the record holds"
    assert found == [
        {},
        {0: f"{start} string for 'x', but the first records double"},
        {0: f"{start} int64 for 'w', but the first records string"},
        missing,
        missing,
    ]
    assert (seen[0]["x"].dtype, seen[0]["x"].tolist()) == (np.float64, [1.0])
    assert [own["w"].tolist() for own in seen[1:]] == [[None], [None]] * allow_missing


def test_value_of_another_type_than_in_the_first_records_is_a_failure_unless_it_can_be_cast():
    model = PythonModel(given(lambda features: features["x"]))
    seen = Rows(pa.table({"x": pa.array([0.5], pa.float32())}))
    predictor = loaded(model, seen)
    for rows in (Rows(pa.table({"x": [1, 2]})), Rows(pa.table({"x": [1.0, 2.0]}))):
        output = predictor.predict(rows).outputs["output"]
        assert (output.dtype, output.tolist()) == (np.float32, [1.0, 2.0])
    message = "TypeError: the record holds string for 'x', but the first records float"
    assert failures(model, Rows(pa.table({"x": ["a"]})), seen) == {0: message}


def test_what_is_missing_can_be_nan_or_none():
    table = Rows(pa.table({"x": [1.5, None], "n": [None, 2], "w": ["a", None]}))
    seen = features_seen(table, allow_missing=True)
    np.testing.assert_array_equal(seen["x"], [1.5, np.nan])
    np.testing.assert_array_equal(seen["n"], [np.nan, 2])
    assert seen["w"].tolist() == ["a", None]
    whole = features_seen(Rows(pa.table({"n": [1, 2]})), allow_missing=True)
    assert whole["n"].dtype == np.float64  # in a batch that lacks none, too
    nothing = Rows(pa.table({"x": pa.nulls(1), "w": pa.nulls(1)}))
    schema = python_inputs.schema_of(table)
    assert python_inputs.arrays_of(nothing, schema, True)["w"].tolist() == [None]


def test_records_are_handed_over_as_they_are_if_the_model_takes_them():
    def lengths(records):
        return np.array([len(record) for record in records])

    outputs = predict(given(lengths), [b"", b"\xff" * 7], FORMAT_PROTO, takes_records=True)
    assert outputs["output"].tolist() == [0, 7]
    outputs = predict(given(lengths), ROWS, takes_records=True)
    assert outputs["output"].tolist() == [len(record) for record in ROWS]


@pytest.mark.parametrize("record_format", [FORMAT_PROTO, FORMAT_TF_SEQUENCE_EXAMPLE])
def test_records_without_features_are_refused_before_the_run(record_format):
    message = (
        f"{HERE}:load_keras loads a model that takes features, but whole files and records of "
        f"{record_format} have none. Set PythonModel.takes_records to get their bytes. Or write a "
        f"preprocess function that returns one serialized tf.Example for each of them, with a "
        f"feature for each input."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        PythonModel(f"{HERE}:load_keras").check(record_format)


# What a model may do


@pytest.mark.parametrize("kind", [pd.DataFrame, pa.table, pa.RecordBatch.from_pydict])
def test_columns_of_a_returned_table_are_outputs(kind):
    outputs = predict(given(lambda features: kind({"y": [1, 2], "w": ["a", "b"]})), RECORDS[:2])
    assert {name: values.tolist() for name, values in outputs.items()} == {
        "y": [1, 2],
        "w": [b"a", b"b"],
    }


def test_model_that_changes_an_array_of_the_table_is_told_to_copy_it():
    def score(features):
        features["id"] += 1
        return features["id"]

    message = (
        "ValueError: output array is read-only. Arrays of features may not be changed: copy one "
        "first, with numpy.array(x)"
    )
    assert failures(PythonModel(given(score)), ROWS[:1], ROWS) == {0: message}


def test_bad_records_are_found_and_all_others_are_scored():
    def score(features):
        if (features["id"] % 20 == 7).any():
            raise ValueError("seven is not a number that I like")
        return {"y": features["id"] * 2}

    results = list(Scorer(loaded(PythonModel(given(score)), ROWS)).score(ROWS))
    assert [r.index for r in results if isinstance(r, Failed)] == [7, 27, 47]
    scored = [r.prediction.outputs["y"].tolist() for r in results if isinstance(r, Scored)]
    assert sorted(itertools.chain(*scored)) == [2 * i for i in range(60) if i % 20 != 7]


@pytest.mark.parametrize("name", ["MemoryError", "OutOfMemoryError", "ResourceExhaustedError"])
def test_batch_that_does_not_fit_into_memory_is_halved(name):
    error = MemoryError if name == "MemoryError" else type(name, (RuntimeError,), {})

    def score(features):
        if len(features["id"]) > 20:
            raise error("too large")
        return features["id"]

    work = Work()
    results = list(Scorer(loaded(PythonModel(given(score)), ROWS)).score(ROWS, work))
    assert [(r.start, r.stop) for r in results] == [(0, 15), (15, 30), (30, 45), (45, 60)]
    assert work.halvings


def test_calls_take_turns_unless_the_model_is_concurrent():
    for concurrent in (False, True):
        both = threading.Barrier(2, timeout=0.2)

        def score(features, both=both):
            try:
                both.wait()
            except threading.BrokenBarrierError:
                return {"met": np.zeros(1, bool)}
            return {"met": np.ones(1, bool)}

        predictor = loaded(PythonModel(given(score), concurrent=concurrent), ROWS[:1])
        met = []

        def call(predictor=predictor, met=met):
            met.append(predictor.predict(ROWS[:1]).outputs["met"][0])

        threads = [threading.Thread(target=call) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert met == [concurrent] * 2


def test_it_can_be_a_stage_after_a_saved_model_and_before_one(linear_model):
    five = SavedModel(linear_model)
    plus_one = PythonModel(given(lambda features: {"z": features["y"] + 1}), features=("y",))
    from bulk_inferencer import Column

    stages = [
        Stage("five", five, [Column("y", "y")]),
        Stage("plus_one", plus_one, [Column("z", "x")], [ExitWhen("z", at_least=11)]),
        Stage("again", five),
    ]
    for records in ([example(x=1.0), example(x=2.0)], Rows(pa.table({"x": [1.0, 2.0]}))):
        outputs = predict_model(CascadeModel(stages), records)
        assert outputs["plus_one/z"].tolist() == [6.0, 11.0]
        assert np.ma.asarray(outputs["again/y"]).tolist() == [[30.0], [None]]


def predict_model(model, records):
    return loaded(model, records).predict(records).outputs


def test_hooks_and_logs_are_those_of_any_model():
    def double(records):
        return [record + example(a=2.0) for record in records]

    def add_one(records, outputs):
        return {"y": outputs["output"] + 1}

    model = HookedModel(PythonModel(given(lambda features: features["a"])), double, add_one)
    model = fitted(model, FORMAT_TF_EXAMPLE, of_batch(RECORDS))
    scorer = LogScorer.load(model, FORMAT_TF_EXAMPLE, BatchBounds())
    log = parsed_log(scorer.logs(RECORDS[:1], Work())[0]).predict_log
    assert log.request.inputs["examples"].string_val[0] == RECORDS[0]
    assert log.response.outputs["y"].float_val[0] == 3.0


# What makes it the same model


def load_from_here(path):
    return lambda features: {"path": [path] * len(features["id"])}


def test_fingerprint_is_that_of_the_files_and_of_the_module(tmp_path, monkeypatch):
    file = tmp_path / "model.bin"
    file.write_bytes(b"weights")
    module = tmp_path / "its_module.py"
    module.write_text("def load(path):\n    return len\n")
    monkeypatch.syspath_prepend(tmp_path)
    by_name = PythonModel("its_module:load", file)
    before = by_name.fingerprint()
    assert len(before) == 64
    assert PythonModel("its_module:load", f"{tmp_path}").fingerprint() != before

    file.write_bytes(b"others!")
    changed = by_name.fingerprint()
    assert changed != before
    module.write_text("def load(path):\n    return max\n")
    assert by_name.fingerprint() not in (before, changed)
    sys.modules.pop("its_module")


def test_model_whose_file_changes_during_the_run_is_noticed(tmp_path):
    file = tmp_path / "model.bin"
    file.write_bytes(b"weights")
    model = PythonModel(load_from_here, file)
    before = files_of(model)
    check_unchanged(model, before)
    file.write_bytes(b"others!")
    with pytest.raises(ModelError, match="have changed since the run began"):
        check_unchanged(model, before)


def test_function_without_a_source_of_its_own_has_no_fingerprint():
    names = {}
    exec("def load(path):\n    return len\n", names)
    weight = 3
    for load in (names["load"], functools.partial(load_from_here), lambda path: weight):
        assert PythonModel(load).fingerprint() == ""
    assert PythonModel(load_from_here).fingerprint()


def twice(features):
    return features["id"] * 2


def test_function_that_is_there_already_is_known_by_itself():
    model = PythonModel(Given(twice))
    assert predict(model, ROWS)["output"].tolist() == list(range(0, 120, 2))
    assert model.uri == f"python:{HERE}.twice"
    assert model.fingerprint() == PythonModel(twice).fingerprint() != ""
    with pytest.raises(
        ModelError, match=r"^builtins\.len returned an object of type int, not a dict"
    ):
        predict(PythonModel(Given(len)), ROWS)


def test_schema_of_the_first_records_is_part_of_what_results_depend_on():
    model = PythonModel(load_from_here)
    by_records = {
        digest_of(fitted(model, FORMAT_TF_EXAMPLE, of_batch(records)))
        for records in (RECORDS, RECORDS[:3], ROWS)
    }
    assert len(by_records) == 2


def test_signature_tells_no_outputs(tmp_path):
    model = PythonModel(load_from_here)
    assert model.check(FORMAT_TF_EXAMPLE) == (Signature("serving_default", PREDICT),)
    assert model.uri == f"python:{HERE}.load_from_here"
    assert PythonModel(f"{HERE}:load_from_here", tmp_path).uri == str(tmp_path)


# What can be wrong


def broken_load(path):
    raise OSError("no such\nfile")


def load_nothing(path):
    return None


@pytest.mark.parametrize(
    ("load", "error", "message"),
    [
        ("no_module:load", SettingsError,
         ("Could not import PythonModel.load_model 'no_module:load': No module named 'no_module'. "
         "Name the function as package.module:function, and install its module on every worker.")),
        (f"{HERE}:no_function", SettingsError,
         (f"Could not import PythonModel.load_model '{HERE}:no_function': module '{HERE}' has no "
         f"attribute 'no_function'. Name the function as package.module:function, and install its "
         f"module on every worker.")),
        (f"{HERE}:broken_load", ModelError,
         (f"Could not load python:{HERE}:broken_load: {HERE}:broken_load raised OSError: no such "
         f"file.")),
        (load_nothing, ModelError,
         (f"{HERE}.load_nothing returned None, which cannot be called. Return a function that "
         f"takes {{feature: array}} and returns {{output: array}}, such as lambda features: "
         f"{{\"y\": model.predict(features[\"x\"])}}.")),
    ],
    ids=["module", "function", "load", "not callable"],
)  # fmt: skip
def test_model_that_cannot_be_loaded_is_named(load, error, message):
    with pytest.raises(error, match=exactly(message)):
        PythonModel(load).load(FORMAT_TF_EXAMPLE)


def test_path_without_a_file_is_named(tmp_path):
    message = (
        f"There is no file of a model at {tmp_path}. Correct PythonModel.path, or leave it out if "
        f"{HERE}:load_keras needs none."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        PythonModel(f"{HERE}:load_keras", tmp_path).check(FORMAT_TF_EXAMPLE)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (None, ("an object of type NoneType, not a dict of outputs. Return {name: array}, with one "
               "row for each record.")),
        ((1, 2), ("an object of type tuple, not a dict of outputs. Return {name: array}, with one "
                 "row for each record.")),
        (np.zeros(3), ("an output 'output' of shape (3,) for a batch of 2. Return one row for each "
                      "record.")),
        ({"t": np.array(["2020-01-01"] * 2, "M8[D]")},
         ("an output 't' that is not an array of numbers or strings: it holds datetime64[D]. "
         "Return microseconds, with astype('datetime64[us]').astype('int64'), or text.")),
    ],
    ids=["none", "tuple", "length", "dates"],
)  # fmt: skip
def test_answer_that_is_no_row_for_each_record_ends_the_run(outputs, message):
    def load(path):
        return lambda features: outputs

    message = f"What {HERE}.{load.__qualname__} loaded returned {message}"
    with pytest.raises(ModelError, match=exactly(message)):
        predict(load, ROWS[:2])


def test_settings_are_checked(classifier):
    with pytest.raises(SettingsError, match=r"^PythonModel.load_model must be a function, but 3 "):
        PythonModel(3)
    with pytest.raises(SettingsError, match=r"^PythonModel.load_model must be a function\. Logis"):
        PythonModel(classifier)
    message = (
        "PythonModel.takes_records hands over the records as they are, so features, allow_missing "
        "and schema have no meaning. Leave them out."
    )
    for setting in ({"features": ["x"]}, {"allow_missing": True}, {"schema": pa.schema([])}):
        with pytest.raises(SettingsError, match=exactly(message)):
            PythonModel(load_from_here, takes_records=True, **setting)


def test_model_of_a_library_is_refused_where_a_model_belongs(classifier):
    with pytest.raises(SettingsError, match=r"is not a model, but a model of scikit-learn\. Work"):
        CascadeModel([Stage("a", classifier)])
