from __future__ import annotations

import concurrent.futures
import logging
import re
import shutil
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from bulk_inferencer._formats.first_records import FirstRecords
from bulk_inferencer._formats.record_format import FORMAT_PROTO, FORMAT_TF_EXAMPLE
from bulk_inferencer._models.predictor import OutOfMemory, RecordError
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer._signatures import CLASSIFY, PREDICT, REGRESS, OutputType, Signature
from bulk_inferencer.errors import ModelError, SettingsError
from tests.helpers import FLOAT, RECORDS, edit_saved_model, exactly, example, save_functions

X = [example(x=x) for x in (0.0, 1.0, -2.5)]


def load(path, *signatures, **settings):
    return SavedModel(str(path), signatures, **settings).load(FORMAT_TF_EXAMPLE)


def predict(path, records, *signatures, **settings):
    """Returns the outputs, as arrays by name."""
    return load(path, *signatures, **settings).predict(records).outputs


def check(path, *signatures, **settings):
    return SavedModel(str(path), signatures, **settings).check(FORMAT_TF_EXAMPLE)


def parse_x(records):
    return tf.io.parse_example(records, {"x": FLOAT})["x"]


def save(path, serve):
    """Saves a function of records."""
    return save_functions(path, serving_default=(serve, {"examples": RECORDS}))


def copy_of(model, tmp_path):
    return shutil.copytree(model, tmp_path / "copy")


def refused(message):
    return pytest.raises(ModelError, match=exactly(message))


# TensorFlow takes seconds to save a model of tf_keras.
TF_KERAS = pytest.param("tf_keras_model", marks=pytest.mark.slow)


@pytest.mark.parametrize("model", ["linear_model", "keras_model", "keras_export", TF_KERAS])
def test_models_of_every_library_are_scored(request, model):
    (values,) = predict(request.getfixturevalue(model) + "/", X).values()
    assert values.dtype == np.float32
    assert values.tolist() == [[0.0], [5.0], [-12.5]]


def test_tf1_model_is_scored_with_its_variables_tables_and_assets_wherever_it_is(
    tmp_path, tf1_model
):
    names = ("predict", "regress", "serving_default", "scores_only")
    types = (("string", (2,)), ("float32", (2,)), ("float32", ()))
    text, pair, one = (OutputType(*own) for own in types)
    assert check(tf1_model, *names) == (
        Signature("predict", PREDICT, ("classes", "scores", "y"), types=(text, pair, one)),
        Signature("regress", REGRESS, ("outputs",), types=(one,)),
        Signature("serving_default", CLASSIFY, ("classes", "scores"), types=(text, pair)),
        Signature("scores_only", CLASSIFY, ("scores",), types=(pair,)),
    )
    outputs = predict(copy_of(tf1_model, tmp_path), X, *names)
    scores = [[0.0, 0.0], [-5.0, 5.0], [12.5, -12.5]]
    assert {name: values.tolist() for name, values in outputs.items()} == {
        "predict/classes": [[b"small", b"big"]] * 3,
        "predict/scores": scores,
        "predict/y": [0.0, 5.0, -12.5],
        "regress/outputs": [0.0, 5.0, -12.5],
        "serving_default/classes": [[b"small", b"big"]] * 3,
        "serving_default/scores": scores,
        "scores_only/scores": scores,
    }


def test_saved_model_as_text_is_scored(tmp_path, linear_model):
    folder = copy_of(linear_model, tmp_path)
    binary = folder / "saved_model.pb"
    proto = saved_model_pb2.SavedModel.FromString(binary.read_bytes())
    (folder / "saved_model.pbtxt").write_text(text_format.MessageToString(proto))
    binary.unlink()
    assert predict(folder, X)["y"].tolist() == [[0.0], [5.0], [-12.5]]


def test_record_that_cannot_be_parsed_is_an_error_of_that_record(keras_export, linear_model):
    for path in (keras_export, linear_model):  # which parse here, and in the model
        loaded = load(path)
        for bad, reason in ((example(z=1.0), "Feature: x .*required"), (b"no example", "[Pp]ars")):
            with pytest.raises(RecordError, match=rf"^InvalidArgumentError: .*{reason}") as caught:
                loaded.predict([X[0], bad])
            assert "\n" not in str(caught.value)
        reason = r"^InvalidArgumentError: Could not parse example input, value: '\\xff\\xfe'$"
        with pytest.raises(RecordError, match=reason):  # which is not UTF-8
            loaded.predict([X[0], b"\xff\xfe"])
        assert loaded.predict([X[1]])  # the next batch is scored


