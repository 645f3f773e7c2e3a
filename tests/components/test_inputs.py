"""The examples of an execution, from artifacts to files and formats. Nothing is scored here."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tfx.components.util import examples_utils
from tfx.types.standard_artifacts import Examples

from bulk_inferencer._units.plan import list_files
from bulk_inferencer.components import inputs
from bulk_inferencer.errors import InputError
from tests.components.tfx_helpers import artifact, assert_refused, examples_of, write_examples
from tests.helpers import write_tfrecord


def files_of(examples, *wanted):
    """Returns the files of each split, as a run finds them."""
    patterns = inputs.splits(examples, wanted)
    return {s: [file.path for file in list_files(s, found)] for s, found in patterns.items()}


def file_in(uri, split):
    return f"{uri}/Split-{split}/data-00000-of-00001.gz"


@pytest.fixture
def two(tmp_path):
    """Two artifacts that share split `a`; the second has `b` too."""
    first = write_examples(tmp_path / "first", a=examples_of(1))
    second = write_examples(tmp_path / "second", a=examples_of(2), b=examples_of(3))
    return [artifact(Examples, first, ["a"]), artifact(Examples, second, ["a", "b"])]


def test_every_split_of_all_artifacts_is_scored_by_default(two):
    first, second = (made.uri for made in two)
    assert files_of(two) == {
        "a": [file_in(first, "a"), file_in(second, "a")],
        "b": [file_in(second, "b")],
    }


def test_only_splits_that_are_asked_for_are_looked_at(two):
    second = two[1].uri
    shutil.rmtree(f"{second}/Split-a")
    assert files_of(two, "b") == {"b": [file_in(second, "b")]}


def test_examples_of_all_inputs_count_in_order():
    artifacts = {key: [key] for key in ("examples_1", "model", "examples", "examples_too")}
    assert inputs.examples({**artifacts, "examples": ["x", "y"]}) == ["x", "y", "examples_1"]


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


def test_split_whose_folder_was_deleted_is_refused_with_its_place(two):
    uri = two[1].uri
    shutil.rmtree(f"{uri}/Split-b")
    message = (
        f"Split 'b' has no folder at {uri}/Split-b. Restore the examples, or run the ExampleGen "
        f"again."
    )
    assert_refused(message, inputs.splits, two, [], error=InputError)


def test_empty_split_has_no_files(tmp_path):
    Path(tmp_path, "Split-a").mkdir()
    assert files_of([artifact(Examples, tmp_path, ["a"])]) == {"a": []}


def test_object_store_has_no_folders_to_look_for():
    patterns = inputs.splits([artifact(Examples, "gs://bucket/examples", ["a"])], [])
    assert patterns == {"a": ["gs://bucket/examples/Split-a/*"]}


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
    uri = write_examples(tmp_path / "run[1]*", a=examples_of(1))
    assert files_of([artifact(Examples, uri, ["a"])]) == {"a": [file_in(uri, "a")]}


@pytest.mark.parametrize("file_format", [None, "tfrecords_gzip", "FORMAT_TFRECORDS_GZIP"])
def test_tfrecord_files_have_several_names(file_format):
    properties = {"file_format": file_format} if file_format else {}
    made = artifact(Examples, "/e", ["a"], payload_format="FORMAT_PROTO", **properties)
    assert inputs.payload_format([made]) == "FORMAT_PROTO"
    assert inputs.payload_format([artifact(Examples, "/e", ["a"])]) == "FORMAT_TF_EXAMPLE"


def test_other_files_than_tfrecord_are_refused():
    parquet = artifact(Examples, "/e", ["a"], file_format="FORMAT_PARQUET")
    message = (
        "The examples at /e are FORMAT_PARQUET files, but only TFRecord files can be scored. Write "
        "them with an ExampleGen whose output is TFRecord."
    )
    assert_refused(message, inputs.payload_format, [parquet], error=InputError)


def test_examples_need_one_payload_format():
    one = artifact(Examples, "/1", ["a"])
    other = artifact(Examples, "/2", ["a"], payload_format="FORMAT_TF_SEQUENCE_EXAMPLE")
    both = "FORMAT_TF_EXAMPLE at /1, FORMAT_TF_SEQUENCE_EXAMPLE at /2"
    for examples, found in (([one, other], both), ([], "no examples")):
        message = (
            f"All examples must have the same payload format, but there are {found}. Score each "
            f"format with a BulkInferencer of its own."
        )
        assert_refused(message, inputs.payload_format, examples, error=InputError)


@pytest.mark.parametrize("artifacts", [{}, {"model": []}, {"model": [1, 2]}])
def test_other_than_one_artifact_is_refused(artifacts):
    message = (
        f"model must be one artifact, but there are {len(artifacts.get('model', []))}. Narrow its "
        f"channel down to one, for example with a Resolver."
    )
    assert_refused(message, inputs.single, artifacts, "model", error=InputError)
