"""Spark on a standalone cluster of two workers, each with one core."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from bulk_inferencer import PythonModel, SavedModel, read_predictions, run
from bulk_inferencer.engines import Spark, spark
from bulk_inferencer.engines.spark_job import RddJob
from bulk_inferencer.engines.spark_session import (
    active_session,
    end_java,
    opened_session,
    reason_of,
)
from bulk_inferencer.errors import SettingsError, WorkerError
from tests.helpers import exactly, tree
from tests.integration.clusters.processes import status_of
from tests.integration.clusters.spark import spark_cluster
from tests.integration.engines import behaviour
from tests.integration.engines.runs import (
    CHECKOUT,
    MODULES,
    UNITS,
    at_half,
    calls_in,
    job_in,
    job_of,
    wait_for,
    write_inputs,
)

_SPARK_4 = "SPARK_4_PYTHON"  # set by `make test-engines`
# Py4J leaves that to Python, when it collects garbage.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed .socket.socket:ResourceWarning")


@pytest.fixture(scope="module")
def cluster():
    """Workers that a test kills, others replace."""
    with spark_cluster(workers=2, gpus=["7"]) as running:
        yield running
    gc.collect()


@pytest.fixture
def engine(cluster):
    """The engine, on two workers."""
    while len(cluster.workers) < 2:
        cluster.add_worker()
    return Spark(cluster.master)


# As on all engines


def test_results_are_those_of_local_threads_and_both_executors_work(tmp_path, engine, local):
    calls = behaviour.scores_as_local_threads_do(engine, tmp_path, local, workers=2)
    assert len({call.parent for call in calls}) == 2  # An executor has one parent of its workers.


def test_wide_records_are_scored_as_on_local_threads(tmp_path, engine, wide):
    behaviour.scores_wide_records(engine, tmp_path, wide)


def test_error_of_a_worker_is_raised_once(tmp_path, engine):
    behaviour.raises_errors_of_workers_once(engine, tmp_path, workers=2)


def test_folder_that_workers_do_not_share_is_refused(tmp_path, engine):
    behaviour.refuses_a_folder_that_workers_do_not_share(engine, tmp_path)


def test_components_of_a_pipeline_run_on_the_cluster(tmp_path, engine):
    behaviour.scores_in_a_pipeline(engine, tmp_path)


def test_model_is_loaded_once_in_each_process_and_not_in_each_task(tmp_path, engine, linear_model):
    job = job_of(SavedModel(linear_model), write_inputs(tmp_path / "in"), tmp_path / "out")
    summary = run(job, engine)
    assert 1 <= summary.branches["inference_result"].work.model_loads <= 2
    behaviour.assert_five_times(tmp_path / "out")


# What is killed


def test_run_survives_a_process_of_python_that_is_killed(tmp_path, engine):
    behaviour.survives(engine, tmp_path, workers=2)


def test_run_survives_an_executor_that_is_killed(tmp_path, engine, cluster):
    def kill(call):
        os.kill(cluster.executor_of(call.pid), signal.SIGKILL)
        wait_for(lambda: not status_of(call.pid))  # Its processes of Python end with it.

    behaviour.survives(engine, tmp_path, workers=2, kill=kill)


def test_run_survives_a_worker_that_is_killed(tmp_path, engine, cluster):
    behaviour.survives(engine, tmp_path, 2, kill=lambda call: cluster.kill_worker_of(call.pid))


def test_run_whose_launcher_is_killed_goes_on_with_local_threads(tmp_path, engine):
    behaviour.goes_on_elsewhere(engine, tmp_path, workers=2)


def test_java_that_is_killed_ends_the_run_with_one_error_and_the_next_one_works(tmp_path, engine):
    def kill(call):
        from pyspark import SparkContext

        os.kill(SparkContext._gateway.proc.pid, signal.SIGKILL)

    job = job_in(tmp_path, workers=2, half=True)
    message = (
        "Spark's own process of Java on this machine has died, with exit code -9. Give it more "
        "memory if there was too little, with spark.driver.memory. Run again, and nothing that is "
        "finished is scored again."
    )
    with at_half(tmp_path, kill) as killed, pytest.raises(WorkerError, match=exactly(message)):
        run(job, engine)
    assert len(killed) == 1
    summary = run(job, engine)
    assert summary.reused.units >= UNITS // 2 - 2
    behaviour.assert_five_times(tmp_path / "out")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_that_is_told_to_end_ends_its_workers_and_goes_on_later(tmp_path, engine, number):
    behaviour.stops_when_interrupted(engine, tmp_path, workers=2, number=number)


# What only Spark does

_GAVE_UP = (
    "Spark gave up, because of: {}. The stderr of its executors says more; Spark's web page shows "
    "it. Run again, and nothing that is finished is scored again."
)


def _job_with(load, folder):
    """Returns a job with a model of `on_spark`, which has a folder below `folder`."""
    (folder / "own").mkdir()
    (folder / "own/launcher").write_text(str(os.getpid()))
    model = PythonModel(f"on_spark:{load}", str(folder / "own"))
    modules = [str(MODULES / "on_spark.py")]
    return job_of(model, write_inputs(folder / "in"), folder / "out", modules=modules)


def test_two_attempts_of_a_unit_leave_the_results_of_one(tmp_path, engine):
    conf = {
        "spark.speculation": "true",
        "spark.speculation.interval": "100ms",
        "spark.speculation.quantile": "0.5",
        "spark.speculation.minTaskRuntime": "100ms",
    }
    run(_job_with("load_slow", tmp_path), Spark(engine.master, conf))
    behaviour.assert_five_times(tmp_path / "out")
    assert len(list((tmp_path / "own").glob("attempt-*"))) == 2


def test_error_that_is_not_ours_ends_the_run_with_one_line(tmp_path, engine):
    import five_times

    model = five_times.Broken("five_times:load_ten")
    job = job_of(model, write_inputs(tmp_path / "in"), tmp_path / "out")
    message = _GAVE_UP.format("ArithmeticError: nobody expects it")
    with pytest.raises(WorkerError, match=exactly(message)):
        run(job, engine)
    assert tree(tmp_path / "out") == []


def test_unit_that_kills_its_process_again_and_again_ends_the_run(tmp_path, engine):
    message = _GAVE_UP.format("Python worker exited unexpectedly (crashed)")
    with pytest.raises(WorkerError, match=exactly(message)):
        run(job_in(tmp_path, error="crash"), Spark(engine.master, {"spark.task.maxFailures": "2"}))
    assert not any("/.work/" not in name for name in tree(tmp_path / "out"))
    assert len([call for call in calls_in(tmp_path) if call.x == 0]) == 2


def test_tasks_see_their_gpus_alone(tmp_path, engine):
    job = _job_with("load_gpus", tmp_path)
    amounts = ("spark.executor.resource.gpu.amount", "spark.task.resource.gpu.amount")
    run(job, Spark(engine.master, dict.fromkeys(amounts, "1")))
    predictions = read_predictions(str(tmp_path / "out/inference_result"))
    assert {prediction.outputs["gpu"].item() for prediction in predictions} == {7}


def test_worker_without_this_package_says_how_to_ship_it(tmp_path, engine):
    python = os.path.realpath(sys.executable)  # not that of the environment
    with pytest.raises(WorkerError) as caught:
        run(job_in(tmp_path), Spark(engine.master, {"spark.pyspark.python": python}))
    assert str(caught.value).startswith("The worker on ")
    assert str(caught.value).endswith(
        f"({python}) cannot import bulk_inferencer: No module named 'bulk_inferencer'. Install the "
        f"same packages on every node, or ship an environment with spark.archives and "
        f"spark.pyspark.python."
    )


def test_worker_without_the_python_says_how_to_name_it(tmp_path, engine):
    python = str(tmp_path / "no/python")
    message = (
        f'Spark gave up, because of: java.io.IOException: Cannot run program "{python}": error=2, '
        f"No such file or directory. Name the Python that workers have: "
        f"Spark(conf={{'spark.pyspark.python': '/path/to/python'}})."
    )
    with pytest.raises(WorkerError, match=exactly(message)):
        run(job_in(tmp_path), Spark(engine.master, {"spark.pyspark.python": python}))


def test_run_that_no_executor_is_large_enough_for_warns(tmp_path, engine, monkeypatch, caplog):
    monkeypatch.setattr(spark, "_WARN_SECONDS", 1.0)
    too_large = Spark(engine.master, {"spark.executor.memory": "64g"})
    message = (
        "Spark has started nothing for 1 s, and the run waits. Maybe no executor is free, or none "
        "has the cores and the memory that Spark's conf asks for. Spark's web page shows them."
    )

    def give_up(progress):
        if message in caplog.messages:
            raise TimeoutError("It waits.")

    with pytest.raises(TimeoutError, match=r"^It waits\.$"):
        run(job_in(tmp_path), too_large, progress=give_up)


def test_master_where_nothing_listens_is_refused_at_once(tmp_path, cluster):
    message = (
        r"^Nothing answers at spark://127\.0\.0\.1:1,127\.0\.0\.1:2, where the Spark cluster "
        r"should be: .*Connection refused\. Correct Spark's master, or start the cluster\.$"
    )
    with pytest.raises(SettingsError, match=message):
        run(job_in(tmp_path), Spark("spark://127.0.0.1:1,127.0.0.1:2"))
    Spark(cluster.master.replace("//", "//127.0.0.1:1,")).check()


# The session of a notebook


@pytest.fixture
def session(monkeypatch):
    """A session that somebody else has started, on two threads of this machine."""
    from pyspark.sql import SparkSession

    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    on_interrupt = signal.getsignal(signal.SIGINT)
    started = SparkSession.builder.master("local[2]").config("spark.x", "1").getOrCreate()
    yield started
    started.stop()
    end_java()
    signal.signal(signal.SIGINT, on_interrupt)


def test_session_is_used_and_left_as_it_is(tmp_path, session, caplog):
    run(_one_unit(tmp_path), Spark())
    (said,) = (m for m in caplog.messages if "nothing to do" in m)
    assert said.startswith("There is 1 unit for 2 workers, so 1 of them have nothing to do.")
    Spark("local[2]", {"spark.x": "1"}).check()
    assert session.range(3).count() == 3


def _one_unit(folder):
    job = job_in(folder)
    return replace(job, splits={"s": [f"{folder}/in/00.gz"]})


def test_settings_that_a_session_does_not_have_are_refused(session):
    message = (
        "Spark(master='local[3]') does not go with the session of this process, which is connected "
        "to local[2]. Leave it out to use that session, or stop the session first."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        Spark("local[3]").check()
    message = (
        "Spark's conf has spark.x='2', but the session of this process has '1', which cannot be "
        "changed. Leave it out to use that session, or stop the session first."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        Spark(conf={"spark.x": "2"}).check()


def test_reason_is_the_line_of_python(session):
    def fail(unit):
        raise ValueError("there is no x\nsecond line")

    error = RddJob(session).start(fail, [b""]).exception()
    assert reason_of(error) == "ValueError: there is no x"


def test_worker_of_a_session_that_lacks_this_package_says_what_to_do(tmp_path, session):
    session.sparkContext.pythonExec = os.path.realpath(sys.executable)
    advice = r" Install the same packages on the cluster, before its session starts\.$"
    with pytest.raises(WorkerError, match=advice):
        run(job_in(tmp_path), Spark())


# The session of a run


def test_session_of_a_run_leaves_nothing_to_later_ones(tmp_path, monkeypatch):
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    run(_one_unit(tmp_path), Spark("local[1]", {"spark.x": "1"}))
    assert SparkContext._gateway is None
    with opened_session("local[2]", {"spark.y": "2"}) as own:
        conf = own.spark.sparkContext.getConf()
        names = ("spark.master", "spark.x", "spark.y")
        assert [conf.get(name) for name in names] == ["local[2]", None, "2"]
    on_interrupt = signal.getsignal(signal.SIGINT)
    with SparkSession.builder.master("local[3]").getOrCreate() as theirs:
        conf = theirs.sparkContext.getConf()
        assert [conf.get(name) for name in names] == ["local[3]", None, None]
        assert conf.get("spark.log.level") is None
        assert theirs.sparkContext.appName != "bulk_inferencer"
    end_java()
    signal.signal(signal.SIGINT, on_interrupt)


def test_java_of_somebody_else_stays(tmp_path, session):
    from pyspark import SparkContext

    session.stop()
    java = SparkContext._gateway
    run(_one_unit(tmp_path), Spark("local[1]"))
    assert SparkContext._gateway is java
    assert java.proc.poll() is None


def test_session_of_two_threads_ends_with_the_last_one():
    at_once = threading.Barrier(2)
    one_has_left = threading.Event()

    def use(is_last):
        with opened_session("local[1]", {}) as own:
            at_once.wait(60)
            if is_last:
                assert one_has_left.wait(60)
                assert own.spark.range(3).count() == 3
        one_has_left.set()
        return own.spark

    with ThreadPoolExecutor(2) as threads:
        one, other = threads.map(use, [False, True])
    assert one is other
    assert active_session() is None


def test_master_that_spark_does_not_know_leaves_nothing(tmp_path):
    from pyspark import SparkContext

    message = (
        "Spark cannot start a session at local[x]: An error occurred while calling "
        "None.org.apache.spark.api.java.JavaSparkContext.. Correct Spark's master or its conf; and "
        "it needs Java, 17 for most versions."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        run(job_in(tmp_path), Spark("local[x]"))
    assert SparkContext._gateway is None


def test_java_has_a_session_of_its_own_which_ctrl_c_does_not_reach():
    from pyspark import SparkContext

    with opened_session("local[1]", {}):
        java = SparkContext._gateway.proc
        assert os.getsid(java.pid) == java.pid
    assert java.returncode is not None


def test_ctrl_c_belongs_to_whoever_had_it_before_a_run(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    run(_one_unit(tmp_path), Spark("local[1]"))
    assert signal.getsignal(signal.SIGINT) is before


# Spark 4


@pytest.mark.skipif(_SPARK_4 not in os.environ, reason=f"{_SPARK_4} names no Python with Spark 4")
@pytest.mark.parametrize("case", ["cluster", "connect"])
def test_spark_4(tmp_path, case):
    module = "tests.integration.engines.on_spark_4"
    command = [os.environ[_SPARK_4], "-W", "ignore", "-m", module, case, str(tmp_path)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
