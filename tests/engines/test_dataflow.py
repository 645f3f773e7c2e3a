"""Jobs for Dataflow: what is refused, what is submitted, and what becomes of a job."""

from __future__ import annotations

import logging
import re
import signal
import tarfile
import threading
import time
import types
from pathlib import Path

import pytest
from apache_beam.internal.gcp import auth
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2 as pb
from apache_beam.runners.dataflow import dataflow_runner
from apache_beam.runners.dataflow.internal import apiclient
from apache_beam.transforms.resources import AcceleratorHint, MinRamHint

from bulk_inferencer import (
    Branch,
    CascadeModel,
    Checkpoint,
    ExitWhen,
    HookedModel,
    InferenceJob,
    Outputs,
    PythonModel,
    SavedModel,
    Stage,
    TFServing,
    read_predictions,
    run,
)
from bulk_inferencer._gate import NOT_BLESSED, Decision
from bulk_inferencer._models.paths import paths_of
from bulk_inferencer.engines import beam_jobs
from bulk_inferencer.engines import dataflow as engine
from bulk_inferencer.engines.beam import Beam
from bulk_inferencer.errors import MissingExtraError, SettingsError, WorkerError
from tests.engines import dataflow_service, storage_server
from tests.engines.dataflow_service import options_of
from tests.helpers import exactly, example, features_of, write_tfrecord

IMAGE = "europe-docker.pkg.dev/my-project/images/inferencer:1"
WITHOUT_IMAGE = [
    "--runner=DataflowRunner",
    "--project=my-project",
    "--region=europe-west1",
    "--temp_location=gs://bucket/tmp",
]
OPTIONS = [*WITHOUT_IMAGE, f"--sdk_container_image={IMAGE}"]
JOB = "2026-01-01_00_00_00-1"
PAGE = (
    f"https://console.cloud.google.com/dataflow/jobs/europe-west1/{JOB}?project=my-project. See "
    f"what it says, and run again."
)
GPU = "type:nvidia-l4;count:1;install-nvidia-driver"


# As the workers of Dataflow write it.
TRACEBACK = (
    "Traceback (most recent call last):\n"
    '  File "apache_beam/runners/common.py", line 1496, in process\n'
    "{} [while running 'RunUnit-ptransform-33']\n\n"
    "passed through:\n==>\n    dist_proc/dax/workflow/worker/fnapi_service_impl.cc:837\n"
)


@pytest.fixture
def storage(tmp_path, monkeypatch):
    """A bucket with two files of two records each, `gs://bucket/in/*`."""
    with storage_server.serving() as storage:
        (tmp_path / "credentials.json").write_text(storage_server.credentials())
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "credentials.json"))
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", storage.url)
        monkeypatch.setattr(auth._Credentials, "_credentials_init", False)
        monkeypatch.setattr(auth._Credentials, "_credentials", None)
        monkeypatch.setattr(FileSystems, "_pipeline_options", None)
        for i in range(2):
            records = [example(x=float(x)) for x in (i, i + 10)]
            content = Path(write_tfrecord(tmp_path / f"{i}.gz", records)).read_bytes()
            storage.objects[f"gs://bucket/in/{i}.gz"] = content
        yield storage


@pytest.fixture
def dataflow(storage, monkeypatch):
    # Beam looks every five seconds.
    pause = time.sleep
    clock = types.SimpleNamespace(time=time.time, sleep=lambda seconds: pause(seconds / 100))
    monkeypatch.setattr(dataflow_runner, "time", clock)
    with dataflow_service.serving(storage, monkeypatch) as service:
        yield service


def five_times():
    # Within a function, so that workers need not import this module, with TensorFlow.
    return PythonModel(lambda path: lambda features: {"y": 5 * features["x"]})


def job_of(model, **settings):
    return InferenceJob(
        **{
            "splits": {"s": ["gs://bucket/in/*"]},
            "model": model,
            "outputs": Outputs.under("gs://bucket/out"),
            **settings,
        }
    )


# What is submitted


def predicted():
    found = read_predictions("gs://bucket/out/inference_result")
    return sorted((features_of(p.record)["x"][0], p.outputs["y"].item()) for p in found)


def hints_of(environment):
    return {urn: value.decode() for urn, value in environment.resource_hints.items()}


