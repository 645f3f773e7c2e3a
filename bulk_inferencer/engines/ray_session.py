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
from typing import Any

from bulk_inferencer.engines.addresses import host_and_port, refusal
from bulk_inferencer.errors import SettingsError

_CLIENT = "ray://"
_CLIENT_PORT = 10001
_NO_HOSTS = ("auto", "local")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


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
            f"{address!r}. Leave it out for the cluster that RAY_ADDRESS names, or for this "
            f"machine alone."
        )


def check_session(address: str | None) -> None:
    """Checks that a cluster can be reached, and goes with the session that there may be.

    Ray itself would wait for minutes.

    Raises:
      SettingsError: nothing answers at the address, or the session is one of another cluster.
    """
    import ray

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
    """Connects to a cluster within `with`, or uses the session that is there, and leaves it.

    Yields:
      what tasks need of `runtime_env`, since a session that is there has its own.

    Raises:
      SettingsError: it cannot be connected to.
    """
    import ray

    if ray.is_initialized():
        yield runtime_env
        return
    try:
        _connect(address, runtime_env)
        yield {}
    finally:
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
    except SettingsError:
        raise
    except Exception as error:  # as Ray raises if a node does not start in time
        raise SettingsError(
            f"Cannot connect to the Ray cluster at {address or 'the default address'}: "
            f"{reason_of(error)}. Ray and Python must be of the same versions here and there. If "
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
    except ValueError as error:
        raise SettingsError(
            f"Ray cannot take its runtime_env: {reason_of(error)}. Correct it."
        ) from error


def reason_of(error: BaseException) -> str:
    """Returns the line of an error's message that says most, without a full stop.

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
    import ray

    if address is None or "://" in address or (own := _host_and_port(address)) is None:
        return
    found = ray.get_runtime_context().gcs_address
    if not _are_same(own, _host_and_port(found)):
        raise SettingsError(
            f"Ray(address={address!r}) does not go with the session of this process, which is "
            f"connected to {found}. Leave it out to use that session, or call ray.shutdown() first."
        )


def _are_same(own: tuple[str, int], other: tuple[str, int] | None) -> bool:
    host, port = own
    if host in _LOOPBACK:  # which Ray replaces by an address that others can reach
        return other is not None and port == other[1]
    with contextlib.suppress(OSError):
        host = socket.gethostbyname(host)
    return (host, port) == other
