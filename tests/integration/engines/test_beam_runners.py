"""Beam on portable runners, with workers in another environment, and with several processes."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
import time

import pytest

from bulk_inferencer import PythonModel, run
from bulk_inferencer.engines import Beam
from bulk_inferencer.errors import WorkerError
from tests.helpers import tree
from tests.integration.clusters import beam as clusters
from tests.integration.engines import behaviour, runs

PROCESSES = Beam(
    [
        "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",
        "--direct_running_mode=multi_processing",
        "--direct_num_workers=2",
    ]
)
DIED = r"^A process of Beam's local runner died: Worker subprocess exited with return code 137\. "
# What a runner says of a worker that was killed: the job service nothing, Prism at once.
LOST = {
    "job_service": r"^Workers of Beam's runner died: none has given a sign of life for 15 s, so ",
    "prism": r"^A worker of Beam's runner died: SDK worker disconnected: [^\n]*$",
}
# How many units a worker has at a time.
AT_ONCE = {"job_service": 1, "prism": 8}
ADVICE = r"or let Beam do it: --sdk_container_image, --extra_package or --setup_file\. .*"


# Environments of workers


def make_environment(folder):
    """Makes an environment for workers that has Beam, but not this package; returns its Python."""
    base = runs.CHECKOUT / ".cache/engines-worker"
    command = [base / "bin/python", "-m", "venv", "--without-pip", folder]
    subprocess.run(command, check=True)
    packages = next(base.glob("lib/python*/site-packages"))
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "base.pth").write_text(f"import site; site.addsitedir({str(packages)!r})\n")
    return folder / "bin/python"


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """The source distribution of this package."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", folder]
    subprocess.run([*command, runs.CHECKOUT], check=True, capture_output=True)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def pool(tmp_path_factory, sdist):
    """A pool of workers that have this package, as it was when the tests began."""
    python = make_environment(tmp_path_factory.mktemp("installed") / "env")
    command = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, sdist], check=True)
    with clusters.worker_pool(python) as started:
        yield started


# Runners


@pytest.fixture(scope="module")
def job_service():
    with clusters.job_service() as address:
        yield address


@pytest.fixture(scope="module")
def prism():
    with clusters.prism() as address:
        yield address


@pytest.fixture(params=LOST)
def name(request):
    """The name of each runner."""
    return request.param


@pytest.fixture
def engine_on(request, name):
    """Returns an engine on a runner, with a pool of workers."""
    runner = request.getfixturevalue(name)

    def engine_on(pool, *more):
        return Beam([*clusters.options(runner, pool.address), *more])

    return engine_on


@pytest.fixture
def engine(engine_on, pool):
    """An engine on a runner, with workers in another environment that has this package."""
    yield engine_on(pool)
    # Whatever became of the run, no worker of it stays.
    deadline = time.monotonic() + 20
    while pool.workers():
        assert time.monotonic() < deadline
        time.sleep(0.05)  # There is no event to wait for across processes.


# What all engines have in common


def test_results_are_those_of_local_threads(engine, tmp_path, local):
    behaviour.scores_as_local_threads_do(engine, tmp_path, local, workers=1)


def test_saved_model(engine, tmp_path, linear_model):
    behaviour.scores_a_saved_model(engine, tmp_path, linear_model, workers=1)


def test_error_of_a_worker(engine, tmp_path, name):
    behaviour.raises_errors_of_workers_once(engine, tmp_path, 1, at_once=AT_ONCE[name])


def test_folder_that_workers_do_not_share(engine, tmp_path):
    behaviour.refuses_a_folder_that_workers_do_not_share(engine, tmp_path)


def test_killed_worker(engine, tmp_path, name):
    # Workers give a sign of life every ten seconds.
    engine = dataclasses.replace(engine, worker_timeout_seconds=15)
    behaviour.fails_cleanly(engine, tmp_path, 1, LOST[name], at_once=AT_ONCE[name])


def test_killed_launcher(engine, tmp_path, name):
    behaviour.goes_on_elsewhere(engine, tmp_path, 1, at_once=AT_ONCE[name])


def test_interrupted_launcher(engine, tmp_path, name):
    behaviour.stops_when_interrupted(engine, tmp_path, 1, at_once=AT_ONCE[name])


