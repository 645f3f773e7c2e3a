"""What a job refuses before it runs, and what it has workers do."""

from __future__ import annotations

import dataclasses

import pytest

from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._formats.example import Column
from bulk_inferencer._formats.record_format import FORMAT_PROTO, FORMAT_TF_SEQUENCE_EXAMPLE
from bulk_inferencer._gate import NOT_BLESSED, UNASKED, Decision
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer._units.routing import SplitRouting
from bulk_inferencer.errors import InputError, SettingsError
from bulk_inferencer.job import Branch, InferenceJob, Outputs
from tests.helpers import exactly

A, B = (Branch(name, SavedModel(f"/{name}"), f"/out/{name}") for name in "ab")
CLOSED = Decision(NOT_BLESSED, "The Evaluator did not bless it.")
HALVES = SplitRouting({"a": 1, "b": 1}, "k")


def outputs_with(**settings):
    return dataclasses.replace(Outputs.under("/out"), **settings)


WITH_EXAMPLES = outputs_with(output_examples="/e", columns=(Column("y", "variant"),))
COMPARED = outputs_with(comparison="/out/c")


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
         ("The file patterns of split 's' must be a list, not the string 'data/*'. Put it into a "
          "list.")),
        ({"record_format": "FORMAT_PARQUET"},
         ("The record_format must be one of FORMAT_TF_EXAMPLE, FORMAT_TF_SEQUENCE_EXAMPLE, "
          "FORMAT_PROTO, not FORMAT_PARQUET. Convert the examples to one of them.")),
        ({"record_format": FORMAT_PROTO, "outputs": WITH_EXAMPLES},
         ("Features can be added to FORMAT_TF_EXAMPLE and FORMAT_TF_SEQUENCE_EXAMPLE records, not "
          "to FORMAT_PROTO. Leave out Outputs.output_examples and Outputs.columns.")),
        ({"record_format": FORMAT_PROTO, "branches": (A, B), "routing": HALVES},
         ("The split_key 'k' can be read from FORMAT_TF_EXAMPLE and FORMAT_TF_SEQUENCE_EXAMPLE "
          "records, not from FORMAT_PROTO. Leave it out to split by whole records.")),
        ({"model": None}, "The job has no model. Give InferenceJob a model or branches."),
        ({"model": SavedModel("/model"), "branches": (A, B)},
         ("InferenceJob takes either model or branches, but got both: a model, and the branches "
          "a, b. Leave out one.")),
        ({"outputs": outputs_with(inference_result=None)},
         ("Outputs.inference_result is missing: the predictions of the model need a folder. Name "
          "one, or use Outputs.under(folder).")),
        ({"branches": (A, B, dataclasses.replace(A, folder="/out/c"))},
         "Several models are named a. Give each a name of its own."),
        ({"branches": (A, Branch("inference_result", SavedModel("/b"), "/out/b"))},
         "Only a single model can be named 'inference_result', but there are 2. Rename it."),
        ({"branches": (A, dataclasses.replace(B, folder="/out/a/"))},
         "Several outputs have the folder /out/a. Give each a folder of its own."),
        ({"outputs": outputs_with(comparison="/out/summary")},
         "Several outputs have the folder /out/summary. Give each a folder of its own."),
        ({"branches": (A, B), "routing": HALVES, "outcomes": "/o.csv"},
         ("In an A/B test, outcomes and Outputs.comparison need each other, but only /o.csv is "
          "there. Give both the file of outcomes and the folder for their comparison.")),
        ({"branches": (A, B), "routing": HALVES, "outputs": COMPARED},
         ("In an A/B test, outcomes and Outputs.comparison need each other, but only /out/c is "
          "there. Give both the file of outcomes and the folder for their comparison.")),
    ],
)  # fmt: skip
def test_settings_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(SettingsError, match=exactly(message)):
        job_of(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"routing": SplitRouting({"a": 1, "c": 1})}, "SplitRouting.weights names a, c"),
        ({"outcomes": "/o.csv"}, "The outcomes in /o.csv need a SplitRouting"),
        ({"routing": HALVES}, "A column cannot be named 'variant'"),
    ],
    ids=["weights", "outcomes", "variant"],
)
def test_checks_of_lower_floors_are_made(settings, message):
    with pytest.raises(SettingsError, match=f"^{message}"):
        job_of(branches=(A, B), outputs=WITH_EXAMPLES, **settings)


