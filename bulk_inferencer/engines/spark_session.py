"""The session of Spark that a run uses: the one that is active, or one of its own."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from bulk_inferencer.engines.addresses import host_and_port, refusal
from bulk_inferencer.errors import SettingsError

_PORTS = {"spark": 7077, "sc": 15002}  # where a master says none
_PYTHON = "spark.pyspark.python"
_TRACEBACK = "Traceback (most recent call last):\n"
_LOST_TASK = re.compile(r" executor \S+\): (?:org\.apache\.spark\.SparkException: )?(.*)")
_QUIET = {
    "spark.app.name": "bulk_inferencer",
    "spark.log.level": "ERROR",
    "spark.ui.showConsoleProgress": "false",
}


def active_session() -> Any | None:
    """Returns the session that is active in this process, in whichever of its threads."""
    from pyspark import SparkContext
    from pyspark.errors import PySparkRuntimeError
    from pyspark.sql import SparkSession
    from pyspark.sql.utils import is_remote

    if SparkContext._active_spark_context is not None:
        return SparkSession.builder.getOrCreate()
    if is_remote():
        try:
            return SparkSession.active()
        except PySparkRuntimeError:  # It has been stopped.
            return None
    return None


def is_connect(session: Any) -> bool:
    """Returns whether a session is one of Spark Connect, which has no RDDs."""
    return type(session).__module__.startswith("pyspark.sql.connect")


def check_session(master: str | None, conf: Mapping[str, str]) -> None:
    """Checks that a cluster can be reached, and goes with the session that there may be.

    Spark itself would wait for a minute.

    Raises:
      SettingsError: nothing answers at the master, or the session has other settings, which it
        cannot take any more.
    """
    if (session := active_session()) is not None:
        _check_goes_with(session, master, conf)
        return
    if error := refusal(_hosts_and_ports(master)):
        raise SettingsError(
            f"Nothing answers at {master}, where the Spark cluster should be: {error}. Correct "
            f"Spark's master, or start the cluster."
        ) from error


def _check_goes_with(session: Any, master: str | None, conf: Mapping[str, str]) -> None:
    advice = "Leave it out to use that session, or stop the session first."
    own = None if is_connect(session) else session.sparkContext.master
    if master and master != own:
        raise SettingsError(
            f"Spark(master={master!r}) does not go with the session of this process, which is "
            f"connected to {own or 'a server of Spark Connect'}. {advice}"
        )
    for name, value in conf.items():
        if (found := session.conf.get(name, None)) != value:
            raise SettingsError(
                f"Spark's conf has {name}={value!r}, but the session of this process has "
                f"{found!r}, which cannot be changed. {advice}"
            )


def _hosts_and_ports(master: str | None) -> Iterator[tuple[str, int]]:
    """Yields where a cluster listens, if a master says so: at one of these places."""
    scheme, _, rest = (master or "").partition("://")
    for place in rest.partition("/")[0].split(",") if scheme in _PORTS else ():
        if where := host_and_port(place, _PORTS[scheme]):
            yield where


@contextmanager
def opened_session(master: str | None, conf: Mapping[str, str]) -> Iterator[Any]:
    """Yields the session that is active, or else one that ends with `with`.

    Raises:
      SettingsError: it cannot be started.
    """
    if (active := active_session()) is not None:
        yield active
        return
    try:
        session = _start(master, conf)
    except Exception as error:
        raise SettingsError(
            f"Spark cannot start a session at {master or 'its default master'}: "
            f"{reason_of(error)}. Correct Spark's master or its conf; and it needs Java, 17 for "
            f"most versions."
        ) from error
    try:
        yield session
    finally:
        session.stop()


def _start(master: str | None, conf: Mapping[str, str]) -> Any:
    from pyspark.sql import SparkSession

    is_submitted = "PYSPARK_GATEWAY_PORT" in os.environ  # by spark-submit, with its own settings
    is_remote = (master or "").startswith("sc://")
    builder = SparkSession.builder
    for name, value in {**({} if is_submitted or is_remote else _QUIET), **conf}.items():
        builder = builder.config(name, value)
    if is_remote:
        return builder.remote(master).create()
    if master:
        builder = builder.master(master)
    is_near = not is_submitted and (master or "local").startswith(("local", "spark://"))
    with _signals_as_they_are(), _python_of_workers(conf.get(_PYTHON), is_near):
        return builder.getOrCreate()


@contextmanager
def _python_of_workers(python: str | None, is_near: bool) -> Iterator[None]:
    """Names the Python of workers to a session that starts within `with`.

    If nobody else does, that is the one which runs here, where workers may well have it.
    """
    before = os.environ.get("PYSPARK_PYTHON")
    if python := python or before or (sys.executable if is_near else None):
        os.environ["PYSPARK_PYTHON"] = python
    try:
        yield
    finally:
        os.environ.pop("PYSPARK_PYTHON", None)
        if before is not None:
            os.environ["PYSPARK_PYTHON"] = before


@contextmanager
def _signals_as_they_are() -> Iterator[None]:
    """Takes back the handler that Spark sets for Ctrl-C, which would outlive its session."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def reason_of(error: BaseException) -> str:
    """Returns why Spark gave up: the line of Python's error or its own, without pages of Java."""
    text = str(error)
    if _TRACEBACK in text:
        lines = text.rpartition(_TRACEBACK)[2].splitlines()
        return next((line for line in lines if line[:1].strip()), lines[0])
    if match := _LOST_TASK.search(text):
        return match[1].strip()
    lines = [*text.splitlines(), type(error).__name__]
    return next(line.strip(": ") for line in lines if line.strip(": "))