@pytest.mark.slow
def test_job_scores_a_bucket_on_the_workers_that_its_options_ask_for(storage, dataflow):
    asked = [
        "--job_name=nightly",
        "--experiments=no_use_multiple_sdk_containers",
        "--dataflow_service_options=enable_dynamic_thread_scaling",
        "--machine_type=n2-highmem-8",
        "--max_num_workers=50",
        "--number_of_worker_harness_threads=2",
        "--service_account_email=worker@my-project.iam.gserviceaccount.com",
        "--labels=team=birds",
    ]
    summary = run(job_of(five_times()), Beam([*OPTIONS, *asked]))

    assert (summary.total.examples_read, summary.total.predictions_written) == (4, 4)
    assert predicted() == [(float(x), 5.0 * x) for x in (0, 1, 10, 11)]
    assert not [name for name in storage.objects if "/.work/" in name]
    ((number, job),) = dataflow.jobs.items()
    assert (number, job["name"]) == (JOB, "nightly")
    assert job["type"] in ("JOB_TYPE_BATCH", 1)  # as Beam's older client writes it, and its newer
    assert job["labels"] == {"team": "birds"}
    environment = job["environment"]
    assert {"use_runner_v2", "no_use_multiple_sdk_containers"} <= set(environment["experiments"])
    assert "use_multiple_sdk_containers" not in environment["experiments"]
    assert environment["serviceOptions"] == ["enable_dynamic_thread_scaling"]
    assert environment["serviceAccountEmail"].startswith("worker@")
    (pool,) = environment["workerPools"]
    assert (pool["machineType"], pool["numThreadsPerWorker"]) == ("n2-highmem-8", 2)
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 50
    assert [image["containerImage"] for image in pool["sdkHarnessContainerImages"]] == [IMAGE]
    (environment,) = dataflow.pipeline_of(job).components.environments.values()
    assert pb.DockerPayload.FromString(environment.payload).container_image == IMAGE
    assert hints_of(environment) == {}


@pytest.mark.slow
def test_model_alone_gets_the_workers_that_the_hints_ask_for(storage, dataflow):
    summary = run(job_of(five_times()), Beam(OPTIONS, accelerator=GPU, min_ram="30GB"))

    assert summary.total.predictions_written == 4
    assert predicted() == [(float(x), 5.0 * x) for x in (0, 1, 10, 11)]
    (job,) = dataflow.jobs.values()
    (pool,) = job["environment"]["workerPools"]
    assert [image["containerImage"] for image in pool["sdkHarnessContainerImages"]] == [IMAGE] * 2
    parts = dataflow.pipeline_of(job).components
    hints = {AcceleratorHint.urn: GPU, MinRamHint.urn: str(30 * 10**9)}
    (own,) = [name for name, it in parts.environments.items() if hints_of(it) == hints]
    (predict,) = [it for it in parts.transforms.values() if it.environment_id == own]
    assert predict.unique_name == "Predict"
    # Dataflow fuses steps, and gives the hints of one to all of them, unless one regroups between.
    (taken,), (made,) = predict.inputs.values(), predict.outputs.values()
    leaves = [it for it in parts.transforms.values() if not it.subtransforms]
    makers = [it.unique_name for it in leaves if taken in it.outputs.values()]
    takers = [it.spec.urn for it in leaves if made in it.inputs.values()]
    assert [name.split("/")[0] for name in makers] == ["Spread"]
    assert takers == ["beam:transform:group_by_key:v1"]


def make_package(folder):
    """Makes the sources of a package, and returns its setup.py."""
    (folder / "mine").mkdir(parents=True)
    (folder / "mine/__init__.py").write_text("")
    setup = folder / "setup.py"
    setup.write_text("import setuptools\nsetuptools.setup(name='mine', packages=['mine'])\n")
    return str(setup)


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--extra_package", "--setup_file"])
def test_packages_are_staged_for_the_workers(tmp_path, storage, dataflow, option):
    package, name = make_package(tmp_path / "package"), "workflow.tar.gz"
    if option == "--extra_package":
        name, setup = "mine-1.tar.gz", package
        package = str(tmp_path / name)
        with tarfile.open(package, "w:gz") as archive:
            archive.add(setup, "mine-1/setup.py")
    dataflow.play = lambda job: ("FAILED", "stop here")
    with pytest.raises(WorkerError):
        run(job_of(five_times()), Beam([*WITHOUT_IMAGE, f"{option}={package}"]))
    (job,) = dataflow.jobs.values()
    (environment,) = dataflow.pipeline_of(job).components.environments.values()
    staged = {
        pb.ArtifactStagingToRolePayload.FromString(it.role_payload).staged_name: (
            pb.ArtifactUrlPayload.FromString(it.type_payload).url
        )
        for it in environment.dependencies
    }
    url = f"{options_of(job)['staging_location']}/{name}"
    assert staged[name] == url
    assert storage.objects[url]


