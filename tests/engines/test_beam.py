"""Units on Beam's local runner, and what comes back: manifests, metrics and errors."""

from __future__ import annotations

import os

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from bulk_inferencer._units.commit import make_folders
from bulk_inferencer._units.plan import list_files, plan_units
from bulk_inferencer._work import Distribution
from bulk_inferencer.engines import beam as engine
from bulk_inferencer.errors import ModelError
from bulk_inferencer.job import Branch, InferenceJob, Outputs, unit_task
from tests.helpers import Lengths, exactly, write_tfrecord
from tests.models.fakes import Model

LOCAL = [
    "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",
    "--direct_running_mode=multi_threading",
    "--direct_num_workers=3",
]


def lengths(batch):
    return Lengths().predict(batch).outputs


def wrong(batch):
    raise ModelError("first line\nsecond line")


@pytest.fixture
def run(tmp_path):
    """Runs three units of two records each with a model, in a pipeline."""
    for i in range(3):
        write_tfrecord(tmp_path / f"in/{i}.gz", [b"good", b"bad"])

    def run_with(make_pipeline, model):
        splits, outputs = {"s": [f"{tmp_path}/in/*"]}, Outputs.under(f"{tmp_path}/out")
        branch = Branch("five", model, f"{tmp_path}/out/five")
        job = InferenceJob(splits=splits, branches=[branch], outputs=outputs)
        task = unit_task(job)
        make_folders(job.folders, task.sinks, ["s"])
        units = plan_units({"s": list_files("s", splits["s"])})
        return engine.run_units(task, units, f"{tmp_path}/manifests", make_pipeline)

    return run_with


def test_each_unit_has_a_manifest_and_beam_shows_what_they_add_up_to(run):
    pipeline = beam.Pipeline(FnApiRunner())
    manifests = run(lambda: pipeline, Model(lengths))
    found = sorted((m.split, m.index, m.predictions_made, m.examples_failed) for m in manifests)
    assert found == [("s", i, 1, 1) for i in range(3)]
    metrics = pipeline.result.metrics().query()
    assert {m.key.metric.namespace for ms in metrics.values() for m in ms} == {"bulk_inferencer"}
    counters = {"examples_read": 6, "predictions_written": 3, "examples_failed": 3}
    counters |= {"batches": 3, "model_loads": 1}
    assert {m.key.metric.name: m.committed for m in metrics["counters"]} == counters
    work = manifests[0].branches["five"].work
    for manifest in manifests[1:]:
        work.merge(manifest.branches["five"].work)
    distributions = {m.key.metric.name: m.committed for m in metrics["distributions"]}
    assert len(distributions) == 4
    for name, shown in distributions.items():
        expected = Distribution(shown.count, shown.sum, shown.min, shown.max)
        assert getattr(work, name) == expected


def test_error_of_a_worker_is_raised_with_its_type_and_all_of_its_message(run):
    with pytest.raises(ModelError, match=exactly("Model 'five': first line\nsecond line")):
        run(lambda: engine.make_pipeline([]), Model(wrong))


def test_error_that_is_not_ours_is_raised_as_it_is(run):
    def make_pipeline():
        raise OSError("no cluster")

    with pytest.raises(OSError, match=r"^no cluster$"):
        run(make_pipeline, Model(lengths))


OURS = "bulk_inferencer.errors.ModelError: it"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Traceback ...\nValueError: no", None),
        (f"{OURS}\nself [while running 'RunUnit-ptransform-7']", "it\nself"),
        (f"Traceback ...\n{OURS}\nself\n\nDuring ...", "it\nself"),
        (f"bulk_inferencer.errors.InputError: cause\n\nThe above exception ...\n\n{OURS}", "it"),
    ],
    ids=["none of ours", "of a step", "within a traceback", "with a cause"],
)
def test_error_is_read_out_of_what_runners_say(text, message):
    error = engine._error_of_worker(text)
    assert (error and str(error)) == message
    assert isinstance(error, ModelError) or message is None


# Pipelines


@pytest.mark.parametrize(
    ("args", "runner", "is_local"),
    [
        ([], None, True),
        (["--direct_num_workers=1", 7], None, True),
        (["--runner=DirectRunner"], "DirectRunner", True),
        (LOCAL, LOCAL[0].partition("=")[2], True),
        (["--x", "--runner", "a.b.FlinkRunner"], "a.b.FlinkRunner", False),
    ],
    ids=["nothing", "no runner", "name", "path", "Flink"],
)
def test_local_runner_with_a_thread_per_core_is_the_default(monkeypatch, args, runner, is_local):
    monkeypatch.setattr(engine, "_available_cores", lambda: 3)
    assert (engine.runner_of(args), engine.is_local(args)) == (runner, is_local)
    assert engine.with_runner(args) == ([] if runner else LOCAL) + args


def test_pipeline_has_the_options_and_the_cores_that_this_process_may_use():
    cores = len(os.sched_getaffinity(0))
    for options, threads in (([], cores), (PipelineOptions(LOCAL), 3)):
        pipeline = engine.make_pipeline(options)
        assert isinstance(pipeline.runner, FnApiRunner)
        assert pipeline.options.get_all_options()["direct_num_workers"] == threads
