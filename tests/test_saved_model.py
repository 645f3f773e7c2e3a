from __future__ import annotations

import concurrent.futures
import logging
import re
import shutil
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from bulk_inferencer._models.batching import Failed, Scorer
from bulk_inferencer._models.predictor import (
    FORMAT_PROTO,
    FORMAT_TF_EXAMPLE,
    FORMAT_TF_SEQUENCE_EXAMPLE,
    OutOfMemory,
    RecordError,
)
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer._signatures import CLASSIFY, PREDICT, REGRESS, Signature
from bulk_inferencer.errors import ModelError, SettingsError
from tests.helpers import (
    FLOAT,
    RECORDS,
    edit_saved_model,
    exactly,
    example,
    save_functions,
    sequence_example,
)

X = [example(x=x) for x in (0.0, 1.0, -2.5)]


def predictor(path, *signatures, record_format=FORMAT_TF_EXAMPLE):
    return SavedModel(path, signatures).load(record_format)


def predict(path, records, *signatures, record_format=FORMAT_TF_EXAMPLE):
    return predictor(path, *signatures, record_format=record_format).predict(records)


def parse_x(records):
    return tf.io.parse_example(records, {"x": FLOAT})["x"]


def copy_of(model, tmp_path):
    return shutil.copytree(model, tmp_path / "copy")


# Models of every age


@pytest.mark.parametrize("model", ["linear_model", "keras_model", "keras_export", "tf_keras_model"])
def test_models_of_every_library_are_scored(request, model):
    outputs = predict(request.getfixturevalue(model), X)
    (values,) = outputs.values()
    assert values.dtype == np.float32
    assert values.tolist() == [[0.0], [5.0], [-12.5]]


def test_tf1_model_is_scored_with_its_variables_tables_and_assets(tf1_model):
    outputs = predict(tf1_model, X, "predict")
    assert outputs["y"].tolist() == [0.0, 5.0, -12.5]
    assert outputs["scores"].tolist() == [[0.0, 0.0], [-5.0, 5.0], [12.5, -12.5]]
    assert outputs["classes"].tolist() == [[b"small", b"big"]] * 3


def test_model_is_scored_where_it_was_copied_to(tmp_path, tf1_model):
    assert predict(str(copy_of(tf1_model, tmp_path)), X, "predict")["y"][1] == 5.0


def test_folder_may_end_with_a_slash(linear_model):
    assert predict(linear_model + "/", X)["y"][1] == 5.0


def test_saved_model_as_text_is_scored(tmp_path, linear_model):
    from google.protobuf import text_format
    from tensorflow.core.protobuf import saved_model_pb2

    folder = copy_of(linear_model, tmp_path)
    binary = folder / "saved_model.pb"
    proto = saved_model_pb2.SavedModel.FromString(binary.read_bytes())
    (folder / "saved_model.pbtxt").write_text(text_format.MessageToString(proto))
    binary.unlink()
    assert predict(str(folder), X)["y"].tolist() == [[0.0], [5.0], [-12.5]]


# Signatures and their inputs


def test_records_go_to_a_string_input_of_any_name(tmp_path):
    path = save_functions(
        tmp_path, serving_default=(lambda b64: {"n": tf.strings.length(b64)}, {"b64": RECORDS})
    )
    loaded = predictor(path, record_format=FORMAT_PROTO)
    assert loaded.input_name == "b64"
    assert loaded.predict([b"", b"\0\0", b"\xff" * 300])["n"].tolist() == [0, 2, 300]


def test_sequence_examples_go_to_a_string_input(tmp_path):
    def serve(records):
        context, _, _ = tf.io.parse_sequence_example(records, {"x": FLOAT})
        return {"y": 5 * context["x"]}

    path = save_functions(tmp_path, serving_default=(serve, {"records": RECORDS}))
    records = [sequence_example(x=1.0), sequence_example(x=2.0)]
    outputs = predict(path, records, record_format=FORMAT_TF_SEQUENCE_EXAMPLE)
    assert outputs["y"].tolist() == [5.0, 10.0]


