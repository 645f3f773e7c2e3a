"""What of Spark's engine needs no Spark: settings, reasons of errors, and processes of workers."""

from __future__ import annotations

import gc
import sys
import weakref
import zipfile
import zipimport

import pytest

from bulk_inferencer.engines import Spark
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
