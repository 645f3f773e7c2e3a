"""What a job refuses before it runs, and what it has workers do."""

from __future__ import annotations

import dataclasses
import posixpath
import re

import pytest

from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._formats.example import Column
from bulk_inferencer._formats.record_format import FORMAT_PROTO, FORMAT_TF_SEQUENCE_EXAMPLE
from bulk_inferencer._gate import NOT_BLESSED, Decision
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer._units.checkpoint import Checkpoint
from bulk_inferencer._units.routing import SplitRouting
from bulk_inferencer.errors import InputError, SettingsError
from bulk_inferencer.job import Branch, InferenceJob, Outputs, unit_task
from tests.helpers import exactly

A, B = (Branch(name, SavedModel(f"/{name}"), f"/out/{name}") for name in "ab")
CLOSED = Decision(NOT_BLESSED, "The Evaluator did not bless it.")
HALVES = SplitRouting({"a": 1, "b": 1}, "k")


def outputs_with(**settings):
    return dataclasses.replace(Outputs.under("/out"), **settings)


EXAMPLES = {"output_examples": "/e", "columns": (Column("y", "variant"),)}
WITH_EXAMPLES = outputs_with(**EXAMPLES)
COMPARED = outputs_with(comparison="/out/c")
AB_TEST = {"branches": (A, B), "routing": HALVES}


def in_folder(branch, folder):
    return dataclasses.replace(branch, folder=folder)


def job_of(**settings):
    """Returns a job with a single model, unless settings name branches."""
    if "branches" not in settings:
        settings = {"model": SavedModel("/model"), **settings}
    return InferenceJob(**{"splits": {"s": ["data/*"]}, "outputs": outputs_with(), **settings})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"splits": {}}, "InferenceJob.splits is empty. Name the files to score."),
        ({"splits": ["data/*"]},
         ("InferenceJob.splits must hold lists of file patterns by split, not ['data/*']. Name the "
         "split: {'unlabelled': ['data/*.tfrecord.gz']}.")),
        ({"splits": {"s": "data/*"}},
         ("The file patterns of split 's' must be a list, not 'data/*'. Put it into a "
         "list.")),
        ({"record_format": "FORMAT_PARQUET"},
         ("The record_format must be one of FORMAT_TF_EXAMPLE, FORMAT_TF_SEQUENCE_EXAMPLE, "
         "FORMAT_PROTO, not FORMAT_PARQUET. Convert the examples to one of them.")),
        ({"model": None}, "The job has no model. Give InferenceJob a model or branches."),
        ({"model": SavedModel("/model"), "branches": (A, B)},
         ("InferenceJob takes either model or branches, but got both: a model, and the branches "
         "a, b. Leave out one.")),
        ({"outputs": outputs_with(inference_result=None)},
         ("Outputs.inference_result is missing: the predictions of the model need a folder. Name "
         "one, or use Outputs.under(folder).")),
        ({"branches": (A, B, in_folder(A, "/out/c"))},
         "Several models are named a. Give each a name of its own."),
        ({"branches": (A, Branch("inference_result", SavedModel("/b"), "/out/b"))},
         "Only a single model can be named 'inference_result', but there are 2. Rename it."),
        ({"branches": (A, in_folder(B, "/out/a/"))},
         "Several outputs have the folder /out/a. Give each a folder of its own."),
        ({"branches": (A, in_folder(B, "/out/a/b"))},
         ("The output folder /out/a/b lies within another one, /out/a. Give each output a folder "
         "beside the others.")),
        ({"branches": (A, in_folder(B, "/out/./a"))},
         "Several outputs have the folder /out/a. Give each a folder of its own."),
        ({"limit": 0},
         ("InferenceJob.limit must be a whole number of at least 1, not 0. Leave it out to score "
         "all records.")),
        ({"checkpoint": Checkpoint("/out/summary")},
         "Several outputs have the folder /out/summary. Give each a folder of its own."),
        ({"branches": (A, in_folder(B, "/a/results"))},
         ("The output folder /a/results lies within the model's, /a, whose files must not change "
         "during a run. Choose another folder.")),
        ({"outputs": outputs_with(comparison="/out/summary")},
         "Several outputs have the folder /out/summary. Give each a folder of its own."),
        ({"outputs": outputs_with(summary="")},
         "The folder of an output is empty text. Name a folder for each output."),
        ({**AB_TEST, "outcomes": "/o.csv"},
         ("The outcomes in /o.csv need a folder for their comparison. Name it in "
         "Outputs.comparison.")),
        ({**AB_TEST, "outputs": COMPARED},
         ("In an A/B test there is nothing to compare without outcomes, so /out/c would stay "
          "empty. Set outcomes, or leave out Outputs.comparison.")),
    ],
)  # fmt: skip
def test_settings_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(SettingsError, match=exactly(message)):
        job_of(**settings)