def test_typed_inputs_are_parsed_from_features(tmp_path):
    inputs = {
        "scalar": tf.TensorSpec([None], tf.float32),
        "vector": tf.TensorSpec([None, 2], tf.int64),
        "matrix": tf.TensorSpec([None, 2, 2], tf.float32),
        "text": tf.TensorSpec([None, 1], tf.string),
    }
    path = save_functions(tmp_path, serving_default=(lambda **features: features, inputs))
    record = example(scalar=1.5, vector=[1, 2], matrix=[1.0, 2.0, 3.0, 4.0], text="ä", other=7)
    loaded = predictor(path)
    assert loaded.input_name == "examples"
    outputs = loaded.predict([record])
    assert {name: values[0].tolist() for name, values in outputs.items()} == {
        "scalar": 1.5,
        "vector": [1, 2],
        "matrix": [[1, 2], [3, 4]],
        "text": ["ä".encode()],
    }


@pytest.mark.parametrize(
    "dtype",
    [
        *("float16", "bfloat16", "float32", "float64", "bool"),
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    ],
)
def test_features_are_cast_to_the_dtype_of_the_input(tmp_path, dtype):
    dtype = tf.as_dtype(dtype)
    inputs = {"x": tf.TensorSpec([None], dtype)}
    path = save_functions(tmp_path, serving_default=(lambda x: {"y": tf.identity(x)}, inputs))
    records = [example(x=1.0 if dtype.is_floating else 1)]
    (value,) = predict(path, records)["y"]
    assert (value.dtype, value) == (dtype.as_numpy_dtype, 1)


@pytest.mark.parametrize(
    ("dtype", "lowest", "highest"),
    [
        ("int8", -(2**7), 2**7 - 1),
        ("uint8", 0, 2**8 - 1),
        ("int16", -(2**15), 2**15 - 1),
        ("uint16", 0, 2**16 - 1),
        ("int32", -(2**31), 2**31 - 1),
        ("uint32", 0, 2**32 - 1),
    ],
)
def test_integer_that_its_input_cannot_hold_costs_its_record_only(tmp_path, dtype, lowest, highest):
    inputs = {"n": tf.TensorSpec([None, 2], dtype)}
    path = save_functions(tmp_path, serving_default=(lambda n: {"y": tf.identity(n)}, inputs))
    records = [
        example(n=values)
        for values in ([lowest, highest], [0, highest + 1], [lowest - 1, 0], [0, 1])
    ]
    first, *failures, last = Scorer(predictor(path)).score(records)
    assert first.outputs["y"].tolist() == [[lowest, highest]]
    assert last.outputs["y"].tolist() == [[0, 1]]
    assert failures == [
        Failed(1, "OverflowError", f"input 'n' takes {dtype}, got {highest + 1}"),
        Failed(2, "OverflowError", f"input 'n' takes {dtype}, got {lowest - 1}"),
    ]


def test_negative_number_does_not_fit_into_the_largest_unsigned_input(tmp_path):
    inputs = {"n": tf.TensorSpec([None], tf.uint64)}
    path = save_functions(tmp_path, serving_default=(lambda n: {"y": tf.identity(n)}, inputs))
    loaded = predictor(path)
    assert loaded.predict([example(n=2**63 - 1)])["y"].tolist() == [2**63 - 1]
    message = "OverflowError: input 'n' takes uint64, got -1"
    with pytest.raises(RecordError, match=exactly(message)):
        loaded.predict([example(n=0), example(n=-1)])


def test_record_without_a_feature_is_an_error_of_that_record(keras_export):
    loaded = predictor(keras_export)
    with pytest.raises(RecordError, match=r"(?s)^InvalidArgumentError: .*Feature: x .*required"):
        loaded.predict([X[0], example(z=1.0)])
    assert loaded.predict([X[1]])  # the next batch is scored


def test_record_that_is_no_example_is_an_error_of_that_record(linear_model):
    with pytest.raises(RecordError, match=r"^InvalidArgumentError: .*[Pp]ars") as caught:
        predictor(linear_model).predict([X[0], b"no tf.Example"])
    assert "\n" not in str(caught.value)


def test_several_signatures_are_called_at_once(tmp_path):
    path = save_functions(
        tmp_path,
        double=(lambda examples: {"y": 2 * parse_x(examples)}, {"examples": RECORDS}),
        triple=(lambda x: {"y": 3 * x}, {"x": tf.TensorSpec([None], tf.float32)}),
    )
    loaded = predictor(path, "triple", "double")
    assert loaded.signatures == (
        Signature("triple", PREDICT, ("y",)),
        Signature("double", PREDICT, ("y",)),
    )
    outputs = loaded.predict(X)
    assert {name: values.tolist() for name, values in outputs.items()} == {
        "triple/y": [0.0, 3.0, -7.5],
        "double/y": [0.0, 2.0, -5.0],
    }


