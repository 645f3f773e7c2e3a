"""Ray on a cluster of a head and two nodes, each with one core and a GPU that is made up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from bulk_inferencer import Outputs, PythonModel, read_predictions, run
from bulk_inferencer.engines import Ray
from bulk_inferencer.engines import ray as ray_engine
from bulk_inferencer.errors import SettingsError, WorkerError
from tests.helpers import exactly, tree
from tests.integration.clusters.processes import free_port
from tests.integration.clusters.ray import ray_cluster
from tests.integration.engines import behaviour
from tests.integration.engines.runs import (
    CHECKOUT,
    UNITS,
    at_half,
    calls_in,
    job_in,
    job_of,
    launched,
    model_in,
    wait_for,
    write_inputs,
)

ray = pytest.importorskip("ray", reason="run by make test-engines")


@pytest.fixture(scope="module")
def cluster():
    """Nodes that a test kills, others replace."""
    with ray_cluster(nodes=2, gpus=1) as running:
        yield running


@pytest.fixture
def engine(cluster):
    """The engine, on two nodes."""
    while len(cluster.nodes) < 2:
        cluster.add_node(gpus=1)
    return Ray(cluster.address)


# As on all engines


def test_results_are_those_of_local_threads_and_both_nodes_work(tmp_path, engine, local):
    calls = behaviour.scores_as_local_threads_do(engine, tmp_path, local, workers=2)
    assert len({call.parent for call in calls}) == 2  # A node is the parent of its workers.


def test_wide_records_are_scored_as_on_local_threads(tmp_path, engine, wide):
    behaviour.scores_wide_records(engine, tmp_path, wide)


def test_saved_model_is_loaded_once_on_each_node(tmp_path, engine, linear_model):
    behaviour.scores_a_saved_model(engine, tmp_path, linear_model, workers=2)


def test_error_of_a_worker_is_raised_once(tmp_path, engine):
    behaviour.raises_errors_of_workers_once(engine, tmp_path, workers=2)


def test_folder_that_nodes_do_not_share_is_refused(tmp_path, engine):
    behaviour.refuses_a_folder_that_workers_do_not_share(engine, tmp_path)


def test_error_that_is_not_ours_arrives_as_it_is(tmp_path, engine):
    behaviour.raises_errors_that_are_not_ours(engine, tmp_path)


def test_components_of_a_pipeline_run_on_the_cluster(tmp_path, engine):
    behaviour.scores_in_a_pipeline(engine, tmp_path)


# What is killed


def test_run_survives_a_worker_that_is_killed(tmp_path, engine):
    behaviour.survives(engine, tmp_path, workers=2)


def test_run_survives_a_node_that_is_killed_and_uses_one_that_joins(tmp_path, engine, cluster):
    def replace_node(call):
        cluster.kill(cluster.node_of(call.pid))
        cluster.add_node(gpus=1)

    behaviour.survives(engine, tmp_path, workers=2, kill=replace_node)


def test_run_whose_launcher_is_killed_goes_on_with_local_threads(tmp_path, engine):
    behaviour.goes_on_elsewhere(engine, tmp_path, workers=2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_that_is_told_to_end_ends_its_workers_and_goes_on_later(tmp_path, engine, number):
    behaviour.stops_when_interrupted(engine, tmp_path, workers=2, number=number)


def test_unit_that_kills_its_process_again_and_again_ends_the_run(tmp_path, engine):
    message = (
        "Ray gave up a unit: The worker died unexpectedly while executing this task. Check "
        "python-core-worker-*.log files for more information. Its process or its node died more "
        "often than Ray's max_retries, 1, allows. Memory may have run out. Run again, and what is "
        "finished is not scored again."
    )
    with pytest.raises(WorkerError, match=exactly(message)):
        run(job_in(tmp_path, error="crash"), replace(engine, max_retries=1))
    assert not any("/.work/" not in name for name in tree(tmp_path / "out"))
    assert len([call for call in calls_in(tmp_path) if call.x == 0]) == 2


# A model of which a worker cannot read the files at first.
_FLAKY = """
import logging
from pathlib import Path

from bulk_inferencer import PythonModel
from bulk_inferencer._signatures import PREDICT, Signature

class Flaky(PythonModel):
    def load(self, record_format):
        logging.getLogger("bulk_inferencer.own").warning("a line of a unit")
        try:
            Path(self.path).with_name("tried").touch(exist_ok=False)
        except FileExistsError:
            return super().load(record_format)
        raise ConnectionResetError("the disk is away")

    def check(self, record_format):
        return (Signature("serving_default", PREDICT),)

