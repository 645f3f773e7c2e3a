"""What of Spark's engine needs no Spark: settings, errors, jobs, and processes of workers."""

from __future__ import annotations

import gc
import signal
import sys
import threading
import weakref
import zipfile
import zipimport
from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from bulk_inferencer._formats.input_format import InputFile
from bulk_inferencer._units.plan import plan_units
from bulk_inferencer.engines import Spark, spark, spark_job, spark_session
from bulk_inferencer.engines.spark_job import RddJob
from bulk_inferencer.engines.spark_session import reason_of
from bulk_inferencer.engines.spark_worker import make_tasks_cheap
from bulk_inferencer.errors import MissingExtraError, SettingsError
from tests.helpers import exactly


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"master": ""},
            (
                "Spark's master must be text such as 'spark://head:7077', not ''. Leave it out to "
                "use the session that is active."
            ),
        ),
        (
            {"conf": ["spark.executor.memory=4g"]},
            (
                "Spark's conf must be a dict such as {'spark.executor.memory': '4g'}, not "
                "['spark.executor.memory=4g']."
            ),
        ),
        (
            {"conf": {"spark.executor.cores": 4}},
            (
                "Spark's conf has 'spark.executor.cores': 4, but both must be text. Write numbers "
                "as '4', and True as 'true'."
            ),
        ),
        (
            {"options": "--s3_region_name=eu-west-1"},
            (
                "Spark's options must be a list, not '--s3_region_name=eu-west-1'. Write "
                "['--s3_region_name=eu-west-1']."
            ),
        ),
    ],
    ids=["master", "conf", "value", "options"],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(SettingsError, match=exactly(message)):
        Spark(**settings)


def test_engine_without_pyspark_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyspark", None)
    with pytest.raises(MissingExtraError, match=r"^engines\.Spark needs pyspark, which is not"):
        Spark().check()


# Why Spark gave up, as its versions say it

_ABORTED = (
    "An error occurred while calling z:org.apache.spark.api.python.PythonRDD.collectAndServe.\n"
    ": org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 in stage 0.0 "
    "failed 4 times, most recent failure: Lost task 0.3 in stage 0.0 (TID 5) (127.0.0.1 executor "
    "1): "
)
_JAVA = (
    "\tat org.apache.spark.api.python.BasePythonRunner$ReaderIterator.handlePythonException"
    "(PythonRunner.scala:572)\n\tat java.base/java.lang.Thread.run(Thread.java:840)\n"
)
_PYTHON = (
    "Traceback (most recent call last):\n"
    '  File "model.py", line 3, in load\n'
    "    value = table[key]\n"
    "KeyError: 'x'\n\n"
    "During handling of the above exception, another exception occurred:\n\n"
    "Traceback (most recent call last):\n"
    '  File "pyspark/worker.py", line 1247, in main\n'
    "    process()\n"
    "    ^^^^^^^^^\n"
    "ValueError: there is no x\nsecond line\n"
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            f"{_ABORTED}org.apache.spark.api.python.PythonException: {_PYTHON}\n{_JAVA}",
            "ValueError: there is no x",
        ),
        (
            f"\n  An exception was thrown from the Python worker:\n{_PYTHON} SQLSTATE: 38000",
            "ValueError: there is no x",
        ),
        (
            (
                f"{_ABORTED}org.apache.spark.SparkException: Python worker exited unexpectedly "
                f"(crashed)\n{_JAVA}"
            ),
            "Python worker exited unexpectedly (crashed)",
        ),
        (
            (
                f"{_ABORTED}ExecutorLostFailure (executor 1 exited caused by one of the running "
                f"tasks) Reason: Command exited with code 137\nDriver stacktrace:\n{_JAVA}"
            ),
            (
                "ExecutorLostFailure (executor 1 exited caused by one of the running tasks) "
                "Reason: Command exited with code 137"
            ),
        ),
        (
            "[JAVA_GATEWAY_EXITED] Java gateway process exited before sending its port number.",
            "[JAVA_GATEWAY_EXITED] Java gateway process exited before sending its port number.",
        ),
        ("", "RuntimeError"),
    ],
    ids=["Spark 3", "Spark 4", "process died", "executor died", "Spark's own", "nothing"],
)
def test_reason_is_a_line_of_python_or_of_spark_without_java(text, reason):
    assert reason_of(RuntimeError(text)) == reason


