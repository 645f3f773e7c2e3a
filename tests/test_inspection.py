"""Whether the first records of files fit a model."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from bulk_inferencer import PythonModel, SavedModel
from bulk_inferencer._inspection import try_inputs
from bulk_inferencer.errors import InputError
from tests.helpers import example, save_functions, write_tfrecord


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    inputs = {"x": tf.TensorSpec([None], tf.float32, name="x")}
    path = tmp_path_factory.mktemp("tensors") / "model"
    return SavedModel(save_functions(path, serving_default=(lambda x: {"y": 5 * x}, inputs)))


def length(records):
    return {"length": np.array([len(record) for record in records])}


def load_length(path):
    return length


def tried(model, path, **settings):
    return try_inputs(model, {"s": [str(path)]}, **settings)


def test_columns_that_the_model_does_not_take_are_named(tmp_path, model):
    (tmp_path / "a.csv").write_text("id,x,name\n1,2.5,a\n2,3.5,b\n")
    fit = tried(model, tmp_path / "a.csv")
    assert (fit.fits, fit.input_format, fit.files, fit.records) == (True, "csv", 1, 2)
    assert fit.columns == {"id": "int64", "x": "double", "name": "string"}
    assert fit.unused == ("id", "name")
    assert fit.outputs == {"y": "float32[None]"}


def test_features_of_tf_examples_are_found(tmp_path, model):
    write_tfrecord(tmp_path / "a.gz", [example(x=1.0, id=2)])
    fit = tried(model, tmp_path / "a.gz")
    assert (fit.fits, fit.columns, fit.unused) == (True, {"id": "int64", "x": "float"}, ("id",))


def test_row_that_cannot_be_read_counts_as_one_that_does_not_fit(tmp_path, model):
    (tmp_path / "a.csv").write_text("id,x\n1,2.5\n2\n3,4.5\n")
    fit = tried(model, tmp_path / "a.csv")
    assert (fit.fits, fit.records, list(fit.failures.values())) == (False, 3, [1])


def test_column_that_is_not_there_is_a_problem_and_the_others_are_shown(tmp_path, model):
    (tmp_path / "a.csv").write_text("id,z\n1,2.5\n")
    fit = tried(model, tmp_path / "a.csv", rename={"y": "x"})
    assert fit.columns == {"id": "int64", "z": "double"}
    assert fit.problem.startswith("The inputs have no column 'y'; they have id, z.")
    assert tried(model, tmp_path / "a.csv").problem.startswith("The model in ")


def test_whole_files_have_no_columns(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"abc")
    fit = tried(PythonModel(load_length, takes_records=True), tmp_path / "a.txt")
    assert (fit.fits, fit.input_format, fit.columns) == (True, "files", {})
    assert fit.outputs == {"length": "int64[None]"}


def test_files_without_records_are_a_problem(tmp_path, model):
    write_tfrecord(tmp_path / "a.gz", [])
    assert tried(model, tmp_path / "a.gz").problem == "The files hold no records."


def test_files_that_are_not_there_are_an_error(tmp_path, model):
    with pytest.raises(InputError, match=r"^There are no files for split 's' at "):
        tried(model, tmp_path / "gone")
