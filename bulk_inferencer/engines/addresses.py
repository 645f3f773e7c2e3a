"""Addresses of clusters, and whether anything answers there."""

from __future__ import annotations

import socket
from collections.abc import Iterable

_CONNECT_SECONDS = 10.0


def host_and_port(place: str, default_port: int | None = None) -> tuple[str, int] | None:
    """Returns what `host:port` names; without a port, None or that of `default_port`."""
    host, _, port = place.rpartition(":")
    if port.isdecimal():
        return host.strip("[]"), int(port)
    return None if default_port is None else (place, default_port)


def refusal(places: Iterable[tuple[str, int]]) -> OSError | None:
    """Returns why the first of some places does not answer; None if any does, or there are none."""
    first = None
    for place in places:
        try:
            socket.create_connection(place, _CONNECT_SECONDS).close()
            return None
        except OSError as error:
            first = first or error
    return first
