"""The session of Spark that a run uses: the one that is active, or one of its own."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from bulk_inferencer.engines.addresses import host_and_port, refusal
from bulk_inferencer.errors import SettingsError

_logger = logging.getLogger(__name__)

_PORTS = {"spark": 7077, "sc": 15002}  # where a master says none
_PYTHON = "spark.pyspark.python"
_CONNECT_MODE = "SPARK_CONNECT_MODE_ENABLED"  # which pyspark sets, and leaves set
_JAVA_SECONDS = 30.0
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
    with _own_lock:  # so that it is not one which starts or ends just now
        if (session := active_session()) is not None:
            _check_goes_with(session, master, conf)
            return
    if error := refusal(_hosts_and_ports(master)):
        raise SettingsError(
            f"Nothing answers at {master}, where the Spark cluster should be: {error}. Correct "
            f"Spark's master, or start the cluster."
        ) from error


def _check_goes_with(session: Any, master: str | None, conf: Mapping[str, str]) -> None:
    if _own is not None and (master, dict(conf)) == _own.settings:
        return
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


@dataclass
class _OwnSession:
    """A session that a run has started, and that others in this process use meanwhile."""

    session: Any
    settings: tuple[str | None, dict[str, str]]
    to_close: ExitStack
    users: int = 0


_own: _OwnSession | None = None
_own_lock = threading.Lock()


@dataclass(frozen=True)
class OpenSession:
    """A session that a run uses.

    Attributes:
      spark: the `SparkSession`.
      takes_conf: whether `Spark.conf` says what workers have, as the session is one of ours.
    """

    spark: Any
    takes_conf: bool


@contextmanager
def opened_session(master: str | None, conf: Mapping[str, str]) -> Iterator[OpenSession]:
    """Yields the session that is active, or else one that ends when its last user does.

    Raises:
      SettingsError: it cannot be started, or it does not have these settings.
    """
    global _own
    with _own_lock:
        session = active_session()
        if session is None:
            _own = _opened(master, conf)
            session = _own.session
        else:  # Maybe another thread has started it just now.
            _check_goes_with(session, master, conf)
        own = _own if _own is not None and session is _own.session else None
        if own is not None:
            own.users += 1
    try:
        yield OpenSession(session, own is not None and not is_connect(session))
    finally:
        if own is not None:
            _leave(own)


def _opened(master: str | None, conf: Mapping[str, str]) -> _OwnSession:
    with ExitStack() as stack:
        session = stack.enter_context(_started(master, conf))
        return _OwnSession(session, (master, dict(conf)), stack.pop_all())


def _leave(own: _OwnSession) -> None:
    global _own
    with _own_lock:
        own.users -= 1
        if not own.users:
            _own = None
            own.to_close.close()


@contextmanager
def _started(master: str | None, conf: Mapping[str, str]) -> Iterator[Any]:
    """Starts a session, and leaves nothing of it in this process after `with`."""
    with _connect_mode_as_it_is(), _java_as_it_is():
        try:
            session = _start(master, conf)
        except Exception as error:
            raise SettingsError(
                f"Spark cannot start a session at {master or 'its default master'}: "
                f"{reason_of(error)}. Correct Spark's master or its conf; and it needs Java, 17 "
                f"for most versions."
            ) from error
        try:
            if is_connect(session):
                _check_has_taken(session, conf)
            yield session
        finally:
            _stop(session)


def _start(master: str | None, conf: Mapping[str, str]) -> Any:
    from pyspark.sql import SparkSession

    is_submitted = "PYSPARK_GATEWAY_PORT" in os.environ  # by spark-submit, with its own settings
    remote = master or os.environ.get("SPARK_REMOTE", "")
    is_remote = remote.startswith("sc://")
    builder = SparkSession.builder
    for name, value in {**({} if is_submitted or is_remote else _QUIET), **conf}.items():
        builder = builder.config(name, value)
    if is_remote:
        return builder.remote(remote).create()
    if master:
        builder = builder.master(master)
    with _signals_as_they_are(), _java_without_preexec():
        session = builder.getOrCreate()
    if not is_connect(session):
        _name_python_of_workers(session.sparkContext, is_submitted)
    return session


def _name_python_of_workers(context: Any, is_submitted: bool) -> None:
    """If nobody else does, names the Python that runs here, where workers may well have it."""
    is_near = not is_submitted and context.master.startswith(("local", "spark://"))
    python = context.getConf().get(_PYTHON) or os.environ.get("PYSPARK_PYTHON")
    if python := python or (sys.executable if is_near else None):
        context.pythonExec = python


def _check_has_taken(session: Any, conf: Mapping[str, str]) -> None:
    """Checks what pyspark does not say: a server ignores what only its start can set."""
    for name, value in conf.items():
        if session.conf.get(name, None) != value:
            raise SettingsError(
                f"Spark's conf has {name}={value!r}, which a server of Spark Connect does not take "
                f"from a session. Leave it out, and set it where the server starts."
            )


def _stop(session: Any) -> None:
    try:
        session.stop()
    except Exception as error:  # noqa: BLE001, as when Java has died: the job has its own error
        _logger.debug("Spark's session could not be stopped: %s", reason_of(error))


@contextmanager
def _connect_mode_as_it_is() -> Iterator[None]:
    """Lets other kinds of sessions start after one of Spark Connect within `with`."""
    was_on = _CONNECT_MODE in os.environ
    try:
        yield
    finally:
        if not was_on:
            os.environ.pop(_CONNECT_MODE, None)


@contextmanager
def _java_without_preexec() -> Iterator[None]:
    """Lets pyspark start Java within `with` without a function between fork and exec.

    The function keeps Ctrl-C from Java, as a session of its own does. But where gRPC is in use, as
    by Beam, the child may crash before exec. Until grpc/grpc#43055 is closed.
    """
    from pyspark import java_gateway

    popen, started = java_gateway.Popen, []

    def start(command: Any, preexec_fn: Any = None, **settings: Any) -> Any:
        started.append(popen(command, start_new_session=True, **settings))
        return started[-1]

    java_gateway.Popen = start
    try:
        yield
    except BaseException:
        for process in started:
            process.stdin.close()  # at which it ends, if it has not
        raise
    finally:
        java_gateway.Popen = popen


@contextmanager
def _java_as_it_is() -> Iterator[None]:
    """Ends the process of Java that starts within `with`.

    It would give the conf of its first session to all later ones of this process; and if it dies,
    pyspark starts no other.
    """
    from pyspark import SparkContext

    before = SparkContext._gateway
    try:
        yield
    finally:
        if SparkContext._gateway is not before:
            end_java()


def end_java() -> None:
    """Ends the process of Java that pyspark has started here, if any, dead or alive."""
    from pyspark import SparkContext
    from pyspark.sql import SparkSession, SQLContext

    if (process := _java()) is None:
        return
    SparkContext._gateway.shutdown()  # raises nothing
    process.stdin.close()  # at which it ends
    try:
        process.wait(_JAVA_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if (context := SparkContext._active_spark_context) is not None:
        context._jsc = None  # which only Java could stop
        context.stop()
    SparkContext._gateway = SparkContext._jvm = None
    SparkSession._instantiatedSession = SparkSession._activeSession = None
    SQLContext._instantiatedContext = None


def java_exit_code(seconds: float = 0.0) -> int | None:
    """Returns how the process of Java has ended that pyspark has started here.

    Args:
      seconds: how long to wait for that.

    Returns:
      None if it has not, or if there is none.
    """
    if (process := _java()) is None:
        return None
    try:
        code: int = process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    return code


def _java() -> Any | None:
    from pyspark import SparkContext

    # Py4J makes up attributes. After spark-submit, there is no process that pyspark has started.
    gateway = SparkContext._gateway
    return None if gateway is None else vars(gateway).get("proc")


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
        if before is not None:  # None is one that Python has not set, and cannot set.
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