TOGETHER = (
    "Outputs.output_examples and Outputs.columns need each other. Give both the folder and the "
    "outputs that become features."
)
COMPRESSION = "Outputs.compression must be one of GZIP, NONE, not 'ZSTD'. Leave it out for GZIP."


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (job_of, {"branches": (A, B), "routing": SplitRouting({"a": 1, "c": 1})},
         "SplitRouting.weights names a, c"),
        (job_of, {"outcomes": "/o.csv"}, "The outcomes in /o.csv need a SplitRouting"),
        (job_of, {**AB_TEST, "outputs": WITH_EXAMPLES}, "A column cannot be named 'variant'"),
        (job_of, {"record_format": FORMAT_PROTO, "outputs": WITH_EXAMPLES},
         "Outputs.columns needs records with features: "),
        (job_of, {"record_format": FORMAT_PROTO, **AB_TEST},
         "SplitRouting.split_key needs records with features: "),
        (job_of, {"model": "/a"}, "The string '/a' is not a model"),
        (job_of, {"checkpoint": "ck"},
         ("InferenceJob.checkpoint must be a Checkpoint, not 'ck'. Write "
          'Checkpoint("checkpoints").')),
        (job_of, {"failure_limit": 0.5}, "InferenceJob.failure_limit must be a FailureLimit, "),
        (job_of, {"damaged_files": True}, "InferenceJob.damaged_files must be a DamagedFiles, "),
        (job_of, {"outputs": "results"}, "InferenceJob.outputs must be an Outputs, not 'results'"),
        (Outputs.under, {"folder": ""}, "The folder of Outputs.under is empty text. Use '.' for "),
        (outputs_with, {"compression": "ZSTD"}, COMPRESSION),
        (outputs_with, {"output_examples": "/e"}, TOGETHER),
        (outputs_with, {"columns": (Column("y", "y"),)}, TOGETHER),
        (outputs_with, {**EXAMPLES, "columns": ("y",)}, "Outputs.columns must be a tuple of "),
        (Branch, {"name": "Five", "model": SavedModel("/a"), "folder": "/out"},
         "'Five' cannot be the name of a model"),
        (Branch, {"name": "a", "model": "/a", "folder": "/out"},
         "Model 'a': The string '/a' is not a model"),
        (Branch, {"name": "a", "model": SavedModel("/a"), "folder": "/out", "gate": "blessed"},
         ("Model 'a': Branch.gate must be a Decision, not 'blessed'. Use Decision(verdict, reason),"
         " or leave it out if the model needs no blessing.")),
    ],
)  # fmt: skip
def test_parts_that_are_wrong_by_themselves_are_refused(make, settings, message):
    with pytest.raises(SettingsError, match=f"^{re.escape(message)}"):
        make(**settings)


BEYOND = ["", "..", "../a", "a/b", "a\0", "a\n", ".a", "-a", "_a", "a b", "ä", "a" * 101, 5, None]


@pytest.mark.parametrize("split", BEYOND, ids=repr)
def test_name_of_a_split_that_could_leave_the_outputs_is_refused(split):
    message = (
        f"{split!r} cannot be the name of a split, since it becomes part of files' names. Use up "
        f"to 100 letters, digits, underscores and dashes, and begin with a letter or digit."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        job_of(splits={split: ["data/*"]})


@pytest.mark.parametrize("split", ["eval", "Eval-2_b", "7", "a" * 100])
def test_any_other_name_of_a_split_fits_into_the_names_of_files(split):
    most_bytes, of_attempts = 255, 2 * 33
    for sink in unit_task(job_of(splits={split: ["data/*"]})).sinks:
        name = posixpath.basename(sink.file_name(split, "00000-of-00001"))
        assert len(name) + of_attempts <= most_bytes


# What workers do


def names_of(job):
    task = unit_task(job)
    return list(task.models), task.labels, [sink.name for sink in task.sinks]


def test_only_model_is_not_named_and_several_are():
    job, labels = job_of(), {"inference_result": ""}
    sinks = ["prediction_logs/inference_result", "failed_examples", "failures", "statistics"]
    assert names_of(job) == (["inference_result"], labels, sinks)
    assert not job.names_models
    assert job.branches == (Branch("inference_result", SavedModel("/model"), job.folders[0]),)
    assert job.model == SavedModel("/model")
    assert dataclasses.replace(job, record_format=FORMAT_PROTO).branches == job.branches
    (branch,) = dataclasses.replace(job, model=SavedModel("/next")).branches
    assert branch.model == SavedModel("/next")
    job = job_of(branches=[A, in_folder(B, "/out/ab")])
    labels = {"a": "Model 'a'", "b": "Model 'b'"}
    sinks[:1] = ["prediction_logs/a", "prediction_logs/b"]
    assert names_of(job) == (["a", "b"], labels, sinks)
    assert job.names_models


def test_settings_reach_the_task():
    outputs = dataclasses.replace(WITH_EXAMPLES, comparison="/out/c")
    settings = {"record_format": FORMAT_TF_SEQUENCE_EXAMPLE, "bounds": BatchBounds(7)}
    task = unit_task(job_of(branches=(A, B), outputs=outputs, **settings))
    assert (task.record_format, task.bounds) == tuple(settings.values())
    assert [sink.name for sink in task.sinks[-2:]] == ["output_examples", "comparison"]
    whole_records = SplitRouting(HALVES.weights)
    job = job_of(branches=(A, B), routing=whole_records, record_format=FORMAT_PROTO)
    assert unit_task(job).routing == whole_records


def test_model_whose_gate_is_closed_gets_no_records_and_the_others_get_its_keys(tmp_path):
    (tmp_path / "o.csv").write_text("key,value\n")
    settings = {"routing": HALVES, "outcomes": f"{tmp_path}/o.csv", "outputs": COMPARED}
    closed = [dataclasses.replace(branch, gate=CLOSED) for branch in (A, B)]
    task = unit_task(job_of(branches=(A, closed[1]), **settings))
    assert list(task.models) == ["a"]
    assert task.routing == task.sinks[-1].routing
    assert task.routing == dataclasses.replace(HALVES, kept_out=frozenset("b"))
    # Nothing is asked of a job whose gates are all closed.
    settings |= {"splits": {}, "outcomes": "/none.csv"}
    models, _, sinks = names_of(job_of(branches=closed, **settings))
    assert (models, sinks) == ([], ["failed_examples", "failures", "statistics", "comparison"])
    with pytest.raises(InputError, match=r"^There is no file of outcomes at /none.csv"):
        unit_task(job_of(**AB_TEST, outcomes="/none.csv", outputs=COMPARED))