def test_only_input_takes_the_feature_of_its_name_unless_it_is_told_to_take_records(tmp_path):
    def serve(image_bytes):
        return {"bytes": tf.strings.length(image_bytes)}

    path = save_functions(tmp_path, serving_default=(serve, {"image_bytes": RECORDS}))
    records = [example(image_bytes=bytes(n), label=1) for n in (0, 3, 300)]
    for predictor, lengths in (
        (load(path), [0, 3, 300]),
        (load(path, takes_records=False), [0, 3, 300]),
        (load(path, takes_records=True), list(map(len, records))),
        (SavedModel(path).load(FORMAT_PROTO), list(map(len, records))),
    ):
        assert predictor.predict(records).outputs["bytes"].tolist() == lengths
        is_feature = lengths[0] == 0
        assert predictor.input_name == ("examples" if is_feature else "image_bytes")
    fitted = SavedModel(path).fitted(FORMAT_TF_EXAMPLE, FirstRecords(lambda: iter([records])))
    assert fitted == SavedModel(path, takes_records=())
    assert fitted.load(FORMAT_TF_EXAMPLE).predict(records).outputs["bytes"].tolist()[1] == 3


def test_setting_that_says_what_takes_records_is_checked():
    message = "SavedModel.takes_records must be a tuple of names, not 'text'. Write ('text',)."
    with pytest.raises(SettingsError, match=exactly(message)):
        SavedModel("m", takes_records="text")


def test_whole_numbers_are_scored_by_a_model_of_floats(keras_export):
    records = [example(x=0), example(x=1.0), example(x=-3)]
    assert predict(keras_export, records)["output_0"].tolist() == [[0.0], [5.0], [-15.0]]


@pytest.mark.parametrize("takes_records", [True, False])
def test_only_batch_size_of_a_model_is_kept_to(tmp_path, takes_records):
    def serve(text):
        length = tf.strings.length(text)
        return {"length": length, "size": tf.repeat(tf.size(text), tf.size(text)), "text": text}

    path = save_functions(
        tmp_path, serving_default=(serve, {"text": tf.TensorSpec([4], tf.string)})
    )
    texts = [b"x" * n for n in range(10)]
    records = texts if takes_records else [example(text=text) for text in texts]
    for load_fn in (None, in_session):
        predictor = load(path, takes_records=takes_records, load_override_fn=load_fn)
        for count in (1, 4, 10):
            outputs = predictor.predict(records[:count]).outputs
            assert outputs["length"].tolist() == list(range(count))
            assert outputs["size"].tolist() == [4] * count
            assert outputs["text"].tolist() == texts[:count]


def test_model_of_keras_own_export_that_has_lost_its_names_is_told_apart(tmp_path):
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    model.export(tmp_path, verbose=False)
    first = FirstRecords(lambda: iter([[example(x=1.0, y=[1.0, 2.0])]]))
    message = (
        rf"^The model in {tmp_path} wants keras_tensor\w*, but the records have x, y\. Perhaps "
        r"keras_tensor\w* is x\. Such names come from Keras' own model\.export\(\), .* "
        r"bulk_inferencer\.serving\.export\(model, path, {'x': tf\.io\.FixedLenFeature\(\[1\], "
    )
    with pytest.raises(ModelError, match=message):
        SavedModel(tmp_path).fitted(FORMAT_TF_EXAMPLE, first)


def test_tags_choose_the_meta_graph(tmp_path, tf1_model):
    folder = copy_of(tf1_model, tmp_path)
    edit_saved_model(folder, lambda proto: proto.meta_graphs[0].meta_info_def.tags.append("gpu"))
    assert predict(folder, X, "regress", tags=("gpu", "serve"))["outputs"][1] == 5.0


