"""The session of Ray that a run uses: the one that this process has, or one of its own."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bulk_inferencer.engines.addresses import host_and_port, refusal
from bulk_inferencer.errors import SettingsError

_CLIENT = "ray://"
_CLIENT_PORT = 10001
_NO_HOSTS = ("auto", "local")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_TWICE = ("ray.init twice", "already connected")  # what Ray says of a second session


@dataclass
class _Opened:
    """A session that a run has opened, and which others of this process use as well."""

    address: str | None
    runs: int = 0


_lock = threading.Lock()  # while a session is looked for, opened or closed
_opened: _Opened | None = None


def check_address(address: Any) -> None:
    """Checks the form of an address.

    Raises:
      SettingsError: Ray knows no such addresses.
    """
    if address is None or address in _NO_HOSTS:
        return
    is_url = isinstance(address, str) and "://" in address
    if not is_url and not (isinstance(address, str) and address.rpartition(":")[2].isdecimal()):
        raise SettingsError(
            f"Ray's address must be text such as 'head:6379' or 'ray://head:10001', not "
            f"{address!r}. Leave it out for the cluster that RAY_ADDRESS names, that of this "
            f"machine, or a new one."
        )


def check_session(address: str | None) -> None:
    """Checks that a cluster can be reached, and goes with the session that there may be.

    Ray itself would wait for minutes.

    Raises:
      SettingsError: nothing answers at the address, or the session is one of another cluster.
    """
    import ray

    with _lock:
        if ray.is_initialized():
            _check_goes_with_session(address)
            return
    address = address or os.environ.get("RAY_ADDRESS")
    if (where := _host_and_port(address)) and (error := refusal([where])):
        raise SettingsError(
            f"Nothing answers at {address}, where the Ray cluster should be: {error}. Correct "
            f"Ray's address, or start the cluster with `ray start --head`."
        ) from error


@contextmanager
def opened_session(
    address: str | None, runtime_env: Mapping[str, Any]
) -> Iterator[Mapping[str, Any]]:
    """Connects to a cluster within `with`, or uses the session that is there.

    A session of the user's is left as it is. One that a run has opened ends with the last run that
    uses it.

    Yields:
      what tasks need of `runtime_env`, since a session that is there has its own.

    Raises:
      SettingsError: it cannot be connected to, or the session is one of another cluster.
    """
    opened, is_new = _enter(address, runtime_env)
    try:
        yield {} if is_new else runtime_env
    finally:
        if opened:
            _leave(opened)


def _enter(address: str | None, runtime_env: Mapping[str, Any]) -> tuple[_Opened | None, bool]:
    """Returns the session that runs have opened, None if it is the user's; and whether it is new.

    What is new has `runtime_env`.
    """
    global _opened
    import ray

    with _lock:
        is_new = not ray.is_initialized()
        if is_new:
            _connect(address, runtime_env)
            # Where the connection was lost, others may still have to leave the one before.
            _opened = _Opened(address)
        else:
            _check_goes_with_session(address)
        if _opened:
            _opened.runs += 1
        return _opened, is_new


def _leave(opened: _Opened) -> None:
    global _opened
    import ray

    with _lock:
        opened.runs -= 1
        if not opened.runs and opened is _opened:
            _opened = None
            ray.shutdown()


def _connect(address: str | None, runtime_env: Mapping[str, Any]) -> None:
    import ray

    settings: dict[str, Any] = {"runtime_env": dict(runtime_env)} if runtime_env else {}
    if not _host_and_port(address or os.environ.get("RAY_ADDRESS")):
        settings["include_dashboard"] = False  # of a cluster that is to be started
    is_main = threading.current_thread() is threading.main_thread()
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        with runtime_env_errors():
            ray.init(address, logging_level=logging.ERROR, **settings)
    except BaseException as error:
        # A session that the user has opened meanwhile is not ours to end.
        if not any(text in str(error) for text in _TWICE):
            ray.shutdown()
        if isinstance(error, SettingsError) or not isinstance(error, Exception):
            raise
        # Such as a node that does not start in time.
        raise SettingsError(
            f"Cannot connect to the Ray cluster at {address or 'the default address'}: "
            f"{line_of(error)}. Ray and Python must be of the same versions here and there. If "
            f"the cluster asks for a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN."
        ) from error
    finally:
        # Ray has set its own, which exits as if there had been an error.
        if is_main and on_sigterm is not None:
            signal.signal(signal.SIGTERM, on_sigterm)


@contextmanager
def runtime_env_errors() -> Iterator[None]:
    """Within `with`, what Ray says of a wrong `runtime_env` becomes a `SettingsError`."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise SettingsError(
            f"Ray cannot take its runtime_env: {line_of(error)}. Correct it."
        ) from error


def line_of(error: BaseException | str) -> str:
    """Returns the line of an error, or of its message, that says most, without a full stop.

    That is the first one, or the last one where the first announces a traceback.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = lines or [type(error).__name__]
    return lines[-1 if lines[0].endswith(":") else 0].rstrip(".")


def _host_and_port(address: str | None) -> tuple[str, int] | None:
    """Returns where a cluster listens; None if only Ray can tell."""
    if not address or address in _NO_HOSTS:
        return None
    if address.startswith(_CLIENT):
        own = address.removeprefix(_CLIENT).partition("/")[0]
        return host_and_port(own if ":" in own else f"{own}:{_CLIENT_PORT}")
    return host_and_port(address)


def _check_goes_with_session(address: str | None) -> None:
    """Checks that an address is that of the session, as far as that can be told.

    Only Ray knows where clusters are that it does not name by a host. A server for clients is taken
    to be on the host of the cluster's head, as it is by default: one behind another name cannot be
    told from another cluster, and so is refused.
    """
    import ray

    if address in (None, "auto") or (_opened and _opened.address == address):
        return
    found = ray.get_runtime_context().gcs_address
    if _is_address_of(str(address), found):
        return
    advice = "Leave it out to use that session, or call ray.shutdown() first."
    if _opened:
        advice = (
            "Another run has opened it: wait for its end, or use a process for each of the runs."
        )
    raise SettingsError(
        f"Ray(address={address!r}) does not go with the session of this process, which is "
        f"connected to {found}. {advice}"
    )


def _is_address_of(address: str, found: str) -> bool:
    """Returns whether an address names the cluster whose head listens at `found`."""
    if (head := host_and_port(found)) is None:
        return False
    if address == "local":
        return _is_here(head[0])
    if "://" in address and not address.startswith(_CLIENT):
        return False
    if (own := _host_and_port(address)) is None:
        return False
    host, port = own
    is_client = address.startswith(_CLIENT)
    if not is_client and port != head[1]:
        return False
    if host in _LOOPBACK:  # which Ray replaces by an address that others can reach
        return not is_client or _is_here(head[0])
    with contextlib.suppress(OSError):
        host = socket.gethostbyname(host)
    return host == head[0]


def _is_here(host: str) -> bool:
    import ray

    return host in (*_LOOPBACK, ray.util.get_node_ip_address())
