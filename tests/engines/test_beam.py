"""Units on Beam's local runner, and what comes back: manifests, metrics and errors."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import sys
import threading

import apache_beam as beam
import pytest
from apache_beam.internal import pickler
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.worker import sdk_worker

from bulk_inferencer import run as run_job
from bulk_inferencer._units.inputs import list_files
from bulk_inferencer._units.manifest_files import read_manifests
from bulk_inferencer._units.plan import numbered, plan_units
from bulk_inferencer._units.stop_sign import StopSign
from bulk_inferencer._units.worker import UnitWorker
from bulk_inferencer._work import Distribution
from bulk_inferencer.engines import beam_options as engine
from bulk_inferencer.engines import beam_unit, beam_workers, parcel
from bulk_inferencer.engines.beam import Beam
from bulk_inferencer.engines.engine import run_units
from bulk_inferencer.errors import ModelError, SettingsError, WorkerError
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


WRONG = []  # the batches


def wrong(batch):
    WRONG.append(batch)
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
        folder = tmp_path / "units"
        folder.mkdir()
        task = dataclasses.replace(unit_task(job), manifests_folder=str(folder))
        units = plan_units({"s": list_files("s", splits["s"])})
        worker = UnitWorker(task, StopSign.in_folder(str(folder)))
        run_units(Beam(make_pipeline=make_pipeline), worker, units)
        return numbered(units, read_manifests(str(folder)))

    return run_with


def test_each_unit_has_a_manifest_and_beam_shows_what_they_add_up_to(run):
    pipeline = beam.Pipeline(FnApiRunner())
    manifests = run(lambda: pipeline, Model(lengths))
    found = sorted((m.split, m.index, m.predictions_made, m.examples_failed) for m in manifests)
    assert found == [("s", i, 1, 1) for i in range(3)]
    metrics = pipeline.result.metrics().query()
    assert {m.key.metric.namespace for ms in metrics.values() for m in ms} == {"bulk_inferencer"}
    counters = {"examples_read": 6, "predictions_written": 3, "examples_failed": 3}
    counters |= {"batches": 3, "model_loads": 1, "num_inferences": 3}
    assert {m.key.metric.name: m.committed for m in metrics["counters"]} == counters
    work = manifests[0].branches["five"].work
    for manifest in manifests[1:]:
        work.merge(manifest.branches["five"].work)
    distributions = {m.key.metric.name: m.committed for m in metrics["distributions"]}
    ours = {name: shown for name, shown in distributions.items() if hasattr(work, name)}
    assert len(ours) == 5  # the others have the names of Beam's own
    for name, shown in ours.items():
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


class Failed(beam.Pipeline):
    """A pipeline that ends with an error of its runner's."""

    def __init__(self, text):
        super().__init__(FnApiRunner())
        self._text = text

    def __exit__(self, *error):
        raise RuntimeError(self._text)


def test_worker_that_cannot_unpickle_its_function_says_how_to_bring_the_package(run):
    text = "Traceback:\nModuleNotFoundError: No module named 'bulk_inferencer' [while running 'x']"
    message = (
        "A worker cannot import this package: No module named 'bulk_inferencer'. Install the same "
        "packages on every worker, or let Beam do it: --sdk_container_image, --extra_package or "
        "--setup_file. A worker pool does it only if it was started with --container_executable."
    )
    with pytest.raises(WorkerError, match=exactly(message)):
        run(lambda: Failed(text), Model(lengths))


def test_pipeline_of_the_caller_keeps_its_own_options_on_workers(run, monkeypatch):
    parcels, pack = [], parcel.pack
    monkeypatch.setattr(
        "bulk_inferencer.engines.beam.pack", lambda *args: parcels.append(pack(*args)) or parcels[0]
    )
    run(lambda: beam.Pipeline(options=PipelineOptions(LOCAL)), Model(lengths))
    assert [own.options for own in parcels] == [None]


def test_changes_of_the_process_last_until_the_last_run_has_ended():
    before = threading.excepthook
    first, second = contextlib.ExitStack(), contextlib.ExitStack()
    for stack in (first, second):
        stack.enter_context(beam_workers.quiet_connections())
        stack.enter_context(beam_workers.silent_workers())
    first.close()
    assert threading.excepthook is not before
    assert hasattr(sdk_worker, "print")
    second.close()
    assert threading.excepthook is before
    assert not hasattr(sdk_worker, "print")


def test_workers_get_what_runs_a_unit_by_value(monkeypatch):
    beam_unit.send_by_value()
    pickled = pickler.dumps(beam_unit.run_unit)
    monkeypatch.setitem(sys.modules, "bulk_inferencer", None)  # as where it is not installed
    python = "{}.{}".format(*sys.version_info)
    sent = ("0.1", python, "Install it.", {}, None, b"")
    with pytest.raises(RuntimeError, match=r"^WorkerError: The worker .* Install it\.$"):
        pickler.loads(pickled)(b"", sent, False)