def test_advice_where_a_session_is_active_is_not_to_give_conf(monkeypatch):
    monkeypatch.setattr(spark, "java_exit_code", lambda seconds: None)
    message = (
        "Spark gave up, because of: Cannot run program. Name the Python that workers have, in "
        "PYSPARK_PYTHON or spark.pyspark.python, before the session starts."
    )
    assert spark._message(RuntimeError("Cannot run program"), takes_conf=False) == message


# Jobs


class FakeJob:
    """A job on 8 cores, which goes on for some looks."""

    def __init__(self, looks=0, needs_cancels=0):
        self.done = Future()
        self._looks = looks
        self._needs_cancels = needs_cancels
        self.look()

    def look(self):
        """Lets time pass."""
        if self._looks == 0:
            self.done.set_result("")
        self._looks -= 1

    def has_begun(self):
        return True

    def cores(self):
        return 8

    def cancel(self):
        self._needs_cancels -= 1
        if self._needs_cancels == 0:
            self.done.set_exception(RuntimeError("cancelled"))

    def is_at_work(self):
        return False


class LostJob(FakeJob):
    """A job whose Java has died."""

    def has_begun(self):
        raise ConnectionRefusedError

    cores = is_at_work = has_begun

    def cancel(self):
        self.look()
        raise ConnectionRefusedError


@pytest.fixture
def wait(monkeypatch, caplog):
    """Waits for a job of one unit; returns warnings."""
    monkeypatch.setattr(spark, "_LOOK_SECONDS", 0.01)
    units = plan_units({"s": [InputFile("file.gz", 1)]})

    def wait_for(job, is_over=None):
        is_over = is_over or (lambda: bool(job.look()))
        worker = SimpleNamespace(task=SimpleNamespace(manifests_folder="/out"), is_over=is_over)
        spark._wait(job.done, job, worker, units)
        return caplog.messages

    return wait_for


@pytest.mark.parametrize("looks", [0, 1, 3])
def test_run_warns_once_of_workers_that_have_nothing_to_do_however_short_it_is(wait, looks):
    (said,) = wait(FakeJob(looks))
    assert said.startswith("There is 1 unit for 8 workers, so 7 of them have nothing to do.")


def test_job_whose_java_has_died_ends_with_its_own_error(wait):
    job = LostJob(looks=2)
    assert wait(job) == []
    assert job.done.result() == ""


def test_filesystem_that_fails_does_not_end_the_run(wait):
    looks = iter([OSError("try again"), False, True])

    def is_over():
        if isinstance(look := next(looks), OSError):
            raise look
        return look

    job = FakeJob(looks=99)
    wait(job, is_over)
    assert not job.done.done()
    assert list(looks) == []


def test_job_is_cancelled_until_spark_has_it(monkeypatch):
    monkeypatch.setattr(spark, "_LOOK_SECONDS", 0.01)
    job = FakeJob(looks=1, needs_cancels=3)
    spark._cancel(job.done, job)
    assert str(job.done.exception()) == "cancelled"


def test_job_whose_java_has_died_can_be_cancelled(monkeypatch):
    monkeypatch.setattr(spark, "_LOOK_SECONDS", 0.01)
    job = LostJob(looks=2)
    spark._cancel(job.done, job)
    assert job.done.done()


class FakeContext:
    """A Spark context whose jobs can be kept from starting; each collects the tasks that it has."""

    defaultParallelism = 2

    def __init__(self):
        self.may_start = threading.Event()
        self.tasks = None

    def setJobGroup(self, group, description):
        self.may_start.wait()

    def cancelJobGroup(self, group):
        pass

    def parallelize(self, tasks, count):
        self._tasks = tasks
        return self

    def map(self, run):
        return self

    filter = map

    def collect(self):
        self.tasks = self._tasks
        return []