def test_inputs_on_which_signatures_disagree_are_named(tmp_path):
    path = save_functions(
        tmp_path,
        a=(lambda x: {"y": tf.identity(x)}, {"x": tf.TensorSpec([None], tf.float32)}),
        b=(lambda x: {"y": tf.identity(x)}, {"x": tf.TensorSpec([None], tf.int64)}),
    )
    message = (
        r"^Signatures disagree on input 'x': expected FixedLenFeature\(.*float32.*\), got "
        r"FixedLenFeature\(.*int64.*\) in 'b'\. Score them in separate runs\.$"
    )
    for call in (SavedModel(path, ("a", "b")).check, SavedModel(path, ("a", "b")).load):
        with pytest.raises(ModelError, match=message):
            call(FORMAT_TF_EXAMPLE)


@pytest.mark.parametrize(
    ("name", "signature"),
    [
        ("serving_default", Signature("serving_default", CLASSIFY, ("classes", "scores"))),
        ("scores_only", Signature("scores_only", CLASSIFY, ("scores",))),
        ("regress", Signature("regress", REGRESS, ("outputs",))),
        ("predict", Signature("predict", PREDICT, ("classes", "scores", "y"))),
    ],
)
def test_methods_and_outputs_of_tf1_signatures(tf1_model, name, signature):
    assert SavedModel(tf1_model, (name,)).check(FORMAT_TF_EXAMPLE) == (signature,)


def test_several_heads_of_a_tf1_model_are_called_at_once(tf1_model):
    outputs = predict(tf1_model, X, "serving_default", "regress")
    assert list(outputs) == ["serving_default/classes", "serving_default/scores", "regress/outputs"]
    assert outputs["regress/outputs"].tolist() == [0.0, 5.0, -12.5]


def test_tags_choose_the_meta_graph(tmp_path, tf1_model):
    folder = copy_of(tf1_model, tmp_path)
    edit_saved_model(folder, lambda proto: proto.meta_graphs[0].meta_info_def.tags.append("gpu"))
    loaded = SavedModel(str(folder), ("regress",), tags=("gpu", "serve")).load(FORMAT_TF_EXAMPLE)
    assert loaded.predict(X)["outputs"][1] == 5.0


@pytest.mark.slow  # TensorFlow waits ten seconds for memory.
def test_batch_that_tensorflow_has_no_memory_for_is_too_large(tmp_path):
    def serve(records):
        count = tf.size(records, tf.int64)
        work = tf.random.uniform([tf.where(count > 2, tf.constant(2**58, tf.int64), 0)])
        return {"y": tf.zeros([count]) + tf.reduce_sum(work)}

    path = save_functions(tmp_path, serving_default=(serve, {"records": RECORDS}))
    loaded = predictor(path)
    with pytest.raises(OutOfMemory, match="OOM when allocating tensor"):
        loaded.predict([b""] * 3)
    assert loaded.predict([b""] * 2)["y"].tolist() == [0, 0]


def test_predictor_is_called_from_several_threads_at_once(tf1_model):
    loaded = predictor(tf1_model, "predict")
    batches = [[example(x=float(x))] * (x + 1) for x in range(100)]
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        found = list(threads.map(loaded.predict, batches))
    expected = [[5.0 * x] * (x + 1) for x in range(100)]
    assert [outputs["y"].tolist() for outputs in found] == expected


# Outputs


def test_outputs_of_every_dtype_and_rank(tmp_path):
    dtypes = {
        *("float16", "float32", "float64", "bfloat16", "complex64", "complex128", "bool"),
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    }

    def serve(examples):
        x = parse_x(examples)
        outputs = {dtype: tf.cast(x, dtype) for dtype in dtypes}
        outputs["string"] = tf.strings.as_string(x, precision=1)
        for rank, shape in enumerate([(), (3,), (2, 3), (1, 2, 3)]):
            outputs[f"rank {rank}"] = tf.zeros([tf.size(x), *shape])
        return outputs

    outputs = predict(save_functions(tmp_path, serving_default=(serve, {"examples": RECORDS})), X)
    assert {name for name in outputs if outputs[name].dtype.name == name} == dtypes
    assert outputs["bfloat16"].dtype == ml_dtypes.bfloat16
    assert outputs["int8"].tolist() == [0, 1, -2]
    assert outputs["string"].tolist() == [b"0.0", b"1.0", b"-2.5"]
    shapes = [outputs[f"rank {rank}"].shape for rank in range(4)]
    assert shapes == [(3,), (3, 3), (3, 2, 3), (3, 1, 2, 3)]