def load(path):
    return lambda features: {"y": 5 * features["x"]}
"""


@pytest.fixture
def flaky(tmp_path, monkeypatch):
    """A job of this model."""
    (tmp_path / "code").mkdir()
    (tmp_path / "model").touch()
    module = tmp_path / "code/flaky.py"
    module.write_text(_FLAKY)
    monkeypatch.syspath_prepend(module.parent)
    monkeypatch.setenv("PYTHONPATH", str(module.parent))
    monkeypatch.delitem(sys.modules, "flaky", raising=False)
    import flaky

    model = flaky.Flaky("flaky:load", str(tmp_path / "model"))
    inputs = write_inputs(tmp_path / "in")
    return job_of(model, inputs, tmp_path / "out", modules=[str(module)])


def test_unit_that_fails_with_an_error_of_a_disk_runs_again(tmp_path, engine, flaky):
    run(flaky, engine)
    behaviour.assert_five_times(tmp_path / "out")


def test_error_of_a_disk_ends_the_run_without_retries(tmp_path, engine, flaky):
    with pytest.raises(ConnectionResetError, match=r"^the disk is away$"):
        run(flaky, replace(engine, max_retries=0))
    assert tree(tmp_path / "out") == []


def test_what_workers_log_arrives_where_the_run_was_started(tmp_path, engine, flaky):
    with launched(flaky, engine, tmp_path) as child:
        assert child.wait(120) == 0
    assert "WARNING:bulk_inferencer.own:a line of a unit" in child.log.read_text()


# Sessions


def test_session_of_a_process_is_used_and_left_and_others_end_with_the_run(tmp_path, cluster):
    job = job_in(tmp_path)
    run(job, Ray(cluster.client_address))
    assert not ray.is_initialized()
    of_user = {"env_vars": {"OF_USER": "1"}}
    ray.init(cluster.address, logging_level="ERROR", runtime_env=of_user)
    try:
        before = pids_of_workers(tmp_path)
        for name in ("first", "second"):
            run(replace(job, outputs=Outputs.under(tmp_path / name)), Ray(cluster.client_address))
            assert ray.is_initialized()
            # Processes are those of one run. They end with it, and let go of the GPU.
            pids = pids_of_workers(tmp_path) - before
            assert pids
            wait_for(lambda own=pids: not any(Path("/proc", str(pid)).exists() for pid in own))
            before |= pids
        message = (
            f"Ray(address='other:6379') does not go with the session of this process, which is "
            f"connected to {cluster.address}. Leave it out to use that session, or call "
            f"ray.shutdown() first."
        )
        with pytest.raises(SettingsError, match=exactly(message)):
            run(replace(job, outputs=Outputs.under(tmp_path / "other")), Ray("other:6379"))
    finally:
        ray.shutdown()
    for name in ("out", "first", "second"):
        behaviour.assert_five_times(tmp_path / name)
    assert os.getpid() not in before


def test_session_of_a_client_is_known_by_its_cluster(cluster):
    ray.init(cluster.client_address, logging_level="ERROR")
    try:
        for own in (cluster.address, cluster.client_address):
            Ray(own).check()
        for other in ("other:6379", "ray://other:10001", "local"):
            with pytest.raises(SettingsError, match=rf"connected to {cluster.address}\."):
                Ray(other).check()
    finally:
        ray.shutdown()


def pids_of_workers(folder):
    return {call.pid for call in calls_in(folder)}


def test_runs_in_two_threads_share_a_session_and_no_process(tmp_path, cluster, engine):
    jobs = [job_in(tmp_path / name, workers=1) for name in ("first", "second")]
    ended = []

    def run_both(job):
        run(job, Ray(cluster.address))
        ended.append(job)

    threads = [threading.Thread(target=run_both, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(ended) == 2
    assert not ray.is_initialized()
    for name in ("first", "second"):
        behaviour.assert_five_times(tmp_path / name / "out")
    first, second = (
        pids_of_workers(tmp_path / name) - {os.getpid()} for name in ("first", "second")
    )
    assert first.isdisjoint(second)


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "ray://127.0.0.1:{port}"])
def test_cluster_that_does_not_answer_is_named_before_anything_is_written(tmp_path, address):
    address = address.format(port=free_port())
    message = (
        f"Nothing answers at {address}, where the Ray cluster should be: [Errno 111] Connection "
        f"refused. Correct Ray's address, or start the cluster with `ray start --head`."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        run(job_in(tmp_path), Ray(address))
    assert not (tmp_path / "out").exists()


# What units take


def test_units_see_the_gpu_that_they_take_and_share_a_process(tmp_path, engine):
    model = PythonModel("five_times:load_gpus")
    run(job_of(model, write_inputs(tmp_path / "in"), tmp_path / "out"), replace(engine, num_gpus=1))
    found = read_predictions(tmp_path / "out/inference_result")
    seen = {p.outputs["seen"].item().decode() for p in found}
    assert 1 <= len(seen) <= 2 < UNITS
    assert {gpus for _, gpus in map(str.split, seen)} == {"0"}


def test_run_ends_if_no_node_is_large_enough(tmp_path, engine, caplog):
    problem = (
        "No node of the Ray cluster has CPU: 1 and GPU: 4, which a unit takes: CPU: 0 and GPU: 0; "
        "CPU: 1 and GPU: 1; CPU: 1 and GPU: 1."
    )
    message = (
        f"{problem} Add nodes, or correct Ray's num_cpus and num_gpus. If the cluster grows by "
        f"itself, raise Ray's node_seconds, 1. Run again, and what is finished is not scored again."
    )
    with pytest.raises(WorkerError, match=exactly(message)):
        run(job_in(tmp_path), replace(engine, num_gpus=4, node_seconds=1))
    assert f"{problem} Waiting 1 s for one." in caplog.messages


def test_ray_has_some_units_at_a_time(tmp_path, engine, monkeypatch):
    monkeypatch.setattr(ray_engine, "_MOST_TASKS", 3)
    run(job_in(tmp_path), engine)
    behaviour.assert_five_times(tmp_path / "out")


def test_idle_nodes_are_told_of(tmp_path, engine, caplog):
    inputs = write_inputs(tmp_path / "in").replace("*", "00")
    run(job_of(model_in(tmp_path), inputs, tmp_path / "out"), engine)
    assert any(message.startswith("There is 1 unit for 2 workers, ") for message in caplog.messages)


# Packages


def test_nodes_without_the_package_are_told_of_and_get_it_from_ray(tmp_path, cluster, monkeypatch):
    # Ray lets workers import what lies in the launcher's current folder.
    monkeypatch.chdir(tmp_path)
    job = job_in(tmp_path)
    node = cluster.add_node(gpus=2, python=python_without_package(tmp_path / "env"))
    engine = Ray(cluster.address, num_gpus=2)
    with pytest.raises(
        WorkerError, match=r"^The worker on .*/env/bin/python\) cannot import bulk_inf"
    ):
        run(job, engine)
    assert tree(tmp_path / "out") == []
    run(job, replace(engine, runtime_env={"py_modules": [str(CHECKOUT / "bulk_inferencer")]}))
    cluster.kill(node)
    behaviour.assert_five_times(tmp_path / "out")


def python_without_package(folder):
    """Makes an environment that has the packages of this one, but not this package."""
    command = [sys.executable, "-m", "venv", "--without-pip", folder]
    subprocess.run(command, check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    # Python does not read the .pth files there, one of which stands for this package.
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin/python"


def test_environment_that_ray_cannot_take_or_prepare_is_told_of(tmp_path, engine):
    job = job_in(tmp_path)
    with pytest.raises(
        SettingsError, match=r"^Ray cannot take its runtime_env: .*/none.*\. Correct"
    ):
        run(job, replace(engine, runtime_env={"py_modules": ["/none"]}))
    nowhere = f"https://127.0.0.1:{free_port()}/own.zip"
    with pytest.raises(WorkerError, match=r"^Ray cannot prepare its workers: .*\. Correct Ray's"):
        run(job, replace(engine, runtime_env={"py_modules": [nowhere]}))
    assert tree(tmp_path / "out") == []


# The last test: it kills the head, and with it the cluster.


def test_run_whose_connection_is_lost_says_so_and_goes_on_with_local_threads(
    tmp_path, cluster, monkeypatch
):
    monkeypatch.setenv("RAY_CLIENT_RECONNECT_GRACE_PERIOD", "3")  # seconds

    def kill_head(call):
        cluster.kill(cluster.head)

    job = job_in(tmp_path, half=True)
    message = (
        r"^The connection to the Ray cluster was lost: .*\. Run again, and what is finished is "
    )
    with at_half(tmp_path, kill_head), pytest.raises(WorkerError, match=message):
        run(job, Ray(cluster.client_address))
    assert not ray.is_initialized()
    assert run(job).reused.units >= UNITS // 2 - 2
    behaviour.assert_five_times(tmp_path / "out")
