"""The examples of an execution, from artifacts to files and formats. Nothing is scored here."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tfx.components.util import examples_utils
from tfx.types.standard_artifacts import Examples

from bulk_inferencer._formats.parquet import Parquet
from bulk_inferencer._formats.tfrecord_reader import TFRecord
from bulk_inferencer._units.inputs import list_files
from bulk_inferencer.components import inputs
from bulk_inferencer.errors import InputError
from tests.components.tfx_helpers import artifact, assert_refused, examples_of, write_examples
from tests.helpers import in_bucket, write_tfrecord


def files_of(examples, *wanted):
    """Returns the files of each split, as a run finds them."""
    patterns = inputs.splits(examples, wanted)
    return {s: [file.path for file in list_files(s, found)] for s, found in patterns.items()}


def file_in(made, split):
    return f"{made.uri}/Split-{split}/data-00000-of-00001.gz"


@pytest.fixture
def two(tmp_path):
    """Two artifacts that share split `a`; the second has `b` too."""
    first = write_examples(tmp_path / "first", a=examples_of(1))
    second = write_examples(tmp_path / "second", a=examples_of(2), b=examples_of(3))
    return [artifact(Examples, first, ["a"]), artifact(Examples, second, ["a", "b"])]


def test_examples_of_all_inputs_count_in_order():
    artifacts = {key: [key] for key in ("examples_1", "model", "examples", "examples_too")}
    assert inputs.examples({**artifacts, "examples": ["x", "y"]}) == ["x", "y", "examples_1"]


@pytest.mark.parametrize(
    ("artifacts", "empty"),
    [
        ({}, "examples"),
        ({"examples": []}, "examples"),
        ({"examples": [1], "examples_1": []}, "examples_1"),
    ],
)
def test_channel_without_an_artifact_is_refused_even_beside_one_that_has_some(artifacts, empty):
    message = (
        f"There is no artifact in the channel of {empty}. Run what makes the examples first, or "
        f"leave the channel out."
    )
    assert_refused(message, inputs.check_examples, {"model": [], **artifacts}, error=InputError)


def test_splits_of_all_artifacts_are_scored_or_only_those_that_are_asked_for(two):
    first, second = two
    of_a = [file_in(first, "a"), file_in(second, "a")]
    assert files_of(two) == {"a": of_a, "b": [file_in(second, "b")]}
    shutil.rmtree(f"{second.uri}/Split-a")  # which nobody asks for
    assert files_of(two, "b") == {"b": [file_in(second, "b")]}


@pytest.mark.parametrize(
    ("splits", "wanted", "missing", "existing"),
    [
        (["unlabelled", "train"], ["train", "eval", "test"], "'eval', 'test'", "train, unlabelled"),
        ([], [], "names", "none"),
    ],
)
def test_split_that_is_missing_is_refused_with_those_there_are(
    examples_uri, splits, wanted, missing, existing
):
    message = (
        f"The examples do not have split {missing}. They have: {existing}. Correct "
        f"DataSpec.example_splits."
    )
    examples = [artifact(Examples, examples_uri, splits)]
    assert_refused(message, inputs.splits, examples, wanted, error=InputError)


@pytest.mark.parametrize("left", [[], ["_SUCCESS", ".DS_Store"], None])
def test_split_of_which_one_artifact_has_no_files_is_refused_with_its_place(two, left):
    uri = two[1].uri
    shutil.rmtree(f"{uri}/Split-a")
    if left is not None:
        Path(f"{uri}/Split-a").mkdir()
        for name in left:
            Path(f"{uri}/Split-a", name).touch()
    message = (
        f"The examples at {uri} have no files of split 'a': nothing matches {uri}/Split-a/*. "
        f"Restore them, or run the ExampleGen again."
    )
    assert_refused(message, inputs.splits, two, [], error=InputError)


def test_empty_split_has_a_file_without_records_and_hidden_files_do_not_count(tmp_path):
    made = artifact(Examples, write_examples(tmp_path, a=[]), ["a"])
    for name in ("_SUCCESS", ".DS_Store"):
        Path(tmp_path, "Split-a", name).touch()
    assert files_of([made]) == {"a": [file_in(made, "a")]}


def test_split_is_found_in_an_object_store(tmp_path):
    uri = in_bucket(write_examples(tmp_path, a=[]))
    made = artifact(Examples, uri, ["a"])
    assert files_of([made]) == {"a": [file_in(made, "a")]}


def test_custom_split_pattern_says_where_the_files_are(tmp_path):
    today = [write_tfrecord(tmp_path / "odd" / f"today-{i}.gz", examples_of(i)) for i in (1, 2)]
    write_tfrecord(tmp_path / "odd" / "yesterday-1.gz", examples_of(3))
    name, value = examples_utils.get_custom_split_patterns_key_and_property(
        {"today": "odd/today-*", "yesterday": "odd/yesterday-*"}
    )
    made = artifact(Examples, tmp_path, ["today", "yesterday"], **{name: value})
    assert files_of([made], "today") == {"today": today}


# Beam writes [[] into a regular expression, about which Python warns.
@pytest.mark.filterwarnings("ignore:Possible nested set:FutureWarning")
def test_folder_with_a_patterns_characters_in_its_name_is_taken_as_it_is(tmp_path):
    made = artifact(Examples, write_examples(tmp_path / "run[1]*", a=examples_of(1)), ["a"])
    assert files_of([made]) == {"a": [file_in(made, "a")]}


def test_tfrecord_files_have_several_names():
    plain = inputs.examples_format([artifact(Examples, "/e", ["a"])])
    assert plain == (TFRecord(), "FORMAT_TF_EXAMPLE")
    for file_format in ("", "tfrecords_gzip", "FORMAT_TFRECORDS_GZIP"):
        properties = {"file_format": file_format, "payload_format": "FORMAT_PROTO"}
        found = inputs.examples_format([artifact(Examples, "/e", **properties)])
        assert found == (TFRecord(), "FORMAT_PROTO")


def test_payload_says_that_files_are_parquet_even_where_tfxs_file_format_says_tfrecord():
    for file_format in ("", "tfrecords_gzip", "FILE_FORMAT_PARQUET"):
        properties = {"file_format": file_format, "payload_format": "FORMAT_PARQUET"}
        found = inputs.examples_format([artifact(Examples, "/e", **properties)])
        assert found == (Parquet(), "FORMAT_TF_EXAMPLE")


OTHER_FORMAT = (
    "The examples at /e are FILE_FORMAT_PARQUET files with the payload FORMAT_TF_EXAMPLE, but only "
    "TFRecord files and Parquet files with the payload FORMAT_PARQUET can be scored. Write them "
    "with an ExampleGen that makes one of these."
)
SEVERAL_FORMATS = (
    "All examples must have the same payload format, but there are {}. Score each format with a "
    "BulkInferencer of its own."
)


@pytest.mark.parametrize(
    ("formats", "message"),
    [
        ({"/e": {"file_format": "FILE_FORMAT_PARQUET"}}, OTHER_FORMAT),
        (
            {"/1": {}, "/2": {"payload_format": "FORMAT_PARQUET"}},
            SEVERAL_FORMATS.format("FORMAT_TF_EXAMPLE at /1, FORMAT_PARQUET at /2"),
        ),
        ({}, SEVERAL_FORMATS.format("no examples")),
    ],
)
def test_examples_need_to_be_files_that_can_be_read_and_of_one_payload_format(formats, message):
    examples = [artifact(Examples, uri, **properties) for uri, properties in formats.items()]
    assert_refused(message, inputs.examples_format, examples, error=InputError)


@pytest.mark.parametrize("artifacts", [{}, {"model": []}, {"model": [1, 2]}])
def test_other_than_one_artifact_is_refused(artifacts):
    message = (
        f"model must be one artifact, but there are {len(artifacts.get('model', []))}. Narrow its "
        f"channel down to one, for example with a Resolver."
    )
    assert_refused(message, inputs.single, artifacts, "model", error=InputError)