@pytest.mark.slow  # TensorFlow waits ten seconds for memory.
def test_batch_that_tensorflow_has_no_memory_for_is_too_large(tmp_path):
    def serve(examples):
        count = tf.size(examples, tf.int64)
        work = tf.random.uniform([tf.where(count > 2, tf.constant(2**58, tf.int64), 0)])
        return {"y": tf.zeros([count]) + tf.reduce_sum(work)}

    loaded = load(save(tmp_path, serve))
    with pytest.raises(OutOfMemory, match="OOM when allocating tensor"):
        loaded.predict([b""] * 3)
    assert loaded.predict([b""] * 2).outputs["y"].tolist() == [0, 0]


def test_predictor_is_called_from_several_threads_at_once(tf1_model):
    loaded = load(tf1_model, "predict")
    batches = [[example(x=float(x))] * (x + 1) for x in range(100)]
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        found = list(threads.map(loaded.predict, batches))
    expected = [[5.0 * x] * (x + 1) for x in range(100)]
    assert [prediction.outputs["y"].tolist() for prediction in found] == expected


def test_outputs_of_every_dtype_and_of_several_ranks(tmp_path):
    dtypes = {
        *("float16", "float32", "float64", "bfloat16", "complex64", "complex128", "bool"),
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    }

    def serve(examples):
        x = parse_x(examples)
        text = tf.strings.as_string(x, precision=1)
        outputs = {dtype: tf.cast(x, dtype) for dtype in dtypes}
        return {**outputs, "text": text, "cubes": tf.zeros([tf.size(x), 1, 2, 3])}

    outputs = predict(save(tmp_path, serve), X)
    assert {name for name in outputs if outputs[name].dtype.name == name} == dtypes
    assert outputs["int8"].tolist() == [0, 1, -2]
    assert outputs["text"].tolist() == [b"0.0", b"1.0", b"-2.5"]
    assert (outputs["int8"].shape, outputs["cubes"].shape) == ((3,), (3, 1, 2, 3))


def test_outputs_come_in_the_same_order_in_every_process(tmp_path, tf1_model):
    def add_outputs(proto):
        outputs = proto.meta_graphs[0].signature_def["predict"].outputs
        for letter in "hgfedcba":
            outputs[letter].CopyFrom(outputs["y"])

    folder = copy_of(tf1_model, tmp_path)
    edit_saved_model(folder, add_outputs)
    assert list(predict(folder, X, "predict")) == sorted(["classes", "scores", "y", *"abcdefgh"])


def forget_shape(proto):
    info = proto.meta_graphs[0].signature_def["serving_default"].outputs["y"]
    if info.HasField("composite_tensor"):
        info.CopyFrom(meta_graph_pb2.TensorInfo(name="y:0", dtype=tf.string.as_datatype_enum))
    info.tensor_shape.Clear()
    info.tensor_shape.unknown_rank = True


@pytest.mark.parametrize(
    ("make_y", "fault"),
    [
        (lambda examples: tf.zeros([2, 7]), "has shape (2, 7) for a batch of 3"),
        (tf.strings.reduce_join, "has shape () for a batch of 3"),
        (tf.strings.split, "must be a dense tensor, not RaggedTensor"),
    ],
    ids=["other dimension", "scalar", "ragged"],
)
def test_output_whose_fault_the_description_does_not_tell_is_named(tmp_path, make_y, fault):
    path = save(tmp_path, lambda examples: {"y": make_y(examples)})
    edit_saved_model(path, forget_shape)
    with pytest.raises(ModelError, match=rf"^Output 'y' {re.escape(fault)}\. Return"):
        predict(path, X)


def test_missing_folder_signature_or_tag_is_named_with_those_that_exist(tmp_path, linear_model):
    message = (
        f"No saved_model.pb in {tmp_path}. Check the path. In TFX, the Trainer has to export the "
        f"model to fn_args.serving_model_dir."
    )
    for call in (check, load, lambda path: SavedModel(str(path)).fingerprint()):
        with refused(message):
            call(tmp_path)
    with pytest.raises(ModelError, match=r"^Signature 'serve' not.* SavedModel\.signatures\.$"):
        check(linear_model, "serve")
    message = "Tags ['serve', 'tpu'] not found in {}; it has: ['serve']. Correct SavedModel.tags."
    with refused(message.format(linear_model)):
        check(linear_model, tags=("tpu", "serve"))
    (tmp_path / "saved_model.pb").touch()
    with refused(f"Tags ['serve'] not found in {tmp_path}; it has: none. Correct SavedModel.tags."):
        check(tmp_path)