# What becomes of a job


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (
            "Workflow failed. Causes: There are no machines of this type.",
            ": Workflow failed. Causes: There are no machines of this type",
        ),
        (
            f"generic::unknown: {TRACEBACK.format('OSError: no space left')}",
            ": OSError: no space left",
        ),
        ("", ""),
    ],
    ids=["of the service", "of a worker", "none"],
)
def test_failed_job_is_an_error_with_its_reason_and_page(dataflow, monkeypatch, reason, told):
    dataflow.play = lambda job: ("FAILED", reason)
    message = f"The Dataflow job {JOB} failed{told}. Its log is at {PAGE}"
    with pytest.raises(WorkerError, match=exactly(message)):
        run(job_of(five_times()), Beam(OPTIONS))
    assert not [name for name in dataflow.storage.objects if name.startswith("gs://bucket/out/s")]


@pytest.mark.slow
def test_worker_without_this_package_says_how_to_ship_it(dataflow):
    message = "The worker on x cannot import bulk_inferencer: it is not there. Install it."
    reason = TRACEBACK.format(f"RuntimeError: WorkerError: {message}")
    dataflow.play = lambda job: ("FAILED", reason)
    with pytest.raises(WorkerError, match=exactly(message)):
        run(job_of(five_times()), Beam(OPTIONS))


@pytest.mark.slow
def test_job_that_somebody_cancels_in_the_console_is_an_error(dataflow):
    dataflow.play = lambda job: ("CANCELLED", "")
    message = f"The Dataflow job {JOB} was cancelled. Its log is at {PAGE}"
    with pytest.raises(WorkerError, match=exactly(message)):
        run(job_of(five_times()), Beam(OPTIONS))


@pytest.fixture
def interrupted(dataflow):
    """Dataflow with a job that goes on until it is cancelled, and Ctrl-C while a run waits."""

    def play(job):
        assert dataflow.is_watched.wait(60)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        dataflow.was_cancelled.wait(60)
        return "CANCELLED", ""

    dataflow.play = play
    yield dataflow
    dataflow.was_cancelled.set()


def said(caplog):
    return [record.message for record in caplog.records if record.name == beam_jobs.__name__]


@pytest.mark.slow
def test_ctrl_c_cancels_the_job_and_says_which(interrupted, caplog):
    dataflow = interrupted
    with pytest.raises(KeyboardInterrupt), caplog.at_level(logging.WARNING, "bulk_inferencer"):
        run(job_of(five_times()), Beam(OPTIONS))
    assert dataflow.was_cancelled.is_set()
    assert said(caplog) == [f"The run was interrupted, so it cancels the Dataflow job {JOB}."]


@pytest.mark.slow
@pytest.mark.usefixtures("interrupted")
def test_job_that_cannot_be_cancelled_is_named(caplog, monkeypatch):
    def no_network(*args):
        raise OSError("no network")

    monkeypatch.setattr(apiclient.DataflowApplicationClient, "modify_job_state", no_network)
    with pytest.raises(KeyboardInterrupt), caplog.at_level(logging.WARNING, "bulk_inferencer"):
        run(job_of(five_times()), Beam(OPTIONS))
    message = f"Could not cancel the Dataflow job {JOB}: no network. Cancel it yourself."
    assert said(caplog)[1:] == [message]


@pytest.mark.slow
@pytest.mark.usefixtures("dataflow")
def test_ctrl_c_while_a_job_is_submitted_names_it(caplog, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(apiclient.DataflowApplicationClient, "submit_job_description", interrupt)
    with pytest.raises(KeyboardInterrupt), caplog.at_level(logging.WARNING, "bulk_inferencer"):
        run(job_of(five_times()), Beam([*OPTIONS, "--job_name=nightly"]))
    message = (
        "The run was interrupted. If there is a Dataflow job named nightly in europe-west1 of "
        "my-project, cancel it."
    )
    assert said(caplog) == [message]


# What is refused


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("DataflowRunner", True),
        ("dataflow", True),
        ("apache_beam.runners.dataflow.dataflow_runner.DataflowRunner", True),
        ("FlinkRunner", False),
    ],
)
def test_dataflow_is_known_by_all_of_its_names(name, expected):
    args = [f"--runner={name}"]
    assert engine.is_dataflow(args) == engine.is_dataflow(PipelineOptions(args)) == expected
    assert not engine.is_dataflow([])
    assert not engine.is_dataflow(PipelineOptions([]))