TOGETHER = (
    "Outputs.output_examples and Outputs.columns need each other. Give both the folder and the "
    "outputs that become features."
)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"compression": "ZSTD"},
            "Outputs.compression must be one of GZIP, NONE, not 'ZSTD'. Leave it out for GZIP.",
        ),
        ({"output_examples": "/e"}, TOGETHER),
        ({"columns": (Column("y", "y"),)}, TOGETHER),
    ],
)
def test_outputs_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(SettingsError, match=exactly(message)):
        outputs_with(**settings)


def test_branch_checks_its_name_and_its_model():
    with pytest.raises(SettingsError, match=r"'Five' cannot be the name of a model"):
        Branch("Five", SavedModel("/five"), "/out")
    with pytest.raises(SettingsError, match=r"^Model 'a': .* SavedModel\('/a'\)"):
        Branch("a", "/a", "/out")
    with pytest.raises(SettingsError, match=r"^(?!Model).* SavedModel\('/a'\)"):
        job_of(model="/a")


# What workers do


def names_of(job):
    task = job.task()
    return list(task.models), task.labels, [sink.name for sink in task.sinks]


def test_only_model_is_not_named_and_several_are():
    labels = {"inference_result": ""}
    sinks = ["prediction_logs/inference_result", "failed_examples", "failures"]
    assert names_of(job_of()) == (["inference_result"], labels, sinks)
    assert not job_of().names_models
    assert job_of().branches[0].gate == UNASKED
    job = job_of(branches=(A, B))
    labels = {"a": "Model 'a'", "b": "Model 'b'"}
    sinks[:1] = ["prediction_logs/a", "prediction_logs/b"]
    assert names_of(job) == (["a", "b"], labels, sinks)
    assert job.names_models
    assert job_of(branches=(A,)).names_models


def test_settings_reach_the_task():
    outputs = dataclasses.replace(WITH_EXAMPLES, comparison="/out/c")
    settings = {"record_format": FORMAT_TF_SEQUENCE_EXAMPLE, "bounds": BatchBounds(7)}
    task = job_of(branches=(A, B), outputs=outputs, **settings).task()
    assert (task.record_format, task.bounds) == tuple(settings.values())
    assert [sink.name for sink in task.sinks[-2:]] == ["output_examples", "comparison"]
    whole_records = SplitRouting(HALVES.weights)
    job = job_of(branches=(A, B), routing=whole_records, record_format=FORMAT_PROTO)
    assert job.task().routing == whole_records


def test_model_whose_gate_is_closed_gets_no_records_and_the_others_get_its_keys(tmp_path):
    (tmp_path / "o.csv").write_text("key,value\n")
    settings = {"routing": HALVES, "outcomes": f"{tmp_path}/o.csv", "outputs": COMPARED}
    job = job_of(branches=(A, dataclasses.replace(B, gate=CLOSED)), **settings)
    task = job.task()
    assert job.open_branches == (A,)
    assert list(task.models) == ["a"]
    assert task.routing == task.sinks[-1].routing
    assert task.routing == dataclasses.replace(HALVES, kept_out=frozenset("b"))


def test_nothing_is_asked_of_a_job_whose_gates_are_all_closed():
    closed = [dataclasses.replace(branch, gate=CLOSED) for branch in (A, B)]
    settings = {"splits": {}, "routing": HALVES, "outcomes": "/none.csv", "outputs": COMPARED}
    models, _, sinks = names_of(job_of(branches=closed, **settings))
    assert (models, sinks) == ([], ["failed_examples", "failures", "comparison"])


def test_outcomes_are_read_before_anything_runs():
    job = job_of(branches=(A, B), routing=HALVES, outcomes="/none.csv", outputs=COMPARED)
    with pytest.raises(InputError, match=r"^There is no file of outcomes at /none.csv"):
        job.task()