def test_damaged_model_is_named(tmp_path, linear_model):
    for name, cause in [
        ("saved_model.pbtxt", '1:1 : .*Message type "tensorflow.SavedModel" has no field .* "no"'),
        ("saved_model.pb", "Error parsing message.*"),
    ]:
        (tmp_path / name).write_text("no SavedModel")
        start = re.escape(f"{tmp_path}/{name} is no SavedModel; parsing its 13 bytes failed: ")
        for call in (check, load):
            with pytest.raises(ModelError, match=rf"^{start}{cause}\. Export the model again\.$"):
                call(tmp_path)
    folder = copy_of(linear_model, tmp_path)
    shutil.rmtree(folder / "variables")
    with pytest.raises(ModelError, match=f"^Could not load {re.escape(str(folder))}: .*variables"):
        load(folder)


def test_path_that_tensorflow_or_nobody_can_read_is_named(tmp_path, linear_model):
    folder = shutil.copytree(linear_model, tmp_path / "m[1]")
    message = (
        f"Could not load {folder}: TensorFlow takes *, ?, [ and ] in a path for a pattern. Give "
        f"the folder another name."
    )
    with refused(message):
        load(folder)
    with pytest.raises(SettingsError, match=r"^There is no filesystem for foo://, as in foo://m"):
        SavedModel("foo://m").fingerprint()


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


@pytest.mark.parametrize(
    ("op", "module"),
    [
        ("MyOwnOp", None),
        ("WordpieceTokenizeWithOffsets", "tensorflow_text"),
        ("SimpleMLInferenceOpWithHandle", "tensorflow_decision_forests"),
    ],
)
def test_op_that_nobody_has_registered_is_named_with_its_library(
    tmp_path, monkeypatch, linear_model, op, module
):
    path = needs_op(linear_model, tmp_path, op)
    start = f"{path} needs the op {op}, which TensorFlow does not have. Install"
    if not module:
        end = "the library that defines it on every worker, and name its module in "
        with refused(f"{start} {end}SavedModel.import_modules."):
            load(path)
        return
    monkeypatch.setitem(sys.modules, module, None)  # not installed, whatever there is
    with refused(f"{start} {module}, which defines it, on every worker."):
        load(path)
    monkeypatch.setitem(sys.modules, module, types.ModuleType(module))  # without ops
    with refused(
        f"{start.removesuffix('Install')}The installed version of {module} does not have it "
        f"either. Install the one that fits the model."
    ):
        load(path)


def test_library_that_cannot_be_imported_is_named(tmp_path, monkeypatch, linear_model):
    (tmp_path / "scann.py").write_text("raise OSError('undefined\\nsymbol')")
    monkeypatch.syspath_prepend(tmp_path)
    path = needs_op(linear_model, tmp_path, "Scann>ScannSearch")
    with refused(
        f"{path} needs the op Scann>ScannSearch, which TensorFlow does not have. Importing scann "
        f"failed: undefined symbol."
    ):
        load(path)


def test_listed_modules_are_imported_first(tmp_path, monkeypatch, linear_model):
    (tmp_path / "ops_of_this_test.py").write_text("")
    (tmp_path / "broken_ops.py").write_text("raise ValueError('undefined symbol')")
    monkeypatch.syspath_prepend(tmp_path)
    load(linear_model, import_modules=("ops_of_this_test",))
    assert sys.modules.pop("ops_of_this_test")
    for module, cause in [
        ("no_such_module", "No module named 'no_such_module'"),
        ("broken_ops", "undefined symbol"),
    ]:
        message = (
            f"Could not import '{module}', which SavedModel.import_modules names: {cause}. Install "
            f"it on every worker."
        )
        for call in (check, load):
            with refused(message):
                call(linear_model, import_modules=(module,))