def test_outputs_come_in_the_same_order_in_every_process(tmp_path, tf1_model):
    def add_outputs(proto):
        outputs = proto.meta_graphs[0].signature_def["predict"].outputs
        for letter in "hgfedcba":
            outputs[letter].CopyFrom(outputs["y"])

    folder = copy_of(tf1_model, tmp_path)
    edit_saved_model(folder, add_outputs)
    names = list(predict(str(folder), X, "predict"))
    assert names == sorted(["classes", "scores", "y", *"abcdefgh"])


def test_output_with_another_first_dimension_is_named(tmp_path):
    path = save_functions(
        tmp_path, serving_default=(lambda examples: {"y": tf.zeros([2, 7])}, {"examples": RECORDS})
    )
    message = (
        "Expected output 'y' to have the batch size 3 as its first dimension, got shape (2, 7). "
        "Return one row per record from the signature."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        predict(path, X)


def test_scalar_output_is_named(tmp_path):
    path = save_functions(
        tmp_path,
        serving_default=(
            lambda examples: {"mean": tf.reduce_mean(parse_x(examples))},
            {"examples": RECORDS},
        ),
    )
    message = (
        "Expected output 'mean' of signature 'serving_default' to have the batch size as its "
        "first dimension, got a scalar. Return one row per record."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        SavedModel(path).check(FORMAT_TF_EXAMPLE)


def test_scalar_output_of_unknown_shape_is_named(tmp_path):
    def forget_shape(proto):
        output = proto.meta_graphs[0].signature_def["serving_default"].outputs["mean"]
        output.tensor_shape.Clear()
        output.tensor_shape.unknown_rank = True

    path = save_functions(
        tmp_path,
        serving_default=(
            lambda examples: {"mean": tf.reduce_mean(parse_x(examples))},
            {"examples": RECORDS},
        ),
    )
    edit_saved_model(path, forget_shape)
    message = (
        "Expected output 'mean' to have the batch size 3 as its first dimension, got shape (). "
        "Return one row per record from the signature."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        predict(path, X)


def composite(name, kind):
    return exactly(
        f"Expected output '{name}' to be a dense tensor, got {kind}. Return .to_tensor() of a "
        f"ragged or tf.sparse.to_dense() of a sparse tensor from the serving signature."
    )


def test_ragged_output_is_named(tmp_path):
    path = save_functions(
        tmp_path,
        serving_default=(
            lambda examples: {"words": tf.strings.split(examples)},
            {"examples": RECORDS},
        ),
    )
    with pytest.raises(ModelError, match=composite("words", "composite_tensor")):
        SavedModel(path).check(FORMAT_TF_EXAMPLE)


def test_ragged_output_that_the_description_does_not_tell_is_named(tmp_path):
    def tell_a_dense_output(proto):
        output = proto.meta_graphs[0].signature_def["serving_default"].outputs["words"]
        output.CopyFrom(meta_graph_pb2.TensorInfo(name="words:0", dtype=tf.string.as_datatype_enum))
        output.tensor_shape.unknown_rank = True

    path = save_functions(
        tmp_path,
        serving_default=(
            lambda examples: {"words": tf.strings.split(examples)},
            {"examples": RECORDS},
        ),
    )
    edit_saved_model(path, tell_a_dense_output)
    with pytest.raises(ModelError, match=composite("words", "RaggedTensor")):
        predict(path, X)


def test_sparse_output_of_a_tf1_model_is_named(tmp_path, tf1_model):
    def make_sparse(proto):
        sparse = meta_graph_pb2.TensorInfo.CooSparse(values_tensor_name="v:0")
        output = proto.meta_graphs[0].signature_def["predict"].outputs["scores"]
        output.CopyFrom(meta_graph_pb2.TensorInfo(coo_sparse=sparse))

    folder = copy_of(tf1_model, tmp_path)
    edit_saved_model(folder, make_sparse)
    with pytest.raises(ModelError, match=composite("scores", "coo_sparse")):
        SavedModel(str(folder), ("predict",)).check(FORMAT_TF_EXAMPLE)


@pytest.mark.parametrize(
    ("method", "signature", "expected"),
    [("classify", "scores_only", "'classes' or 'scores'"), ("regress", "regress", "'outputs'")],
)
def test_classify_or_regress_signature_without_its_output_is_named(
    tmp_path, tf1_model, method, signature, expected
):
    def rename(proto):
        outputs = proto.meta_graphs[0].signature_def[signature].outputs
        (name,) = outputs
        outputs["z"].CopyFrom(outputs[name])
        del outputs[name]

    folder = copy_of(tf1_model, tmp_path)
    edit_saved_model(folder, rename)
    message = (
        f"Expected the {method} signature '{signature}' to have an output named {expected}, got "
        f"z. Rename the output, or export it as a predict signature."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        SavedModel(str(folder), (signature,)).check(FORMAT_TF_EXAMPLE)


# What is not there


def test_folder_without_a_model_is_named(tmp_path):
    message = (
        f"Expected a SavedModel, found no saved_model.pb in {tmp_path}. Check the path, and that "
        f"the Trainer exported the model for serving (fn_args.serving_model_dir)."
    )
    for call in (
        lambda: SavedModel(str(tmp_path)).check(FORMAT_TF_EXAMPLE),
        lambda: SavedModel(str(tmp_path)).load(FORMAT_TF_EXAMPLE),
        lambda: SavedModel(str(tmp_path)).fingerprint(),
    ):
        with pytest.raises(ModelError, match=exactly(message)):
            call()


def test_missing_signature_is_named_with_those_that_exist(tf1_model):
    message = (
        f"Signature 'serve' not found in {tf1_model}; it has: classes_only, predict, regress, "
        f"regress_column, scores_only, serving_default. "
        "Set ModelSpec.model_signature_name (without TFX: signatures)."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        SavedModel(tf1_model, ("serve",)).check(FORMAT_TF_EXAMPLE)


def test_model_without_signatures_has_none(tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path))
    message = (
        f"Signature 'serving_default' not found in {tmp_path}; it has: none. Set "
        f"ModelSpec.model_signature_name (without TFX: signatures)."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        SavedModel(str(tmp_path)).check(FORMAT_TF_EXAMPLE)


def test_missing_tag_is_named_with_those_that_exist(linear_model):
    message = (
        f"Tags ['serve', 'tpu'] not found in {linear_model}; it has: ['serve']. "
        "Set ModelSpec.tag (without TFX: tags)."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        SavedModel(linear_model, tags=("tpu", "serve")).check(FORMAT_TF_EXAMPLE)


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("saved_model.pb", "Error parsing message.*"),
        ("saved_model.pbtxt", '1:1 : .*Message type "tensorflow.SavedModel" has no field .* "no"'),
    ],
)
def test_damaged_description_is_named(tmp_path, name, cause):
    (tmp_path / name).write_text("no SavedModel")
    message = (
        rf"^Expected a SavedModel in {re.escape(str(tmp_path))}/{name}, got 13 bytes that are "
        rf"none: {cause}\. Export the model again\.$"
    )
    for call in (SavedModel(str(tmp_path)).check, SavedModel(str(tmp_path)).load):
        with pytest.raises(ModelError, match=message):
            call(FORMAT_TF_EXAMPLE)


def test_description_that_was_cut_short_is_named(tmp_path, linear_model):
    folder = copy_of(linear_model, tmp_path)
    file = folder / "saved_model.pb"
    file.write_bytes(file.read_bytes()[:1000])
    message = f"^Expected a SavedModel in {re.escape(str(file))}, got 1000 bytes that are none: "
    with pytest.raises(ModelError, match=message):
        SavedModel(str(folder)).check(FORMAT_TF_EXAMPLE)


def test_empty_description_has_no_tags(tmp_path):
    (tmp_path / "saved_model.pb").touch()
    message = (
        f"Tags ['serve'] not found in {tmp_path}; it has: none. "
        "Set ModelSpec.tag (without TFX: tags)."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        SavedModel(str(tmp_path)).check(FORMAT_TF_EXAMPLE)


def test_damaged_model_is_named(tmp_path, linear_model):
    folder = copy_of(linear_model, tmp_path)
    shutil.rmtree(folder / "variables")
    message = f"^Could not load {re.escape(str(folder))}: .*variables"
    with pytest.raises(ModelError, match=message):
        SavedModel(str(folder)).load(FORMAT_TF_EXAMPLE)


# What a model cannot take


@pytest.mark.parametrize("record_format", [FORMAT_PROTO, FORMAT_TF_SEQUENCE_EXAMPLE])
def test_classify_signature_takes_examples_only(tf1_model, record_format):
    message = (
        f"Expected FORMAT_TF_EXAMPLE records for the classify signature 'scores_only', got "
        f"{record_format}. Its log holds a tf.Example; name a predict signature in "
        f"ModelSpec.model_signature_name."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        SavedModel(tf1_model, ("scores_only",)).check(record_format)


def test_typed_signature_takes_examples_only(tmp_path):
    inputs = {"b": tf.TensorSpec([None, 3], tf.int64), "a": tf.TensorSpec(None, tf.string)}
    path = save_functions(tmp_path, serving_default=(lambda **features: features, inputs))
    message = (
        "Signature 'serving_default' takes (a string[...], b int64[None, 3]), which can be parsed "
        "from FORMAT_TF_EXAMPLE records only, got FORMAT_PROTO. Export a signature with one "
        "string input of shape [None] that parses the records."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        SavedModel(path).check(FORMAT_PROTO)


@pytest.mark.parametrize(
    ("spec", "got"),
    [
        (tf.TensorSpec([None, None], tf.float32), "float32[None, None]"),
        (tf.TensorSpec([], tf.float32), "float32[]"),
        (tf.TensorSpec(None, tf.float32), "float32[...]"),
        (tf.TensorSpec([None, 2], tf.complex64), "complex64[None, 2]"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_input_that_cannot_be_parsed_is_named(tmp_path, spec, got):
    path = save_functions(tmp_path, serving_default=(lambda x: {"y": tf.identity(x)}, {"x": spec}))
    message = (
        f"Input 'x' of signature 'serving_default' must have a dtype that tf.Example can hold and "
        f"a known shape after the batch dimension, got {got}. Export a signature with one string "
        f"input of shape [None] that parses the records."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        SavedModel(path).check(FORMAT_TF_EXAMPLE)


# Ops of other libraries


def needs_op(model, tmp_path, op):
    """Returns a copy of a model that needs an op which is not registered."""

    def rename_op(proto):
        graph = proto.meta_graphs[0].graph_def
        nodes = [node for f in graph.library.function for node in f.node_def]
        next(node for node in nodes if node.op == "ParseExampleV2").op = op
        proto.meta_graphs[0].meta_info_def.ClearField("stripped_op_list")

    folder = copy_of(model, tmp_path)
    edit_saved_model(folder, rename_op)
    return str(folder)


def test_unknown_op_is_named(tmp_path, linear_model):
    path = needs_op(linear_model, tmp_path, "MyOwnOp")
    message = (
        f"Expected op 'MyOwnOp' to be registered, but it is not, and {path} needs it. Install the "
        f"library that defines it and name its module in ModelSpec.import_modules."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        SavedModel(path).load(FORMAT_TF_EXAMPLE)


@pytest.mark.parametrize(
    ("op", "module"),
    [
        ("WordpieceTokenizeWithOffsets", "tensorflow_text"),
        ("TFText>FastWordpieceTokenizeWithOffsets", "tensorflow_text"),
        ("SentencepieceOp", "tensorflow_text"),
        ("SimpleMLInferenceOpWithHandle", "tensorflow_decision_forests"),
        ("DecodeProtoSparseV4", "struct2tensor"),
    ],
)
def test_library_that_is_known_for_an_op_is_tried_and_named(
    tmp_path, monkeypatch, caplog, linear_model, op, module
):
    monkeypatch.setitem(sys.modules, module, None)  # not installed, whatever the environment has
    path = needs_op(linear_model, tmp_path, op)
    message = (
        f"Expected op '{op}' to be registered, but it is not, and {path} needs it. Install the "
        f"library that defines it and name its module in ModelSpec.import_modules; {module} was "
        f"tried: import of {module} halted; None in sys.modules"
    )
    with caplog.at_level(logging.WARNING), pytest.raises(ModelError, match=exactly(message)):
        SavedModel(path).load(FORMAT_TF_EXAMPLE)
    tried = f"Op {op} is missing; importing {module}, which is known to define it."
    assert caplog.messages.count(tried) == 1


def test_library_that_does_not_define_the_op_after_all_is_named(
    tmp_path, monkeypatch, linear_model
):
    (tmp_path / "struct2tensor.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    path = needs_op(linear_model, tmp_path, "DecodeProtoSparseV4")
    tried = "; struct2tensor was tried: .*Op type not registered 'DecodeProtoSparseV4'"
    with pytest.raises(ModelError, match=f"(?s){tried}"):
        SavedModel(path).load(FORMAT_TF_EXAMPLE)
    del sys.modules["struct2tensor"]


def test_listed_modules_are_imported(tmp_path, monkeypatch, linear_model):
    (tmp_path / "ops_of_this_test.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    SavedModel(linear_model, import_modules=("ops_of_this_test",)).load(FORMAT_TF_EXAMPLE)
    assert sys.modules.pop("ops_of_this_test")


def test_listed_module_that_does_not_exist_is_named(linear_model):
    message = (
        "Expected a module that can be imported, got 'no_such_module' in ModelSpec.import_modules: "
        "No module named 'no_such_module'. Install it on every worker."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        SavedModel(linear_model, import_modules=("no_such_module",)).check(FORMAT_TF_EXAMPLE)


def test_listed_module_that_fails_is_named(tmp_path, monkeypatch, linear_model):
    (tmp_path / "broken_ops.py").write_text("raise ValueError('undefined symbol')")
    monkeypatch.syspath_prepend(tmp_path)
    message = (
        "Expected a module that can be imported, got 'broken_ops' in ModelSpec.import_modules: "
        "undefined symbol. Install it on every worker."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        SavedModel(linear_model, import_modules=("broken_ops",)).load(FORMAT_TF_EXAMPLE)


# Memory of GPUs


def test_gpu_memory_grows_as_it_is_needed_or_stays_as_it_is(monkeypatch, caplog, linear_model):
    """With stand-ins for GPUs, which tests cannot count on; the second one is in use already."""
    gpus = [tf.config.PhysicalDevice(f"/physical_device:GPU:{i}", "GPU") for i in range(2)]
    grown = []

    def set_memory_growth(gpu, enable):
        if gpu == gpus[1]:
            raise RuntimeError("it has been initialized")
        grown.append((gpu, enable))

    monkeypatch.setattr(
        tf.config, "list_physical_devices", lambda kind=None: gpus if kind == "GPU" else []
    )
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", set_memory_growth)
    with caplog.at_level(logging.WARNING, "bulk_inferencer"):
        predictor(linear_model)
    assert grown == [(gpus[0], True)]
    assert caplog.messages == [
        "Memory growth of /physical_device:GPU:1 stays as it is: it has been initialized"
    ]


# Fingerprint


def test_fingerprint_stays_when_the_model_is_copied(tmp_path, tf1_model):
    folder = str(copy_of(tf1_model, tmp_path))
    fingerprint = SavedModel(tf1_model).fingerprint()
    assert re.fullmatch("[0-9a-f]{64}", fingerprint)
    assert SavedModel(folder).fingerprint() == fingerprint
    assert SavedModel(folder + "/").fingerprint() == fingerprint


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: Path(folder, "assets", "vocabulary.txt").write_text("large\nbig\n"),
        lambda folder: Path(folder, "assets", "new").write_text(""),
        lambda folder: Path(folder, "assets", "vocabulary.txt").rename(Path(folder, "assets", "v")),
    ],
    ids=["content", "new file", "name"],
)
def test_fingerprint_changes_with_the_files(tmp_path, tf1_model, change):
    folder = copy_of(tf1_model, tmp_path)
    change(folder)
    assert SavedModel(str(folder)).fingerprint() != SavedModel(tf1_model).fingerprint()


@pytest.mark.parametrize("name", ["signatures", "tags", "import_modules"])
def test_string_in_place_of_a_tuple_is_refused(name):
    message = (
        f"Expected a tuple of names as SavedModel.{name}, got the string 'serve'. Put it into a "
        f"tuple: ('serve',)."
    )
    with pytest.raises(SettingsError, match=f"^{re.escape(message)}$"):
        SavedModel("model", **{name: "serve"})
