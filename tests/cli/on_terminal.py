"""Runs a program on a terminal of its own."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess

_MOVES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def lines_on_terminal(command, environment):
    """Returns the exit code of a program, and the lines that a terminal has shown meanwhile.

    Among them are those that were cleared again.
    """
    own, other = pty.openpty()
    environment = {**environment, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(
        command, env=environment, stdin=other, stdout=other, stderr=other
    ) as child:
        os.close(other)
        said = b""
        with contextlib.suppress(OSError):  # which is how a terminal says that all is said
            while chunk := os.read(own, 1 << 16):
                said += chunk
    os.close(own)
    plain = _MOVES.sub("", said.decode())
    lines = [line.strip() for line in re.split(r"[\r\n]+", plain) if line.strip()]
    return child.returncode, lines