def test_progress_comes_from_workers_while_they_score(engine, tmp_path):
    seen = []

    def progress(so_far):
        seen.append(so_far)
        if so_far.records:
            (tmp_path / "notes/go").touch()

    model = runs.model_in(tmp_path, half=True)
    job = runs.job_of(model, runs.write_inputs(tmp_path / "in"), tmp_path / "out")
    run(job, engine, progress=progress)
    assert any(0 < own.records < len(runs.RECORDS) for own in seen)


def test_wide_records(prism, pool, tmp_path, wide):
    behaviour.scores_wide_records(Beam(clusters.options(prism, pool.address)), tmp_path, wide)


def test_components_of_a_pipeline(prism, pool, tmp_path):
    behaviour.scores_in_a_pipeline(None, tmp_path, clusters.options(prism, pool.address))


def test_stages_with_workers_of_their_own(prism, pool, tmp_path, local):
    engine = Beam(clusters.options(prism, pool.address), min_ram="100MB")
    behaviour.scores_as_local_threads_do(engine, tmp_path, local, workers=1)


# Processes of the local runner


def test_results_of_processes_are_those_of_local_threads(tmp_path, local):
    behaviour.scores_as_local_threads_do(PROCESSES, tmp_path, local, workers=2)


def test_process_that_is_killed(tmp_path):
    behaviour.fails_cleanly(PROCESSES, tmp_path, workers=2, match=DIED)


def test_error_of_a_process(tmp_path):
    behaviour.raises_errors_of_workers_once(PROCESSES, tmp_path, workers=2)


# What workers have


def test_worker_that_lacks_the_package_says_how_to_bring_it(engine_on, tmp_path):
    python = make_environment(tmp_path / "env")
    found = rf"^The worker on .* \({python}\) cannot import bulk_inferencer: .*{ADVICE}$"
    with clusters.worker_pool(python) as pool, pytest.raises(WorkerError, match=found):
        run(runs.job_in(tmp_path), engine_on(pool))
    assert tree(tmp_path / "out") == []


def test_worker_that_has_another_version_says_so(engine_on, tmp_path):
    python = make_environment(tmp_path / "env")
    other = next((tmp_path / "env").glob("lib/python*/site-packages")) / "bulk_inferencer"
    other.mkdir()
    (other / "__init__.py").write_text("__version__ = '0.0.9'\n")
    found = rf"^The worker on .* \({python}\) has bulk-inferencer 0\.0\.9, but .*{ADVICE}$"
    with clusters.worker_pool(python) as pool, pytest.raises(WorkerError, match=found):
        run(runs.job_in(tmp_path), engine_on(pool))
    assert tree(tmp_path / "out") == []


def test_pool_that_starts_a_python_without_beam_does_not_hang_the_run(job_service, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    python = make_environment(tmp_path / "beam")
    first = {"PATH": f"{tmp_path}/env/bin:{os.environ['PATH']}"}
    found = r"^No worker of Beam's runner has begun within 5 s, so the job was cancelled\. "
    with clusters.worker_pool(python, env=first) as pool:
        engine = Beam(clusters.options(job_service, pool.address), worker_timeout_seconds=5)
        with pytest.raises(WorkerError, match=found):
            run(runs.job_in(tmp_path), engine)


@pytest.mark.parametrize("name", ["job_service"])
def test_extra_package_brings_this_package(engine_on, tmp_path, sdist):
    python = make_environment(tmp_path / "env")
    with clusters.worker_pool(python, boots=True) as pool:
        run(runs.job_in(tmp_path), engine_on(pool, f"--extra_package={sdist}"))
    behaviour.assert_five_times(tmp_path / "out")


@pytest.mark.parametrize("name", ["job_service"])
def test_setup_file_brings_the_modules_of_a_project(engine_on, tmp_path, sdist, monkeypatch):
    project = tmp_path / "project"
    project.mkdir()
    shutil.copy(runs.MODULES / "five_times.py", project / "own_model.py")
    setup = "import setuptools\nsetuptools.setup(name='project', py_modules=['own_model'])\n"
    (project / "setup.py").write_text(setup)
    monkeypatch.syspath_prepend(project)
    model = PythonModel("own_model:load", runs.model_in(tmp_path).path)
    inputs = runs.write_inputs(tmp_path / "in")
    job = runs.job_of(model, inputs, tmp_path / "out", modules=[])
    packages = [f"--extra_package={sdist}", f"--setup_file={project}/setup.py"]
    with clusters.worker_pool(make_environment(tmp_path / "env"), boots=True) as pool:
        run(job, engine_on(pool, *packages))
    behaviour.assert_five_times(tmp_path / "out")