@pytest.fixture
def context(monkeypatch):
    """A context, for a job that uses no other part of Spark."""
    fake = SimpleNamespace(inheritable_thread_target=lambda function: function)
    monkeypatch.setitem(sys.modules, "pyspark", fake)
    return FakeContext()


def test_job_that_is_cancelled_before_it_starts_never_starts(context):
    job = RddJob(SimpleNamespace(sparkContext=context))
    done = job.start(len, [b"unit"])
    job.cancel()
    context.may_start.set()
    assert done.result(60) == ""
    assert context.tasks is None


def test_units_share_tasks_only_if_there_would_be_too_many(context, monkeypatch):
    monkeypatch.setattr(spark_job, "_TASKS", 3)
    context.may_start.set()

    def tasks_of(count):
        units = [bytes([number]) for number in range(count)]
        job = RddJob(SimpleNamespace(sparkContext=context))
        assert job.start(len, units).result(60) == ""
        return [b"".join(task) for task in context.tasks]

    assert tasks_of(2) == [b"\x00", b"\x01"]
    assert tasks_of(16) == [bytes([number]) for number in range(16)]  # 8 for each core
    context.defaultParallelism = 0
    assert tasks_of(7) == [b"\x00\x03\x06", b"\x01\x04", b"\x02\x05"]


# Sessions


@pytest.mark.parametrize(
    ("master", "conf", "environment", "is_submitted", "python"),
    [
        ("local[2]", None, None, False, sys.executable),
        ("spark://head:7077", None, None, False, sys.executable),
        ("yarn", None, None, False, "python3"),
        ("k8s://https://head", None, None, False, "python3"),
        ("local[2]", None, None, True, "python3"),
        ("yarn", None, "/env/python", False, "/env/python"),
        ("local[2]", "/conf/python", "/env/python", True, "/conf/python"),
    ],
)
def test_workers_have_the_python_of_this_process_only_where_it_may_be(
    monkeypatch, master, conf, environment, is_submitted, python
):
    monkeypatch.delenv("PYSPARK_PYTHON", raising=False)
    if environment:
        monkeypatch.setenv("PYSPARK_PYTHON", environment)
    settings = {"spark.pyspark.python": conf} if conf else {}
    context = SimpleNamespace(master=master, pythonExec="python3", getConf=lambda: settings)
    spark_session._name_python_of_workers(context, is_submitted)
    assert context.pythonExec == python


def test_handler_of_ctrl_c_that_python_has_not_set_stays(monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(signal, "getsignal", lambda number: None)
    with spark_session._signals_as_they_are():
        pass
    monkeypatch.undo()
    assert signal.getsignal(signal.SIGINT) is before


# Processes of workers


@pytest.fixture
def prepared():
    """Makes tasks of a run cheap, in this process; takes that back at the end."""
    yield make_tasks_cheap
    gc.unfreeze()


def test_garbage_collector_leaves_what_a_run_has_loaded(prepared):
    prepared("a run")
    assert gc.get_freeze_count() > 10_000
    kept = gc.get_freeze_count()
    prepared("a run")
    assert gc.get_freeze_count() <= kept


def test_garbage_of_an_earlier_run_is_collected(prepared):
    class Model:
        pass

    model = Model()
    model.itself = model
    collected = []
    weakref.finalize(model, collected.append, True)
    prepared("one run")
    del model
    gc.collect()
    assert collected == []
    prepared("another run")
    assert collected == [True]


def test_zip_files_are_not_read_again_before_each_task(prepared, tmp_path, monkeypatch):
    path = tmp_path / "modules.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("in_a_zip_file.py", "x = 1")
        file.writestr("in_a_zip_file_too.py", "x = 2")
    monkeypatch.syspath_prepend(path)
    import in_a_zip_file

    def zips():
        return [f for f in sys.path_importer_cache.values() if isinstance(f, zipimport.zipimporter)]

    assert zips()
    prepared("a run with a zip file")
    assert zips() == []
    import in_a_zip_file_too

    assert (in_a_zip_file.x, in_a_zip_file_too.x) == (1, 2)