def test_after_an_error_no_more_units_start_and_beam_says_nothing(run, tmp_path, capfd, caplog):
    WRONG.clear()
    with pytest.raises(ModelError), caplog.at_level(logging.WARNING):
        run(lambda: engine.make_pipeline(["--direct_num_workers=1", *LOCAL[:2]]), Model(wrong))
    assert len(WRONG) == 1
    assert (capfd.readouterr().err, caplog.messages) == ("", [])
    assert list((tmp_path / "units").iterdir()) == []


@pytest.mark.parametrize("seconds", [0, "60"])
def test_timeout_is_a_number_of_seconds(seconds):
    message = (
        f"Beam.worker_timeout_seconds must be a number of at least 1, not {seconds!r}. Leave it "
        f"out to wait for ten minutes."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        Beam(worker_timeout_seconds=seconds)


# Pipelines


@pytest.mark.parametrize(
    ("args", "runner", "is_local", "more"),
    [
        ([], None, True, []),
        (["--direct_num_workers=1", 7], None, True, []),
        (["--runner=DirectRunner"], "DirectRunner", True, LOCAL[:1]),
        (LOCAL, LOCAL[0].partition("=")[2], True, []),
        (["--x", "--runner", "a.b.FlinkRunner"], "a.b.FlinkRunner", False, []),
    ],
    ids=["nothing", "no runner", "name", "path", "Flink"],
)
def test_local_runner_with_a_thread_per_core_is_the_default(
    monkeypatch, args, runner, is_local, more
):
    monkeypatch.setattr(engine, "_available_cores", lambda: 3)
    assert (engine.runner_of(args), engine.is_local(args)) == (runner, is_local)
    assert engine.with_runner(args) == ([] if runner else LOCAL) + args + more


def test_options_that_name_no_runner_get_the_local_one_and_stay_as_they_are(monkeypatch):
    monkeypatch.setattr(engine, "_available_cores", lambda: 3)
    options = PipelineOptions(["--direct_num_workers=2", "--job_name=own", "--unknown=x"])
    added = engine.parsed(options).get_all_options(drop_default=True, retain_unknown_options=True)
    expected = {"runner": LOCAL[0].partition("=")[2], "direct_running_mode": "multi_threading"}
    assert added == {**expected, "direct_num_workers": 2, "job_name": "own", "unknown": "x"}
    assert options.get_all_options()["runner"] is None
    direct = PipelineOptions(["--runner=DirectRunner", "--job_name=own"])
    expected = {"runner": LOCAL[0].partition("=")[2], "job_name": "own"}
    assert engine.parsed(direct).get_all_options(drop_default=True) == expected
    named = PipelineOptions(["--runner=FlinkRunner"])
    assert engine.parsed(named) is named


@pytest.mark.parametrize(
    ("args", "workers"),
    [
        ([], 0),
        (LOCAL, 0),
        (["--direct_running_mode=multi_processing"], 0),
        (["--direct_running_mode=multi_processing", "--direct_num_workers=4"], 4),
        (["--runner=DataflowRunner", "--num_workers=2", "--max_num_workers=9"], 9),
        (["--runner=FlinkRunner", "--parallelism=5"], 5),
    ],
    ids=["nothing", "threads", "all cores", "processes", "Dataflow", "Flink"],
)
def test_workers_count_where_options_ask_for_them(args, workers):
    assert engine.workers_asked_for(args) == workers
    assert engine.workers_asked_for(PipelineOptions(args)) == workers


def test_workers_without_work_are_told_of(tmp_path, caplog):
    for i in range(3):
        write_tfrecord(tmp_path / f"in/{i}.gz", [b"good"])
    args = ["--direct_running_mode=multi_processing", "--direct_num_workers=4"]
    beam_engine = Beam(args, make_pipeline=lambda: beam.Pipeline(FnApiRunner()))
    job = InferenceJob(
        splits={"s": [f"{tmp_path}/in/*"]},
        model=Model(lengths),
        outputs=Outputs.under(tmp_path / "out"),
    )
    with caplog.at_level(logging.WARNING):
        run_job(job, beam_engine)
    assert any("4 workers" in message for message in caplog.messages)


def test_pipeline_has_the_options_and_the_cores_that_this_process_may_use():
    cores = len(os.sched_getaffinity(0))
    for options, threads in (([], cores), (PipelineOptions(LOCAL), 3)):
        pipeline = engine.make_pipeline(options)
        assert isinstance(pipeline.runner, FnApiRunner)
        assert pipeline.options.get_all_options()["direct_num_workers"] == threads