@pytest.mark.parametrize(
    ("path", "settings"),
    [
        ("/data/in/*", {"splits": {"s": ["/data/in/*"]}}),
        ("out/inference_result", {"outputs": Outputs.under("out")}),
        ("/nfs/checkpoint", {"checkpoint": Checkpoint("/nfs/checkpoint")}),
        ("models/five", {"model": SavedModel("models/five")}),
    ],
    ids=["inputs", "outputs", "checkpoint", "model"],
)
def test_path_on_this_machine_is_refused_before_anything_is_read(path, settings):
    message = (
        f"Dataflow's workers cannot see {path}, which is a path on this machine. Inputs, model, "
        f"results and checkpoint must be in a bucket: use gs://..."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        run(job_of(**{"model": five_times(), **settings}), Beam(OPTIONS))


def test_nothing_needs_a_bucket_if_all_gates_are_closed(tmp_path):
    outputs = Outputs.under(str(tmp_path / "out"))
    closed = Branch(
        "five", five_times(), f"{tmp_path}/out/five", Decision(NOT_BLESSED, "by its Evaluator")
    )
    job = InferenceJob(splits={"s": ["/data/in/*"]}, branches=[closed], outputs=outputs)
    assert run(job, Beam(OPTIONS)).total.examples_read == 0


def test_paths_of_a_model_are_those_that_workers_load_it_from():
    five, function = SavedModel("gs://models/five"), PythonModel("math:sin", "gs://models/f.pkl")
    cascade = CascadeModel(
        (
            Stage("first", HookedModel(five), exit_when=(ExitWhen("y", at_least=1.0),)),
            Stage("second", function),
        )
    )
    assert paths_of(cascade) == ["gs://models/five", "gs://models/f.pkl"]
    assert paths_of(PythonModel("math:sin")) == paths_of(TFServing("host:8500", "five")) == []


@pytest.mark.parametrize(
    "option",
    [
        "--streaming",
        "--no_wait_until_finish",
        "--template_location=gs://bucket/template",
        "--update",
        "--dry_run=True",
    ],
)
def test_option_of_a_job_that_nobody_waits_for_is_refused(option):
    message = (
        f"A run waits for its Dataflow job, a batch job of its own, and then commits the results. "
        f"Leave out Beam's option {option.partition('=')[0]}."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        run(job_of(five_times()), Beam([*OPTIONS, option]))


def test_workers_that_would_lack_this_package_are_refused():
    message = (
        "Dataflow's own workers lack this package. Name an image that has it with Beam's option "
        "--sdk_container_image, or let workers install it with --extra_package, --setup_file or "
        "--requirements_file."
    )
    for options in (WITHOUT_IMAGE, PipelineOptions(WITHOUT_IMAGE)):
        with pytest.raises(SettingsError, match=exactly(message)):
            run(job_of(five_times()), Beam(options))


FOR_ALL = (
    "Beam.accelerator and Beam.min_ram are for the workers that hold the model, but Beam's option "
    "--dataflow_service_options=worker_accelerator=... is for all workers. Leave out one of them."
)
FLEXIBLE = (
    "Dataflow's flexible scheduling knows no Beam.accelerator and no Beam.min_ram. Leave them out, "
    "or Beam's option --flexrs_goal."
)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (f"--dataflow_service_options=worker_accelerator={GPU}", FOR_ALL),
        ("--flexrs_goal=COST_OPTIMIZED", FLEXIBLE),
    ],
)
def test_hints_are_refused_beside_options_that_exclude_them(option, message):
    options = [*OPTIONS, option]
    Beam(options).check()
    with pytest.raises(SettingsError, match=exactly(message)):
        Beam(options, min_ram="30GB").check()


def test_missing_client_is_named(monkeypatch):
    monkeypatch.setattr("bulk_inferencer._extras.is_installed", lambda module: False)
    message = (
        "DataflowRunner needs google.cloud.storage, which is not installed. Install it with: pip "
        "install 'bulk-inferencer[gcp]'"
    )
    with pytest.raises(MissingExtraError, match=exactly(message)):
        Beam(OPTIONS).check()


def test_snippets_of_the_page_are_what_a_run_takes(monkeypatch):
    calls, page = [], (Path(__file__).parents[2] / "docs/dataflow.md").read_text()
    monkeypatch.setattr(
        "bulk_inferencer.predict", lambda *paths, **settings: calls.append((paths, settings))
    )
    names = {}
    first, *others = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    exec(first, names)
    ((paths, settings),) = calls
    assert all(path.startswith("gs://") for path in (*paths, settings["output"]))
    settings["engine"].check()
    for snippet in others:
        if "BulkInferencer(" not in snippet:  # which tests/components has
            exec(snippet, names)
    made = {name: value for name, value in names.items() if isinstance(value, Beam)}
    assert list(made) == ["on_gpus", "all_on_gpus"]
    for own in made.values():
        own.check()


def test_what_beam_refuses_is_refused_before_the_model_is_read(storage):
    options = [option for option in OPTIONS if not option.startswith("--project")]
    job = job_of(SavedModel("gs://bucket/models/missing"))
    with pytest.raises(SettingsError, match="Missing required option: project"):
        run(job, Beam(options))