def in_session(path, tags):
    """Loads a model as tfx_bsl does."""
    session = tf.compat.v1.Session(graph=tf.Graph())
    tf.compat.v1.saved_model.loader.load(session, tags, path)
    return session


def test_load_override_fn_gets_the_path_and_the_tags_and_is_not_called_by_check(linear_model):
    calls = []

    def load_model(path, tags):
        calls.append((path, tags))
        serve = lambda examples: {"y": np.full(len(examples), 7.0)}  # noqa: E731
        return types.SimpleNamespace(signatures={"serving_default": serve})

    assert check(linear_model, load_override_fn=load_model) == check(linear_model)
    assert calls == []
    assert predict(linear_model, X, load_override_fn=load_model)["y"].tolist() == [7.0, 7.0, 7.0]
    load(linear_model, tags=("serve",), load_override_fn=load_model)
    assert calls == [(linear_model, ["serve"])] * 2


def test_model_in_a_session_gives_what_it_gives_without(tmp_path, tf1_model, keras_export):
    names = ("serving_default", "scores_only", "regress", "predict")
    cases = [(tf1_model, *some) for some in (*((name,) for name in names), names)]
    for case in [(keras_export,), *cases]:
        own, loaded = load(*case), load(*case, load_override_fn=in_session)
        assert loaded.signatures == own.signatures
        found, expected = (
            [(n, v.dtype, v.tolist()) for n, v in predictor.predict(X).outputs.items()]
            for predictor in (loaded, own)
        )
        assert found == expected
        with pytest.raises(RecordError, match=r"^InvalidArgumentError: .*[Pp]ars"):
            loaded.predict([X[0], b"no tf.Example"])
    path = save(tmp_path, lambda examples: {"y": tf.strings.reduce_join(examples)})
    edit_saved_model(path, forget_shape)
    with pytest.raises(ModelError, match=r"'y' has shape \(\)"):
        predict(path, X, load_override_fn=in_session)


def test_load_override_fn_that_returns_something_else_is_refused(tf1_model):
    message = (
        f"SavedModel.load_override_fn returned an object of type str for {tf1_model}. Return one "
        f"with signatures, as tf.saved_model.load does, or a TF1 session."
    )
    with refused(message):
        load(tf1_model, load_override_fn=lambda path, tags: path)
    message = (
        f"SavedModel.load_override_fn returned an object without the signatures regress of "
        f"{tf1_model}. Return what tf.saved_model.load returns."
    )
    incomplete = types.SimpleNamespace(signatures={"predict": print})
    with refused(message):
        load(tf1_model, "predict", "regress", load_override_fn=lambda path, tags: incomplete)


def test_gpu_memory_grows_as_it_is_needed_or_stays_as_it_is(monkeypatch, caplog, linear_model):
    """With stand-ins for GPUs, which tests cannot count on."""
    gpus = [tf.config.PhysicalDevice(f"/physical_device:GPU:{i}", "GPU") for i in range(3)]
    errors = {gpus[1]: RuntimeError("it is in use"), gpus[2]: ValueError("it has a limit")}
    grown = []

    def set_memory_growth(gpu, enable):
        if gpu in errors:
            raise errors[gpu]
        grown.append((gpu, enable))

    devices = {"GPU": gpus}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: devices.get(kind, []))
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", set_memory_growth)
    with caplog.at_level(logging.WARNING, "bulk_inferencer"):
        load(linear_model)
    assert grown == [(gpus[0], True)]
    assert caplog.messages == [
        "Memory growth of /physical_device:GPU:1 stays as it is: it is in use",
        "Memory growth of /physical_device:GPU:2 stays as it is: it has a limit",
    ]


@pytest.mark.parametrize("is_on", [True, False])
def test_precision_is_whatever_tensorflow_and_keras_were_told(linear_model, is_on):
    config, before = tf.config.experimental, keras.mixed_precision.dtype_policy()
    was_on = config.tensor_float_32_execution_enabled()
    config.enable_tensor_float_32_execution(is_on)
    try:
        load(linear_model).predict([example(x=1.0)])
        assert config.tensor_float_32_execution_enabled() == is_on
    finally:
        config.enable_tensor_float_32_execution(was_on)
    assert keras.mixed_precision.dtype_policy() == before
