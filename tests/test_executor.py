"""The executor, called with real artifacts and without a launcher. Its gate: see test_gate.py."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest
import tensorflow as tf
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import v1 as tfx
from tfx.components.util import examples_utils, tfxio_utils
from tfx.types.standard_artifacts import Examples, Model, PushedModel
from tfx_bsl.tfxio import dataset_options

from bulk_inferencer import read_predictions
from bulk_inferencer.bulk_inferencer_pb2 import (
    BatchSpec,
    DataSpec,
    FailureLimit,
    ModelSpec,
    OutputColumnsSpec,
    OutputExampleSpec,
    PredictOutput,
    PredictOutputCol,
)
from bulk_inferencer.components.executor import Executor
from bulk_inferencer.errors import (
    FailureLimitError,
    InputError,
    ModelError,
    SettingsError,
)
from bulk_inferencer.results.summary import Summary
from tests.helpers import (
    context_of,
    example,
    features_of,
    read_tfrecord,
    sequence_example,
    tree,
    write_tfrecord,
)
from tests.tfx_helpers import (
    artifact,
    examples_of,
    execute,
    five_times,
    make_outputs,
    scored,
    write_examples,
)

pytest_plugins = ("tests.tfx_fixtures",)
pytestmark = pytest.mark.slow

ALL_MAY_FAIL = DataSpec(failure_limit=FailureLimit(max_fraction=1))


@pytest.fixture
def mixed_examples(tmp_path):
    """Examples of which two of four cannot be scored."""
    good, bad = examples_of(1, 2), [example(name="first"), example(name="second")]
    uri = write_examples(tmp_path / "mixed", unlabelled=[good[0], bad[0], good[1], bad[1]])
    return artifact(Examples, uri, ["unlabelled"])


def column(output, name, replace_features=False):
    col = PredictOutputCol(output_key=output, output_column=name)
    predict = PredictOutput(output_columns=[col])
    return OutputExampleSpec(
        output_columns_spec=[OutputColumnsSpec(predict_output=predict)],
        replace_features=replace_features,
    )


def counts_of(outputs):
    result = outputs.inference_result
    return tuple(
        result.get_int_custom_property(name)
        for name in ("examples_read", "predictions_written", "examples_failed")
    )


def failures_of(outputs, split):
    """Returns what the list of failures says, a dictionary each."""
    with gzip.open(Path(outputs.summary.uri, f"failures-{split}.jsonl.gz"), "rt") as lines:
        return [json.loads(line) for line in lines]


# Splits


def test_every_split_is_scored_by_default(outputs, inputs):
    execute(outputs, inputs)

    assert scored(outputs.inference_result) == five_times(0, 1, 2, 10, 11)
    assert tree(outputs.inference_result.uri) == [
        "prediction_logs-train-00000-of-00001.gz",
        "prediction_logs-unlabelled-00000-of-00001.gz",
    ]


def test_only_the_splits_that_are_asked_for_are_scored(outputs, inputs):
    execute(outputs, inputs, data_spec=DataSpec(example_splits=["unlabelled"]))

    assert scored(outputs.inference_result) == five_times(10, 11)


def test_split_that_is_asked_for_and_missing_is_refused_with_those_there_are(outputs, inputs):
    with pytest.raises(InputError) as raised:
        execute(outputs, inputs, data_spec=DataSpec(example_splits=["train", "eval", "test"]))

    assert str(raised.value) == (
        "Split 'eval', 'test' not found in the examples; they have: train, unlabelled. Set "
        "DataSpec.example_splits."
    )


def test_examples_without_any_split_are_refused(outputs, model, examples_uri):
    with pytest.raises(InputError) as raised:
        execute(outputs, {"examples": artifact(Examples, examples_uri), "model": model})

    assert str(raised.value) == (
        "Split names not found in the examples; they have: none. Set DataSpec.example_splits."
    )


def test_split_whose_folder_was_deleted_is_refused_with_its_place(outputs, model, tmp_path):
    uri = write_examples(tmp_path / "examples", a=examples_of(1), b=examples_of(2))
    shutil.rmtree(f"{uri}/Split-b")

    with pytest.raises(InputError) as raised:
        execute(outputs, {"examples": artifact(Examples, uri, ["a", "b"]), "model": model})

    assert str(raised.value) == (
        f"Expected a folder for split 'b' at {uri}/Split-b, got none. Restore the examples, or "
        "run the ExampleGen again."
    )


def test_deleted_split_that_is_not_asked_for_does_not_matter(outputs, model, tmp_path):
    uri = write_examples(tmp_path / "examples", a=examples_of(1), b=examples_of(2))
    shutil.rmtree(f"{uri}/Split-b")
    examples = artifact(Examples, uri, ["a", "b"])

    execute(
        outputs,
        {"examples": examples, "model": model},
        data_spec=DataSpec(example_splits=["a"]),
    )

    assert scored(outputs.inference_result) == five_times(1)


@pytest.mark.parametrize("has_file", [True, False])
def test_empty_split_gives_no_predictions_and_a_warning(outputs, model, tmp_path, caplog, has_file):
    uri = write_examples(tmp_path / "examples", a=[])
    if not has_file:
        shutil.rmtree(f"{uri}/Split-a")
        Path(uri, "Split-a").mkdir()

    execute(outputs, {"examples": artifact(Examples, uri, ["a"]), "model": model})

    assert counts_of(outputs) == (0, 0, 0)
    assert list(read_predictions(outputs.inference_result.uri)) == []
    assert f"Split 'a' is empty: no record in {int(has_file)} files." in caplog.messages


def test_artifacts_that_share_a_split_are_all_scored(outputs, model, tmp_path):
    first = write_examples(tmp_path / "first", a=examples_of(1, 2))
    second = write_examples(tmp_path / "second", a=examples_of(3), b=examples_of(4))
    examples = [artifact(Examples, first, ["a"]), artifact(Examples, second, ["a", "b"])]

    execute(outputs, {"examples": examples, "model": model})

    assert scored(outputs.inference_result) == five_times(1, 2, 3, 4)
    assert Summary.read(outputs.summary.uri).splits["a"].examples_read == 3


def test_artifacts_of_several_inputs_are_all_scored(outputs, model, tmp_path):
    uris = [write_examples(tmp_path / str(i), a=examples_of(i)) for i in range(3)]
    keys = ("examples", "examples_1", "examples_2")
    examples = {key: artifact(Examples, uri, ["a"]) for key, uri in zip(keys, uris, strict=True)}

    execute(outputs, {**examples, "model": model})

    assert scored(outputs.inference_result) == five_times(0, 1, 2)


def test_split_needs_to_be_in_one_of_the_artifacts_only(outputs, model, tmp_path):
    first = write_examples(tmp_path / "first", a=examples_of(1))
    second = write_examples(tmp_path / "second", b=examples_of(2))
    examples = [artifact(Examples, first, ["a"]), artifact(Examples, second, ["b"])]

    execute(
        outputs, {"examples": examples, "model": model}, data_spec=DataSpec(example_splits=["b"])
    )

    assert scored(outputs.inference_result) == five_times(2)


def test_artifact_that_is_given_twice_is_refused(outputs, model, examples_uri):
    twice = [artifact(Examples, examples_uri, ["train"]) for _ in range(2)]

    with pytest.raises(InputError, match=r"every file once in split 'train', got .* twice"):
        execute(outputs, {"examples": twice, "model": model})


def test_custom_split_pattern_says_where_the_files_are(outputs, model, tmp_path):
    write_tfrecord(tmp_path / "odd" / "today-1.gz", examples_of(1))
    write_tfrecord(tmp_path / "odd" / "today-2.gz", examples_of(2))
    write_tfrecord(tmp_path / "odd" / "yesterday-1.gz", examples_of(3))
    name, value = examples_utils.get_custom_split_patterns_key_and_property(
        {"today": "odd/today-*", "yesterday": "odd/yesterday-*"}
    )
    examples = artifact(Examples, tmp_path, ["today", "yesterday"], **{name: value})

    execute(
        outputs,
        {"examples": examples, "model": model},
        data_spec=DataSpec(example_splits=["today"]),
    )

    assert scored(outputs.inference_result) == five_times(1, 2)


# Beam writes [[] into a regular expression, about which Python warns.
@pytest.mark.filterwarnings("ignore:Possible nested set:FutureWarning")
def test_folder_with_a_patterns_characters_in_its_name_is_taken_as_it_is(outputs, model, tmp_path):
    uri = write_examples(tmp_path / "run[1]*", a=examples_of(1))

    execute(outputs, {"examples": artifact(Examples, uri, ["a"]), "model": model})

    assert scored(outputs.inference_result) == five_times(1)


# Formats


def test_artifacts_of_different_payload_formats_are_refused(outputs, model, tmp_path):
    first = write_examples(tmp_path / "first", a=examples_of(1))
    second = write_examples(tmp_path / "second", a=[sequence_example()])
    examples = [
        artifact(Examples, first, ["a"]),
        artifact(Examples, second, ["a"], payload_format="FORMAT_TF_SEQUENCE_EXAMPLE"),
    ]

    with pytest.raises(InputError) as raised:
        execute(outputs, {"examples": examples, "model": model})

    assert str(raised.value) == (
        f"Expected examples of one payload format, got FORMAT_TF_EXAMPLE at {first}, "
        f"FORMAT_TF_SEQUENCE_EXAMPLE at {second}. Score them with a BulkInferencer each."
    )


def test_parquet_is_refused(outputs, model, examples_uri):
    parquet = artifact(
        Examples,
        examples_uri,
        ["train"],
        file_format="FORMAT_PARQUET",
        payload_format="FORMAT_PARQUET",
    )

    with pytest.raises(InputError) as raised:
        execute(outputs, {"examples": parquet, "model": model})

    assert str(raised.value) == (
        f"Expected examples as TFRecord files, got FORMAT_PARQUET at {examples_uri}. Write them "
        "with an ExampleGen whose output is TFRecord."
    )


@pytest.mark.parametrize("file_format", ["tfrecords_gzip", "FORMAT_TFRECORDS_GZIP"])
def test_names_of_tfrecord_files_are_taken(outputs, model, examples_uri, file_format):
    examples = artifact(Examples, examples_uri, ["train"], file_format=file_format)

    execute(outputs, {"examples": examples, "model": model})

    assert scored(outputs.inference_result) == five_times(0, 1, 2)


def test_sequence_examples_are_scored(outputs, model, tmp_path):
    uri = write_examples(tmp_path / "examples", a=[sequence_example(), sequence_example(name="b")])
    examples = artifact(Examples, uri, ["a"], payload_format="FORMAT_TF_SEQUENCE_EXAMPLE")

    execute(
        outputs,
        {"examples": examples, "model": model},
        model_spec=ModelSpec(model_signature_name=["count_steps"]),
    )

    predictions = list(read_predictions(outputs.inference_result.uri))
    assert [p.outputs["steps"].item() for p in predictions] == [3, 3]


def test_payloads_of_any_other_proto_are_scored(outputs, model, tmp_path):
    payloads = [b"", b"\xff\x00", b"any bytes"]
    uri = write_examples(tmp_path / "examples", a=payloads)
    examples = artifact(Examples, uri, ["a"], payload_format="FORMAT_PROTO")

    execute(
        outputs,
        {"examples": examples, "model": model},
        model_spec=ModelSpec(model_signature_name=["length"]),
    )

    predictions = read_predictions(outputs.inference_result.uri)
    assert {p.record: p.outputs["length"].item() for p in predictions} == {
        payload: len(payload) for payload in payloads
    }


def test_output_examples_of_any_other_proto_are_refused(tmp_path, model):
    uri = write_examples(tmp_path / "examples", a=[b"any bytes"])
    examples = artifact(Examples, uri, ["a"], payload_format="FORMAT_PROTO")

    with pytest.raises(SettingsError) as raised:
        execute(
            make_outputs(tmp_path / "outputs", with_output_examples=True),
            {"examples": examples, "model": model},
            model_spec=ModelSpec(model_signature_name=["length"]),
            output_example_spec=column("length", "length"),
        )

    assert str(raised.value) == (
        "Output examples need FORMAT_TF_EXAMPLE or FORMAT_TF_SEQUENCE_EXAMPLE records to add "
        "features to, got FORMAT_PROTO. Leave out output_example_spec."
    )


# Artifacts


@pytest.mark.parametrize("count", [0, 2])
def test_other_than_one_model_is_refused(outputs, examples, model, count):
    with pytest.raises(InputError) as raised:
        execute(outputs, {"examples": examples, "model": [model] * count})

    assert str(raised.value) == (
        f"Expected one artifact as model, got {count}. Narrow its channel down to one, for "
        "example with a Resolver."
    )


def test_pushed_model_is_scored_with(outputs, examples, pushed_model_uri):
    pushed = artifact(PushedModel, pushed_model_uri)

    execute(outputs, {"examples": examples, "pushed_model": pushed})

    assert scored(outputs.inference_result) == five_times(0, 1, 2, 10, 11)
    assert Summary.read(outputs.summary.uri).model_path == pushed_model_uri


def test_no_examples_are_refused(outputs, model):
    with pytest.raises(InputError) as raised:
        execute(outputs, {"examples": [], "model": model})

    assert str(raised.value) == (
        "Expected examples of one payload format, got no examples. Score them with a "
        "BulkInferencer each."
    )


def test_model_that_is_not_there_is_refused_with_its_place(outputs, examples, tmp_path):
    with pytest.raises(ModelError) as raised:
        execute(outputs, {"examples": examples, "model": artifact(Model, tmp_path)})

    assert str(raised.value) == (
        f"Expected a SavedModel, found no saved_model.pb in {tmp_path}/Format-Serving. Check the "
        "path, and that the Trainer exported the model for serving (fn_args.serving_model_dir)."
    )


def test_properties_of_the_inference_result(outputs, inputs):
    execute(outputs, inputs, model_spec=ModelSpec(model_signature_name=["length", "count_steps"]))

    summary = Summary.read(outputs.summary.uri)
    result = outputs.inference_result
    assert counts_of(outputs) == (5, 5, 0)
    assert result.get_string_custom_property("gate") == "no_blessing"
    assert result.get_string_custom_property("signature_names") == "length,count_steps"
    assert len(summary.model_fingerprint) == 64
    assert result.get_string_custom_property("model_fingerprint") == summary.model_fingerprint


def test_properties_of_the_other_outputs(tmp_path, inputs):
    outputs = make_outputs(tmp_path / "outputs", with_output_examples=True)

    execute(outputs, inputs, output_example_spec=column("y", "y5"))

    assert outputs.summary.get_string_custom_property("gate") == "no_blessing"
    for made in (outputs.failed_examples, outputs.output_examples):
        assert made.split_names == '["train", "unlabelled"]'
        assert made.get_string_custom_property("payload_format") == "FORMAT_TF_EXAMPLE"
        assert made.get_string_custom_property("file_format") == "tfrecords_gzip"


def test_summary_adds_up(outputs, mixed_examples, model):
    execute(outputs, {"examples": mixed_examples, "model": model}, data_spec=ALL_MAY_FAIL)

    with open(f"{outputs.summary.uri}/summary.json") as file:
        summary = json.load(file)
    expected = {"examples_read": 4, "predictions_written": 2, "examples_failed": 2}
    assert summary["total"] == summary["splits"]["unlabelled"]
    assert expected.items() <= summary["total"].items()
    assert summary["gate"] == "no_blessing"
    assert summary["signature_names"] == ["serving_default"]
    assert summary["versions"]["tensorflow"] == tf.__version__
    assert summary["versions"]["tfx"] == tfx.__version__
    assert min(summary["seconds"].values()) >= 0


# Failures


def test_failures_are_listed_with_place_and_reason(outputs, mixed_examples, model):
    execute(outputs, {"examples": mixed_examples, "model": model}, data_spec=ALL_MAY_FAIL)

    file = f"{mixed_examples.uri}/Split-unlabelled/data-00000-of-00001.gz"
    failures = failures_of(outputs, "unlabelled")
    assert [(failure["file"], failure["record"]) for failure in failures] == [(file, 1), (file, 3)]
    assert all("Feature: x (data type: float) is required" in f["reason"] for f in failures)
    assert scored(outputs.inference_result) == five_times(1, 2)


def test_failed_examples_can_be_fed_back_in_and_fail_again(
    outputs, mixed_examples, model, tmp_path
):
    execute(outputs, {"examples": mixed_examples, "model": model}, data_spec=ALL_MAY_FAIL)
    again = make_outputs(tmp_path / "again")

    execute(again, {"examples": outputs.failed_examples, "model": model}, data_spec=ALL_MAY_FAIL)

    assert counts_of(outputs) == (4, 2, 2)
    assert counts_of(again) == (2, 0, 2)
    name = "Split-unlabelled/failed_examples-00000-of-00001.gz"
    failed, failed_again = (
        read_tfrecord(f"{made.failed_examples.uri}/{name}") for made in (outputs, again)
    )
    assert failed_again == failed == [example(name="first"), example(name="second")]
    reasons, reasons_again = (
        [failure["reason"] for failure in failures_of(made, "unlabelled")]
        for made in (outputs, again)
    )
    assert reasons_again == reasons


def test_too_many_failures_are_an_error_with_the_first_reasons(outputs, mixed_examples, model):
    with pytest.raises(FailureLimitError) as raised:
        execute(outputs, {"examples": mixed_examples, "model": model})

    lines = str(raised.value).splitlines()
    file = f"{mixed_examples.uri}/Split-unlabelled/data-00000-of-00001.gz"
    assert lines[0] == (
        "Expected at most 1.00% of the records of split 'unlabelled' to fail, got 2 of 4. The "
        "first ones:"
    )
    assert lines[1].startswith(f"  {file}, record 1: ")
    assert lines[2].startswith(f"  {file}, record 3: ")
    assert lines[3] == (
        "Mend the records or the model, or raise the failure_limit to keep the failures in "
        "failed_examples."
    )


def test_failure_limit_of_the_data_spec_counts(outputs, mixed_examples, model):
    limit = FailureLimit(max_count=1, max_fraction=1)

    with pytest.raises(FailureLimitError, match=r"at most 100.00% and at most 1 of .* got 2 of 4"):
        execute(
            outputs,
            {"examples": mixed_examples, "model": model},
            data_spec=DataSpec(failure_limit=limit),
        )


def test_error_empties_the_outputs(tmp_path, mixed_examples, model):
    outputs = make_outputs(tmp_path / "outputs", with_output_examples=True)

    with pytest.raises(FailureLimitError):
        execute(
            outputs,
            {"examples": mixed_examples, "model": model},
            output_example_spec=column("y", "y5"),
        )

    for made in outputs:
        assert list(Path(made.uri).iterdir()) == []


def test_error_of_a_worker_empties_the_outputs_and_comes_as_itself(outputs, model, tmp_path):
    uri = write_examples(tmp_path / "examples", a=examples_of(1), b=examples_of(2))
    damaged = Path(uri, "Split-b", "data-00000-of-00001.gz")
    damaged.write_bytes(damaged.read_bytes()[:-12])

    with pytest.raises(InputError, match=f"Expected a readable TFRecord file.* in {damaged} after"):
        execute(outputs, {"examples": artifact(Examples, uri, ["a", "b"]), "model": model})

    for made in outputs[:3]:
        assert list(Path(made.uri).iterdir()) == []


def test_outputs_of_an_earlier_run_are_never_overwritten(outputs, inputs):
    execute(outputs, inputs)
    before = {path: Path(path).read_bytes() for path in _files(outputs)}

    with pytest.raises(SettingsError, match="Expected an empty folder to write to, got 2 files"):
        execute(outputs, inputs)

    assert {path: Path(path).read_bytes() for path in _files(outputs)} == before


def _files(outputs):
    return [
        path for made in outputs if made for path in Path(made.uri).rglob("*") if path.is_file()
    ]


# Settings


def test_signature_is_the_one_that_was_named(outputs, inputs):
    execute(outputs, inputs, model_spec=ModelSpec(model_signature_name=["length"]))

    prediction = next(read_predictions(outputs.inference_result.uri))
    assert prediction.outputs["length"].item() == len(prediction.record)


def test_batch_bounds_do_not_change_what_is_written(tmp_path, inputs):
    default, small = make_outputs(tmp_path / "default"), make_outputs(tmp_path / "small")

    execute(default, inputs)
    execute(small, inputs, model_spec=ModelSpec(batch=BatchSpec(max_records=2)))

    for name in tree(default.inference_result.uri):
        assert read_tfrecord(f"{small.inference_result.uri}/{name}") == read_tfrecord(
            f"{default.inference_result.uri}/{name}"
        )


def test_module_that_cannot_be_imported_is_refused(outputs, inputs):
    with pytest.raises(ModelError, match=r"got 'no_such_module' in ModelSpec\.import_modules"):
        execute(outputs, inputs, model_spec=ModelSpec(import_modules=["no_such_module"]))


@pytest.mark.parametrize("name", ["data_spec", "model_spec"])
def test_execution_property_that_is_not_json_is_refused_by_name(outputs, inputs, name):
    with pytest.raises(SettingsError, match=rf"^Expected JSON of .* as {name}, got '{{oops': "):
        execute(outputs, inputs, **{name: "{oops"})


def test_execution_properties_that_are_left_out_are_defaults(outputs, inputs):
    Executor().Do(
        {key: [value] for key, value in inputs.items()},
        {key: [made] for key, made in outputs._asdict().items() if made},
        {},
    )

    assert scored(outputs.inference_result) == five_times(0, 1, 2, 10, 11)


# Output examples


def test_output_examples_hold_the_input_and_the_prediction(tmp_path, inputs):
    outputs = make_outputs(tmp_path / "outputs", with_output_examples=True)

    execute(outputs, inputs, output_example_spec=column("y", "y5"))

    uri = outputs.output_examples.uri
    assert tree(uri) == [
        "Split-train/examples-00000-of-00001.gz",
        "Split-unlabelled/examples-00000-of-00001.gz",
    ]
    records = read_tfrecord(f"{uri}/Split-unlabelled/examples-00000-of-00001.gz")
    assert [features_of(record) for record in records] == [
        {"x": [10], "y5": [50]},
        {"x": [11], "y5": [55]},
    ]


def test_inference_result_is_written_beside_output_examples(tmp_path, inputs):
    outputs = make_outputs(tmp_path / "outputs", with_output_examples=True)

    execute(outputs, inputs, output_example_spec=column("y", "y5"))

    assert scored(outputs.inference_result) == five_times(0, 1, 2, 10, 11)


def test_tfx_reads_output_examples_back(tmp_path, inputs):
    outputs = make_outputs(tmp_path / "outputs", with_output_examples=True)
    execute(outputs, inputs, output_example_spec=column("y", "y5"))
    made = outputs.output_examples

    # As Trainer and Transform do.
    factory = tfxio_utils.get_tf_dataset_factory_from_artifact([made], ["test"])
    (pattern,) = examples_utils.get_split_file_patterns([made], "train")
    options = dataset_options.TensorFlowDatasetOptions(batch_size=3, num_epochs=1, shuffle=False)
    (batch,) = factory([pattern], options, _schema("x", "y5"))

    assert sorted(tf.reshape(batch["x"], [-1]).numpy().tolist()) == [0, 1, 2]
    assert sorted(tf.reshape(batch["y5"], [-1]).numpy().tolist()) == [0, 5, 10]


def _schema(*names):
    shape = schema_pb2.FixedShape(dim=[schema_pb2.FixedShape.Dim(size=1)])
    features = [
        schema_pb2.Feature(
            name=name,
            type=schema_pb2.FLOAT,
            shape=shape,
            presence=schema_pb2.FeaturePresence(min_fraction=1),
        )
        for name in names
    ]
    return schema_pb2.Schema(feature=features)


def test_output_examples_can_be_scored_again(tmp_path, inputs, model):
    outputs = make_outputs(tmp_path / "outputs", with_output_examples=True)
    execute(outputs, inputs, output_example_spec=column("y", "y5"))
    again = make_outputs(tmp_path / "again")

    execute(again, {"examples": outputs.output_examples, "model": model})

    assert scored(again.inference_result) == five_times(0, 1, 2, 10, 11)


def test_sequence_examples_get_columns_in_their_context(tmp_path, model):
    uri = write_examples(tmp_path / "examples", a=[sequence_example(name="n")])
    examples = artifact(Examples, uri, ["a"], payload_format="FORMAT_TF_SEQUENCE_EXAMPLE")
    outputs = make_outputs(tmp_path / "outputs", with_output_examples=True)

    execute(
        outputs,
        {"examples": examples, "model": model},
        model_spec=ModelSpec(model_signature_name=["count_steps"]),
        output_example_spec=column("steps", "count"),
    )

    (record,) = read_tfrecord(f"{outputs.output_examples.uri}/Split-a/examples-00000-of-00001.gz")
    assert context_of(record) == {"name": [b"n"], "count": [3]}
    payload_format = outputs.output_examples.get_string_custom_property("payload_format")
    assert payload_format == "FORMAT_TF_SEQUENCE_EXAMPLE"


def test_column_of_an_output_that_the_model_does_not_have_is_refused(tmp_path, inputs, model_uri):
    outputs = make_outputs(tmp_path / "outputs", with_output_examples=True)

    with pytest.raises(SettingsError) as raised:
        execute(outputs, inputs, output_example_spec=column("z", "z5"))

    assert str(raised.value) == (
        f"Expected column 'z5' to come from an output of {model_uri}/Format-Serving, got 'z'; it "
        "has: y. Correct OutputExampleSpec."
    )


def test_column_that_would_overwrite_a_feature_is_refused(tmp_path, inputs):
    outputs = make_outputs(tmp_path / "outputs", with_output_examples=True)

    with pytest.raises(SettingsError) as raised:
        execute(outputs, inputs, output_example_spec=column("y", "x"))

    assert str(raised.value) == (
        "Output 'y' cannot become column 'x': the input has a feature 'x' already. Choose another "
        "name in OutputExampleSpec, or set OutputExampleSpec.replace_features."
    )


def test_column_replaces_a_feature_where_the_spec_says_so(tmp_path, inputs):
    outputs = make_outputs(tmp_path / "outputs", with_output_examples=True)

    execute(outputs, inputs, output_example_spec=column("y", "x", replace_features=True))

    records = read_tfrecord(
        f"{outputs.output_examples.uri}/Split-unlabelled/examples-00000-of-00001.gz"
    )
    assert [features_of(record) for record in records] == [{"x": [50]}, {"x": [55]}]


def test_predictions_are_not_compressed_where_the_spec_says_so(outputs, inputs):
    execute(outputs, inputs, data_spec=DataSpec(compression="NONE"))

    names = [path.name for path in Path(outputs.inference_result.uri).iterdir()]
    assert sorted(names) == [
        "prediction_logs-train-00000-of-00001",
        "prediction_logs-unlabelled-00000-of-00001",
    ]
    assert scored(outputs.inference_result) == five_times(0, 1, 2, 10, 11)
